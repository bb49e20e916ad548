"""One image whose end the API notifies: what it is told, what the task waits for, and lost answers."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from uuid import UUID

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.callbacks import POLL_INTERVAL, Callbacks
from airflow_gpt_image.errors import (
    GenerationFailedError,
    LedgerError,
    RecordMissingError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger.task_state import ToldId, told_key
from airflow_gpt_image.triggers.gpt_image import CALLBACK_EVENT, GptImageTrigger, defer_grace_seconds
from tests.task_instance import DiedError
from tests.unit.single.conftest import charges, recorded

SECRET = "a secret of 26 characters."


@pytest.fixture
def api(api, monkeypatch):
    """An API server that is told to the API; nobody is there, for what matters is who is told what."""
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL", "https://airflow.example.com")
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_SECRET", SECRET)
    return api


def addresses(api):
    return [charge["callback_url"] for charge in api.books()["charges"]]


def named_by(address):
    """What an address names."""
    callbacks = Callbacks("https://airflow.example.com", (SECRET.encode(),))
    return callbacks.verify(address.rpartition("/")[2], now=time.time())


def deferred(task, **options):
    """What a task's first part defers with."""
    with pytest.raises(TaskDeferred) as caught:
        task.begin(**options)
    return caught.value


def callback_of(deferral):
    return deferral.trigger.so_far.get("callback")


# What the API is told


def test_the_api_is_told_an_address_of_this_try_and_this_submit(make, api):
    task = make()
    deferral = deferred(task)

    (address,) = addresses(api)
    assert address.startswith("https://airflow.example.com/gpt-image-callbacks/")
    assert named_by(address) == (UUID(task.ti_id), callback_of(deferral))


def test_every_submit_has_an_address_of_its_own(task, api):
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError):
        task.run()
    task.run()

    first, second = map(named_by, addresses(api))
    assert first.ti_id != second.ti_id
    assert first.intent != second.intent


def test_the_address_is_valid_for_a_day_after_the_wait(task, api):
    task.run(timeout=1000)

    expires = int(addresses(api)[0].split(".")[-2])
    assert 0 <= time.time() + 1000 + 24 * 3600 - expires < 600


def test_the_authors_own_address_goes_before(make, api):
    deferral = deferred(make(), callback_url="https://example.com/hook")

    assert addresses(api) == ["https://example.com/hook"]
    assert callback_of(deferral) is None
    assert deferral.trigger.poll_interval == 0.05


def test_where_callbacks_are_off_the_api_is_told_nothing(make, api, monkeypatch):
    monkeypatch.delenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL")

    deferral = deferred(make())

    assert addresses(api) == [None]
    assert (callback_of(deferral), deferral.trigger.poll_interval) == (None, 0.05)


def test_where_the_configuration_is_wrong_the_image_is_made_without_a_callback(task, api, monkeypatch):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_SECRET", "short")

    assert task.run()["status"] == "completed"
    assert addresses(api) == [None]


def test_the_address_is_on_no_record_in_no_result_and_in_no_trigger(make, api, tmp_path):
    task = make()
    deferral = deferred(task)
    result = task.wake(deferral)

    token = addresses(api)[0].rpartition("/")[2]
    signature = token.rpartition(".")[2]
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    told = [kept, json.dumps(result), *task.store.texts.values(), repr(deferral.trigger.serialize())]
    assert kept
    assert not any(signature in text for text in told)


# What the task waits for


def test_polls_are_relaxed_and_the_first_finds_what_ended_before_a_callback_may_wake_the_task(make):
    before = time.time()
    trigger = deferred(make()).trigger

    assert trigger.poll_interval == POLL_INTERVAL
    assert trigger.first_poll_at > before + defer_grace_seconds()
    assert deferred(make(task_id="slow"), poll_interval=300).trigger.poll_interval == 300


def test_after_a_callback_the_task_waits_as_if_there_were_none(make, api):
    api.fault("generation:never")
    task = make()
    first = deferred(task)

    with pytest.raises(TaskDeferred) as caught:
        task.operator().execute_complete(task.context, CALLBACK_EVENT)

    again = caught.value
    assert callback_of(first) is not None
    assert (callback_of(again), again.trigger.poll_interval) == (None, 0.05)
    assert again.trigger.deadline == first.trigger.deadline


def test_a_try_that_picks_up_an_earlier_ones_generation_polls(make, api):
    api.fault("generation:never")
    task = make()
    deferred(task)

    again = deferred(task)

    assert (callback_of(again), again.trigger.poll_interval) == (None, 0.05)
    assert len(charges(api)) == 1


def test_a_run_that_waits_for_another_ones_image_polls(make, api):
    api.fault("generation:never")
    first, second = make(), make()
    second.run_id = "another run"
    deferred(first, reuse="destination")

    waits = deferred(second, reuse="destination")

    assert (callback_of(waits), waits.trigger.poll_interval) == (None, 0.05)
    assert len(charges(api)) == 1


def test_a_callback_is_a_hint_and_the_api_is_asked(make, api):
    task = make()

    result = task.wake(deferred(task), CALLBACK_EVENT)

    assert result["status"] == "completed"
    assert api.books()["requests"]["poll"] >= 1


