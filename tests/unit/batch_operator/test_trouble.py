"""A batch in trouble: answers that are lost, stores that fail for a while, workers that are ended at work."""

from __future__ import annotations

import json
import signal
import threading
import time
import traceback
from collections import Counter

import pytest
import structlog
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.timeout import timeout as execution_timeout

from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch import lease, submitting, wave
from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    DestinationTakenError,
    InsufficientCreditsError,
    InvalidApiKeyError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    SubmissionUnknownError,
    TaskInterruptedError,
)
from airflow_gpt_image.storage import folders
from airflow_gpt_image.storage.folders import DiskFolder
from airflow_gpt_image.triggers import gpt_image as trigger
from tests.unit.operators.conftest import Store

TEN = [f"poster {number}" for number in range(10)]


def paid(api):
    """How often each prompt is paid for and was not refunded."""
    return Counter(c["request"]["prompt"] for c in api.books()["charges"] if not c["refunded"])


def records(task):
    """What is on record, by the prompt."""
    read = [json.loads(path.read_text()) for path in (task.folder / "items").glob("*.json")]
    return {record["request"]["prompt"]: record for record in read}


def states(task):
    return {prompt: record["state"] for prompt, record in records(task).items()}


def assert_all_ids_are_on_record(task, api):
    """What is accepted has its id at the destination."""
    accepted = {charge["request"]["prompt"]: charge["task_id"] for charge in api.books()["charges"]}
    known = {prompt: record["generation_id"] for prompt, record in records(task).items()}
    assert accepted
    assert {prompt: known.get(prompt) for prompt in accepted} == accepted


