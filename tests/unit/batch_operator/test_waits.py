"""When a batch waits, what stops it, and what it costs."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import (
    CreditLimitError,
    InsufficientCreditsError,
    InvalidApiKeyError,
    InvalidRequestError,
    RateLimitError,
    UnsettledImagesError,
)
from tests.batches import TEN, paid, states_of
from tests.fake_clock import RunningClock

# When it waits, and for what


@pytest.mark.parametrize("ahead", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_record_from_the_future_is_waited_for_as_one_of_now(deferring, api, ahead):
    api.settings(duration=0.05)
    api.fault("generation:takes=60")
    with pytest.raises(UnsettledImagesError):
        deferring.run(requests=["a vase"], deferrable=False, timeout=0.2)
    [path] = (deferring.folder / "records").rglob("*~*~*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"submitted_at": ahead}))

    with pytest.raises(UnsettledImagesError):
        deferring.run(requests=["a vase"], deferrable=False, timeout=0.3)
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=["a vase"], timeout=30)

    assert deferred.value.trigger.deadline <= time.time() + 30
    assert deferred.value.timeout.total_seconds() < 600


def test_it_defers_only_after_each_was_looked_at_and_what_is_finished_is_stored(deferring, api, apis_clock):
    api.fault("generation:takes=100000*10")
    rows = [f"poster {number}" for number in range(20)]
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=rows)
    looks = api.books()["requests"]["poll"]
    apis_clock.forward()  # which finishes the last ten
    api.fault("get:late=0.3")  # longer than it takes to find that nothing else happens

    with pytest.raises(TaskDeferred) as again:
        deferring.operator(requests=rows).execute_complete(deferring.context, deferred.value)

    assert Counter(states_of(deferring).values()) == {"submitted": 10, "stored": 10}
    assert api.books()["requests"]["poll"] - looks >= 20
    assert len(again.value.trigger.generation_ids) == 10


def test_what_this_part_of_a_try_gave_up_is_not_waited_for(deferring, api):
    api.settings(duration=0.05)
    api.fault("generation:takes=60;match=chair")
    api.fault("file:404")

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(item_retries=0)

    [chair] = [c["task_id"] for c in api.books()["charges"] if c["request"]["prompt"] == "a chair"]
    assert set(states_of(deferring).values()) == {"submitted"}
    assert (deferred.value.trigger.generation_ids, deferred.value.trigger.enough) == ([chair], 1)


# What stops the submitting, and what doesn't


def test_one_refusal_after_a_long_time_without_submits_does_not_stop(batch, api):
    batch.retimed(longest_refusal=0.3)
    api.fault("generation:takes=0.6*1")
    api.fault("submit:429*1;retry_after=0;after=1")

    result = batch.run(max_in_flight=1)

    assert (result["stored"], api.books()["requests"]["rejected"]) == (3, {"rate_limit_exceeded": 1})


def test_refusals_for_a_long_time_do(batch, api):
    batch.retimed(longest_refusal=0.3)
    api.fault("submit:429;retry_after=0")

    with pytest.raises(RateLimitError):
        batch.run()

    assert api.books()["submits"] == 0


def test_a_state_store_that_takes_longer_than_a_lease_is_fresh_does_not_hold_up_the_submits(batch, api):
    batch.retimed(renew_after=1_000.0, expires_after=100_000.0, lock_expires_after=100_000.0)
    batch.clock = RunningClock()
    batch.store.befalls = lambda number: batch.clock.forward(2_000)

    result = batch.run(requests=TEN)

    assert result["stored"] == 10
    assert batch.store.writes == 2  # when it began and when it ended, and for no submit


def test_a_few_items_that_always_fail_for_a_passing_reason_fail_by_themselves(batch, api):
    api.fault("submit:503;match=bad")
    rows = ["bad 1", "bad 2", "a vase", "bad 3", "bad 4"]

    first = batch.run(requests=rows)
    batch.clear()
    second = batch.run(requests=rows)

    for result in (first, second):
        assert (result["stored"], result["failed"], result["not_submitted"]) == (1, 4, 0)
    assert api.books()["submits"] == 1


# Money


@pytest.fixture
def paid_before(batch, api):
    """What an earlier try paid for and didn't look at; ``fate`` is what becomes of it."""

    def pay(fate, **options):
        api.fault(fate)
        api.fault("get:401")
        with pytest.raises(InvalidApiKeyError):
            batch.run(**options)
        api.clear_faults()
        api.settings(duration=0.05)

    return pay


def test_max_credits_bounds_also_what_was_not_reckoned_with(batch, api, paid_before):
    paid_before("generation:failed*1", requests=["a vase"])

    with pytest.raises(CreditLimitError, match=r"would bring this task to 4\.7 credits"):
        batch.run(requests=["a vase"], max_credits=4.6)
    submits = api.books()["submits"]
    result = batch.run(requests=["a vase"], max_credits=4.7)

    assert (submits, api.books()["submits"], result["stored"]) == (1, 2, 1)


