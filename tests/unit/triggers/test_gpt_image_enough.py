"""The trigger told to wake when some of many are finished: it does, and the other looks end there."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid

import pytest


def polls(emulator):
    return emulator.books()["requests"]["poll"]


class Unchanged:
    """Tells whether a number has been the same for some time."""

    def __init__(self):
        self._value, self._since = None, 0.0

    def for_seconds(self, seconds, value):
        if value != self._value:
            self._value, self._since = value, time.monotonic()
        return time.monotonic() - self._since >= seconds


def count(event):
    return sum(map(len, event["generation_ids"].values()))


def test_it_wakes_as_soon_as_enough_are_finished_and_tells_which(emulator, submit, trigger, event_of):
    emulator.fault("generation:never;match=for ever")
    never = [submit(f"for ever {number}") for number in range(3)]
    quick = [submit(f"quick {number}") for number in range(2)]

    event = event_of(trigger(*never, *quick, enough=2))

    assert event["reason"] == "finished"
    assert set(event["generation_ids"]["completed"]) == set(quick)
    assert event.keys() == {"reason", "generation_ids"}


def test_a_failed_one_is_enough_too(emulator, submit, trigger, event_of):
    emulator.fault("generation:never;match=for ever")
    emulator.fault("generation:failed;match=gone")
    never, bad = submit("for ever"), submit("gone wrong")

    event = event_of(trigger(never, bad, enough=1))

    assert event == {"reason": "finished", "generation_ids": {"failed": [bad]}}


def test_enough_may_be_all_of_them(submit, trigger, event_of):
    generation_ids = [submit() for _ in range(3)]

    event = event_of(trigger(*generation_ids, enough=3))

    assert (event["reason"], count(event)) == ("finished", 3)


def test_when_enough_is_reached_nothing_is_asked_any_more_and_nothing_is_left(
    emulator, relay, submit, trigger, events_of, until
):
    emulator.fault("generation:never;match=for ever")
    never = [submit(f"for ever {number}") for number in range(100)]
    quick = submit("quick")
    polls_now = Unchanged()

    async def scenario():
        (event,) = await events_of(trigger(*never, quick, enough=1))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        await until(lambda: relay.open == 0)
        # What was under way when its connection closed may still come in, but nothing after that.
        await until(lambda: polls_now.for_seconds(0.3, polls(emulator)), seconds=60)
        before = polls(emulator)
        await asyncio.sleep(0.2)
        return event, left, polls(emulator) - before

    event, left, later = asyncio.run(scenario())
    # What nobody awaited or closed is said when it is collected, and pytest takes that for an error.
    gc.collect()

    assert event == {"reason": "finished", "generation_ids": {"completed": [quick]}}
    assert (left, later) == (set(), 0)


def test_a_look_that_is_under_way_does_not_hold_up_the_event(emulator, submit, trigger, event_of):
    generation_ids = [submit(), submit()]
    emulator.fault("get:late=20*1")
    started = time.monotonic()

    event = event_of(trigger(*generation_ids, enough=1))

    assert (event["reason"], count(event)) == ("finished", 1)
    assert time.monotonic() - started < 10


def test_others_go_on_with_the_client_that_one_has_left(emulator, submit, trigger, events_of):
    emulator.fault("generation:takes=5;match=slow")  # far longer than the submits
    slow, quick = [submit(f"slow {number}") for number in range(30)], submit("quick")

    async def scenario():
        return await asyncio.gather(events_of(trigger(*slow, quick, enough=1)), events_of(trigger(*slow)))

    (first,), (second,) = asyncio.run(scenario())

    assert first["generation_ids"] == {"completed": [quick]}
    assert (second["reason"], count(second)) == ("finished", 30)


def test_those_that_are_not_in_time_count_and_the_deadline_is_told(emulator, submit, trigger, event_of):
    emulator.fault("generation:never;match=for ever")
    never, quick = [submit(f"for ever {number}") for number in range(3)], submit("quick")

    event = event_of(trigger(*never, quick, enough=2, seconds=0.6))

    assert event["reason"] == "deadline"
    assert event["generation_ids"] == {"completed": [quick]}
    assert "was not finished" in event["message"]


def test_a_key_that_is_refused_ends_the_wait_for_some_too(
    emulator, use_connection, submit, trigger, event_of
):
    generation_ids = [submit() for _ in range(3)]
    use_connection(emulator.url, key="sk-nobody-has-this-one")

    event = event_of(trigger(*generation_ids, enough=2))

    assert (event["reason"], event["generation_ids"]) == ("error", {})
    assert "invalid_api_key" in event["message"]


@pytest.mark.soak  # An id stays unknown for some seconds before it is given up.
def test_those_that_nobody_knows_any_more_count_and_the_error_is_told(emulator, submit, trigger, event_of):
    emulator.fault("generation:never;match=for ever")
    never, quick = submit("for ever"), submit("quick")

    event = event_of(trigger(str(uuid.uuid4()), never, quick, enough=2, seconds=60))

    assert event["reason"] == "error"
    assert event["generation_ids"] == {"completed": [quick]}
    assert "task_not_found" in event["message"]


@pytest.mark.parametrize("enough", [0, -1, 3])
def test_enough_is_one_to_all_of_the_ids(trigger, enough):
    with pytest.raises(ValueError, match=rf"enough={enough} must be 1 to 2\b"):
        trigger("11111111-2222", "33333333-4444", enough=enough)
