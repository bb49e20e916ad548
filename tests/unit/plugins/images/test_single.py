"""The page of a task that makes one image: what became of it, the money, what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import GptImageError, SubmissionUnknownError
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.task_instance import TaskInstance

PLACE = "task/shop/manual__2026-01-01T00:00:00+00:00/poster/-1"


@pytest.fixture
def api(api):
    """The emulated API, whose generations take a moment."""
    api.settings(duration=0.05)
    return api


@pytest.fixture
def make(api, airflow, tmp_path):
    """Makes a task instance of one image, and its run in Airflow's database."""

    def make(**given):
        given = {
            "task_id": "poster",
            "prompt": "a red teapot",
            "aspect_ratio": "16:9",
            "destination": str(tmp_path / "images"),
            "deferrable": False,
            "poll_interval": 0.05,
            "retries": 3,
            **given,
        }
        task = TaskInstance(lambda **more: GptImageGenerateOperator(**given | more), dag_id="shop")
        airflow.run("shop", task.run_id)
        return task

    return make


def test_a_picture_that_is_there_is_shown_with_all_its_facts(make, airflow, show, tmp_path):
    task = make()
    result = task.run()
    airflow.keep(task, result=result)

    document = show(PLACE)

    picture = document["picture"]
    [image] = picture["images"]
    assert (document["kind"], document["live"], document["notices"]) == ("single", False, [])
    assert (picture["status"], picture["prompt"], picture["reason"]) == ("done", "a red teapot", None)
    assert (picture["ratio"], picture["tier"], picture["price"]) == ("16:9", "1k", "0.0235")
    assert (picture["paid"], picture["spent"], picture["credits"]) == ("0.0235", "0.0235", "4.7")
    assert (picture["kept"], picture["reused"], picture["refunded"]) == (True, False, False)
    assert picture["generation_id"] == result["generation_id"]
    assert picture["seconds"] > 0
    assert image["path"] == result["path"]
    assert (image["width"], image["height"]) == (result["images"][0]["width"], result["images"][0]["height"])
    assert image["thumb"].startswith("/gpt-image/image/shop/")
    assert image["problem"] is None


def test_a_picture_outside_the_roots_has_no_address_and_the_reason(make, airflow, show, tmp_path):
    task = make()
    airflow.keep(task, result=task.run())

    [image] = show(PLACE, roots=[str(tmp_path / "elsewhere")])["picture"]["images"]

    assert image["thumb"] is None
    assert "gallery_roots" in image["problem"]


def test_a_picture_that_was_deleted_since_says_so(make, airflow, show, tmp_path):
    task = make()
    result = task.run()
    airflow.keep(task, result=result)
    next((tmp_path / "images").glob("*.png")).unlink()

    [image] = show(PLACE)["picture"]["images"]

    assert image["full"] is None
    assert "The file is gone" in image["problem"]


def test_a_picture_without_a_destination_is_the_apis_and_is_called_not_kept(make, airflow, show):
    task = make(destination=None)
    result = task.run()
    airflow.keep(task, result=result)

    document = show(PLACE)

    assert document["picture"]["kept"] is False
    assert document["notices"][0]["what"].startswith("Not kept.")


def test_a_picture_under_way_says_since_when_and_what_is_charged(make, airflow, show, api):
    task = make(deferrable=True)
    api.settings(duration=900)
    before = datetime.now(UTC)
    with pytest.raises(TaskDeferred):
        task.begin()
    airflow.keep(task, state="deferred", ended=None)

    document = show(PLACE, now=datetime.now(UTC))

    picture = document["picture"]
    assert (document["live"], picture["status"], picture["deferred"]) == (True, "in_flight", True)
    assert picture["money"] == "Charged: $0.0235"
    assert 0 <= picture["seconds"] < 60
    assert datetime.fromisoformat(picture["since"]) >= before.replace(microsecond=0)
    assert "No worker slot is held." in picture["reason"]


def test_a_picture_that_failed_has_the_apis_words_and_is_refunded(make, airflow, show, api):
    task = make(retries=0)
    api.fault("generation:failed=upstream_error*1")
    with pytest.raises(GptImageError):
        task.run()
    airflow.keep(task, state="failed")

    picture = show(PLACE)["picture"]

    assert (picture["status"], picture["refunded"], picture["money"]) == ("failed", True, "Refunded")
    assert (picture["code"], picture["spent"]) == ("upstream_error", "0.00")
    assert picture["message"]


def test_a_submit_without_an_answer_shows_the_stakes_and_the_two_decisions(make, airflow, show, api):
    task = make(retries=0)
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError):
        task.run()
    airflow.keep(task, state="failed")

    document = show(PLACE)

    picture = document["picture"]
    assert (picture["status"], picture["money"]) == ("unknown", "At stake: $0.0235")
    assert [card["title"] for card in picture["deciding"]] == [
        "No charge, or paying twice is fine",
        "Yes, and I know its id",
    ]
    assert "Give it the same `destination`." in picture["deciding"][1]["text"]
    assert "Look in your account" in document["notices"][0]["do"]


