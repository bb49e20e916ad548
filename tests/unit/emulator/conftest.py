"""One emulator for all tests here, over a real socket, with a clock that only moves when a test moves it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from airflow_gpt_image.emulator import EmulatorServer

START = 1_775_383_908.25
DURATION = 10.0


class Clock:
    """Seconds since 1970, as many as the test says."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(scope="session")
def session_clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def session_emulator(session_clock: Clock) -> Iterator[EmulatorServer]:
    with EmulatorServer(
        keys=("sk-emulator", "sk-colleague"), credits=100, duration=DURATION, now=session_clock
    ) as emulator:
        yield emulator


@pytest.fixture
def clock(session_clock: Clock) -> Clock:
    session_clock.time = START
    return session_clock


@pytest.fixture
def emulator(session_emulator: EmulatorServer, clock: Clock) -> EmulatorServer:
    session_emulator.reset()
    return session_emulator


@pytest.fixture(scope="session")
def session_client(session_emulator: EmulatorServer) -> Iterator[httpx.Client]:
    # One for all tests: each new client reads the machine's certificates, 30 ms.
    with httpx.Client(base_url=session_emulator.url, trust_env=False) as client:
        yield client


@pytest.fixture
def anonymous(emulator: EmulatorServer, session_client: httpx.Client) -> httpx.Client:
    """A client without a key."""
    return session_client


@pytest.fixture(scope="session")
def session_api(session_emulator: EmulatorServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {session_emulator.key}"}
    with httpx.Client(base_url=session_emulator.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def api(emulator: EmulatorServer, session_api: httpx.Client) -> httpx.Client:
    """A client with a key, as patient as a test can be."""
    session_api.timeout = httpx.Timeout(5)
    return session_api


@pytest.fixture
def submit(api: httpx.Client) -> Callable[..., httpx.Response]:
    """Submit a prompt; further arguments go into ``input``, ``callback_url`` where it belongs."""

    def submit(
        prompt: str = "a red bicycle", *, callback_url: str | None = None, **inputs: Any
    ) -> httpx.Response:
        body: dict[str, Any] = {"model": "gpt-image-2", "input": {"prompt": prompt, **inputs}}
        if callback_url is not None:
            body["callback_url"] = callback_url
        return api.post("/v1/images/generations", json=body)

    return submit


@pytest.fixture
def submitted(submit: Callable[..., httpx.Response]) -> Callable[..., str]:
    """Submit, and give the id that came back."""

    def submitted(prompt: str = "a red bicycle", **options: Any) -> str:
        answer = submit(prompt, **options)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["taskId"])

    return submitted


@pytest.fixture
def get(api: httpx.Client) -> Callable[[str], httpx.Response]:
    return lambda generation_id: api.get(f"/v1/tasks/{generation_id}")


@pytest.fixture
def completed(submitted: Callable[..., str], clock: Clock) -> Callable[..., str]:
    """Submit, and move the clock to where it is completed."""

    def completed(prompt: str = "a red bicycle", **options: Any) -> str:
        generation_id = submitted(prompt, **options)
        clock.advance(DURATION)
        return generation_id

    return completed


@pytest.fixture
def image(completed: Callable[..., str], get: Callable[[str], httpx.Response]) -> Callable[..., str]:
    """Submit, complete, and give the address of the image."""

    def image(prompt: str = "a red bicycle", **options: Any) -> str:
        return str(get(completed(prompt, **options)).json()["output"]["urls"][0])

    return image


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait, with a bound, until a condition holds."""

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it didn't happen within 5 s"
            time.sleep(0.01)

    return until


_READ = {"get": "/v1/tasks/{}", "credits": "/v1/credits", "file": "/files/images/{}.png"}


@pytest.fixture
def read(completed: Callable[..., str], api: httpx.Client) -> Callable[[str], httpx.Response]:
    """Read from a place of the fault language, of one generation that is completed."""
    generation_id = completed()
    return lambda place: api.get(_READ[place].format(generation_id))
