"""What a task returns: plain JSON, exact money, times in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from airflow_gpt_image import results
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.ledger.payer import Payer, Slot
from airflow_gpt_image.ledger.record import GenerationFacts, foreign_record, intend
from airflow_gpt_image.storage.folders import open_folder
from airflow_gpt_image.storage.images import ImageFile

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
GENERATION = Generation.model_validate(COMPLETED)
NOW = datetime(2026, 4, 5, 10, 11, tzinfo=UTC)
PAYER = Payer(dag_id="d", run_id="r", task_id="t", clear_epoch=0, attempt=1)
DEFAULT_PRICES = Prices()
DEARER = Prices(credits_1k=Decimal("5.20"), usd_per_credit=Decimal("0.01"))


def submitted(prices=DEFAULT_PRICES, **request):
    asked = ImageRequest(**{"prompt": "x", "aspect_ratio": "3:2"} | request)
    when = {"now": NOW, "answer_by": NOW}
    intent = intend(asked, "f" * 64, Slot(), before=None, payer=PAYER, prices=prices, **when)
    return intent.submitted(GENERATION.id, NOW)


def stored(*images, **request):
    return submitted(**request).stored(images, GenerationFacts.of(GENERATION), NOW)


IMAGE = ImageFile(url=URL, name="1.png", width=1024, height=768, sha256="0" * 64, bytes=123456)


def test_a_generation_whose_image_was_stored_is_told_in_full():
    told = results.of_record(stored(IMAGE), open_folder("/data"))

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
        "path": "/data/1.png",
        "url": URL,
        "created_at": "2026-04-05T10:11:48+00:00",
        "completed_at": "2026-04-05T10:11:50+00:00",
        "metadata": {"model": "gpt-image-2-image-to-image", "costTime": 70},
        "aspect_ratio": "3:2",
        "resolution": "1k",
        "credits": "4.7",
        "usd": "0.0235",
        "fingerprint": "f" * 64,
    }


def test_an_image_that_was_not_stored_has_only_its_address():
    told = results.of_record(stored(ImageFile(url=URL)), None)

    assert (told["path"], told["url"]) == (None, URL)

    assert told["images"] == [
        {"url": URL, "path": None, "width": None, "height": None, "sha256": None, "bytes": None}
    ]


def test_images_keep_their_order():
    images = [ImageFile(url=f"https://example.com/{number}.png") for number in (3, 1, 2)]

    told = results.of_record(stored(*images), None)

    assert [image["url"][-5] for image in told["images"]] == ["3", "1", "2"]


def test_what_the_api_did_not_tell_yet_is_none_and_the_model_is_ours():
    told = results.of_record(submitted(), None)

    names = ("status", "model", "created_at", "completed_at", "metadata", "images", "path", "url")
    assert [told[name] for name in names] == ["submitted", "gpt-image-2", None, None, {}, [], None, None]


@pytest.mark.parametrize(
    ("resolution", "credits", "usd"),
    [("1k", "4.7", "0.0235"), ("2k", "9.4", "0.047"), ("4k", "14.1", "0.0705")],
)
def test_a_request_tells_what_it_costs_in_exact_decimal_strings(resolution, credits, usd):
    told = results.of_record(submitted(resolution=resolution), None)

    assert (told["resolution"], told["credits"], told["usd"]) == (resolution, credits, usd)


def test_what_it_costs_is_by_the_price_list_of_the_submit():
    told = results.of_record(submitted(DEARER), None)

    assert (told["credits"], told["usd"]) == ("5.2", "0.052")


def test_a_pixel_size_tells_the_tier_it_belongs_to():
    told = results.of_record(submitted(aspect_ratio="1152x2048"), None)

    assert (told["aspect_ratio"], told["resolution"]) == ("1152x2048", "2k")


def test_what_somebody_else_submitted_says_nothing_of_what_was_asked_and_paid():
    told = results.of_record(foreign_record(GENERATION, [IMAGE], PAYER, NOW), open_folder("/data"))

    unknown = {"aspect_ratio", "resolution", "credits", "usd", "fingerprint"}
    assert set(told) & unknown == set()
    assert told["images"][0]["path"] == "/data/1.png"


def test_a_task_tells_what_it_spent_and_the_net_sum_in_dollars():
    told = results.spent_fields(Decimal("14.10"), Decimal("4.7"), DEFAULT_PRICES)

    assert told == {"charged": "14.1", "refunded": "4.7", "usd": "0.047"}


def test_dollars_are_by_the_connections_price_of_a_credit():
    assert results.spent_fields(Decimal(10), Decimal(0), DEARER)["usd"] == "0.1"


def test_round_sums_are_written_as_people_write_them():
    told = results.spent_fields(Decimal("470.0"), Decimal(70), DEFAULT_PRICES)

    assert told == {"charged": "470", "refunded": "70", "usd": "2"}


def test_nothing_spent_is_nought():
    told = results.spent_fields(Decimal(0), Decimal(0), DEFAULT_PRICES)

    assert told == {"charged": "0", "refunded": "0", "usd": "0"}


def test_an_event_tells_of_the_images_that_have_a_path():
    told = results.of_record(stored(IMAGE, ImageFile(url=URL)), open_folder("/data"))

    fields = results.event_fields(told)

    assert (fields["paths"], fields["count"], fields["credits"]) == (["/data/1.png"], 2, "4.7")


def test_all_of_it_is_plain_json():
    told = results.of_record(stored(IMAGE), open_folder("/data"))

    assert json.loads(json.dumps(told)) == told
