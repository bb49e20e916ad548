"""A batch in trouble: answers that are lost, stores that fail for a while, workers that are ended at work."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections import Counter

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.timeout import timeout as execution_timeout

from airflow_gpt_image.batch import sender
from airflow_gpt_image.errors import (
    DestinationError,
    DestinationTakenError,
    InvalidApiKeyError,
    LedgerError,
    SubmissionUnknownError,
    TaskInterruptedError,
    UnsettledImagesError,
)
from tests.batches import TEN, assert_all_ids_are_on_record, lost_answer, paid, states_of, until

# Answers that are lost


def test_answers_that_are_lost_one_after_the_other_stop_the_batch_before_they_cost_much(batch, api):
    api.fault("submit:lost")

    with pytest.raises(SubmissionUnknownError):
        batch.run(requests=TEN, max_in_flight=1)

    assert api.books()["submits"] == 5
    assert Counter(states_of(batch).values()) == {"intent": 5}


def test_they_do_so_also_where_what_is_unknown_is_paid_for_again(batch, api):
    api.fault("submit:lost")

    with pytest.raises(SubmissionUnknownError):
        batch.run(requests=TEN, max_in_flight=2, on_unknown_submit="resubmit")

    assert 5 <= api.books()["submits"] <= 6  # one more may have been under way


def test_lost_answers_with_one_that_arrived_in_between_do_not(batch, api):
    api.fault("submit:lost*4")
    api.fault("submit:lost*4;after=1")

    result = batch.run(requests=TEN, max_in_flight=1)

    assert (result["unknown"], result["stored"], set(paid(api).values())) == (8, 2, {1})


# What is between its intent and its id is never cut off


def test_a_state_store_that_fails_once_leaves_no_paid_image_without_its_id(batch, api):
    batch.retimed(renew_after=-1.0)
    api.fault("submit:late=0.5")

    def fails_once(number):
        # One write begins the work, ten at most are before an intent: three are before a POST that went out.
        if batch.try_number == 1 and number == 15:
            until(lambda: api.books()["submits"] >= 3)
            raise ConnectionError("the API server does not answer")

    batch.store.befalls = fails_once

    with pytest.raises(LedgerError):
        batch.run(requests=TEN)

    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


@pytest.fixture
def relocking(batch):
    """The lock on the destination is renewed all the time."""
    batch.retimed(report_every=0.02, lock_renew_every=0.0)
    return batch


def test_a_lock_that_can_not_be_renewed_for_a_moment_costs_nothing(relocking, api, apis_clock):
    left = [None] * 3

    def fails_a_while(act, name, *data):
        if (act, name) == ("sizes", "locks") and left and api.books()["submits"] >= 3:
            left.pop()
            if not left:
                apis_clock.forward()
                api.settings(duration=0.05)
            raise DestinationError("503 SlowDown")

    relocking.meddle = fails_a_while
    api.settings(duration=900)
    api.fault("submit:late=0.3")

    result = relocking.run(requests=TEN)

    assert left == []
    assert (result["stored"], set(paid(api).values())) == (10, {1})


def test_a_destination_that_is_taken_away_at_work_leaves_no_paid_image_without_its_id(
    relocking, api, apis_clock
):
    taken = []

    def shows_nothing_once(act, name, *data):
        if (act, name) == ("sizes", "locks") and not taken and api.books()["submits"] >= 3:
            taken.append(name)
            return {}
        return None

    relocking.meddle = shows_nothing_once
    api.settings(duration=900)
    api.fault("submit:late=0.5")

    with pytest.raises(DestinationTakenError):
        relocking.run(requests=TEN)

    assert 3 <= api.books()["submits"] < 64
    assert_all_ids_are_on_record(relocking, api)
    apis_clock.forward()
    api.settings(duration=0.05)
    result = relocking.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


def test_an_error_that_nobody_thought_of_leaves_no_paid_image_without_its_id(batch, api):
    broken = []

    def breaks_once(act, name, *data):
        if act == "write" and b'"state": "stored"' in data[0] and not broken:
            broken.append(name)
            raise ZeroDivisionError

    batch.meddle = breaks_once
    api.fault("submit:late=0.8;after=1")

    with pytest.raises(ZeroDivisionError):
        batch.run(requests=TEN)

    assert api.books()["submits"] > 1
    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


def test_an_execution_timeout_leaves_no_paid_image_without_its_id(batch, api):
    api.fault("submit:late=0.6")
    operator = batch.operator(requests=TEN)

    def ring():
        until(lambda: api.books()["submits"] >= 3)
        os.kill(os.getpid(), signal.SIGALRM)

    ringing = threading.Thread(target=ring)
    ringing.start()
    with pytest.raises(AirflowTaskTimeout), execution_timeout(600):
        batch.begin(operator)
    ringing.join()

    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


def test_an_execution_timeout_does_not_wait_for_what_takes_longer(batch, api):
    api.fault("generation:takes=900")
    operator = batch.operator()
    began = time.monotonic()

    with pytest.raises(AirflowTaskTimeout), execution_timeout(0.3):
        batch.begin(operator)

    assert time.monotonic() < began + 100


@pytest.fixture
def alarm():
    """Has a function called by a signal's handler every now and then, with what the main thread is at."""
    handlers = []

    def rings(number, frame):
        if handlers:
            handler = handlers.pop()  # none while it is at it
            handler({(at.f_code.co_filename, at.f_code.co_name) for at, _ in traceback.walk_stack(frame)})
            handlers.append(handler)

    before = signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    yield handlers.append
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_it_does_not_either_when_it_comes_at_the_worst_moment(batch, api, alarm):
    operator = batch.operator(requests=[f"poster {number}" for number in range(200)])

    def end(doing):
        if (sender.__file__, "_post") in doing or api.books()["submits"] >= 20:
            raise AirflowTaskTimeout

    alarm(end)
    with pytest.raises(AirflowTaskTimeout):
        batch.begin(operator)

    assert_all_ids_are_on_record(batch, api)
    assert "intent" not in states_of(batch).values()


