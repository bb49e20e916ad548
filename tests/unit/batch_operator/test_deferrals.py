"""A plan is carried out across deferrals; the API's books judge."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    DestinationTakenError,
    InvalidApiKeyError,
    PlanError,
)
from airflow_gpt_image.triggers.gpt_image import GptImageTrigger
from tests.batches import TEN, BatchTask, assert_books_agree, lost_answer, paid, statuses
from tests.fake_clock import RunningClock

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


def test_what_is_deferred_is_small_and_has_nothing_secret(deferring, api, apis_clock):
    with structlog.testing.capture_logs() as lines, pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    _, kwargs = deferred.value.trigger.serialize()
    kwargs["first_poll_at"] = 0.0
    apis_clock.forward()

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
    path, _, arrived = lost_answer(batch, api)

    def late(act, name, *data):
        if act == "write" and b"a lamp" in b"".join(data):
            path.write_text(arrived)

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


@pytest.mark.parametrize("at_work", [True, False], ids=["at work", "deferred"])
def test_a_task_that_was_marked_failed_at_work_is_given_time_to_stop(deferring, api, at_work):
    locks = []

    def noted(act, name, *data):
        if act == "write" and name.startswith("locks/"):
            locks.append(data[0])

    deferring.meddle = noted
    with pytest.raises(TaskDeferred):
        deferring.begin()
    [lock] = (deferring.folder / "locks").iterdir()
    lock.write_bytes(locks[0 if at_work else -1])
    second = BatchTask(deferring.folder, deferrable=False, task_id="others", timing=None)
    second.states = {deferring.run_id: {"posters": "failed"}}
    second.clock = RunningClock()
    api.settings(duration=0.05)
    waited = []
    second.store.befalls = lambda number: waited.append(second.clock.ahead)

    assert second.run(requests=["a lamp"])["stored"] == 1

    assert max(waited) == (15.0 if at_work else 0.0)


@pytest.mark.parametrize(("max_credits", "error"), [(None, InvalidApiKeyError), (0, CreditLimitError)])
def test_a_task_that_failed_or_was_refused_gives_the_destination_free(batch, api, max_credits, error):
    api.fault("submit:401")
    with pytest.raises(error):
        batch.run(max_credits=max_credits)
    api.clear_faults()

    other = BatchTask(batch.folder, deferrable=False, task_id="others")
    other.states = {batch.run_id: {"posters": "running"}}  # else Airflow's word would be enough

    assert other.run()["stored"] == 3
