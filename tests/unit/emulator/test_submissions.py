"""Strictness: whatever the document doesn't allow is refused, and charged nothing."""

from __future__ import annotations

import json

import pytest

VALID = {"model": "gpt-image-2", "input": {"prompt": "a red bicycle"}}
BIG = 20_000


def with_input(**inputs):
    return {"model": "gpt-image-2", "input": {"prompt": "a red bicycle", **inputs}}


REFUSED = {
    "no model": ({"input": {"prompt": "x"}}, "'model' is required."),
    "empty model": ({**VALID, "model": ""}, "'model' is required."),
    "model of a wrong type": ({**VALID, "model": 2}, "'model' must be a string, not 2."),
    "null model": ({**VALID, "model": None}, "'model' must be a string, not None."),
    "no input": ({"model": "gpt-image-2"}, "'input' is required."),
    "input of a wrong type": ({**VALID, "input": ["x"]}, "'input' must be an object"),
    "unknown field": ({**VALID, "n": 4}, "'n' is not a parameter; one of model, input, callback_url."),
    "unknown input": (with_input(size="1024x1024"), "'input.size' is not a parameter"),
    "input beside the object": ({**VALID, "prompt": "x"}, "'prompt' is not a parameter"),
    "neither prompt nor images": ({**VALID, "input": {}}, "neither prompt nor image_urls is given"),
    "no images and no prompt": ({**VALID, "input": {"image_urls": []}}, "neither prompt nor image_urls"),
    "prompt of a wrong type": (with_input(prompt=5), "'input.prompt' must be a string, not 5."),
    "null prompt": (with_input(prompt=None), "'input.prompt' must be a string, not None."),
    "blank prompt": (with_input(prompt="  "), "is blank"),
    "prompt too long": (with_input(prompt="x" * (BIG + 1)), "at most 20,000"),
    "images no list": (with_input(image_urls="https://example.com/a.png"), "must be an array of strings"),
    "images null": (with_input(image_urls=None), "must be an array of strings"),
    "image no string": (with_input(image_urls=[1]), "must be a string"),
    "image no address": (with_input(image_urls=["cat.png"]), "is a file of this machine"),
    "image inlined": (with_input(image_urls=["data:image/png;base64,AAAA"]), "no http(s) address"),
    "17 images": (with_input(image_urls=["https://example.com/a.png"] * 17), "at most 16"),
    "unknown ratio": (with_input(aspect_ratio="7:5"), "is not an aspect ratio"),
    "size outside the table": (with_input(aspect_ratio="1000x1000"), "is not a pixel size of the"),
    "ratio of a wrong type": (with_input(aspect_ratio=1), "must be a string"),
    "unknown resolution": (with_input(resolution="8k"), "is not a resolution"),
    "resolution in capitals": (with_input(resolution="4K"), "'4K' is written '4k'"),
    "size with another cross": (with_input(aspect_ratio="1024×1024"), "is written '1024x1024'"),
    "null resolution": (with_input(resolution=None), "'input.resolution' must be a string"),
    "resolution against size": (with_input(aspect_ratio="1024x1024", resolution="4k"), "contradicts"),
    "checker of a wrong type": (with_input(nsfw_checker="true"), "'input.nsfw_checker' must be a boolean"),
    "checker as a number": (with_input(nsfw_checker=1), "'input.nsfw_checker' must be a boolean"),
    "callback of a wrong type": ({**VALID, "callback_url": 1}, "'callback_url' must be a string"),
    "null callback": ({**VALID, "callback_url": None}, "'callback_url' must be a string"),
    "callback no address": ({**VALID, "callback_url": "ftp://example.com"}, "no http(s) address"),
    "a list": ([VALID], "must be a JSON object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_document_does_not_allow_is_refused(api, emulator, name):
    body, message = REFUSED[name]

    answer = api.post("/v1/images/generations", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert message in answer.json()["error"]["message"]
    assert emulator.books()["charged"] == "0"


RAW = {
    "empty": b"",
    "not JSON": b"prompt=x",
    "cut off": json.dumps(VALID).encode()[:-1],
    "not a number": b'{"model": "gpt-image-2", "input": {"prompt": NaN}}',
    "a name given twice": b'{"model": "gpt-image-2", "input": {"prompt": "a", "prompt": "b"}}',
    "not UTF-8": b'{"model": "gpt-image-2", "input": {"prompt": "\xff"}}',
    "half a surrogate pair": b'{"model": "gpt-image-2", "input": {"prompt": "\\ud800"}}',
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("name", RAW)
def test_a_body_that_cannot_be_read_is_refused(api, emulator, name):
    answer = api.post(
        "/v1/images/generations", content=RAW[name], headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert emulator.books()["submits"] == 0


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_refused(api, content_type):
    headers = {} if content_type is None else {"content-type": content_type}

    answer = api.post("/v1/images/generations", content=json.dumps(VALID), headers=headers)

    assert answer.status_code == 400
    assert "Content-Type must be application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("model", ["gpt-image-1", "GPT-IMAGE-2", "gpt-image-2 "])
def test_another_model_does_not_exist(api, model):
    answer = api.post("/v1/images/generations", json={**VALID, "model": model})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_missing_model_is_answered_word_for_word_as_in_the_document(api):
    answer = api.post("/v1/images/generations", json={"input": {"prompt": "x"}})

    assert answer.json() == {
        "error": {
            "code": "invalid_request",
            "message": "'model' is required.",
            "type": "invalid_request_error",
        }
    }


ACCEPTED = {
    "a prompt alone": with_input(),
    "images alone": {"model": "gpt-image-2", "input": {"image_urls": ["https://example.com/a.png"]}},
    "16 images": with_input(image_urls=[f"https://example.com/{n}.png" for n in range(16)]),
    "the longest prompt": with_input(prompt="\U0001f6b2" * BIG),
    "auto": with_input(aspect_ratio="auto"),
    "a size": with_input(aspect_ratio="1881x836"),
    "everything": {
        "model": "gpt-image-2",
        "callback_url": "https://example.com/hook",
        "input": {
            "prompt": "x",
            "image_urls": ["https://example.com/a.png"],
            "aspect_ratio": "21:9",
            "resolution": "4k",
            "nsfw_checker": False,
        },
    },
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_document_allows_is_accepted(api, emulator, name):
    answer = api.post("/v1/images/generations", json=ACCEPTED[name])

    assert answer.status_code == 200
    assert emulator.books()["charges"][0]["request"] == ACCEPTED[name]["input"]


def test_the_content_type_may_name_its_charset(api):
    answer = api.post(
        "/v1/images/generations",
        content=json.dumps(VALID),
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("inputs", "resolution", "credits"),
    [
        ({}, "1k", "4.7"),
        ({"resolution": "2k"}, "2k", "9.4"),
        ({"resolution": "4k"}, "4k", "14.1"),
        ({"aspect_ratio": "3840x2160"}, "4k", "14.1"),
    ],
)
def test_each_tier_has_its_price(submitted, emulator, inputs, resolution, credits):
    submitted(**inputs)

    charge = emulator.books()["charges"][0]

    assert (charge["resolution"], charge["credits"]) == (resolution, credits)