# A store that fails for a while


class Failing:
    """
    A destination that fails a number of writes of records in a state.

    :param landed: it says so, and wrote it.
    """

    def __init__(self, task, state, times, *, landed=False):
        self.task, self.state, self.left, self.landed = task, state, times, landed
        task.meddle = self

    def __call__(self, act, name, *data):
        if act != "write" or f'"state": "{self.state}"'.encode() not in data[0] or not self.left:
            return
        self.left -= 1
        if self.landed:
            (self.task.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.task.folder / name).write_bytes(data[0])
        raise DestinationError("503 SlowDown")


def test_a_store_that_takes_no_id_for_a_moment_costs_nothing(batch, api):
    failing = Failing(batch, "submitted", 5)

    result = batch.run()

    assert failing.left == 0
    assert (result["stored"], set(paid(api).values())) == (3, {1})
    assert json.loads(batch.store.texts["gpt_image_batch"])["stranded"] == []


@pytest.mark.parametrize("then", ["the task is cleared", "the task is tried again"])
def test_ids_that_the_destination_does_not_take_are_kept_by_the_task_state_store(batch, api, then):
    batch.retimed(insist=0.2)
    failing = Failing(batch, "submitted", 1_000_000)
    with pytest.raises(DestinationError, match="SlowDown"):
        batch.run()
    known = {
        record["generation_id"] for record in json.loads(batch.store.texts["gpt_image_batch"])["stranded"]
    }
    accepted = {charge["task_id"] for charge in api.books()["charges"]}
    failing.left = 0
    if then == "the task is cleared":
        batch.clear()

    result = batch.run()

    assert known == accepted
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


