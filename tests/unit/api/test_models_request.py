from __future__ import annotations

import pickle

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import InvalidRequestError

RATIOS = [
    "auto",
    "1:1",
    "3:2",
    "2:3",
    "4:3",
    "3:4",
    "5:4",
    "4:5",
    "16:9",
    "9:16",
    "2:1",
    "1:2",
    "3:1",
    "1:3",
    "21:9",
    "9:21",
]


def _addresses(count):
    return [f"https://example.com/{number}.png" for number in range(count)]


def _refusal(**fields):
    with pytest.raises(InvalidRequestError) as caught:
        ImageRequest(**fields)
    return caught.value


# --- what is taken ------------------------------------------------------------------------------------------


def test_a_prompt_alone_is_enough_and_the_rest_is_the_documents_default():
    request = ImageRequest(prompt="a red bicycle")

    assert request.aspect_ratio == "auto"
    assert request.resolution == "1k"
    assert request.nsfw_checker is True
    assert request.image_urls == ()
    assert request.callback_url is None


def test_reference_images_alone_are_enough():
    assert ImageRequest(image_urls=["https://example.com/room.jpg"]).prompt is None


def test_a_prompt_of_20000_characters_is_taken_and_one_more_is_refused():
    taken = ImageRequest(prompt="ü" * 20_000)

    error = _refusal(prompt="ü" * 20_001)

    assert len(taken.prompt) == 20_000
    assert "20,001" in error.message
    assert "20,000" in error.message


def test_characters_are_counted_not_bytes():
    assert len(ImageRequest(prompt="🚲" * 20_000).prompt) == 20_000


def test_16_reference_images_are_taken_in_order_and_one_more_is_refused():
    taken = ImageRequest(image_urls=_addresses(16))

    error = _refusal(image_urls=_addresses(17))

    assert taken.image_urls == tuple(_addresses(16))
    assert "17" in error.message
    assert "16" in error.message


@pytest.mark.parametrize("aspect_ratio", [*RATIOS, "1881x836", "887x1774", "3840x1648"])
def test_every_aspect_ratio_of_the_document_is_taken(aspect_ratio):
    assert ImageRequest(prompt="x", aspect_ratio=aspect_ratio).aspect_ratio == aspect_ratio


@pytest.mark.parametrize("resolution", ["1k", "2k", "4k"])
def test_every_tier_of_the_document_is_taken(resolution):
    assert ImageRequest(prompt="x", resolution=resolution).resolution == resolution


@pytest.mark.parametrize(
    ("aspect_ratio", "tier"), [("1254x1254", "1k"), ("2048x1360", "2k"), ("3840x2160", "4k"), ("auto", "1k")]
)
def test_without_a_resolution_a_pixel_size_brings_its_tier_and_everything_else_is_1k(aspect_ratio, tier):
    assert ImageRequest(prompt="x", aspect_ratio=aspect_ratio).resolution == tier
    assert ImageRequest(prompt="x", aspect_ratio=aspect_ratio, resolution=None).resolution == tier


def test_a_pixel_size_and_its_own_tier_agree():
    assert ImageRequest(prompt="x", aspect_ratio="3840x2160", resolution="4k").resolution == "4k"


@pytest.mark.parametrize(("resolution", "credits"), [("1k", "4.7"), ("2k", "9.4"), ("4k", "14.1")])
def test_a_request_knows_its_price(resolution, credits):
    assert str(ImageRequest(prompt="x", resolution=resolution).credits) == credits


def test_a_request_knows_the_sizes_its_image_may_come_in():
    request = ImageRequest(prompt="x", aspect_ratio="16:9", resolution="1k")

    assert request.sizes == ((1536, 864), (1672, 941))


def test_no_reference_images_may_be_said_as_none():
    assert ImageRequest(prompt="x", image_urls=None).image_urls == ()


def test_a_request_survives_pickling_and_writing_down():
    request = ImageRequest(
        prompt="x",
        image_urls=_addresses(2),
        aspect_ratio="1881x836",
        nsfw_checker=False,
        callback_url="https://example.com/hook",
    )

    assert pickle.loads(pickle.dumps(request)) == request
    assert ImageRequest(**request.model_dump()) == request
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request


def test_a_request_can_not_be_changed_after_it_was_checked():
    request = ImageRequest(prompt="x")

    with pytest.raises(ValueError, match="frozen"):
        request.prompt = ""


# --- what is refused: each rule broken once; the message names the value, the rule and the remedy -----------

