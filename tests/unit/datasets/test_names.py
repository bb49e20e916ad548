"""Names of columns are taken for fields or refused: what is called like a field is never left out."""

from __future__ import annotations

import pytest

from airflow_gpt_image.datasets.names import field_of, resembled
from airflow_gpt_image.errors import InvalidRequestError

URL = "https://example.com/room.jpg"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Prompt", "prompt"),
        ("PROMPTS", "prompt"),
        ("prompt:", "prompt"),
        ("\ufeffprompt", "prompt"),
        ("pro\u200bmpt", "prompt"),
        ("pro\u00admpt", "prompt"),
        ("\u00a0prompt\u00a0", "prompt"),
        ("ｐｒｏｍｐｔ", "prompt"),
        ("imageUrls", "image_urls"),
        ("ImageURL", "image_urls"),
        ("images_urls", "image_urls"),
        ("image-urls[]", "image_urls"),
        ("aspectRatio", "aspect_ratio"),
        ("Aspect Ratio", "aspect_ratio"),
        ("aspect.ratio", "aspect_ratio"),
        ("aspect_ratios", "aspect_ratio"),
        ("RESOLUTION", "resolution"),
        ("nsfwChecker", "nsfw_checker"),
        ("NSFW-Checker", "nsfw_checker"),
        ("callbackUrl", "callback_url"),
        ("input.prompt", "prompt"),
        ("input__image_urls", "image_urls"),
        ("Input/AspectRatio", "aspect_ratio"),
    ],
)
def test_a_name_is_a_fields_by_its_letters_and_digits_alone(read, name, field):
    assert field_of(name) == field
    values = {"image_urls": URL, "aspect_ratio": "3:2", "resolution": "2k", "nsfw_checker": "no"}
    value = values.get(field, "https://example.com/done" if field == "callback_url" else "a teapot")
    others = {} if field == "prompt" else {"prompt": "a teapot"}
    content = ",".join([*others, f'"{name}"']) + "\n" + ",".join([*others.values(), value])

    (row,) = read.rows("x.csv", content)

    assert field in row.given
    said = any(f"is taken for {field}." in line for line in read.log.infos)
    assert said is (name.strip() != field)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("prompt_text", "prompt"),
        ("Prompt (EN)", "prompt"),
        ("prompt 1", "prompt"),
        ("final-prompt", "prompt"),
        ("promt", "prompt"),
        ("propmt", "prompt"),
        ("instructions", "prompt"),
        ("image", "image_urls"),
        ("Images", "image_urls"),
        ("photo", "image_urls"),
        ("photo_url", "image_urls"),
        ("Image Src", "image_urls"),
        ("image_link", "image_urls"),
        ("reference_images", "image_urls"),
        ("product_image", "image_urls"),
        ("imageUri", "image_urls"),
        ("img", "image_urls"),
        ("image_url_1", "image_urls"),
        ("main_image_url", "image_urls"),
        ("Variant Image", "image_urls"),
        ("additional_image_link", "image_urls"),
        ("Gallery Images", "image_urls"),
        ("image_base64", "image_urls"),
        ("mask_url", "image_urls"),
        ("ratio", "aspect_ratio"),
        ("Aspect", "aspect_ratio"),
        ("aspect_ration", "aspect_ratio"),
        ("output_resolution", "resolution"),
        ("resoluton", "resolution"),
        ("nsfw", "nsfw_checker"),
        ("nsfw_check", "nsfw_checker"),
        ("callback", "callback_url"),
        ("webhook_url", "callback_url"),
    ],
)
def test_a_name_that_only_resembles_a_fields_is_refused(read, name, field):
    row = {
        "aspect_ratio" if field != "aspect_ratio" else "resolution": "2k"
        if field == "aspect_ratio"
        else "3:2"
    }
    row = row if field in ("prompt", "image_urls") else {"prompt": "a teapot", **row}

    _, (bad,) = read.requests([{**row, name: "x"}], defaults={"prompt": "a teapot"})

    assert resembled(name) == field
    assert f"looks like {field}; name it so, or say which column it is: columns={{'{field}': …}}" in bad.rule


@pytest.mark.parametrize(
    "name",
    [
        "sku",
        "title",
        "Name",
        "description",
        "text",
        "url",
        "product_url",
        "link",
        "price",
        "category",
        "background",
        "colour",
        "style",
        "solution",
        "prompt_id",
        "reference",
        "image_alt",
        "thumbnail",
        "rating",
        "prompt_version",
        "id",
        "n",
        "model",
        "context",
    ],
)
def test_a_name_that_is_anybodys_is_the_rows_data(read, name):
    ((row,), bad) = read.requests([{"prompt": "a teapot", name: "x"}])

    assert (bad, row.metadata) == ([], {name: "x"})


@pytest.mark.parametrize(
    "names",
    [
        ("prompt", "Prompt"),
        ("image_urls", "image_url"),
        ("aspectRatio", "aspect_ratio"),
        ("prompt", "input.prompt"),
    ],
)
def test_two_names_of_one_field_are_refused(read, names):
    assert "both mean" in read.refusal("x.csv", ",".join(names) + "\na,b")


@pytest.mark.parametrize(
    "name",
    [
        "prompt_2",
        "image_url_2",
        "aspect ratio 2",
        "negative_prompt",
        "negativePrompt",
        "additional_image_link",
        "image_url_back",
        "other_image_url1",
        "photo",
        "mask",
    ],
)
def test_a_second_field_beside_the_first_is_not_left_out(read, name):
    row = {"prompt": "x", "image_urls": [URL], "aspect_ratio": "3:2", name: "x"}

    _, (bad,) = read.requests([row])

    assert "looks like" in bad.rule


