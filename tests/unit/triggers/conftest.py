"""What the triggers' tests share: the emulator, a counting relay before it, generations, quick waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import pytest

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.triggers.gpt_image import GptImageTrigger

CONN_ID = "gpt_image_default"


@pytest.fixture
def use_connection(monkeypatch):
    """Puts a connection into the environment, as Airflow reads it; without a host, takes it away."""

    def use(host=None, key="sk-emulator", conn_id=CONN_ID, **fields):
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        if host is None:
            monkeypatch.delenv(name)
        else:
            given = {"conn_type": "gpt_image", "password": key, "host": host, **fields}
            monkeypatch.setenv(name, json.dumps(given))

    return use


@pytest.fixture
def emulator(gpt_image_emulator, use_connection):
    """The emulated API, and the default connection to it."""
    use_connection(gpt_image_emulator.url)
    return gpt_image_emulator


@pytest.fixture
def submit(emulator):
    """Submits a prompt; the generation id."""
    with contextlib.ExitStack() as stack:
        clients = {}

        def submit(prompt="a red bicycle", key="sk-emulator"):
            if key not in clients:
                clients[key] = stack.enter_context(GptImageClient(api_key=key, base_url=emulator.url))
            return clients[key].submit(ImageRequest(prompt=prompt))

        yield submit


def trigger(*generation_ids, seconds=30.0, **changes):
    """A trigger that looks at once and often."""
    given = {
        "gpt_image_conn_id": CONN_ID,
        "generation_ids": generation_ids,
        "deadline": time.time() + seconds,
        "poll_interval": 0.05,
        "first_poll_at": 0.0,
        **changes,
    }
    return GptImageTrigger(**given)


@pytest.fixture(name="trigger")
def _trigger():
    return trigger


async def events_of(waiting):
    """All events of a trigger, as the triggerer would take them."""
    return [event.payload async for event in waiting.run()]


@pytest.fixture(name="events_of")
def _events_of():
    return events_of


@pytest.fixture
def event_of():
    """Runs one trigger on a loop of its own; its only event."""

    def run(waiting):
        events = asyncio.run(events_of(waiting))
        assert len(events) == 1
        return events[0]

    return run


class Relay:
    """Passes TCP connections on to the API, and counts them: how many there were, how many are open."""

    def __init__(self, port):
        self.accepted, self.open = 0, 0
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _pass_on(self, reader, writer):
        self.accepted += 1
        self.open += 1
        ends = [writer]
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
            ends.append(there_writer)
            await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
        except asyncio.CancelledError:
            for end in ends:
                end.transport.abort()
            raise
        finally:
            self.open -= 1

    def close(self):
        async def end():
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            # What was aborted is closed in the loop's next turn, which must still come.
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def relay(emulator, use_connection):
    """Stands before the emulator; the default connection leads through it."""
    between = Relay(int(emulator.url.rpartition(":")[2]))
    use_connection(between.url)
    yield between
    between.close()


@pytest.fixture
def until():
    """Waits until something holds that another thread or task brings about."""

    async def until(holds, seconds=5.0):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            await asyncio.sleep(0.01)

    return until