RULES = [
    ({"prompt": 7}, "prompt", ["7", "string"]),
    ({"prompt": b"x"}, "prompt", ["b'x'", "string"]),
    ({"prompt": "x" * 20_001}, "prompt", ["'xxx", "20,001", "at most 20,000", "Shorten"]),
    ({"prompt": " \n"}, "prompt", ["' \\n'", "blank", "image_urls"]),
    ({"prompt": ""}, "prompt", ["''", "blank", "image_urls"]),
    ({"prompt": "half \udfff pair"}, "prompt", ["'half \\udfff pair'", "surrogate", "Remove"]),
    ({"image_urls": "https://example.com/a.png"}, "image_urls", ["'https://example.com/a.png'", "list"]),
    ({"image_urls": {"https://example.com/a.png": 1}}, "image_urls", ["https://example.com/a.png", "list"]),
    ({"image_urls": 5}, "image_urls", ["5", "list"]),
    ({"image_urls": _addresses(17)}, "image_urls", ["17", "at most 16", "Leave some out"]),
    ({"image_urls": [5]}, "image_urls", ["item 0: 5", "string"]),
    ({"image_urls": ["https://example.com/", "room.jpg"]}, "image_urls", ["item 1", "'room.jpg'", "https"]),
    ({"image_urls": ["ftp://example.com/a"]}, "image_urls", ["'ftp://example.com/a'", "http"]),
    ({"image_urls": ["data:image/png;base64,AAAA"]}, "image_urls", ["'data:image/png", "http"]),
    ({"image_urls": ["https:///a.png"]}, "image_urls", ["'https:///a.png'", "https://host/path"]),
    ({"image_urls": ["https://example.com/a b"]}, "image_urls", ["a b'", "white space", "Percent-encode"]),
    ({"image_urls": ["https://example.com/\r\nx: y"]}, "image_urls", ["\\r\\n", "white space"]),
    ({"image_urls": ["https://example.com/\x00"]}, "image_urls", ["\\x00", "control character"]),
    ({"image_urls": ["https://example.com/\ud800"]}, "image_urls", ["\\ud800"]),
    ({"image_urls": ["https://[::1/a"]}, "image_urls", ["'https://[::1/a'", "address"]),
    ({"image_urls": ["https://example.com:99999/a"]}, "image_urls", [":99999", "address"]),
    ({"image_urls": ["https://example.com/" + "a" * 9000]}, "image_urls", ["too long", "at most"]),
    ({"image_urls": [""]}, "image_urls", ["''", "https://host/path"]),
    ({"aspect_ratio": "7:5"}, "aspect_ratio", ["'7:5'", "auto", "16:9", "9:21", "pixel size"]),
    ({"aspect_ratio": "16:9\n"}, "aspect_ratio", ["'16:9\\n'", "16:9"]),
    ({"aspect_ratio": "AUTO"}, "aspect_ratio", ["'AUTO'", "mean 'auto'"]),
    ({"aspect_ratio": "1880×836"}, "aspect_ratio", ["'1880×836'", "'1881x836'"]),
    ({"aspect_ratio": "1000x1000"}, "aspect_ratio", ["'1000x1000'", "Size & Resolution", "'1024x1024'"]),
    ({"aspect_ratio": 1.5}, "aspect_ratio", ["1.5", "string"]),
    ({"aspect_ratio": None}, "aspect_ratio", ["None", "string"]),
    ({"resolution": "8k"}, "resolution", ["'8k'", "1k, 2k, 4k"]),
    ({"resolution": "4 k"}, "resolution", ["'4 k'", "1k, 2k, 4k"]),
    ({"resolution": 1}, "resolution", ["1", "1k, 2k, 4k"]),
    ({"resolution": []}, "resolution", ["[]", "1k, 2k, 4k"]),
    (
        {"aspect_ratio": "3840x2160", "resolution": "1k"},
        "resolution",
        ["'1k'", "3840x2160", "4k", "Leave resolution out"],
    ),
    ({"nsfw_checker": "yes"}, "nsfw_checker", ["'yes'", "True or False"]),
    ({"nsfw_checker": 1}, "nsfw_checker", ["1", "True or False"]),
    ({"nsfw_checker": None}, "nsfw_checker", ["None", "True or False"]),
    ({"callback_url": "localhost"}, "callback_url", ["'localhost'", "http"]),
    ({"callback_url": 3}, "callback_url", ["3", "string"]),
    ({"size": "1024x1024"}, "size", ["'1024x1024'", "is not a field", "aspect_ratio"]),
]


@pytest.mark.parametrize(("fields", "at_fault", "said"), RULES)
def test_a_broken_rule_is_refused_with_value_rule_and_remedy(fields, at_fault, said):
    error = _refusal(**{"prompt": "fine", **fields})

    (problem,) = error.problems
    assert problem.field == at_fault
    assert at_fault in error.message
    assert [words for words in said if words not in problem.message] == []


