"""A thousand triggers, one client: shared while somebody waits, few requests at once, closed by the last."""

from __future__ import annotations

import asyncio
import gc
import threading

from airflow_gpt_image.polling.poller import MOST_WORKERS

MOST_AT_ONCE = 16
# Together more than are polled at the same time when all polls are overdue, as they are on a slow machine.
PICTURES, MANY = 200, 400
assert MANY > MOST_WORKERS


def polls(emulator):
    return emulator.books()["requests"]["poll"]


def test_many_triggers_share_few_connections_and_ask_few_at_once(emulator, relay, submit, trigger, events_of):
    emulator.fault("get:late=0.02")
    generation_ids = 2 * [submit(f"picture {number}") for number in range(PICTURES)]

    async def scenario():
        return await asyncio.gather(*(events_of(trigger(each, poll_interval=0.2)) for each in generation_ids))

    events = asyncio.run(scenario())

    assert [event["generation_ids"] for (event,) in events] == [
        {"completed": [each]} for each in generation_ids
    ]
    assert 1 < emulator.books()["requests"]["most_at_once"] <= MOST_WORKERS
    # A connection is replaced now and then; a client each would have opened as many.
    assert relay.accepted < MANY


def test_one_trigger_with_many_ids_asks_few_at_once_too(emulator, relay, submit, trigger, event_of):
    emulator.fault("get:late=0.02")
    generation_ids = 2 * [submit(f"picture {number}") for number in range(PICTURES)]

    event = event_of(trigger(*generation_ids, poll_interval=0.2))

    assert event["reason"] == "finished"
    assert set(event["generation_ids"]["completed"]) == set(generation_ids)
    assert emulator.books()["requests"]["most_at_once"] <= MOST_WORKERS
    assert relay.accepted < MANY


def test_who_comes_while_others_wait_uses_their_client(
    emulator, use_connection, submit, trigger, events_of, until
):
    # With the connection gone, only a client that is already there can answer.
    emulator.fault("generation:takes=0.6;match=slow")
    slow, others = submit("slow"), [submit(f"quick {number}") for number in range(20)]

    async def scenario():
        first = asyncio.create_task(events_of(trigger(slow)))
        await until(lambda: polls(emulator) > 0)
        use_connection(None)
        return await asyncio.gather(first, *(events_of(trigger(each)) for each in others))

    events = asyncio.run(scenario())

    assert [event["reason"] for (event,) in events] == ["finished"] * 21


def test_connections_by_different_names_have_clients_of_their_own(
    emulator, use_connection, submit, trigger, event_of, events_of
):
    emulator.settings(keys=["sk-emulator", "sk-colleague"])
    use_connection(emulator.url, key="sk-colleague", conn_id="colleague")
    mine, theirs = submit(), submit(key="sk-colleague")

    async def scenario():
        return await asyncio.gather(
            events_of(trigger(mine)), events_of(trigger(theirs, gpt_image_conn_id="colleague"))
        )

    events = asyncio.run(scenario())

    assert [event["generation_ids"] for (event,) in events] == [
        {"completed": [mine]},
        {"completed": [theirs]},
    ]


def test_the_last_one_out_closes_the_client(relay, submit, trigger, events_of, until):
    generation_ids = [submit(f"picture {number}") for number in range(5)]
    seen = []

    async def scenario():
        await asyncio.gather(*(events_of(trigger(each)) for each in generation_ids))
        seen.append(relay.accepted)
        await until(lambda: relay.open == 0)

    asyncio.run(scenario())
    # What was left open is said when it is collected, and pytest takes that for an error.
    gc.collect()

    assert seen[0] > 0


def test_after_the_last_one_left_the_connection_is_read_anew(
    emulator, use_connection, submit, trigger, events_of
):
    emulator.settings(keys=["sk-emulator", "sk-colleague"])
    mine, theirs = submit(), submit(key="sk-colleague")

    async def scenario():
        before = await events_of(trigger(mine))
        use_connection(emulator.url, key="sk-colleague")
        return before, await events_of(trigger(theirs))

    before, after = asyncio.run(scenario())

    assert before[0]["generation_ids"] == {"completed": [mine]}
    assert after[0]["generation_ids"] == {"completed": [theirs]}


def test_two_loops_one_after_the_other_work_in_one_process(submit, trigger, event_of):
    # As dag.test() does it: a client kept from a closed loop would say "Event loop is closed".
    generation_ids = [submit(), submit(), submit()]

    events = [event_of(trigger(each)) for each in generation_ids]

    assert [event["generation_ids"] for event in events] == [{"completed": [each]} for each in generation_ids]


def test_a_loop_that_was_killed_in_the_middle_leaves_nothing_behind(
    emulator, submit, trigger, events_of, event_of, until
):
    emulator.fault("generation:never;match=for ever")
    never, quick = submit("for ever"), submit("a red bicycle")

    async def abandoned():
        waiting = asyncio.create_task(events_of(trigger(never)))
        await until(lambda: polls(emulator) > 0)
        return waiting

    asyncio.run(abandoned())
    event = event_of(trigger(quick))

    assert event["generation_ids"] == {"completed": [quick]}


