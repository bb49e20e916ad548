"""Items that fail, and how many may; the API's books judge."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import structlog

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import (
    ItemsFailedError,
    UnsettledImagesError,
)
from tests.batches import SIXTY, TEN, assert_books_agree, images, paid, statuses

# Items that fail


@pytest.mark.parametrize(
    ("fault", "charged"),
    [("503", "14.1"), ("500", "14.1"), ("503;accepted=yes", "18.8")],
    ids=["upstream", "internal", "accepted all the same"],
)
def test_a_submit_that_met_a_server_error_is_sent_again_by_the_next_try_only(batch, api, fault, charged):
    api.fault(f"submit:{fault.partition(';')[0]}*1;match=vase" + ";accepted=yes" * ("accepted" in fault))

    first = batch.run()
    submits = api.books()["requests"]["submit"]
    second = batch.run()

    assert (first["stored"], first["failed"], submits) == (2, 1, 3)
    assert [json.loads(row) for row in (batch.folder / "manifest.jsonl").read_text().splitlines()]
    assert (second["stored"], second["failed"], api.books()["charged"]) == (3, 0, charged)


def test_a_generation_that_failed_for_a_passing_reason_is_paid_for_again_in_the_same_try(batch, api):
    api.fault("generation:failed*1;match=vase")

    result = batch.run()

    books = api.books()
    assert (result["stored"], result["failed"], result["failures"]) == (3, 0, None)
    assert (books["submits"], books["refunded"]) == (4, "4.7")
    assert_books_agree(result, books)


def test_an_item_is_not_tried_again_more_often_than_it_may_be(batch, api):
    api.fault("generation:failed;match=vase")

    result = batch.run(item_retries=1)

    assert api.books()["submits"] == 4
    assert (result["stored"], result["failed"], result["charged"], result["refunded"]) == (
        2,
        1,
        "18.8",
        "9.4",
    )
    assert_books_agree(result, api.books())


def test_submits_that_never_left_are_not_paid_for_and_sent_by_the_next_try(batch, api, connect, closed_port):
    connect(f"http://127.0.0.1:{closed_port}", api.key)
    first = batch.run(item_retries=0)
    connect(api.url, api.key)

    second = batch.run()

    assert (first["failed"], first["unknown"], first["charged"]) == (3, 0, "0")
    assert {row["error"] for row in read_manifest(second["manifest"])} == {None}
    assert (second["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(second, api.books())


def test_an_item_that_failed_for_a_passing_reason_is_paid_for_by_the_next_try(batch, api):
    api.fault("generation:failed*1;match=vase")
    first = batch.run(item_retries=0)

    second = batch.run(item_retries=0)

    assert (first["stored"], first["failed"], second["stored"]) == (2, 1, 3)
    assert second["failures"] is None
    assert not (batch.folder / "failures.jsonl").exists()
    assert_books_agree(second, api.books())


@pytest.mark.parametrize("fault", ["generation:failed=invalid_request", "submit:400"])
def test_an_item_that_failed_for_good_is_tried_again_only_after_a_clear(batch, api, fault):
    api.fault(f"{fault}*1;match=vase")
    first = batch.run()
    retried = batch.run()
    before = api.books()
    batch.clear()

    cleared = batch.run()

    assert [result["failed"] for result in (first, retried, cleared)] == [1, 1, 0]
    assert_books_agree(retried, before)
    assert_books_agree(cleared, before, api.books())


def test_an_image_that_can_not_be_fetched_stays_paid_for_and_is_fetched_by_the_next_try(batch, api):
    api.fault("file:404;match=vase")
    with pytest.raises(UnsettledImagesError) as unsettled:
        batch.run(item_retries=0)
    api.clear_faults()
    told = Counter(statuses({"manifest": batch.folder}).values())

    second = batch.run()

    assert "1 image is paid for and not stored: 4.7 credits ($0.0235)." in str(unsettled.value)
    assert f"Their rows: {batch.folder}/unsettled.jsonl" in str(unsettled.value)
    assert unsettled.value.retryable
    assert told == {"stored": 2, "submitted": 1}
    assert (second["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(second, api.books())


def test_a_generation_that_is_late_stays_paid_for_and_is_awaited_by_the_next_try(batch, api, apis_clock):
    api.fault("generation:takes=900;match=vase")
    with structlog.testing.capture_logs() as lines, pytest.raises(UnsettledImagesError):
        batch.run(timeout=3)
    told = statuses({"manifest": batch.folder})
    apis_clock.forward()

    second = batch.run()

    assert told == {"a teapot": "stored", "a vase": "submitted", "a chair": "stored"}
    assert "1 image is paid for and not stored" in str(lines[-2])
    assert second["stored"] == 3
    assert [row["error"] for row in read_manifest(second["manifest"])] == [None] * 3
    assert api.books()["submits"] == 3


def test_all_images_of_a_generation_are_stored(batch, api):
    api.fault("generation:images=2;match=vase")

    result = batch.run()

    assert [len(row["paths"]) for row in read_manifest(result["manifest"])] == [1, 2, 1]
    assert images(batch) == 4


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [("generation:failed=invalid_request*1;after=1", False), ("generation:failed*1;after=1", True)],
)
def test_one_failure_stops_the_submitting_where_the_author_chose_so(batch, api, fault, retryable):
    api.fault(fault)

    with pytest.raises(ItemsFailedError) as caught:
        batch.run(requests=SIXTY, max_in_flight=2, item_retries=0, on_item_failure="fail")

    books = api.books()
    assert caught.value.retryable is retryable
    assert "1 of 60 images failed; at most 0 may (on_item_failure, max_failures)" in str(caught.value)
    assert books["submits"] < 60
    assert images(batch) == books["submits"] - 1


def test_a_submit_that_nobody_knows_about_is_a_failure_to_count(batch, api):
    api.fault("submit:lost*1;match=vase")

    with pytest.raises(ItemsFailedError, match="1 of 3 images failed"):
        batch.run(on_item_failure="fail")
    submits = api.books()["submits"]
    with pytest.raises(ItemsFailedError, match="1 of 4 images failed"):
        batch.run(requests=["a teapot", "a vase", "a chair", "a lamp"], on_item_failure="fail")

    assert api.books()["submits"] == submits


@pytest.mark.parametrize("most", [1, 0.25], ids=["count", "share"])
@pytest.mark.parametrize("failing", [1, 2])
def test_so_many_may_fail_and_no_more(batch, api, most, failing):
    api.fault(f"generation:failed=invalid_request*{failing};after=4")

    if failing == 1:
        assert batch.run(requests=TEN[:6], max_failures=most)["failed"] == 1
    else:
        with pytest.raises(ItemsFailedError, match="2 of 6 images failed; at most 1 may"):
            batch.run(requests=TEN[:6], max_failures=most)
    assert images(batch) == 6 - failing


def test_the_rows_that_failed_can_be_mended_and_run_again(batch, api):
    rows = [{"prompt": "a", "sku": 1}, {"prompt": "b", "resolution": "2k", "sku": 2}]
    api.fault("generation:failed=invalid_request;match=b")
    result = batch.run(requests=rows, defaults={"aspect_ratio": "3:2"}, variants=2)
    failures = batch.folder / "failures.jsonl"
    text = failures.read_text()
    mended = batch.folder.parent / "mended.jsonl"
    mended.write_text(text.replace('"b"', '"c"'))

    after = batch.run(requests=str(mended), defaults={"aspect_ratio": "3:2"}, variants=2)

    assert result["failures"] == str(failures)
    assert [json.loads(line) for line in text.splitlines()] == [rows[1]]
    assert (after["stored"], after["failures"], paid(api)) == (2, None, {"a": 2, "c": 2})
    assert {(row["data"]["sku"], row["request"]["aspect_ratio"]) for row in read_manifest(batch.folder)} == {
        (2, "3:2")
    }
