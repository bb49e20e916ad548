"""What a task returns: plain JSON, exact money, times in UTC."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from airflow_gpt_image import results
from airflow_gpt_image.api.models import GeneratedImage, Generation, ImageRequest
from airflow_gpt_image.ledger import Spent

# "Completed" of the API document, as it stands there.
COMPLETED = {
    "id": "397ce9f2-c04e-4244-ac33-3af19a7cc297",
    "status": "completed",
    "model": "gpt-image-2",
    "created_at": 1775383908,
    "completed_at": 1775383910,
    "output": {
        "urls": ["https://file.aivideoapi.ai/images/2026/04/05/abc123.png"],
        "metadata": {"model": "gpt-image-2-image-to-image", "costTime": 70},
    },
}
URL = COMPLETED["output"]["urls"][0]


def test_a_generation_whose_image_was_stored_is_told_in_full():
    generation = Generation.model_validate(COMPLETED)
    image = GeneratedImage(url=URL, path="/data/1.png", width=1024, height=768, sha256="0" * 64, bytes=123456)

    told = results.of_generation(generation) | results.of_images([image])

    assert told == {
        "generation_id": "397ce9f2-c04e-4244-ac33-3af19a7cc297",
        "status": "completed",
        "model": "gpt-image-2",
        "images": [
            {
                "url": URL,
                "path": "/data/1.png",
                "width": 1024,
                "height": 768,
                "sha256": "0" * 64,
                "bytes": 123456,
            }
        ],
        "created_at": "2026-04-05T10:11:48+00:00",
        "completed_at": "2026-04-05T10:11:50+00:00",
        "metadata": {"model": "gpt-image-2-image-to-image", "costTime": 70},
    }


def test_an_image_that_was_not_stored_has_only_its_address():
    told = results.of_images([GeneratedImage(url=URL)])

    assert told["images"] == [
        {"url": URL, "path": None, "width": None, "height": None, "sha256": None, "bytes": None}
    ]


def test_images_keep_their_order():
    images = [GeneratedImage(url=f"https://example.com/{number}.png") for number in (3, 1, 2)]

    told = results.of_images(images)

    assert [image["url"][-5] for image in told["images"]] == ["3", "1", "2"]


def test_what_the_api_did_not_tell_is_none_and_the_model_is_ours():
    told = results.of_generation(Generation(id="g1", status="submitted"))

    assert told == {
        "generation_id": "g1",
        "status": "submitted",
        "model": "gpt-image-2",
        "created_at": None,
        "completed_at": None,
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("resolution", "credits", "usd"),
    [("1k", "4.7", "0.0235"), ("2k", "9.4", "0.047"), ("4k", "14.1", "0.0705")],
)
def test_a_request_tells_what_it_costs_in_exact_decimal_strings(resolution, credits, usd):
    request = ImageRequest(prompt="x", aspect_ratio="3:2", resolution=resolution)

    told = results.of_request(request, "f" * 64)

    assert told == {
        "aspect_ratio": "3:2",
        "resolution": resolution,
        "credits": credits,
        "usd": usd,
        "fingerprint": "f" * 64,
    }


def test_a_pixel_size_tells_the_tier_it_belongs_to():
    told = results.of_request(ImageRequest(prompt="x", aspect_ratio="1152x2048"), "f")

    assert (told["aspect_ratio"], told["resolution"]) == ("1152x2048", "2k")


def test_a_try_tells_what_the_task_spent_net_of_refunds():
    spent = Spent(charged=Decimal("14.10"), refunded=Decimal("4.7"))

    told = results.of_try(reused=False, spent=spent)

    assert told == {"reused": False, "spent": {"charged": "14.1", "refunded": "4.7", "usd": "0.047"}}


def test_round_sums_are_written_as_people_write_them():
    told = results.of_try(reused=True, spent=Spent(charged=Decimal("470.0"), refunded=Decimal(70)))

    assert told["spent"] == {"charged": "470", "refunded": "70", "usd": "2"}


def test_nothing_spent_is_nought():
    assert results.of_try(reused=True, spent=Spent())["spent"] == {
        "charged": "0",
        "refunded": "0",
        "usd": "0",
    }


def test_all_of_it_is_plain_json():
    generation = Generation.model_validate(COMPLETED)
    told = (
        results.of_generation(generation)
        | results.of_images([GeneratedImage(url=URL)])
        | results.of_request(ImageRequest(prompt="x"), "f")
        | results.of_try(reused=False, spent=Spent())
    )

    assert json.loads(json.dumps(told)) == told
