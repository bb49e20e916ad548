"""The batch operator and money: whatever happens, an image is paid for once. The API's books judge."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    DestinationTakenError,
    GptImageError,
    InsufficientCreditsError,
    InvalidApiKeyError,
    IpNotAllowedError,
    ItemsFailedError,
    LedgerError,
    ModelNotFoundError,
    PlanError,
    RateLimitError,
    ReplacedError,
    SpendLimitError,
    TaskInterruptedError,
    UnsettledImagesError,
)
from airflow_gpt_image.triggers.gpt_image import GptImageTrigger
from tests.batches import BatchTask, LaterClock, assert_books_agree, paid, states_of
from tests.task_instance import DiedError

TEN = [f"poster {number}" for number in range(10)]
SIXTY = [f"poster {number}" for number in range(60)]


def until(condition):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def replaced_at(task, number):
    """Let a retry replace the task instance at a write of its lease, which comes before every submit."""
    task.retimed(renew_after=-1.0)

    def on_write(count):
        if task.try_number == 1 and count == number:
            task.store.replace()

    task.store.befalls = on_write


def statuses(result):
    return {row["request"]["prompt"]: row["status"] for row in read_manifest(result["manifest"])}


def images(task):
    return len(list((task.folder / "items").glob("*.png")))


def files(task):
    """What is at the destination, but for the lock: that of a task instance is all its workers'."""
    found = {path.relative_to(task.folder).as_posix(): path for path in task.folder.rglob("*.*")}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("locks/")}


# Run again: only what is missing is paid for


def test_a_retry_pays_and_fetches_nothing_again(batch, api):
    first = batch.run()

    second = batch.run()

    requests = api.books()["requests"]
    assert (requests["submit"], requests["download"]) == (3, 3)
    assert (second["stored"], second["reused"]) == (3, 0)
    assert second == first | {"seconds": second["seconds"]}
    assert_books_agree(second, api.books())


def test_rows_in_another_order_and_ten_more_pay_for_the_ten(batch, api):
    batch.run()

    result = batch.run(requests=["a chair", *TEN, "a vase", "a teapot"])

    assert set(paid(api).values()) == {1}
    assert (api.books()["submits"], result["stored"]) == (13, 13)
    assert_books_agree(result, api.books())


def test_a_row_that_changed_is_the_only_one_paid_for(batch, api):
    batch.run()

    batch.run(requests=["a teapot", {"prompt": "a vase", "resolution": "2k"}, "a chair"])

    assert paid(api) == {"a teapot": 1, "a vase": 2, "a chair": 1}


def test_a_column_that_is_no_field_changes_nothing(batch, api):
    batch.run(requests=[{"prompt": "a", "sku": 1}])

    result = batch.run(requests=[{"prompt": "a", "sku": 2}])

    assert api.books()["submits"] == 1
    assert [row["data"] for row in read_manifest(result["manifest"])] == [{"sku": 2}]


def test_identical_rows_are_an_image_each_and_one_more_is_one_more(batch, api):
    first = batch.run(requests=["a"] * 3)

    second = batch.run(requests=["a", "b", "a", "a", "a"])

    assert (first["stored"], second["stored"]) == (3, 5)
    assert paid(api) == {"a": 4, "b": 1}
    assert len({row["generation_id"] for row in read_manifest(second["manifest"])}) == 5


def test_more_variants_pay_for_those_that_are_missing(batch, api):
    batch.run(requests=["a", "b"])

    result = batch.run(requests=["b", "a"], variants=3)

    assert paid(api) == {"a": 3, "b": 3}
    assert (result["images"], result["stored"]) == (6, 6)


def test_an_image_that_is_gone_from_the_destination_is_fetched_and_not_paid_for_again(batch, api):
    batch.run()
    next((batch.folder / "items").glob("*.png")).unlink()

    result = batch.run()

    requests = api.books()["requests"]
    assert (result["stored"], images(batch)) == (3, 3)
    assert (requests["submit"], requests["download"]) == (3, 4)


def test_a_clear_reuses_what_the_run_paid_for(batch, api):
    batch.run()
    batch.clear()

    result = batch.run(requests=["a teapot", "a vase", "a chair", "a lamp"])

    assert api.books()["submits"] == 4
    assert (result["stored"], result["reused"], result["charged"]) == (4, 3, "4.7")


