"""The trigger: waits for one or many generations and tells it once, in little plain JSON."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest
import structlog
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import deserialize, serialize

from airflow_gpt_image.triggers.gpt_image import MOST_IDS, GptImageTrigger, WaitedEvent, first_that_fit
from tests.batches import logged

MOST_BYTES = 48_000
SECRET_PROMPT = "the unannounced product"


def test_a_completed_generation_is_told(submit, trigger, event_of):
    generation_id = submit()

    event = event_of(trigger(generation_id))

    assert event["reason"] == "finished"
    assert event == {"reason": "finished", "generation_ids": {"completed": [generation_id]}}


def test_a_failed_generation_is_finished_too(emulator, submit, trigger, event_of):
    emulator.fault("generation:failed")
    generation_id = submit()

    event = event_of(trigger(generation_id))

    assert event == {"reason": "finished", "generation_ids": {"failed": [generation_id]}}


def test_several_generations_are_told_in_one_event_however_they_end(emulator, submit, trigger, event_of):
    emulator.fault("generation:failed;match=gone")
    good, bad = submit("a red bicycle"), submit("gone wrong")

    event = event_of(trigger(good, bad))

    assert event == {"reason": "finished", "generation_ids": {"completed": [good], "failed": [bad]}}


def test_the_event_is_what_the_operator_validates(submit, trigger, event_of):
    generation_id = submit()

    event = event_of(trigger(generation_id))

    assert WaitedEvent.model_validate(json.loads(json.dumps(event))).reason == "finished"


def test_looks_that_fail_for_a_passing_reason_do_not_end_the_wait(emulator, submit, trigger, event_of):
    generation_id = submit()
    for fault in ("get:500*1", "get:close*1", "get:html*1"):
        emulator.fault(fault)

    event = event_of(trigger(generation_id))

    assert event == {"reason": "finished", "generation_ids": {"completed": [generation_id]}}
    assert [fault["met"] for fault in emulator.faults()] == [1, 1, 1]


def test_a_word_the_document_does_not_know_is_not_the_end(emulator, submit, trigger, event_of):
    generation_id = submit()
    emulator.fault("get:unknown_status*3")

    event = event_of(trigger(generation_id))

    assert event["generation_ids"] == {"completed": [generation_id]}


@pytest.mark.parametrize("count", [1, 30])
def test_a_word_the_document_does_not_know_is_said_once(emulator, submit, trigger, event_of, count):
    ids = [submit(f"poster {number}") for number in range(count)]
    emulator.fault(f"get:unknown_status=on hold*{3 * count}")

    with structlog.testing.capture_logs() as lines:
        event = event_of(trigger(*ids))

    assert len(event["generation_ids"]["completed"]) == count
    [line] = [line for line in logged(lines) if "'on hold'" in line]
    assert "It counts as not finished, and is polled on until" in line


def test_a_generation_that_cannot_be_read_yet_is_waited_for(emulator, submit, trigger, event_of):
    emulator.fault("generation:unseen=0.3")
    generation_id = submit()

    event = event_of(trigger(generation_id))

    assert event["generation_ids"] == {"completed": [generation_id]}


def test_the_deadline_ends_the_wait(emulator, submit, trigger, event_of):
    emulator.fault("generation:never")
    generation_id = submit()
    started = time.monotonic()

    event = event_of(trigger(generation_id, seconds=0.3))

    assert event["reason"] == "deadline"
    assert event["generation_ids"] == {}
    assert generation_id in event["message"]
    assert 0.2 < time.monotonic() - started < 5


def test_at_the_deadline_those_that_are_finished_are_told(emulator, submit, trigger, event_of):
    emulator.fault("generation:never;match=for ever")
    done, never = submit("a red bicycle"), submit("for ever and a day")

    event = event_of(trigger(done, never, seconds=0.6))

    assert event["reason"] == "deadline"
    assert event["generation_ids"] == {"completed": [done]}


def test_a_deadline_that_is_over_still_allows_one_look(emulator, submit, trigger, event_of):
    # A triggerer that was down for an hour comes back to generations that finished long ago.
    generation_id = submit()
    time.sleep(0.2)

    event = event_of(trigger(generation_id, seconds=-60))

    assert event == {"reason": "finished", "generation_ids": {"completed": [generation_id]}}


def test_nothing_is_asked_before_the_first_look_is_due(emulator, submit, trigger, event_of):
    # Woken while the worker is still leaving, the task would be failed by the scheduler.
    generation_id = submit()
    due = time.time() + 0.6

    event = event_of(trigger(generation_id, first_poll_at=due))

    assert time.time() >= due
    assert event["reason"] == "finished"
    assert emulator.books()["requests"]["poll"] == 1


def test_a_key_that_is_refused_ends_the_wait(emulator, use_connection, submit, trigger, event_of):
    generation_id = submit()
    use_connection(emulator.url, key="sk-nobody-has-this-one")

    event = event_of(trigger(generation_id))

    assert event["reason"] == "error"
    assert "invalid_api_key" in event["message"]
    assert "sk-nobody-has-this-one" not in json.dumps(event)


def test_a_missing_connection_is_told_instead_of_raised(trigger, event_of):
    event = event_of(trigger("11111111-2222", gpt_image_conn_id="nobody_made_it"))

    assert event["reason"] == "error"
    assert "airflow connections add nobody_made_it" in event["message"]


@pytest.mark.parametrize("extra", [{"read_timeout": -1}, {"what": 1}, "[]", "no json"])
def test_a_connection_that_breaks_a_rule_is_told_instead_of_raised(
    emulator, use_connection, trigger, event_of, extra
):
    use_connection(emulator.url, extra=extra)

    event = event_of(trigger("11111111-2222", seconds=1))

    assert event["reason"] == "error"
    assert "'gpt_image_default'" in event["message"]


@pytest.mark.parametrize("generation_id", ["", "../credits", "a b", "x" * 129])
def test_an_id_that_cannot_be_one_is_told_instead_of_raised(emulator, trigger, event_of, generation_id):
    # It came out of a database: whatever is wrong with it, the task must hear of it.
    event = event_of(trigger(generation_id))

    assert event["reason"] == "error"
    assert "generation id" in event["message"]


def test_a_host_that_cannot_be_looked_up_is_told_instead_of_raised(
    emulator, use_connection, trigger, event_of
):
    use_connection("https://.example.com")

    event = event_of(trigger("11111111-2222", seconds=1))

    assert event["reason"] in ("error", "deadline")


def test_serializing_and_reading_back_gives_the_same_trigger(trigger):
    original = trigger("11111111-2222", "33333333-4444", first_poll_at=12.5, enough=1)

    path, kwargs = original.serialize()
    stored = json.dumps(serialize(kwargs))
    read = import_string(path)(**deserialize(json.loads(stored)))

    assert type(read) is GptImageTrigger
    assert read.serialize() == (path, kwargs)
    assert kwargs.keys() == {
        "gpt_image_conn_id",
        "generation_ids",
        "deadline",
        "poll_interval",
        "first_poll_at",
        "enough",
        "so_far",
        "kinds",
    }


def test_a_trigger_that_was_stored_without_the_newer_arguments_can_still_be_read():
    read = GptImageTrigger(
        gpt_image_conn_id="gpt_image_default", generation_ids=["a"], deadline=1.0, poll_interval=5.0
    )

    assert (read.first_poll_at, read.enough, read.so_far) == (0.0, None, None)


@pytest.mark.parametrize("count", [0, MOST_IDS + 1])
def test_a_trigger_takes_one_to_a_thousand_ids(trigger, count):
    with pytest.raises(ValueError, match="1 to 1,000"):
        trigger(*(str(uuid.uuid4()) for _ in range(count)))


def test_the_arguments_of_a_thousand_ids_stay_small(trigger):
    waiting = trigger(*(str(uuid.uuid4()) for _ in range(MOST_IDS)))

    stored = json.dumps(serialize(waiting.serialize()[1]))

    assert len(stored.encode()) < MOST_BYTES


def test_ids_too_long_for_the_database_together_are_refused(trigger):
    # The API document promises no shape of an id; the column is 64 kB on MySQL, after encryption.
    ids = [uuid.uuid4().hex * 4 for _ in range(MOST_IDS)]

    with pytest.raises(ValueError, match=r"kB|bytes"):
        trigger(*ids)


def test_those_that_fit_are_as_many_as_a_trigger_takes_from_the_first_on(trigger):
    short = [str(uuid.uuid4()) for _ in range(MOST_IDS + 1)]
    long = [uuid.uuid4().hex * 4 for _ in range(MOST_IDS)]

    assert first_that_fit(short) == short[:MOST_IDS]
    assert first_that_fit(short[:3]) == short[:3]
    assert first_that_fit([]) == []
    few = first_that_fit(long)
    assert few == long[: len(few)]
    assert trigger(*few).generation_ids == few
    with pytest.raises(ValueError, match="bytes"):
        trigger(*long[: len(few) + 1])


def test_the_event_of_a_thousand_ids_stays_small(emulator, submit, trigger, event_of):
    emulator.settings(credits=10_000)
    generation_ids = [submit() for _ in range(MOST_IDS)]

    event = event_of(trigger(*generation_ids))

    assert set(event["generation_ids"]["completed"]) == set(generation_ids)
    assert len(json.dumps(event).encode()) < MOST_BYTES


def test_the_event_of_as_many_ids_as_fit_stays_small_with_a_long_message_too():
    ids = first_that_fit(uuid.uuid4().hex[: 30 + number % 20] for number in range(MOST_IDS))
    told = WaitedEvent(
        reason="error", generation_ids={"completed": ids[1:], "failed": ids[:1]}, message="x" * 1000
    )

    assert len(told.model_dump_json().encode()) < MOST_BYTES


def test_neither_the_key_nor_the_prompt_is_anywhere(emulator, submit, trigger, event_of):
    generation_id = submit(SECRET_PROMPT)
    waiting = trigger(generation_id)

    event = event_of(waiting)

    for shown in (json.dumps(waiting.serialize()), json.dumps(event), repr(waiting), str(waiting.__dict__)):
        assert emulator.key not in shown
        assert SECRET_PROMPT not in shown


def test_a_deferral_leaves_the_worker_time_to_go_and_ends_after_the_triggers_own_deadline():
    arguments = GptImageTrigger.deferral(
        ["11111111-2222"],
        gpt_image_conn_id="studio",
        poll_interval=7.5,
        deadline=1_000_600.0,
        now=1_000_000.0,
    )

    assert arguments["method_name"] == "execute_complete"
    assert arguments["timeout"].total_seconds() > 600
    stored = arguments["trigger"].serialize()[1]
    assert stored.pop("first_poll_at") >= 1_000_005.0
    assert stored == {
        "gpt_image_conn_id": "studio",
        "generation_ids": ["11111111-2222"],
        "deadline": 1_000_600.0,
        "poll_interval": 7.5,
        "enough": None,
        "so_far": None,
        "kinds": [["", 1]],
    }


def test_a_deferral_keeps_what_its_generations_are_in_few_words():
    kinds = ["4k", "1k", "4k", "1k from images"] * 250
    generation_ids = [f"{number}-{kind[:2]}" for number, kind in enumerate(kinds)]

    arguments = GptImageTrigger.deferral(
        generation_ids, kinds=kinds, gpt_image_conn_id="c", poll_interval=5.0, deadline=1.0, now=0.0
    )

    stored = arguments["trigger"].serialize()[1]
    assert stored["kinds"] == [["1k", 250], ["1k from images", 250], ["4k", 500]]
    assert [each[-2:] for each in stored["generation_ids"]] == ["1k"] * 500 + ["4k"] * 500
    assert sorted(stored["generation_ids"]) == sorted(generation_ids)


@pytest.mark.parametrize(
    "kinds",
    [None, "1k", 5, [["1k"]], [["1k", "many"]], [[None, 1]], [["1k", -5]], [["1k", 10**9]], [["1k", 1]]],
)
def test_kinds_that_cannot_be_read_do_not_keep_it_from_waiting(submit, trigger, event_of, kinds):
    ids = [submit("a"), submit("b")]

    event = event_of(trigger(*ids, kinds=kinds))

    assert sorted(event["generation_ids"]["completed"]) == sorted(ids)


def test_what_a_newer_release_says_besides_does_not_keep_it_from_waiting(submit, trigger, event_of):
    event = event_of(trigger(submit(), seen_by="a newer release"))

    assert event["reason"] == "finished"


def test_a_deferral_for_some_of_many_goes_on_where_it_is_told_to():
    arguments = GptImageTrigger.deferral(
        ("11111111-2222", "33333333-4444"),
        gpt_image_conn_id="studio",
        poll_interval=7.5,
        deadline=1_000_600.0,
        now=1_000_000.0,
        enough=1,
        method_name="go_on",
    )

    assert arguments["method_name"] == "go_on"
    stored = arguments["trigger"].serialize()[1]
    assert (stored["generation_ids"], stored["enough"]) == (["11111111-2222", "33333333-4444"], 1)


def test_a_deferral_after_the_deadline_still_gives_the_trigger_time_to_say_so():
    arguments = GptImageTrigger.deferral(
        ["11111111-2222"], gpt_image_conn_id="studio", poll_interval=5.0, deadline=1.0, now=1_000_000.0
    )

    assert arguments["timeout"].total_seconds() >= 60


@pytest.mark.parametrize(
    "foreign",
    [None, "woken", {}, {"reason": "because"}, {"reason": "finished", "status": "ok"}, ["finished"]],
)
def test_an_event_that_is_not_the_triggers_own_reads_as_none(foreign):
    # Anybody who may use Airflow's API can wake a task, with whatever they like.
    told = WaitedEvent.read(foreign)

    assert told is None


def test_ending_a_task_from_outside_cancels_nothing(emulator, submit, trigger):
    # Airflow calls this also for a task that goes on elsewhere.
    generation_id = submit()
    before = emulator.books()["requests"]

    asyncio.run(trigger(generation_id).on_kill())

    assert emulator.books()["requests"] == before


def test_a_cancelled_trigger_stops_asking(emulator, submit, trigger, events_of, until):
    emulator.fault("generation:never")
    generation_id = submit()

    def polls():
        return emulator.books()["requests"]["poll"]

    async def scenario():
        waiting = asyncio.create_task(events_of(trigger(generation_id)))
        await until(lambda: polls() > 0)
        waiting.cancel()
        ended = (await asyncio.gather(waiting, return_exceptions=True))[0]
        before = polls()
        await asyncio.sleep(0.2)
        return ended, before

    ended, before = asyncio.run(scenario())

    assert isinstance(ended, asyncio.CancelledError)
    assert polls() == before


def test_waiting_costs_nothing(emulator, submit, trigger, event_of):
    generation_id = submit()
    before = emulator.books()

    event_of(trigger(generation_id))

    after = emulator.books()
    assert after["charged"] == before["charged"]
    assert after["requests"]["submit"] == before["requests"]["submit"]
    assert after["requests"]["download"] == 0
