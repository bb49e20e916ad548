"""A value → a call."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.models import ImageRequest


def test_a_prompt_becomes_the_documents_call():
    call = protocol.submit_call(ImageRequest(prompt="a red bicycle"))

    assert (call.method, call.path) == ("POST", "/v1/images/generations")
    assert call.body == {
        "model": "gpt-image-2",
        "input": {
            "prompt": "a red bicycle",
            "aspect_ratio": "auto",
            "resolution": "1k",
            "nsfw_checker": True,
        },
    }


def test_everything_that_is_set_is_sent_and_the_callback_stands_outside_the_input():
    request = ImageRequest(
        prompt="x",
        image_urls=["https://example.com/b.png", "https://example.com/a.png"],
        aspect_ratio="3:2",
        resolution="4k",
        nsfw_checker=False,
        callback_url="https://your-server.com/webhook",
    )

    body = json.loads(json.dumps(protocol.submit_call(request).body))

    assert body == {
        "model": "gpt-image-2",
        "callback_url": "https://your-server.com/webhook",
        "input": {
            "prompt": "x",
            "image_urls": ["https://example.com/b.png", "https://example.com/a.png"],
            "aspect_ratio": "3:2",
            "resolution": "4k",
            "nsfw_checker": False,
        },
    }


@pytest.mark.parametrize(
    ("aspect_ratio", "resolution", "sent"),
    [("auto", None, "1k"), ("16:9", "2k", "2k"), ("3840x2160", None, "4k"), ("1881x836", "1k", "1k")],
)
def test_the_resolved_tier_is_always_sent(aspect_ratio, resolution, sent):
    request = ImageRequest(prompt="x", aspect_ratio=aspect_ratio, resolution=resolution)

    assert protocol.submit_call(request).body["input"]["resolution"] == sent
    assert protocol.submit_call(request).body["input"]["aspect_ratio"] == aspect_ratio


def test_without_a_prompt_none_is_sent():
    call = protocol.submit_call(ImageRequest(image_urls=["https://example.com/a.png"]))

    assert "prompt" not in call.body["input"]


def test_a_generation_is_read_by_its_id():
    call = protocol.get_call("397ce9f2-c04e-4244-ac33-3af19a7cc297")

    assert (call.method, call.path) == ("GET", "/v1/tasks/397ce9f2-c04e-4244-ac33-3af19a7cc297")
    assert call.body is None


@pytest.mark.parametrize(
    "value", ["../credits", "a/b", "a?b=c", "a#b", "", "a\r\nHost: evil", "%2e%2e", "a" * 129]
)
def test_an_id_can_not_lead_anywhere_else(value):
    with pytest.raises(errors.InvalidRequestError, match="not a generation id"):
        protocol.get_call(value)


def test_the_balance_is_read_where_the_document_says():
    assert (protocol.BALANCE_CALL.method, protocol.BALANCE_CALL.path) == ("GET", "/v1/credits")


def test_an_object_that_nobody_has_signed_is_not_submitted():
    request = ImageRequest(image_urls=["https://example.com/a.png", "s3://bucket/sofa.png"])

    with pytest.raises(errors.InvalidRequestError, match=r"'s3://bucket/sofa\.png' is an object on a store"):
        protocol.submit_call(request)