def test_what_is_told_as_spent_is_net_of_the_refunds_of_earlier_tries_too(batch, api, paid_before):
    rows = ["a vase", "a chair"]
    api.fault("generation:takes=60;match=chair")
    paid_before("generation:failed=invalid_request*1", requests=rows)

    with structlog.testing.capture_logs() as lines, pytest.raises(TaskDeferred):
        batch.begin(requests=rows, deferrable=True)

    [line] = [line for line in map(str, lines) if "Waiting is all" in line]
    assert "1 failed), 1 in flight" in line
    assert ", $0.0235, " in line


def test_the_state_store_never_has_the_apis_own_words(deferring, api):
    told = {
        "error": {"code": "insufficient_credits", "message": "Too little for 'a secret vase'.", "type": "t"}
    }
    api.fault("submit", "402", after=1, body=json.dumps(told))

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    kept = repr(deferring.store.texts)
    with pytest.raises(InsufficientCreditsError) as caught:
        deferring.wake(deferred.value)

    assert ("InsufficientCreditsError" in kept, "secret" in kept) == (True, False)
    assert ("402 insufficient_credits" in str(caught.value), "top up" in str(caught.value)) == (True, True)


# Polls


def test_of_many_in_flight_each_is_polled_less_often(batch, api):
    api.settings(duration=4)
    batch.retimed(first_rate=150.0)

    result = batch.run(requests=[f"poster {number}" for number in range(150)], poll_interval=0.5)

    assert result["stored"] == 150
    # Every half a second it would be some eight for each.
    assert api.books()["requests"]["poll"] < 7 * 150


# Deferrals and destinations


def test_a_worker_is_not_held_until_a_poll_that_comes_late(deferring):
    deferring.retimed(idle=0.3)

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=["a vase", "a chair"], poll_interval=3600)

    assert len(deferred.value.trigger.generation_ids) == 2


@pytest.mark.parametrize(
    ("in_flight", "enough"), [(10, 9), (8, 4)], ids=["all of them", "and more to submit"]
)
def test_enough_to_wake_for_is_a_share_of_the_ids(deferring, in_flight, enough):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=TEN, max_in_flight=in_flight)

    assert len(deferred.value.trigger.generation_ids) == in_flight
    assert deferred.value.trigger.enough == enough


def test_a_retry_at_another_destination_is_refused_until_the_task_is_cleared(batch, api, tmp_path):
    batch.run()

    with pytest.raises(InvalidRequestError, match=r"the same in every try .* or clear the task") as refused:
        batch.run(destination=str(tmp_path / "elsewhere"))
    submits = api.books()["submits"]
    batch.clear()
    cleared = batch.run(destination=str(tmp_path / "elsewhere"))

    assert (str(tmp_path / "elsewhere"), str(batch.folder)) == tuple(
        part for part in str(refused.value).split("'") if part.startswith("/")
    )
    assert not refused.value.retryable
    assert (submits, api.books()["submits"], cleared["stored"]) == (3, 6, 3)


def test_after_a_deferral_images_go_where_the_try_began(deferring, tmp_path):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    result = deferring.wake(deferred.value, destination=str(tmp_path / "elsewhere"))

    assert (result["stored"], result["manifest"]) == (3, str(deferring.folder / "manifest.jsonl"))
    assert not (tmp_path / "elsewhere").exists()


def test_rows_that_failed_are_not_removed_when_they_are_run_again_from_there(batch, api):
    api.fault("submit:400*1;match=vase")
    failures = batch.run()["failures"]
    batch.clear()

    result = batch.run(requests=failures)

    assert (result["stored"], result["failures"]) == (1, None)
    assert (batch.folder / "failures.jsonl").read_text() == '{"prompt":"a vase"}\n'


@pytest.mark.parametrize("retries", [0, 1])
def test_deferrals_do_not_give_an_item_more_retries_than_it_has(deferring, api, retries):
    api.fault("generation:failed;match=vase")

    result = deferring.run(requests=["a vase"], item_retries=retries)

    assert len(deferring.deferrals) == 1 + retries
    assert (result["failed"], api.books()["submits"]) == (1, 1 + retries)


@pytest.mark.parametrize("retries", [0, 1])
def test_nor_do_they_where_what_is_unknown_is_paid_for_again(deferring, api, retries):
    api.fault("submit:lost;match=vase")
    rows = ["a vase", "a chair", "a lamp"]

    result = deferring.run(requests=rows, item_retries=retries, max_in_flight=1, on_unknown_submit="resubmit")

    assert len(deferring.deferrals) > 1
    assert (result["stored"], result["unknown"]) == (2, 1)
    assert paid(api)["a vase"] == 1 + retries
