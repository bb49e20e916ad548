"""What people write beside a rule: taken where it can mean one thing alone, else told what is meant."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.rules import check_fields
from airflow_gpt_image.errors import InvalidRequestError

RATIOS = "One of auto, 1:1, 3:2, 2:3, 4:3, 3:4, 5:4, 4:5, 16:9, 9:16, 2:1, 1:2, 3:1, 1:3, 21:9, 9:21."
TOO = "A pixel size such as 1536x864 is taken, too."


def refusal(**fields):
    with pytest.raises(InvalidRequestError) as caught:
        ImageRequest(**{"prompt": "a red teapot", **fields})
    return caught.value.message


@pytest.mark.parametrize("written", ["1024x1024", "1024X1024", "1024×1024"])
def test_a_pixel_size_is_taken_however_its_cross_is_written(written):
    assert ImageRequest(prompt="x", aspect_ratio=written).aspect_ratio == "1024x1024"


@pytest.mark.parametrize("written", ["2k", "2K"])
def test_a_tier_is_taken_with_a_capital_letter(written):
    assert ImageRequest(prompt="x", resolution=written).resolution == "2k"


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("16x9", "Did you mean '16:9'?"),
        ("16×9", "Did you mean '16:9'?"),
        ("16/9", "Did you mean '16:9'?"),
        (" 16 : 9 ", "Did you mean '16:9'?"),
        ("1024 x 1024", "Did you mean '1024x1024'?"),
        ("square", "Did you mean '1:1'?"),
        ("Landscape", "Did you mean '3:2'?"),
        ("AUTO", "Did you mean 'auto'?"),
        ("7:5", "The nearest is '4:3'."),
        ("1:100", "The nearest is '1:3'."),
        ("0:0", "Give one of them."),
        ("1:0", "Give one of them."),
        ("wide", "Give one of them."),
    ],
)
def test_what_is_nearly_an_aspect_ratio_is_refused_with_the_one_that_is_meant(written, remedy):
    assert refusal(aspect_ratio=written) == (
        f"aspect_ratio: {written!r} is not an aspect ratio.\n{RATIOS}\n{remedy} {TOO}"
    )


@pytest.mark.parametrize(
    ("written", "nearest"),
    [("1000x1000", "1024x1024"), ("1920x1080", "2048x1152"), ("3840X2161", "3840x2160")],
)
def test_a_pixel_size_that_the_api_has_not_is_refused_with_the_nearest(written, nearest):
    assert refusal(aspect_ratio=written) == (
        f"aspect_ratio: {written!r} is not a pixel size of the API.\n"
        "A pixel size has to be one of the API's table Size & Resolution.\n"
        f"The nearest is {nearest!r}; or give a ratio and a resolution."
    )


def test_a_path_object_is_refused_as_a_picture_of_this_machine():
    assert refusal(image_urls=[PurePosixPath("/data/sofa")]).splitlines()[0] == (
        "image_urls: item 0: '/data/sofa' is a file of this machine."
    )


def test_a_prompt_that_is_too_long_is_not_shown_whole():
    lines = refusal(prompt="a lighthouse " * 2_000).splitlines()

    assert lines[0].startswith("prompt: 'a lighthouse a lighthouse")
    assert lines[1:] == ["The API takes at most 20,000 characters.", "Shorten it."]
    assert max(map(len, lines)) <= 95


@pytest.mark.parametrize(
    "path", ["sofa.png", "/data/photos/sofa.png", "./sofa.png", r"C:\photos\sofa.png", "photos/sofa.png"]
)
def test_a_picture_of_this_machine_is_refused_with_the_address_it_should_have(path):
    assert refusal(image_urls=[path]) == (
        f"image_urls: item 0: {path!r} is a file of this machine.\n"
        "The API reads reference images over the network.\n"
        "Put it on a store, and give s3://conn_id@bucket/sofa.png, or an https address."
    )


def test_several_things_that_are_wrong_are_told_one_after_the_other():
    assert refusal(prompt=" ", resolution="8k").splitlines() == [
        "prompt: ' ' is blank.",
        "A prompt says what to draw.",
        "Write one, or leave it out and give image_urls.",
        "resolution: '8k' is not a resolution.",
        "One of 1k, 2k, 4k.",
        "Give one of them; the default is 1k.",
    ]


# What a DAG file gives is checked field by field, for some are known only when the task runs


WRONG = [
    {"prompt": 5},
    {"prompt": ""},
    {"prompt": "x" * 20_001},
    {"prompt": "\ud800"},
    {"image_urls": "https://example.com/a.png"},
    {"image_urls": ["https://example.com/a.png"] * 17},
    {"image_urls": [5]},
    {"aspect_ratio": "7:5"},
    {"aspect_ratio": None},
    {"aspect_ratio": "1881x836", "resolution": "4k"},
    {"aspect_ratio": "7:5", "resolution": "4k"},
    {"resolution": "8k"},
    {"resolution": 5},
    {"nsfw_checker": "perhaps"},
    {"callback_url": "example.com"},
    {"callback_url": 5},
    {"prompt": None, "image_urls": []},
    {"prompt": None, "image_urls": None},
]


@pytest.mark.parametrize("fields", WRONG, ids=lambda fields: str(fields)[:40])
def test_a_single_field_is_refused_in_the_same_words_as_in_a_request(fields):
    with pytest.raises(InvalidRequestError) as caught:
        check_fields(fields)

    assert caught.value.message == refusal(**fields)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": None},
        {"image_urls": None},
        {"resolution": None},
        {"resolution": "4K", "aspect_ratio": "16:9"},
        {"callback_url": None, "nsfw_checker": False, "prompt": "a", "image_urls": ["https://h/a.png"]},
    ],
    ids=str,
)
def test_what_is_not_given_is_nothing_to_refuse(fields):
    check_fields(fields)


@pytest.mark.parametrize("fields", WRONG, ids=lambda fields: str(fields)[:40])
def test_each_refusal_has_the_value_the_rule_and_the_remedy_on_lines_that_can_be_seen(fields):
    lines = refusal(**fields).splitlines()

    assert len(lines) == 3
    assert [line for line in lines[1:] if len(line) > 95] == []