def test_neither_prompt_nor_images_is_refused():
    error = _refusal(aspect_ratio="16:9")

    assert "prompt" in error.message
    assert "image_urls" in error.message
    assert "At least one" in error.message


def test_an_empty_list_of_images_does_not_stand_for_a_prompt():
    assert "At least one" in _refusal(image_urls=[]).message


def test_a_refusal_is_the_first_row_of_the_error_table_and_not_retryable():
    error = _refusal(prompt="")

    assert error.code == "invalid_request"
    assert error.status is None
    assert error.retryable is False


def test_all_problems_are_told_at_once():
    error = _refusal(prompt=7, image_urls="x", aspect_ratio="7:5", resolution="8k", nsfw_checker=0, size=1)

    fields = {problem.field for problem in error.problems}
    assert fields == {"prompt", "image_urls", "aspect_ratio", "resolution", "nsfw_checker", "size"}


def test_a_resolution_is_not_blamed_for_an_aspect_ratio_that_is_refused():
    error = _refusal(prompt="x", aspect_ratio="7:5", resolution="4k")

    assert [problem.field for problem in error.problems] == ["aspect_ratio"]


def test_a_refused_prompt_does_not_land_in_the_log_as_a_whole():
    error = _refusal(prompt="secret plans " * 3000)

    assert len(error.message) < 1000


def test_a_password_in_an_address_is_refused_without_being_repeated():
    error = _refusal(image_urls=["https://user:hunter2@example.com/a.png"])

    assert "example.com" in error.message
    assert "password" in error.message
    assert "hunter2" not in error.message


@pytest.mark.parametrize(
    "url", ["https://@example.com/", "https://user@example.com/", "https://:pw@example.com/"]
)
def test_half_a_login_in_an_address_is_refused_too(url):
    assert "without" in _refusal(image_urls=[url]).message


def test_what_is_no_table_of_fields_is_refused_in_our_own_words():
    with pytest.raises(InvalidRequestError, match="not valid"):
        ImageRequest.model_validate("a red bicycle")


@pytest.mark.parametrize(
    "field", ["prompt", "image_urls", "aspect_ratio", "resolution", "nsfw_checker", "size"]
)
def test_a_number_too_long_to_be_shown_is_refused_like_any_other(field):
    error = _refusal(**{"prompt": "fine", field: 10**5000})

    assert [problem.field for problem in error.problems] == [field]


@pytest.mark.parametrize("field", ["prompt", "image_urls", "aspect_ratio", "callback_url", "\ud800"])
def test_a_refusal_of_broken_unicode_can_be_printed(field):
    value = ["https://h/\ud800"] if field == "image_urls" else "\ud800"

    error = _refusal(**{"prompt": "fine", field: value})

    assert error.message.encode()


# --- reference images on a store ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/sofa.png",
        "s3://my_conn@bucket/a/b/sofa 2.png",
        "gs://bucket/sofa.png",
        "abfs://my_conn@container/sofa.png",
        "file:///data/sofa.png",
    ],
)
def test_an_object_on_a_store_may_be_a_reference_image(address):
    assert ImageRequest(image_urls=[address]).image_urls == (address,)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3://bucket/sofa.png?versionId=1",
        "s3://bucket/sofa.png#1",
        "s3://bucket/so\nfa.png",
        f"s3://bucket/{'x' * 9_000}.png",
    ],
)
def test_what_names_no_object_is_refused_with_an_example(address):
    error = _refusal(image_urls=[address])

    assert "is not the address of an object.\n" in str(error)
    assert str(error).endswith("\nGive one like s3://conn_id@bucket/key.")


def test_a_password_in_an_objects_address_is_refused_and_not_repeated():
    error = _refusal(image_urls=["s3://AKID:hunter2@bucket/sofa.png"])

    assert "contains a password" in str(error)
    assert "hunter2" not in str(error)


def test_an_address_whose_signature_was_taken_out_is_refused_and_not_paid_for():
    error = _refusal(image_urls=["https://example.com/a.png?***"])

    assert "item 0: 'https://example.com/a.png?***' has no signature any more" in error.message
    assert "sign it anew" in error.message


def test_the_path_of_a_callback_is_as_good_as_a_key_and_in_no_message():
    error = _refusal(prompt="x", callback_url="ftp://hooks.example.com/services/s3cretpath?token=s3crettoken")

    assert "'ftp://hooks.example.com' (its path is not shown)" in error.message
    assert "s3cret" not in error.message