def until(condition):
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Pauses after a failure are tested elsewhere."""
    monkeypatch.setattr(submitting, "_BACKOFF", Retrying(first_pause=0.01, longest_pause=0.01))
    monkeypatch.setattr(wave, "_BACKOFF", Retrying(first_pause=0.05, longest_pause=0.05))


@pytest.fixture
def disk(monkeypatch):
    """Lets destinations on disk be of a kind of their own, which the test makes."""
    return lambda kind: monkeypatch.setattr(folders, "DiskFolder", kind)


# Answers that are lost


def test_answers_that_are_lost_one_after_the_other_stop_the_batch_before_they_cost_much(batch, api):
    api.fault("submit:lost")

    with pytest.raises(SubmissionUnknownError):
        batch.run(requests=TEN, max_in_flight=1)

    assert api.books()["submits"] == 5
    assert Counter(states(batch).values()) == {"intent": 5}


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


class FailsOnce(Store):
    """One write fails, when so many are paid for."""

    def __init__(self, api, submits):
        super().__init__()
        self.api, self.submits = api, submits

    def set(self, key, value, *, retention=None):
        if self.submits and self.api.books()["submits"] >= self.submits:
            self.submits = 0
            raise ConnectionError("the API server does not answer")
        super().set(key, value)


def test_a_state_store_that_fails_once_leaves_no_paid_image_without_its_id(batch, api, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED", 0.02)
    api.fault("submit:late=0.5")
    batch.store = FailsOnce(api, 3)

    with pytest.raises(LedgerError):
        batch.run(requests=TEN)

    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


@pytest.fixture
def renewing(monkeypatch):
    """The claim on the destination is renewed all the time."""
    monkeypatch.setattr(wave, "EVERY", 0.02)
    monkeypatch.setattr(wave, "_CLAIM_EVERY", 0.0)


def test_a_claim_that_can_not_be_renewed_for_a_moment_costs_nothing(batch, api, disk, renewing):
    class FailsAWhile(DiskFolder):
        left = 3

        def sizes(self, folder):
            if folder == "claims" and api.books()["submits"] >= 3 and FailsAWhile.left:
                FailsAWhile.left -= 1
                raise DestinationError("503 SlowDown")
            return super().sizes(folder)

    disk(FailsAWhile)
    api.fault("submit:late=0.3")

    result = batch.run(requests=TEN)

    assert FailsAWhile.left == 0
    assert (result["stored"], set(paid(api).values())) == (10, {1})


def test_a_destination_that_is_taken_away_at_work_leaves_no_paid_image_without_its_id(
    batch, api, disk, renewing
):
    class Shows(DiskFolder):
        ours = True

        def sizes(self, folder):
            found = super().sizes(folder)
            if folder == "claims" and Shows.ours and api.books()["submits"] >= 3:
                Shows.ours = False
                return {}
            return found

    disk(Shows)
    api.fault("submit:late=0.5")

    with pytest.raises(DestinationTakenError):
        batch.run(requests=TEN)

    assert 3 <= api.books()["submits"] < 64
    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


def test_an_error_that_nobody_thought_of_leaves_no_paid_image_without_its_id(batch, api, disk):
    class Breaks(DiskFolder):
        whole = True

        def write(self, name, data):
            if b'"state": "stored"' in data and Breaks.whole:
                Breaks.whole = False
                raise ZeroDivisionError
            return super().write(name, data)

    disk(Breaks)
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

    with pytest.raises(AirflowTaskTimeout), execution_timeout(0.4):
        operator.execute(batch.context)

    assert_all_ids_are_on_record(batch, api)
    result = batch.run(requests=TEN)
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (10, 0, {1})


def test_an_execution_timeout_does_not_wait_for_what_takes_longer(batch, api):
    api.fault("generation:takes=60")
    operator = batch.operator()
    began = time.monotonic()

    with pytest.raises(AirflowTaskTimeout), execution_timeout(0.3):
        operator.execute(batch.context)

    assert time.monotonic() < began + 10


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
    at_the_latest = time.monotonic() + 0.8

    def end(doing):
        if (submitting.__file__, "_sent") in doing or time.monotonic() > at_the_latest:
            raise AirflowTaskTimeout

    alarm(end)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(batch.context)

    assert_all_ids_are_on_record(batch, api)
    assert "intent" not in states(batch).values()


# A store that fails for a while


def failing(api, marks, times, landed=False):
    """A disk that fails a number of writes of records in a state; ``landed``: it says so, and wrote it."""

    class Failing(DiskFolder):
        left = times

        def write(self, name, data):
            if f'"state": "{marks}"'.encode() not in data or not Failing.left:
                return super().write(name, data)
            Failing.left -= 1
            if landed:
                super().write(name, data)
            raise DestinationError("503 SlowDown")

    return Failing


def test_a_store_that_takes_no_id_for_a_moment_costs_nothing(batch, api, disk):
    disk(failing(api, "submitted", 5))

    result = batch.run()

    assert (result["stored"], set(paid(api).values())) == (3, {1})


def test_ids_that_a_store_did_not_take_are_on_record_before_a_deferral(deferring, api, disk):
    kind = failing(api, "submitted", 3 * 6 + 2)
    disk(kind)

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    assert kind.left == 0
    assert_all_ids_are_on_record(deferring, api)
    with pytest.raises(DestinationError, match="SlowDown"):
        deferring.wake(deferred.value)
    result = deferring.run()
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


# What was ended submits nothing more


@pytest.fixture
def three_senders(monkeypatch):
    monkeypatch.setattr(submitting, "SUBMITS_AT_ONCE", 3)
    monkeypatch.setattr(wave, "SUBMITS_AT_ONCE", 3)


def test_only_what_is_being_posted_when_a_task_is_ended_is_submitted(batch, api, three_senders):
    api.fault("submit:late_accept=0.6")
    operator = batch.operator(requests=TEN)
    met = []

    def end():
        until(lambda: api.faults()[0]["met"] == 3)
        time.sleep(0.2)  # others could put their intents on record
        met.append(Counter(states(batch).values())["intent"])
        operator.on_kill()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(TaskInterruptedError) as caught:
        operator.execute(batch.context)
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
    api.settings(duration=0.6)
    api.fault("submit:lost*1;match=vase")
    if lost_in == "an earlier try":
        deferring.run(requests=["a vase"], deferrable=False)
    rows = ["a vase", "a lamp"]
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=rows)
    [vase] = [c["task_id"] for c in api.books()["charges"] if c["request"]["prompt"] == "a vase"]
    [path] = [path for path in (deferring.folder / "items").glob("*.json") if "a vase" in path.read_text()]
    record = json.loads(path.read_text())
    arrived = {"state": "submitted", "generation_id": vase, "submitted_at": record["intended_at"]}

    path.write_text(json.dumps(record | arrived | {"error": None}))
    result = deferring.wake(deferred.value, requests=rows)

    assert (record["state"], result["stored"], result["unknown"]) == ("intent", 2, 0)
    assert set(paid(api).values()) == {1}


# What may be paid for isn't run again


def test_rows_that_are_or_may_be_paid_for_are_told_apart_from_those_to_run_again(batch, api):
    api.fault("submit:lost*1;match=lamp")
    api.fault("submit:400;match=chair")
    api.fault("generation:takes=30;match=vase")
    rows = ["a teapot", "a vase", "a chair", "a lamp"]

    result = batch.run(requests=rows, timeout=0.3)
    batch.new_run()
    again = batch.run(requests=result["failures"], destination=str(batch.folder.parent / "mended"))

    assert (batch.folder / "failures.jsonl").read_text() == '{"prompt":"a chair"}\n'
    assert (batch.folder / "unsettled.jsonl").read_text() == '{"prompt":"a vase"}\n{"prompt":"a lamp"}\n'
    assert result["unsettled"] == str(batch.folder / "unsettled.jsonl")
    assert (again["images"], again["failed"]) == (1, 1)
    assert paid(api) == {"a teapot": 1, "a vase": 1, "a lamp": 1}


# What provably wasn't accepted doesn't become unknown


def test_an_intent_that_was_written_although_the_store_said_no_is_taken_back(batch, api, disk):
    disk(failing(api, "intent", 3, landed=True))

    with pytest.raises(DestinationError, match="SlowDown"):
        batch.run(item_retries=0)

    assert records(batch) == {}
    result = batch.run()
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


@pytest.mark.parametrize("failures", [1, 5])
def test_what_the_task_raises_is_why_it_was_refused_not_that_the_store_failed_too(batch, api, disk, failures):
    class KeepsAWhile(DiskFolder):
        left = failures

        def remove(self, name):
            if name.startswith("items/") and KeepsAWhile.left:
                KeepsAWhile.left -= 1
                raise DestinationError("503 SlowDown")
            super().remove(name)

    disk(KeepsAWhile)
    api.fault("submit:401*1")

    with pytest.raises(InvalidApiKeyError):
        batch.run(requests=["a vase"])

    assert KeepsAWhile.left == 0
    assert records(batch) == {}
    assert batch.run(requests=["a vase"])["stored"] == 1


# When it waits, and for what


@pytest.mark.parametrize("ahead", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_record_from_the_future_is_waited_for_as_one_of_now(deferring, api, ahead):
    api.settings(duration=0.05)
    api.fault("generation:takes=60")
    deferring.run(requests=["a vase"], deferrable=False, timeout=0.2)
    [path] = (deferring.folder / "items").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"submitted_at": ahead}))

    on_the_worker = deferring.run(requests=["a vase"], deferrable=False, timeout=0.3)
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=["a vase"], timeout=30)

    assert on_the_worker["submitted"] == 1
    assert deferred.value.trigger.deadline <= time.time() + 30
    assert deferred.value.timeout.total_seconds() < 600


def test_it_defers_only_after_each_was_looked_at_and_what_is_finished_is_stored(deferring, api):
    api.settings(duration=0.7)
    api.fault("generation:takes=60*10")
    rows = [f"poster {number}" for number in range(20)]
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=rows)
    looks = api.books()["requests"]["poll"]
    until(lambda: Counter(c["status"] for c in api.books()["charges"])["completed"] == 10)  # the last ten
    api.fault("get:late=0.3")  # longer than it takes to find that nothing else happens

    with pytest.raises(TaskDeferred) as again:
        deferring.operator(requests=rows).execute_complete(deferring.context, deferred.value)

    assert Counter(states(deferring).values()) == {"submitted": 10, "stored": 10}
    assert api.books()["requests"]["poll"] - looks >= 20
    assert len(again.value.trigger.generation_ids) == 10


def test_what_this_part_of_a_try_gave_up_is_not_waited_for(deferring, api):
    api.settings(duration=0.05)
    api.fault("generation:takes=60;match=chair")
    api.fault("file:404")

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    [chair] = [c["task_id"] for c in api.books()["charges"] if c["request"]["prompt"] == "a chair"]
    assert set(states(deferring).values()) == {"submitted"}
    assert (deferred.value.trigger.generation_ids, deferred.value.trigger.enough) == ([chair], 1)


# What stops the submitting, and what doesn't


def test_one_refusal_after_a_long_time_without_submits_does_not_stop(batch, api, monkeypatch):
    monkeypatch.setattr(submitting, "_LONGEST_REFUSAL", 0.3)
    api.fault("generation:takes=0.6*1")
    api.fault("submit:429*1;retry_after=0;after=1")

    result = batch.run(max_in_flight=1)

    assert (result["stored"], api.books()["requests"]["rejected"]) == (3, {"rate_limit_exceeded": 1})


def test_refusals_for_a_long_time_do(batch, api, monkeypatch):
    monkeypatch.setattr(submitting, "_LONGEST_REFUSAL", 0.3)
    api.fault("submit:429;retry_after=0")

    with pytest.raises(RateLimitError):
        batch.run()

    assert api.books()["submits"] == 0


class Slow(Store):
    """Each write takes its time."""

    def set(self, key, value, *, retention=None):
        time.sleep(0.3)
        super().set(key, value)


def test_a_state_store_that_takes_longer_than_a_lease_is_fresh_does_not_hold_up_the_submits(
    batch, api, monkeypatch
):
    monkeypatch.setattr(lease, "RENEWED", 0.2)
    batch.store = Slow()

    result = batch.run(requests=[f"poster {number}" for number in range(30)])

    assert result["stored"] == 30
    assert batch.store.writes < 12  # not one for each submit


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

    with pytest.raises(CreditLimitError, match="Paying for row 1 again"):
        batch.run(requests=["a vase"], max_credits=0)
    submits = api.books()["submits"]
    result = batch.run(requests=["a vase"], max_credits=4.7)

    assert (submits, api.books()["submits"], result["stored"]) == (1, 2, 1)


def test_the_refund_of_what_an_earlier_try_paid_is_no_credit_to_this_one(batch, api, paid_before):
    rows = ["a vase", "a chair"]
    api.fault("generation:takes=60;match=chair")
    paid_before("generation:failed=invalid_request*1", requests=rows)

    with structlog.testing.capture_logs() as lines, pytest.raises(TaskDeferred):
        batch.begin(requests=rows, deferrable=True)

    [line] = [line for line in map(str, lines) if "Waiting is all" in line]
    assert "1 failed), 1 in flight" in line
    assert " 0 credits ($0)" in line


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


# Deferrals and destinations


@pytest.mark.parametrize(
    ("in_flight", "enough"), [(10, 4), (8, 2)], ids=["all of them", "and more to submit"]
)
def test_enough_to_wake_for_is_a_share_of_the_ids_that_fit(deferring, monkeypatch, in_flight, enough):
    monkeypatch.setattr(trigger, "MOST_IDS", 4)

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=TEN, max_in_flight=in_flight)

    assert len(deferred.value.trigger.generation_ids) == 4
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
    api.settings(duration=0.7)
    api.fault("generation:failed;match=vase")

    result = deferring.run(requests=["a vase"], item_retries=retries)

    assert len(deferring.deferrals) > retries
    assert (result["failed"], api.books()["submits"]) == (1, 1 + retries)
