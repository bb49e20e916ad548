"""What one response says for all: a Retry-After holds every poll, an outage spreads them; nobody is lost."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from tests.raw_server import RawServer, http

MOST_AT_ONCE = 16
MANY = 100
HELD = 1


class Refusing:
    """Refuses the first poll for the rate, and answers all others that they are completed."""

    def __init__(self, retry_after):
        self.retry_after = retry_after
        self.refused_at = None
        self.polled_at = []
        self._lock = threading.Lock()

    def __call__(self, connection, server):
        generation_id = server.ask(connection).split()[1].decode().rpartition("/")[2]
        with self._lock:
            first = self.refused_at is None
            if first:
                self.refused_at = time.monotonic()
            else:
                self.polled_at.append(time.monotonic())
        if first:
            error = {"error": {"code": "rate_limit_exceeded", "message": "slow", "type": "rate_limit_error"}}
            connection.sendall(http(429, json.dumps(error).encode(), retry_after=self.retry_after))
            return
        # Not at once: the refusal has arrived before these have.
        server.done.wait(0.2)
        done = {"id": generation_id, "status": "completed", "output": {"urls": ["https://h/"]}}
        connection.sendall(http(200, json.dumps(done).encode()))


@pytest.fixture
def refusing(use_connection):
    servers = []

    def start(retry_after):
        behave = Refusing(retry_after)
        servers.append(RawServer(behave))
        use_connection(servers[-1].url, extra={"verify": False})
        return behave

    yield start
    for server in servers:
        server.close()


def test_a_retry_after_holds_the_polls_of_all(refusing, trigger, event_of):
    api = refusing(HELD)

    event = event_of(trigger(*(f"generation-{number}" for number in range(MANY)), seconds=120))

    assert len(event["generation_ids"]["completed"]) == MANY
    meanwhile = [at for at in api.polled_at if at < api.refused_at + HELD]
    # Those that were under way when the refusal came.
    assert len(meanwhile) < MOST_AT_ONCE
    assert len(api.polled_at) == MANY


def test_a_wait_that_ends_before_a_retry_after_does_is_polled_at_its_deadline(refusing, trigger, events_of):
    refusing(3600)

    async def scenario():
        ids = [f"generation-{number}" for number in range(MANY)]
        return await asyncio.wait_for(events_of(trigger(*ids, seconds=1.0)), 120)

    (event,) = asyncio.run(scenario())

    assert event["reason"] == "finished"
    assert len(event["generation_ids"]["completed"]) == MANY


def test_an_outage_loses_nobody(emulator, submit, trigger, event_of):
    ids = [submit(f"picture {number}") for number in range(MANY)]
    emulator.fault("get:internal_error*80")

    event = event_of(trigger(*ids, seconds=300))

    assert event["reason"] == "finished"
    assert sorted(event["generation_ids"]["completed"]) == sorted(ids)