@pytest.mark.parametrize(
    ("reuse", "cleared", "new_run", "other_task"),
    [("run", 1, 2, 2), ("destination", 1, 1, 1), ("never", 2, 2, 2)],
)
def test_what_may_be_reused_is_the_authors_choice(batch, api, tmp_path, reuse, cleared, new_run, other_task):
    submits = []
    for change in ("clear", "new_run", "other"):
        api.reset()
        task = BatchTask(tmp_path / change, deferrable=False)
        task.given["requests"] = ["a teapot"]
        task.run(reuse=reuse)
        if change == "other":
            task.new_run()
            task.run_id, task.task_id = task.run_id[:-2], "other"
        else:
            getattr(task, change)()
        result = task.run(reuse=reuse)
        again = task.run(reuse=reuse)
        submits.append(api.books()["submits"])
        assert (result["stored"], result["reused"]) == (1, 2 - submits[-1])
        assert again == result | {"seconds": again["seconds"]}

    assert submits == [cleared, new_run, other_task]


# Submits that nobody knows about


@pytest.mark.parametrize("kind", ["lost", "close", "html", "502", "missing_id", "truncated"])
def test_an_unknown_submit_is_a_failed_item_and_never_sent_again(batch, api, kind):
    api.fault(f"submit:{kind}*1;match=vase")
    first = batch.run()
    second = batch.run()
    batch.clear()

    third = batch.run(requests=["a chair", "a vase", "a teapot"])

    assert api.books()["requests"]["submit"] == 3
    for result in (first, second, third):
        assert (result["stored"], result["unknown"], result["failed"]) == (2, 1, 0)
        assert statuses(result)["a vase"] == "unknown"
    assert (batch.folder / "unsettled.jsonl").read_text() == '{"prompt":"a vase"}\n'
    assert not (batch.folder / "failures.jsonl").exists()
    # Counted as charged: nobody can know that it wasn't.
    assert (first["charged"], second["charged"], third["charged"]) == ("14.1", "14.1", "0")


def test_an_unknown_submit_is_sent_again_within_the_try_where_the_author_chose_so(batch, api):
    api.fault("submit:lost*1;match=vase")

    result = batch.run(on_unknown_submit="resubmit")

    assert (result["stored"], result["unknown"]) == (3, 0)
    assert paid(api)["a vase"] == 2
    assert_books_agree(result, api.books())


def test_an_unknown_submit_is_sent_again_by_the_next_try_where_the_author_chose_so(batch, api):
    api.fault("submit:lost*1;match=vase")
    batch.run()

    result = batch.run(on_unknown_submit="resubmit")
    again = batch.run(on_unknown_submit="resubmit")

    assert (result["stored"], again["stored"], paid(api)["a vase"]) == (3, 3, 2)
    assert_books_agree(again, api.books())


# The rate


def test_a_retry_after_holds_all_senders(batch, api):
    batch.retimed(first_rate=10.0)
    api.fault("submit:429*1;retry_after=1;after=2")

    result = batch.run(requests=TEN[:6])

    books = api.books()
    moments = sorted(charge["submitted_at"] for charge in books["charges"])
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert result["stored"] == 6
    assert set(paid(api).values()) == {1}
    assert books["requests"]["submit"] == 7
    assert max(gaps) >= 0.98  # what was under way when the refusal came aside, nobody sent anything
    assert_books_agree(result, books)


@pytest.fixture(params=[4, 5], ids=["before its intent", "right before its submit"])
def second_sender(request, batch, api):
    """
    A batch whose second sender has its place already when the first one is refused.

    The lease is written before each intent and each submit; the second sender's write takes until the first
    one was refused, and is known to be.
    """
    batch.refused_at = None

    def slow(number):
        if number == request.param and batch.try_number == 1:
            until(lambda: api.books()["requests"]["rejected"])
            batch.refused_at = time.time()
            time.sleep(0.1)

    batch.retimed(first_rate=10.0, renew_after=-1.0)
    batch.store.befalls = slow
    batch.given["requests"] = ["a", "b"]
    return batch