def test_older_and_newer_triggers_read_each_others_arguments(make):
    _, kwargs = deferred(make()).trigger.serialize()
    older = {**kwargs, "so_far": {"since": kwargs["so_far"]["since"]}}
    del older["kinds"]

    assert GptImageTrigger(**older).so_far == older["so_far"]
    assert GptImageTrigger(**kwargs, said_by_a_newer_release=1).so_far == kwargs["so_far"]
    assert set(older) == {
        "gpt_image_conn_id",
        "generation_ids",
        "deadline",
        "poll_interval",
        "first_poll_at",
        "enough",
        "so_far",
    }


# Lost answers


def tell(task, api, generation_id=None, number=-1):
    """Let a callback tell an id, by default the right one, as the receiver keeps it."""
    intent = named_by(addresses(api)[number]).intent
    told = ToldId(generation_id=generation_id or charges(api)[number])
    task.store.texts[told_key(intent)] = told.model_dump_json()


@pytest.fixture(params=["with a destination", "without one"])
def lost(request, make, deferrable, api, tmp_path):
    """A task whose first try's submit was accepted, and its answer lost."""
    destination = tmp_path / "images" if request.param == "with a destination" else None
    task = make(deferrable=deferrable, destination=destination)
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError) as caught:
        task.run()
    task.error = caught.value
    return task


def test_a_lost_answer_heals(lost, api):
    tell(lost, api)

    result = lost.run()

    assert charges(api) == [result["generation_id"]]
    assert (result["reused"], result["spent"]["charged"]) == (True, "4.7")
    assert [record["state"] for record in recorded(lost)] == ["stored"]


def test_a_lost_answer_heals_also_where_the_author_would_pay_again(lost, api):
    tell(lost, api)

    assert charges(api) == [lost.run(on_unknown_submit="resubmit")["generation_id"]]


def test_a_lost_answer_heals_after_a_clear_that_keeps_the_task_state(lost, api):
    tell(lost, api)
    lost.clear()

    assert charges(api) == [lost.run()["generation_id"]]


def test_after_a_clear_that_empties_the_task_state_the_author_is_asked(lost, api):
    tell(lost, api)
    lost.clear(airflow="3.4")

    with pytest.raises((SubmissionUnknownError, RecordMissingError)):
        lost.run()
    assert len(charges(api)) == 1


def test_while_a_callback_may_come_the_try_is_worth_a_retry(lost, clock, api):
    assert lost.error.retryable
    assert "A callback may still tell its id" in lost.error.message

    clock.forward(timedelta(hours=1).total_seconds())
    with pytest.raises(SubmissionUnknownError) as caught:
        lost.run()
    assert not caught.value.retryable


def test_where_nobody_will_call_back_it_is_not(make, api):
    api.fault("submit:lost*1")

    with pytest.raises(SubmissionUnknownError) as caught:
        make().run(callback_url="https://example.com/hook")

    assert not caught.value.retryable
    assert "callback" not in caught.value.message.lower()


def test_a_worker_that_died_at_its_post_is_not_waited_for_once_a_callback_told_the_id(make, api, clock):
    task = make(destination=None)
    task.store.at = "die before 2"
    with pytest.raises(DiedError):
        task.run()
    tell(task, api)
    before = clock.elapsed()

    assert charges(api) == [task.run()["generation_id"]]
    assert clock.elapsed() - before < 30


def test_a_generation_that_failed_meanwhile_is_a_refund_and_not_unknown(make, deferrable, api):
    task = make(deferrable=deferrable)
    api.fault("generation:failed*1")
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError):
        task.run()
    tell(task, api)

    with pytest.raises(GenerationFailedError):
        task.run()
    assert task.run()["spent"]["refunded"] == "4.7"
    assert len(charges(api)) == 2


# What a callback tells is not believed


def test_an_id_that_the_account_does_not_have_is_not_taken(lost, api):
    tell(lost, api, "397ce9f2-c04e-4244-ac33-3af19a7cc297")

    with pytest.raises(SubmissionUnknownError):
        lost.run()
    assert len(charges(api)) == 1


def test_the_id_of_another_submit_of_the_task_is_not_taken(make, api):
    task = make()
    first = task.run()
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError):
        task.run(prompt="a blue teapot")
    tell(task, api, first["generation_id"])

    with pytest.raises(SubmissionUnknownError):
        task.run(prompt="a blue teapot")
    assert len(charges(api)) == 2


def test_the_id_of_a_generation_of_another_time_is_not_taken(make, api, clock):
    other = make(task_id="other").run()
    clock.forward(timedelta(hours=3).total_seconds())
    task = make()
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError):
        task.run()
    tell(task, api, other["generation_id"])

    with pytest.raises(SubmissionUnknownError):
        task.run()
    assert len(charges(api)) == 2


def test_the_id_that_was_told_to_another_submit_is_not_taken(lost, api):
    tell(lost, api)
    key = next(key for key in lost.store.texts if key.startswith("gpt_image_told_"))
    lost.store.texts["gpt_image_told_" + "0" * 32] = lost.store.texts.pop(key)

    with pytest.raises(SubmissionUnknownError):
        lost.run()
    assert len(charges(api)) == 1


def test_where_it_can_not_be_known_what_was_told_nothing_is_paid(lost, api):
    tell(lost, api)
    # The document is read first, then what was told.
    lost.store.unreadable = lambda: lost.store.reads > 1

    with pytest.raises(LedgerError) as caught:
        lost.run(on_unknown_submit="resubmit")

    assert caught.value.retryable
    assert len(charges(api)) == 1
