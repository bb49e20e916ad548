"""Polls that drip end, and hold up nobody else's wait: over another connection, or over their own."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.raw_server import RawServer, http

MOST_AT_ONCE = 16


def behave(connection, server):
    """Answer that a generation is completed; of one whose name says so, with a header that never ends."""
    generation_id = server.ask(connection).split()[1].decode().rpartition("/")[2]
    if not generation_id.startswith("drip"):
        done = {"id": generation_id, "status": "completed", "output": {"urls": ["https://h/"]}}
        connection.sendall(http(200, json.dumps(done).encode()))
        return
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-more: ")
    while not server.done.wait(0.1):
        connection.sendall(b"x")


@pytest.fixture
def dripping():
    server = RawServer(behave)
    yield server
    server.close()


def extra(**more):
    return {"verify": False, "read_timeout": 0.5, **more}


@pytest.mark.parametrize("conn_id", ["gpt_image_default", "another"])
def test_polls_that_drip_hold_up_no_other_wait(dripping, use_connection, trigger, events_of, until, conn_id):
    use_connection(dripping.url, extra=extra())
    use_connection(dripping.url, conn_id="another", extra=extra())

    async def scenario():
        drips = [
            asyncio.create_task(events_of(trigger(f"drip-{number}", seconds=3600)))
            for number in range(2 * MOST_AT_ONCE)
        ]
        await until(lambda: dripping.connections >= MOST_AT_ONCE, seconds=120)
        event = await asyncio.wait_for(
            events_of(trigger("quick", seconds=3600, gpt_image_conn_id=conn_id)), 120
        )
        going_on = [drip for drip in drips if not drip.done()]
        for drip in drips:
            drip.cancel()
        await asyncio.gather(*drips, return_exceptions=True)
        return event, len(going_on)

    (event,), going_on = asyncio.run(scenario())

    assert event["generation_ids"] == {"completed": ["quick"]}
    assert going_on == 2 * MOST_AT_ONCE


def test_a_wait_for_what_drips_ends_at_its_deadline(dripping, use_connection, trigger, event_of):
    use_connection(dripping.url, extra=extra())

    event = event_of(trigger(*(f"drip-{number}" for number in range(2 * MOST_AT_ONCE)), seconds=0.2))

    assert event["reason"] == "deadline"
