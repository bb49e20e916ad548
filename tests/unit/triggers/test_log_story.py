"""What a deferred task's log tells while the triggerer waits for it."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from airflow_gpt_image.triggers.gpt_image import CALLBACK_EVENT, GptImageTrigger, WaitedEvent
from airflow_gpt_image.triggers.tally import SoFar
from tests.batches import logged


def test_while_it_waits_it_says_now_and_then_how_the_generation_is(emulator, submit, trigger, event_of):
    generation_id = submit()
    emulator.fault("get:unknown_status=processing*5")

    with structlog.testing.capture_logs() as lines:
        event_of(trigger(generation_id, so_far={"since": 0.0}, report_every=0.02))

    told = logged(lines)
    assert told[0] == f"The triggerer waits for generation {generation_id}."
    assert any(line.endswith(" since the submit: its status is 'processing'.") for line in told)


def test_of_a_batch_it_says_how_far_that_is(emulator, submit, trigger, event_of):
    ids = [submit(f"poster {number}") for number in range(2)]
    emulator.fault("get:unknown_status=processing*10")
    so_far = SoFar(since=0.0, total=10, done=5, failed=1, usd="0.235").model_dump(mode="json")

    with structlog.testing.capture_logs() as lines:
        event_of(trigger(*ids, so_far=so_far, report_every=0.02, enough=1))

    told = logged(lines)
    assert told[0] == f"The triggerer waits for 2 generations, from {ids[0]} on (of which 1 are enough)."
    assert "5 of 10 done (1 failed), 2 in flight, 0.0/s, $0.235, time left unknown." in told


@pytest.mark.parametrize("junk", [None, {}, {"since": "soon"}, "so far", {"since": 1.0, "more": 2}])
def test_junk_in_place_of_how_far_it_is_does_not_keep_it_from_waiting(submit, trigger, event_of, junk):
    event = event_of(trigger(submit(), so_far=junk if not isinstance(junk, str) else None))

    assert event["reason"] == "finished"


def test_how_far_it_is_outlasts_the_database():
    arguments = GptImageTrigger.deferral(
        ["11111111-2222"],
        gpt_image_conn_id="studio",
        poll_interval=5.0,
        deadline=60.0,
        now=0.0,
        so_far=SoFar(since=12.5),
    )

    kept = arguments["trigger"].serialize()[1]

    assert kept["so_far"] == {"since": 12.5, "total": 0, "done": 0, "failed": 0, "usd": "0"}
    assert GptImageTrigger(**kept).serialize()[1] == kept


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            {"reason": "finished", "generation_ids": {"completed": ["a", "b"]}},
            "the wait is over: 2 completed.",
        ),
        ({"reason": "deadline", "generation_ids": {}}, "the time is over."),
        ({"reason": "error", "message": "No key."}, "the wait failed.\nNo key."),
        (CALLBACK_EVENT, "the API called back."),
        ("by hand", "not by the trigger."),
        (None, "not by the trigger."),
    ],
)
def test_what_woke_a_task_is_told_in_words(event, words):
    assert WaitedEvent.told(event) == words


@pytest.mark.parametrize(("callback", "level"), [(None, "warning"), ("a" * 32, "info")])
def test_that_a_callback_ended_the_wait_is_no_warning(trigger, callback, level):
    with structlog.testing.capture_logs() as lines:
        asyncio.run(trigger("an-id", so_far={"since": 1.0, "callback": callback}).on_kill())

    assert [line["log_level"] for line in lines] == [level]