def test_two_loops_at_the_same_time_have_a_client_each(submit, trigger, event_of):
    generation_ids = [submit(), submit()]
    events = {}

    def wait(generation_id):
        events[generation_id] = event_of(trigger(generation_id))

    threads = [threading.Thread(target=wait, args=(each,)) for each in generation_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert {each: events[each]["generation_ids"] for each in generation_ids} == {
        each: {"completed": [each]} for each in generation_ids
    }


def test_cancelling_one_leaves_the_others_waiting(emulator, submit, trigger, events_of, until):
    emulator.fault("generation:takes=0.5;match=slow")
    first, *others = [submit(f"slow {number}") for number in range(4)]

    async def scenario():
        cancelled = asyncio.create_task(events_of(trigger(first)))
        waiting = [asyncio.create_task(events_of(trigger(each))) for each in others]
        await until(lambda: polls(emulator) >= 4)
        cancelled.cancel()
        return await asyncio.gather(cancelled, *waiting, return_exceptions=True)

    ended, *events = asyncio.run(scenario())

    assert isinstance(ended, asyncio.CancelledError)
    assert [event["generation_ids"] for (event,) in events] == [{"completed": [each]} for each in others]


def test_cancelling_the_one_that_opens_the_client_leaves_the_others_waiting(submit, trigger, events_of):
    first, *others = [submit(f"picture {number}") for number in range(4)]

    async def scenario(turns):
        opening = asyncio.create_task(events_of(trigger(first)))
        waiting = [asyncio.create_task(events_of(trigger(each))) for each in others]
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        return await asyncio.gather(opening, *waiting, return_exceptions=True)

    # Wherever in its opening the cancellation meets it.
    outcomes = [asyncio.run(scenario(turns)) for turns in range(8)]

    for _, *events in outcomes:
        assert [event["generation_ids"] for (event,) in events] == [{"completed": [each]} for each in others]


def test_a_client_that_was_refused_is_not_given_to_the_next_one(
    emulator, use_connection, submit, trigger, events_of, until
):
    # A key was changed while somebody's look was still under way with the old one.
    emulator.settings(keys=["sk-emulator", "sk-new"])
    slow, refused, fresh = submit("slow"), submit("refused"), submit("fresh", key="sk-new")
    emulator.fault("get:late=3;match=slow")
    emulator.fault("get:invalid_api_key*1;match=refused")

    async def scenario():
        waiting = asyncio.create_task(events_of(trigger(slow)))
        await until(lambda: polls(emulator) > 0)
        ended = await events_of(trigger(refused))
        use_connection(emulator.url, key="sk-new")
        new = await events_of(trigger(fresh))
        still_waiting = not waiting.done()
        return ended, new, still_waiting, await waiting

    ended, new, still_waiting, waited = asyncio.run(scenario())

    assert ended[0]["reason"] == "error"
    assert new[0]["generation_ids"] == {"completed": [fresh]}
    assert still_waiting
    assert waited[0]["generation_ids"] == {"completed": [slow]}


def test_a_key_that_is_changed_while_it_waits_does_not_end_the_wait(
    emulator, use_connection, submit, trigger, events_of, until
):
    emulator.fault("generation:takes=1;match=slow")
    slow = submit("slow")

    async def scenario():
        waiting = asyncio.create_task(events_of(trigger(slow)))
        await until(lambda: polls(emulator) > 0)
        # To the emulator another key is another account, so another setting stands for it here.
        use_connection(emulator.url, extra={"read_timeout": 30})
        emulator.fault("get:invalid_api_key*1;match=slow")
        return await waiting

    (event,) = asyncio.run(scenario())

    assert event["generation_ids"] == {"completed": [slow]}


def test_a_connection_that_nobody_answers_at_holds_up_no_wait_over_another_one(
    emulator, use_connection, submit, trigger, events_of, until
):
    use_connection("http://127.0.0.1:9", conn_id="dead")
    generation_id = submit()

    async def scenario():
        dead = [
            asyncio.create_task(events_of(trigger(f"lost-{number}", seconds=3600, gpt_image_conn_id="dead")))
            for number in range(2 * MOST_AT_ONCE)
        ]
        await asyncio.sleep(0)
        event = await asyncio.wait_for(events_of(trigger(generation_id)), 120)
        going_on = [each for each in dead if not each.done()]
        for each in dead:
            each.cancel()
        await asyncio.gather(*dead, return_exceptions=True)
        return event, len(going_on)

    (event,), going_on = asyncio.run(scenario())

    assert event["generation_ids"] == {"completed": [generation_id]}
    assert going_on == 2 * MOST_AT_ONCE


def test_a_connection_that_could_not_be_read_is_read_again_by_the_next_one(
    emulator, use_connection, submit, trigger, events_of
):
    generation_id = submit()

    async def scenario():
        use_connection(None)
        before = await events_of(trigger(generation_id))
        use_connection(emulator.url)
        return before, await events_of(trigger(generation_id))

    before, after = asyncio.run(scenario())

    assert before[0]["reason"] == "error"
    assert after[0]["generation_ids"] == {"completed": [generation_id]}


def test_a_refused_key_is_not_tried_for_every_single_id(emulator, use_connection, trigger, event_of):
    # Each would be refused alike, and be a line in the task's log.
    use_connection(emulator.url, key="sk-nobody-has-this-one")
    ids = [f"generation-{number}" for number in range(MANY)]

    event = event_of(trigger(*ids))

    assert event["reason"] == "error"
    assert polls(emulator) <= MOST_AT_ONCE