@pytest.mark.parametrize("value", ["1536x864", "1024x1536", "16:9", " 3:2 ", "512x512", "2k", "4K", "auto"])
@pytest.mark.parametrize(
    "name",
    ["size", "Sizes", "format", "dimensions", "quality", "output_size", "AR", "Seitenverhältnis", "Tamaño"],
)
def test_what_other_services_call_it_is_told_by_the_value(read, name, value):
    _, (bad,) = read.requests([{"prompt": "x", name: value}])

    assert "looks like" in bad.rule
    field = "resolution" if value.strip().lower() in ("2k", "4k") else "aspect_ratio"
    assert read.requests([{"prompt": "x", name: value}], columns={field: None})[1] == []


@pytest.mark.parametrize("value", ["XL", "30x40", "42", 42, "high", "hardcover"])
def test_a_size_of_something_else_is_the_rows_data(read, value):
    ((row,), bad) = read.requests([{"prompt": "x", "size": value}])

    assert (bad, row.metadata) == ([], {"size": value})


# columns=


def test_columns_say_which_column_is_which_field(read):
    content = "sku;photo;description\n7;https://a.example/1.png;a teapot"

    (row,) = read.rows("x.csv", content, columns={"image_urls": "photo", "prompt": "Description"})

    assert (row.request.prompt, row.request.image_urls) == ("a teapot", ("https://a.example/1.png",))
    assert row.metadata == {"sku": "7"}


def test_a_row_that_failed_is_read_again_with_the_same_columns_and_without(read):
    columns = {"image_urls": "photo", "prompt": "description"}
    ((row,), _) = read.requests([{"photo": URL, "description": "x", "sku": 1}], columns=columns)

    assert row.request.image_urls == (URL,)
    for given in ({"columns": columns}, {}):
        ((again,), bad) = read.requests([row.given], **given)
        assert (again, bad) == (row, [])


@pytest.mark.parametrize("name", ["resolution px", "Resolution", "screen_resolution"])
def test_columns_can_say_that_no_column_is_a_field(read, name):
    ((row,), bad) = read.requests([{"prompt": "x", name: "3840x1600"}], columns={"resolution": None})

    assert (bad, row.metadata, row.request.resolution) == ([], {name: "3840x1600"}, "1k")


def test_a_column_that_is_not_there_is_refused_once(read):
    message = read.refusal("x.csv", "prompt,sku\n" + "x,y\n" * 1000, columns={"image_urls": "photo"})

    assert "has no column 'photo', which columns names; found ['prompt', 'sku']" in message
    assert "has no column 'photo'" in read.refusal(
        "x.jsonl", '{"prompt": "x"}', columns={"image_urls": "photo"}
    )


def test_a_column_called_as_a_field_that_is_mapped_elsewhere_is_refused(read):
    message = read.refusal("x.csv", "prompt,description\na,b", columns={"prompt": "description"})

    assert "Column 'prompt' means prompt, and columns says that column 'description' is; rename it" in message


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["photo"], "is no mapping"),
        ({"photo": "image_urls"}, "'photo' is no field"),
        ({"prompt": ""}, "'' is no name of a column"),
        ({"prompt": 5}, "5 is no name of a column"),
        ({"prompt": "a", "image_urls": "a"}, "can't be two fields"),
    ],
)
def test_columns_that_make_no_sense_are_refused(read, columns, words):
    lines = read.refusal("x.csv", "prompt\nx", columns=columns).splitlines()

    assert words in lines[0]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 95


# No column is a field


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "sku,title\n7,x"),
        ("x.jsonl", '{"sku": 7}\n{"sku": 8}'),
        ("x.csv", "sku·image_urls·aspect_ratio\n7·https://a.example/1.png·3:2"),
    ],
)
def test_a_file_of_which_no_column_is_a_field_is_refused_whatever_the_defaults(read, name, content):
    message = read.refusal(name, content, defaults={"prompt": "a teapot", "image_urls": [URL]})

    assert "nor another field's; found" in message or "looks like" in message


def test_rows_without_a_field_are_refused_in_a_list_too(read):
    with pytest.raises(InvalidRequestError, match="nor another field's; found"):
        read.requests([{"sku": 7}, {"title": "x"}], defaults={"prompt": "a teapot"})


def test_a_row_that_holds_the_request_further_inside_is_a_bad_one(read):
    rows = [{"prompt": "x"}, {"custom_id": "7", "body": {"prompt": "y", "size": "1024x1024"}}]

    _, (bad,) = read.requests(rows, defaults={"prompt": "a teapot"})

    assert (bad.row, "Column 'body' holds fields of a request" in bad.rule) == (2, True)


# The API's own body


def test_the_apis_own_body_is_a_row(read):
    body = {
        "model": "gpt-image-2",
        "callback_url": "https://a.example/done",
        "sku": 7,
        "input": {"prompt": "x", "image_urls": [URL], "nsfw_checker": False},
    }

    ((row,), bad) = read.requests([body])

    assert bad == []
    assert row.request.model_dump() == {
        "prompt": "x",
        "image_urls": (URL,),
        "aspect_ratio": "auto",
        "resolution": "1k",
        "nsfw_checker": False,
        "callback_url": "https://a.example/done",
    }
    assert row.metadata == {"sku": 7}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"model": "dall-e-3", "input": {"prompt": "x"}}, "'dall-e-3' is another model"),
        ({"prompt": "x", "input": {"prompt": "y"}}, "'prompt' is in the row and in its 'input'"),
        ({"input": {"promt": "x"}}, "'promt' looks like prompt"),
    ],
)
def test_a_body_that_means_something_else_is_refused(read, row, words):
    _, (bad,) = read.requests([row], defaults={"prompt": "a teapot"})

    assert words in bad.rule