def test_a_retry_after_holds_also_a_sender_that_has_its_place_already(second_sender, api):
    api.fault("submit:429*1;retry_after=1;delay=0.3")

    second_sender.run()

    assert api.books()["requests"]["submit"] == 3
    first = min(charge["submitted_at"] for charge in api.books()["charges"])
    assert first > second_sender.refused_at + 0.95


def test_what_concerns_the_account_stops_also_a_sender_that_has_its_place_already(second_sender, api):
    api.fault("submit:401*1;delay=0.3")

    with pytest.raises(InvalidApiKeyError):
        second_sender.run()

    assert api.books()["requests"]["submit"] == 1
    assert set(statuses({"manifest": second_sender.folder}).values()) == {"not_submitted"}


def test_a_limit_nobody_has_written_down_costs_refusals_and_no_image(batch, api):
    api.settings(rate_limit=4)

    result = batch.run(requests=TEN)

    assert (result["stored"], set(paid(api).values())) == (10, {1})
    assert 0 < api.books()["requests"]["rejected"]["rate_limit_exceeded"] < 20
    assert_books_agree(result, api.books())


def test_a_wish_too_long_for_a_worker_is_airflows_to_wait_for(batch, api):
    api.fault("submit:429;retry_after=300;after=1")
    with pytest.raises(RateLimitError) as caught:
        batch.run()
    api.clear_faults()

    result = batch.run()

    assert (caught.value.retryable, caught.value.retry_after) == (True, 300)
    assert (result["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(result, api.books())


def test_no_more_generations_are_under_way_than_may_be(batch, api):
    api.settings(duration=0.2)

    batch.run(requests=TEN[:6], max_in_flight=2)

    moments = sorted(charge["submitted_at"] for charge in api.books()["charges"])
    assert all(later >= earlier + 0.2 for earlier, later in zip(moments, moments[2:], strict=False))


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
    api.fault("file:404*1")
    with pytest.raises(UnsettledImagesError) as unsettled:
        batch.run()
    told = Counter(statuses({"manifest": batch.folder}).values())

    second = batch.run()

    assert "1 image is paid for and not stored: 4.7 credits ($0.0235)." in str(unsettled.value)
    assert f"Their rows: {batch.folder}/unsettled.jsonl" in str(unsettled.value)
    assert unsettled.value.retryable
    assert told == {"stored": 2, "submitted": 1}
    assert (second["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(second, api.books())


def test_a_generation_that_is_late_stays_paid_for_and_is_awaited_by_the_next_try(batch, api):
    api.fault("generation:takes=0.8;match=vase")
    with structlog.testing.capture_logs() as lines, pytest.raises(UnsettledImagesError):
        batch.run(timeout=0.3)
    told = statuses({"manifest": batch.folder})

    second = batch.run()

    assert told == {"a teapot": "stored", "a vase": "submitted", "a chair": "stored"}
    assert "1 image is paid for and not stored" in str(lines[-1])
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


# What concerns the account


ACCOUNT = [
    ("401", InvalidApiKeyError),
    ("402", InsufficientCreditsError),
    ("403", IpNotAllowedError),
    ("404", ModelNotFoundError),
    ("spend_limit_exceeded", SpendLimitError),
]


@pytest.mark.parametrize(("kind", "error"), ACCOUNT)
def test_what_concerns_the_account_stops_the_submitting_and_nothing_is_lost(batch, api, kind, error):
    api.fault(f"submit:{kind};after=2")
    with pytest.raises(error) as caught:
        batch.run(requests=TEN, max_in_flight=4)
    books, stored = api.books(), images(batch)
    api.clear_faults()

    result = batch.run(requests=TEN)

    assert not caught.value.retryable
    assert (books["submits"], stored) == (2, 2)
    assert books["requests"]["submit"] <= 6  # those that were in flight, none after
    assert (result["stored"], set(paid(api).values())) == (10, {1})
    assert_books_agree(result, api.books())


def test_a_balance_that_runs_out_is_topped_up_and_the_rest_is_paid_for(batch, api):
    api.settings(credits="10")
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(InsufficientCreditsError, match="top up"),
    ):
        batch.run()
    submits = api.books()["submits"]
    api.settings(credits="100")

    result = batch.run()

    [last] = [line for line in map(str, lines) if "Spent since" in line]
    assert "2 stored (0 reused), 0 failed, 0 unknown, 1 not submitted" in last
    assert "9.4 credits ($0.047): 9.4 charged, 0 refunded" in last
    assert (submits, api.books()["submits"], result["stored"]) == (2, 3, 3)
    assert_books_agree(result, api.books())


@pytest.mark.parametrize(("kind", "error"), ACCOUNT[:1])
def test_a_look_that_concerns_the_account_leaves_what_is_paid_for_to_the_next_try(batch, api, kind, error):
    api.fault(f"get:{kind}")
    with pytest.raises(error):
        batch.run()
    told = statuses({"manifest": batch.folder})
    api.clear_faults()

    result = batch.run()

    assert set(told.values()) == {"submitted"}
    assert (result["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(result, api.books())


def test_trouble_that_no_item_can_be_blamed_for_stops_the_submitting(batch, api):
    api.fault("submit:500")

    with pytest.raises(GptImageError) as caught:
        batch.run(requests=[*TEN, *(f"vase {number}" for number in range(10))], max_in_flight=4)

    assert caught.value.retryable
    assert api.books()["requests"]["submit"] < 20


def test_what_stopped_the_submitting_before_a_deferral_still_does_after_it(deferring, api):
    api.fault("submit:402;after=2")
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=TEN[:4])
    api.clear_faults()

    with pytest.raises(InsufficientCreditsError, match="top up") as caught:
        deferring.wake(deferred.value, requests=TEN[:4])

    assert (caught.value.code, caught.value.status) == ("insufficient_credits", 402)
    assert (api.books()["submits"], images(deferring)) == (2, 2)
    api.settings(duration=0.05)
    result = deferring.run(requests=TEN[:4])
    assert (result["stored"], set(paid(api).values())) == (4, {1})
    assert_books_agree(result, api.books())


def test_failures_that_stopped_the_submitting_before_a_deferral_still_do_after_it(deferring, api):
    api.fault("submit:500*1;after=2")
    options = {"item_retries": 0, "on_item_failure": "fail"}
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(**options)

    with pytest.raises(ItemsFailedError, match="1 of 3 images failed") as caught:
        deferring.wake(deferred.value, **options)

    assert caught.value.retryable
    assert images(deferring) == 2


# Guards


def test_max_credits_bounds_exactly_what_is_spent_since_the_last_clear_with_all_that_is_missing(batch, api):
    rows = ["a", "b", {"prompt": "c", "resolution": "2k"}]
    with pytest.raises(CreditLimitError, match=r"3 images .* 18\.8 credits \(\$0\.094\)") as refused:
        batch.run(requests=rows, max_credits="18.79")
    assert api.books()["requests"]["submit"] == 0
    assert not refused.value.retryable

    batch.run(requests=rows, max_credits=18.8)
    with pytest.raises(CreditLimitError, match=r"to 23\.5 credits \(\$0\.1175\) since its last clear"):
        batch.run(requests=[*rows, "d"], max_credits=23.4)
    batch.run(requests=[*rows, "d"], max_credits=23.5)

    assert api.books()["charged"] == "23.5"


def test_the_balance_is_checked_for_the_whole_set_exactly_and_for_what_is_missing(batch, api):
    api.settings(credits="14.9")
    with pytest.raises(InsufficientCreditsError, match=r"The balance is 14 credits; 3 images cost 14\.1"):
        batch.run(check_balance=True)
    assert api.books()["requests"]["submit"] == 0
    api.settings(credits="15")

    batch.run(check_balance=True)
    again = batch.run(check_balance=True)

    assert (again["stored"], api.books()["balance"]) == (3, "0.9")


def test_the_balance_is_not_asked_for_unless_it_shall_be(batch, api):
    batch.run()

    assert api.books()["requests"]["credits"] == 0


# The plan


def test_the_plan_is_at_the_destination_before_the_first_post(batch, api):
    api.fault("submit:401")

    with pytest.raises(InvalidApiKeyError):
        batch.run()

    lines = (batch.folder / "plan.jsonl").read_text().splitlines()
    assert [json.loads(line)["request"]["prompt"] for line in lines[1:]] == ["a teapot", "a vase", "a chair"]


def test_a_data_set_that_changes_while_the_task_is_deferred_changes_nothing(deferring, api, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'"{prompt}"\n' for prompt in TEN[:4]))
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=str(rows), max_in_flight=2)
    submits = api.books()["submits"]
    api.settings(duration=0.05)
    rows.write_text('"something else"\n')

    result = deferring.wake(deferred.value, requests=str(rows), max_in_flight=2)

    assert (submits, result["stored"]) == (2, 4)
    assert paid(api) == dict.fromkeys(TEN[:4], 1)
    assert_books_agree(result, api.books())


def test_a_plan_that_somebody_changed_is_not_carried_out_and_the_next_try_plans_anew(deferring, api):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(max_in_flight=1)
    plan = deferring.folder / "plan.jsonl"
    plan.write_text(plan.read_text().replace("chair", "table"))

    with pytest.raises(PlanError, match="isn't the plan that this task wrote") as caught:
        deferring.wake(deferred.value, max_in_flight=1)
    api.settings(duration=0.05)
    result = deferring.run()

    assert caught.value.retryable
    assert result["stored"] == 3
    assert paid(api) == {"a teapot": 1, "a vase": 1, "a chair": 1}


# Deferring


def test_what_is_deferred_is_small_and_has_nothing_secret(deferring, api):
    with structlog.testing.capture_logs() as lines, pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    _, kwargs = deferred.value.trigger.serialize()
    kwargs["first_poll_at"] = 0.0

    async def wait():
        return [event.payload async for event in GptImageTrigger(**kwargs).run()]

    [event] = asyncio.run(wait())
    result = deferring.wake(deferred.value, event)

    kept = repr([kwargs, event, deferred.value.kwargs, deferring.store.texts, lines, result])
    assert sorted(kwargs["generation_ids"]) == sorted(c["task_id"] for c in api.books()["charges"])
    assert event["reason"] == "finished"
    assert len(json.dumps(kwargs)) + len(json.dumps(event)) < 1_000
    assert not any(secret in kept for secret in (api.key, "teapot", "vase", "chair"))
    assert result["stored"] == 3
    assert_books_agree(result, api.books())


@pytest.mark.soak
def test_a_full_window_of_ten_thousand_items_is_small_too(deferring, api):
    api.settings(duration=(40, 50), credits=100_000)
    rows = [f"poster {number}" for number in range(10_000)]

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=rows, max_in_flight=1_000, timeout=600)
    _, kwargs = deferred.value.trigger.serialize()

    async def wait():
        return (await anext(GptImageTrigger(**kwargs).run())).payload

    event = asyncio.run(wait())
    assert (len(kwargs["generation_ids"]), kwargs["enough"], api.books()["submits"]) == (1_000, 500, 1_000)
    assert sum(map(len, event["generation_ids"].values())) >= 500
    sizes = [len(json.dumps(part)) for part in (kwargs, event, *deferring.store.texts.values())]
    print("bytes of the trigger, the event and the state store:", sizes)
    assert max(sizes) <= 48_000


def test_whatever_wakes_the_task_the_api_is_asked(deferring, api):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    result = deferring.wake(deferred.value, {"status": "success", "path": "/etc"})

    assert (result["stored"], api.books()["submits"]) == (3, 3)


def test_failures_before_and_after_a_deferral_are_all_told(deferring, api):
    api.fault("generation:failed=invalid_request;match=vase")
    api.fault("submit:400;match=chair")
    api.fault("submit:lost;match=lamp")
    rows = ["a teapot", "a vase", "a chair", "a lamp", " "]

    result = deferring.run(requests=rows, on_invalid="skip")

    assert len(deferring.deferrals) > 0
    assert (result["stored"], result["failed"], result["unknown"], result["invalid"]) == (1, 2, 1, 1)
    assert statuses(result) == {
        "a teapot": "stored",
        "a vase": "failed",
        "a chair": "failed",
        "a lamp": "unknown",
    }
    assert_books_agree(result, api.books())


# What is at the destination


def test_a_destination_that_takes_nothing_is_paid_nothing_for(batch, api):
    batch.folder.mkdir()
    (batch.folder / "records").write_text("a file in the folder's place")

    with pytest.raises(DestinationError) as caught:
        batch.run(item_retries=0)

    assert caught.value.retryable
    assert api.books()["requests"]["submit"] == 0


def test_a_record_that_makes_no_sense_is_not_taken_for_none(batch, api):
    batch.run()
    next((batch.folder / "items").glob("*.json")).write_text("{}")

    with pytest.raises(DestinationError, match="is no record of this release"):
        batch.run(requests=TEN + batch.given["requests"])

    assert api.books()["requests"]["submit"] == 3


def test_an_id_that_an_earlier_worker_puts_on_record_after_all_is_taken(batch, api):
    api.fault("submit:lost*1;match=vase")
    batch.run()
    [lost] = [c["task_id"] for c in api.books()["charges"] if "vase" in c["request"]["prompt"]]
    files = (batch.folder / "records").rglob("*~*.json")
    [record] = [path for path in files if "a vase" in path.read_text()]
    told = json.loads(record.read_text())
    told |= {
        "state": "submitted",
        "generation_id": lost,
        "submitted_at": told["intended_at"],
        "failure": None,
    }

    def late(act, name, *data):
        if act == "write" and b"a lamp" in b"".join(data):
            record.write_text(json.dumps(told))

    batch.meddle = late
    result = batch.run(requests=["a teapot", "a vase", "a chair", "a lamp"])

    assert (result["stored"], result["unknown"]) == (4, 0)
    assert paid(api)["a vase"] == 1
    assert_books_agree(result, api.books())


# Two tasks, one destination


def test_a_second_task_at_a_destination_is_refused_until_the_first_is_done(deferring, api):
    second = BatchTask(deferring.folder, deferrable=False, task_id="others")
    second.states = {deferring.run_id: {"posters": "deferred"}}
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    with pytest.raises(DestinationTakenError, match=r"locked by 'shop', run .* task 'posters'") as refused:
        second.run(requests=["a lamp"])
    submits = api.books()["submits"]
    deferring.wake(deferred.value)

    assert (refused.value.retryable, submits) == (True, 3)
    api.settings(duration=0.05)
    assert second.run(requests=["a lamp"])["stored"] == 1
    assert set(paid(api).values()) == {1}


def test_a_task_that_failed_gives_the_destination_free(batch, api):
    api.fault("submit:401")
    with pytest.raises(InvalidApiKeyError):
        batch.run()
    api.clear_faults()

    other = BatchTask(batch.folder, deferrable=False, task_id="others")

    assert other.run()["stored"] == 3


def test_a_task_that_was_refused_by_its_guards_gives_the_destination_free_too(batch):
    with pytest.raises(CreditLimitError):
        batch.run(max_credits=0)

    other = BatchTask(batch.folder, deferrable=False, task_id="others")

    assert other.run()["stored"] == 3


# Workers that die, and workers that should have


@pytest.mark.parametrize("at", ["die before 1", "die after 1", "die before 2", "die after 2"])
def test_a_worker_that_ends_at_any_write_of_the_lease_pays_nothing_twice(batch, api, at):
    batch.store.at = at
    with pytest.raises(DiedError):
        batch.run()

    result = batch.run()

    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


def test_a_worker_whose_task_instance_was_replaced_pays_nothing(batch, api):
    batch.run()
    before = files(batch)
    batch.store.befalls = lambda number: batch.store.replace()

    with pytest.raises(ReplacedError) as caught:
        batch.run(requests=TEN)

    assert caught.value.retryable
    assert api.books()["submits"] == 3
    assert files(batch) == before


def test_a_worker_that_is_replaced_while_it_submits_stops_and_its_successor_pays_for_the_rest(batch, api):
    replaced_at(batch, 8)
    with pytest.raises(ReplacedError):
        batch.run(requests=TEN, max_in_flight=2)
    submits = api.books()["submits"]

    result = batch.run(requests=TEN)

    assert 0 < submits < 10
    assert set(paid(api).values()) == {1}
    assert result["stored"] + result["unknown"] == 10
    assert result["unknown"] <= 2


def test_what_is_being_submitted_when_a_worker_is_replaced_still_gets_its_id_on_record(batch, api):
    replaced_at(batch, 12)
    api.fault("submit:late=0.5")
    with pytest.raises(ReplacedError):
        batch.run(requests=TEN)
    accepted = paid(api)

    result = batch.run(requests=TEN)

    assert 0 < len(accepted) < 10
    assert {statuses(result)[prompt] for prompt in accepted} == {"stored"}
    assert set(paid(api).values()) == {1}


def test_a_worker_that_is_replaced_while_it_waits_puts_no_failure_on_record(batch, api):
    replaced_at(batch, 4)  # it begins to work, pays, sends; then it finds a failure
    api.fault("generation:failed*1")
    with pytest.raises(ReplacedError):
        batch.run(requests=["a vase"], deferrable=False)

    assert states_of(batch) == {"a vase": "submitted"}
    assert batch.run(requests=["a vase"])["stored"] == 1
    assert set(paid(api).values()) == {1}


def test_a_worker_that_was_held_up_too_long_submits_nothing_more(batch, api):
    batch.retimed(expires_after=-1.0)

    with pytest.raises(LedgerError, match="could not say in time"):
        batch.run()

    assert api.books()["requests"]["submit"] == 0


def test_when_the_ledger_can_not_be_read_nothing_is_paid(batch, api):
    batch.store.unreachable = True

    with pytest.raises(LedgerError):
        batch.run()

    assert api.books()["requests"]["submit"] == 0


def test_a_task_that_is_ended_from_outside_submits_nothing_more(batch, api):
    operator = batch.operator()
    batch.store.befalls = lambda number: operator.on_kill()

    with pytest.raises(TaskInterruptedError, match="ended from outside"):
        batch.begin(operator)

    batch.store.befalls = lambda number: None
    assert api.books()["requests"]["submit"] == 0
    assert batch.run()["stored"] == 3


class KeptTexts(dict):
    """What is in a state store that outlives the process."""

    def __init__(self, path):
        super().__init__(json.loads(path.read_text()) if path.exists() else {})
        self.path = path

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        part = self.path.with_suffix(f".{threading.get_ident()}")
        part.write_text(json.dumps(self))
        part.replace(self.path)


def work_until_killed(connection, folder, deferrable, rows):
    """A worker in a process of its own: tries, and after a deferral the rest of it."""
    os.environ["AIRFLOW_CONN_GPT_IMAGE_DEFAULT"] = connection
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    task = BatchTask(folder, deferrable=deferrable)
    task.retimed(first_rate=40.0)
    task.store.texts = KeptTexts(folder.parent / "store.json")
    task.run(requests=rows, max_in_flight=6)


@pytest.fixture(scope="module")
def processes():
    """Forked from one that has imported what a worker needs, so that each takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "airflow_gpt_image.batch.attempt", "airflow_gpt_image.hooks.gpt_image"]
    )
    return context


@pytest.mark.parametrize("seed", range(6))
def test_a_worker_that_is_killed_at_any_moment_pays_nothing_twice(batch, api, processes, seed):
    chance = random.Random(seed)
    rows = [*TEN, "a teapot", "a vase"]
    args = (api.airflow_connection(), batch.folder, bool(seed % 2), rows)
    worker = processes.Process(target=work_until_killed, args=args)
    worker.start()
    charges = chance.randrange(12)
    give_up = time.monotonic() + 20
    while api.books()["requests"]["submit"] <= charges and worker.is_alive():
        assert time.monotonic() < give_up
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.03))
    worker.kill()
    worker.join()
    before = paid(api)
    batch.store.texts, batch.try_number = KeptTexts(batch.folder.parent / "store.json"), 1
    batch.clock = LaterClock(600)  # what was being submitted is certainly answered or lost

    result = batch.run(requests=rows)

    told = statuses(result)
    unknown = {prompt for prompt, status in told.items() if status == "unknown"}
    assert all(count == 1 for count in before.values())
    assert set(paid(api).values()) == {1}
    assert {status for prompt, status in told.items() if prompt not in unknown} <= {"stored"}
    assert len(told) == result["stored"] + result["unknown"] == 12
    assert len(unknown) <= 6
    assert {json.loads(line)["prompt"] for line in unsettled_of(batch)} == unknown
    not_charged = len(unknown - set(paid(api)))
    assert Decimal(result["charged"]) - Decimal(api.books()["charged"]) == Decimal("4.7") * not_charged
    again = batch.run(requests=rows)
    assert (again["stored"], again["unknown"]) == (result["stored"], result["unknown"])
    assert set(paid(api).values()) == {1}


def unsettled_of(task):
    unsettled = task.folder / "unsettled.jsonl"
    return unsettled.read_text().splitlines() if unsettled.exists() else []