def test_ids_that_the_destination_did_not_take_are_found_after_a_deferral(deferring, api):
    deferring.retimed(insist=0.2)
    failing = Failing(deferring, "submitted", 1_000_000)
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    failing.left = 0

    with pytest.raises(DestinationError, match="SlowDown"):  # which stopped the submitting
        deferring.wake(deferred.value)

    assert set(states_of(deferring).values()) == {"stored"}
    assert set(paid(api).values()) == {1}


# What was ended submits nothing more


def test_only_what_is_being_posted_when_a_task_is_ended_is_submitted(batch, api):
    batch.retimed(senders=3)
    api.fault("submit:late_accept=3")
    operator = batch.operator(requests=TEN)
    met = []

    def end():
        until(lambda: api.faults()[0]["met"] == 3)
        time.sleep(0.2)  # others could put their intents on record
        met.append(Counter(states_of(batch).values())["intent"])
        operator.on_kill()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(TaskInterruptedError) as caught:
        batch.begin(operator)
    ending.join()

    assert met == [3]
    assert (caught.value.retryable, api.books()["requests"]["submit"]) == (True, 3)
    assert_all_ids_are_on_record(batch, api)
    api.clear_faults()
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


# What an earlier worker left


@pytest.mark.parametrize("lost_in", ["an earlier try", "this one"])
def test_an_answer_that_is_put_on_record_while_a_task_is_deferred_is_found(deferring, api, lost_in):
    api.fault("submit:lost*1;match=vase")
    if lost_in == "an earlier try":
        deferring.run(requests=["a vase"], deferrable=False)
    rows = ["a vase", "a lamp"]
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=rows)
    path, _, arrived = lost_answer(deferring, api)

    path.write_text(arrived)
    result = deferring.wake(deferred.value, requests=rows)

    assert (result["stored"], result["unknown"]) == (2, 0)
    assert set(paid(api).values()) == {1}


# What may be paid for isn't run again


def test_rows_that_are_or_may_be_paid_for_are_told_apart_from_those_to_run_again(batch, api):
    api.fault("submit:lost*1;match=lamp")
    api.fault("submit:400;match=chair")
    api.fault("generation:takes=900;match=vase")
    rows = ["a teapot", "a vase", "a chair", "a lamp"]

    with pytest.raises(UnsettledImagesError, match="1 image is paid for and not stored") as caught:
        batch.run(requests=rows, timeout=3)
    batch.new_run()
    failures, mended = batch.folder / "failures.jsonl", batch.folder.parent / "mended"
    again = batch.run(requests=str(failures), destination=str(mended))

    assert (batch.folder / "failures.jsonl").read_text() == '{"prompt":"a chair"}\n'
    assert (batch.folder / "unsettled.jsonl").read_text() == '{"prompt":"a vase"}\n{"prompt":"a lamp"}\n'
    assert f"Their rows: {batch.folder / 'unsettled.jsonl'}" in caught.value.message
    assert (again["images"], again["failed"]) == (1, 1)
    assert paid(api) == {"a teapot": 1, "a vase": 1, "a lamp": 1}


# What provably wasn't accepted doesn't become unknown


def test_an_intent_that_was_written_although_the_store_said_no_is_taken_back(batch, api):
    Failing(batch, "intent", 3, landed=True)

    with pytest.raises(DestinationError, match="SlowDown"):
        batch.run(item_retries=0)

    assert set(states_of(batch).values()) <= {"failed"}
    result = batch.run()
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


@pytest.mark.parametrize("failures", [1, 1_000_000])
def test_what_the_task_raises_is_why_it_was_refused_not_that_the_store_failed_too(batch, api, failures):
    Failing(batch, "failed", failures)
    api.fault("submit:401*1")

    with pytest.raises(InvalidApiKeyError):
        batch.run(requests=["a vase"])

    batch.meddle = None
    assert batch.run(requests=["a vase"])["stored"] == 1
    assert set(paid(api).values()) == {1}
