"""A task that defers: what it hands over, and what wakes it."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.unit.single.conftest import charges

# Deferring


@pytest.fixture
def task(make):
    return make()


def test_what_is_deferred_is_plain_json_of_ids_and_times(task, api):
    with pytest.raises(TaskDeferred) as caught:
        task.operator().execute(task.context)

    path, kwargs = caught.value.trigger.serialize()
    assert path == "airflow_gpt_image.triggers.gpt_image.GptImageTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert kwargs["generation_ids"] == charges(api)
    assert "teapot" not in json.dumps(kwargs)
    assert not caught.value.kwargs


def test_airflows_own_timeout_comes_later_than_ours(task):
    with pytest.raises(TaskDeferred) as caught:
        task.operator(timeout=100).execute(task.context)

    assert 100 < caught.value.timeout.total_seconds() < 300


@pytest.mark.parametrize(
    "event", [None, {}, "completed", {"status": "success", "path": "/etc"}, [1]], ids=repr
)
def test_whatever_wakes_the_task_the_api_is_asked(task, api, event):
    with pytest.raises(TaskDeferred) as caught:
        task.operator().execute(task.context)

    result = task.wake(caught.value, event)

    assert result["status"] == "completed"


def test_a_task_that_is_woken_too_early_waits_on_until_the_same_deadline(task, api):
    api.fault("generation:never")
    with pytest.raises(TaskDeferred) as first:
        task.operator().execute(task.context)

    with pytest.raises(TaskDeferred) as second:
        task.operator().execute_complete(task.context, {"reason": "finished"})

    assert second.value.trigger.deadline == first.value.trigger.deadline
    assert api.books()["submits"] == 1


def test_a_prompt_that_changed_while_the_task_was_deferred_does_not_change_what_was_paid_for(task, api):
    with pytest.raises(TaskDeferred) as caught:
        task.operator().execute(task.context)
    paid = task.wake(caught.value, prompt="a blue teapot", resolution="4k")

    assert paid["generation_id"] == charges(api)[0]
    assert (paid["resolution"], paid["credits"]) == ("1k", "4.7")
    assert task.run()["fingerprint"] == paid["fingerprint"]


def test_the_deadline_of_a_retry_begins_anew(task, api):
    api.fault("generation:never")
    deadlines = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as caught:
            task.operator(timeout=100).execute(task.context)
        deadlines.append(caught.value.trigger.deadline)

    assert deadlines[0] < deadlines[1]


def test_killing_the_task_cancels_nothing(task, api):
    task.run(wait_for_completion=False)

    task.operator().on_kill()

    assert task.run()["reused"]