def test_a_paid_picture_that_was_not_stored_is_fetched_by_a_clear(make, airflow, show, tmp_path):
    task = make(deferrable=True)
    with pytest.raises(TaskDeferred):
        task.begin()
    airflow.keep(task, state="failed")

    document = show(PLACE)

    assert (document["picture"]["status"], document["picture"]["refunded"]) == ("failed", False)
    [notice] = document["notices"]
    assert notice["money"] == "Paid: $0.0235."
    assert "without a new charge" in notice["do"]


def test_a_task_of_another_kind_is_told_so_politely(airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "sh", operator="BashOperator", result="hello")

    document = show("task/shop/r1/sh/{MAP_INDEX}")

    assert (document["kind"], document["what"]) == ("empty", "No images here")
    assert document["why"] == "This tab shows what GptImage tasks make. This task's operator is BashOperator."


def test_a_task_that_has_not_run_says_where_its_pictures_will_be(airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "poster", state="queued", ended=None)

    document = show("task/shop/r1/poster/-1")

    assert (document["kind"], document["what"], document["live"]) == ("empty", "No images yet", True)


def test_a_task_instance_that_is_not_there_is_told_apart(airflow, show):
    document = show("task/shop/r1/poster/-1")

    assert "no such task instance" in document["why"]


def test_a_task_that_failed_before_it_paid_says_that_nothing_was_charged(airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "poster", state="failed")

    picture = show("task/shop/r1/poster/-1")["picture"]

    assert (picture["status"], picture["money"]) == ("failed", "Nothing was charged")
    assert "Its log says why" in picture["message"]


def test_a_subclass_of_our_operator_is_known_by_its_records(make, airflow, show):
    task = make()
    result = task.run()
    airflow.keep(task, result=result, operator="OurHousePosters")

    assert show(PLACE)["picture"]["status"] == "done"


def test_a_result_that_was_encoded_twice_is_read(make, airflow, show):
    task = make()
    result = task.run()
    airflow.keep(task, result=json.dumps(result))

    assert show(PLACE)["picture"]["generation_id"] == result["generation_id"]


def deep(levels):
    value = "end"
    for _ in range(levels):
        value = {"x": value}
    return value


HOSTILE = {
    "wrong types": {
        "generation_id": 7,
        "images": [1, None, {"path": 5, "url": [], "width": "x"}],
        "usd": 1.5,
    },
    "no images": {"generation_id": "g", "images": "<script>alert(1)</script>"},
    "a path elsewhere": {
        "generation_id": "g",
        "images": [{"path": "/etc/passwd", "url": "javascript:alert(1)"}],
    },
    "a way out": {"generation_id": "g", "images": [{"path": "{tmp}/images/../../etc/passwd"}]},
    "ten megabytes": {"generation_id": "g" * 10_000_000, "images": [{"path": "/x"}]},
    "a thousand images": {"generation_id": "g", "images": [{"path": "/x"}] * 1_000},
    "deep": {"generation_id": "g", "images": [deep(400)], "spent": deep(400)},
    "half a surrogate": {"generation_id": "\ud800", "images": [{"path": "/x\ud800"}], "resolution": "\ud800"},
    "money that is none": {
        "generation_id": "g",
        "images": [{}],
        "usd": "1e999999999",
        "spent": {"usd": "-5"},
    },
    "a number without end": {"generation_id": "g", "images": [{"width": 10**4000, "bytes": -1}]},
    "a list": [1, 2, 3],
}


@pytest.mark.parametrize("result", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_dags_author_returns_the_page_is_a_bounded_document(result, airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "poster", result=result, rendered={"prompt": ["x"], "destination": {"a": 1}})

    text = json.dumps(show("task/shop/r1/poster/-1"), allow_nan=False, ensure_ascii=False)

    assert len(text.encode()) < 300_000
    assert '"url": "javascript' not in text
    assert "/gpt-image/image/" not in text


RECORDS = {
    "of another version": {"version": 2, "records": []},
    "no records": {"version": 1, "clear_epoch": 1, "records": "x"},
    "deep": deep(300),
    "text": "<img src=x onerror=alert(1)>",
    "many": {"version": 1, "clear_epoch": 1, "records": [{}] * 1_000},
}


@pytest.mark.parametrize("kept", RECORDS.values(), ids=RECORDS)
def test_records_that_make_no_sense_are_left_out(kept, airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "poster", state="running", ended=None, kept={"gpt_image": kept})

    assert show("task/shop/r1/poster/-1")["kind"] == "empty"
