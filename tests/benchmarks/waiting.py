"""What waiting costs: our trigger beside the http provider's and beside one shared client, in one run.

N generations are submitted in the same moment and take 10 to 30 s. Each wait's first poll comes at random
within one ``poll_interval`` (5 s), as when tasks defer one after the other. The API is a process of its own,
and every contestant is a fresh one. Of ours the second N are shown, too: by then durations are known.
What passes on the loop between two heartbeats is its lag; what these themselves cost is not counted.

``WAITING="100 1000 1000@0.15"`` says how many, and how many seconds the API takes to answer (default: none).
``WAITING_CONTESTANTS=GptImageTrigger`` leaves out those whose names don't contain that.

The openai provider's trigger is beside them where that provider is installed. It has an interval between its
polls, too, but of a batch of its own API, and looks up nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from signal import SIGKILL
from statistics import quantiles

import psutil

from tests.benchmarks.waiting_api import ends_at, id_of

MANY = os.environ.get("WAITING", "100 1000 1000@0.15 10000")
POLL_INTERVAL = 5.0
# Seconds. A contestant that can't keep up takes ever longer.
LIMIT = 600.0
SHORTEST, LONGEST = 10.0, 30.0
OURS = "GptImageTrigger"
OVER_HTTPX = "GptImageTrigger without aiohttp"
HTTP, OPENAI = "HttpTrigger, every 5 s", "OpenAIBatchTrigger, every 5 s"
CONTESTANTS = (OURS, OVER_HTTPX, HTTP, OPENAI, "one httpx client", "one aiohttp session")
CHOSEN = os.environ.get("WAITING_CONTESTANTS", "")
UNKNOWN, KNOWN = "durations unknown", "durations known"
KEY = "sk-benchmark"
FIGURES = "figures: "

Wait = Callable[[str, float], Awaitable[None]]


@dataclass(frozen=True)
class Figures:
    """What one round of one contestant cost.

    :param rss: MB that the process grew by.
    :param lag: milliseconds.
    """

    label: str
    cpu: float
    connections: int
    requests: int
    p50: float
    p95: float
    last: float
    rss: float
    lag: float

    def row(self, many: int) -> str:
        return (
            f"| {many:,} | {self.label} | {self.cpu:.1f} | {self.connections:,} | {self.requests:,} "
            f"| {self.p50:.1f} / {self.p95:.1f} / {self.last:.1f} | {self.rss:.1f} | {self.lag:.0f} |"
        )


def main() -> None:
    """Print the figures as Markdown tables, and the goals beside them."""
    chosen = [each for each in CONTESTANTS if CHOSEN in each]
    if find_spec("airflow.providers.openai") is None:
        chosen = [each for each in chosen if each != OPENAI]
    for case in MANY.split():
        many, _, takes = case.partition("@")
        _compare(chosen, int(many), float(takes or 0))


def _compare(contestants: list[str], many: int, takes: float) -> None:
    answers = f"after {takes:g} s" if takes else "at once"
    print(f"### {many:,} waits for generations of 10 to 30 s, polled every 5 s; the API answers {answers}\n")
    print(
        "| waits | how | CPU s | connections | requests | found p50 / p95 / last s | RSS + MB | lag p99 ms |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    found: dict[str, Figures] = {}
    for contestant in contestants:
        command = [sys.executable, "-m", "tests.benchmarks.waiting_api", str(takes)]
        api = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert api.stdout is not None
            address = f"http://127.0.0.1:{int(api.stdout.readline())}"
            for figures in _contest(contestant, many, address):
                found[figures.label] = figures
                print(figures.row(many), flush=True)
        finally:
            api.terminate()
            api.communicate(timeout=10)
    _goals(found, many)


def _goals(found: dict[str, Figures], many: int) -> None:
    ours, over_httpx = found.get(f"{OURS}, {KNOWN}"), found.get(f"{OVER_HTTPX}, {KNOWN}")
    http = found.get(HTTP)
    if ours is None:
        return
    goals: list[tuple[str, float, float]] = []
    if http is not None:
        goals.append(("CPU, in that of HttpTrigger", 0.25, ours.cpu / http.cpu))
        if over_httpx is not None:
            goals.append(("the same without aiohttp", 0.8, over_httpx.cpu / http.cpu))
        goals.append(("requests, in those of HttpTrigger", 1.0, ours.requests / http.requests))
    goals.append(("connections", 20, ours.connections))
    goals.append(("found p50, s", 1.3, ours.p50))
    goals.append(("found p95, s", 3.6, ours.p95))
    if many >= 10_000:
        goals = [("last found, s late", 10, ours.last)]
    goals.append(("loop lag p99, ms", 100, ours.lag))
    goals.append(("growth of RSS, MB", 60, max(found[each].rss for each in found if each.startswith(OURS))))
    print(f"\n| goal (of {OURS}, {KNOWN}) | at most | is | |\n|---|--:|--:|---|")
    for name, most, value in goals:
        print(f"| {name} | {most:g} | {value:.2f} | {'met' if value <= most else 'not met'} |")
    print(flush=True)


def _contest(contestant: str, many: int, address: str) -> Iterator[Figures]:
    ours = {"conn_type": "gpt_image", "password": KEY, "host": address}
    http = {"conn_type": "http", "host": address, "password": KEY}
    openai = {"conn_type": "openai", "password": KEY, "host": f"{address}/v1"}
    command = [sys.executable, "-m", __name__, contestant, str(many), address]
    connections = {"GPT_IMAGE": ours, "HTTP": http, "OPENAI": openai}
    environment = {f"AIRFLOW_CONN_{name}_DEFAULT": json.dumps(each) for name, each in connections.items()}
    done = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    overdue = threading.Timer(LIMIT, done.kill)
    overdue.start()
    try:
        for line in done.stdout:
            if line.startswith(FIGURES):
                yield Figures(**json.loads(line.removeprefix(FIGURES)))
    finally:
        overdue.cancel()
    if (code := done.wait()) == -SIGKILL and not contestant.startswith(OURS):
        print(f"| {many:,} | {contestant} | not over after {LIMIT:.0f} s | | | | | |", flush=True)
    elif code:
        raise SystemExit(f"{contestant} failed.")


# --- in the contestant's process


async def compete(contestant: str, many: int, address: str) -> None:
    """Wait for ``many`` generations, and print the figures."""
    wait, close = await _contestant(contestant, address)
    # What is imported and read once isn't the price of waiting.
    await wait(id_of(0, time.time() - 100, 20.0), 0.0)
    rounds = (UNKNOWN, KNOWN) if contestant.startswith(OURS) else ("",)
    measuring = await _cost_of_measuring()
    for name in rounds:
        gc.collect()
        process = psutil.Process()
        before, began = _stats(address), process.memory_info().rss
        cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
        lags: list[float] = []
        most = [began]
        heart = asyncio.create_task(_beat(lags, most, process))
        detected = await _wait_for_all(wait, many)
        heart.cancel()
        cpu = sum(process.cpu_times()[:2]) - cpu - measuring * (time.monotonic() - started)
        after = _stats(address)
        p = quantiles(detected, n=20)
        figures = Figures(
            label=f"{contestant}, {name}" if name else contestant,
            cpu=cpu,
            connections=after["connections"] - before["connections"],
            requests=after["requests"] - before["requests"],
            p50=p[9],
            p95=p[18],
            last=max(detected),
            rss=(max(most) - began) / 1e6,
            lag=quantiles(lags, n=100)[98] * 1000,
        )
        print(FIGURES + json.dumps(asdict(figures)), flush=True)
    await close()


async def _cost_of_measuring() -> float:
    """Return the CPU seconds that the heartbeat costs in a second in which nothing else happens."""
    process = psutil.Process()
    cpu = sum(process.cpu_times()[:2])
    heart = asyncio.create_task(_beat([], [0], process))
    await asyncio.sleep(5)
    heart.cancel()
    return (sum(process.cpu_times()[:2]) - cpu) / 5


async def _wait_for_all(wait: Wait, many: int) -> list[float]:
    dice = random.Random(13)
    begins = time.time()
    ids = [id_of(number, begins, dice.uniform(SHORTEST, LONGEST)) for number in range(many)]
    detected: list[float] = []

    async def one(generation_id: str, first: float) -> None:
        await wait(generation_id, begins + first)
        detected.append(time.time() - ends_at(generation_id))

    await asyncio.gather(*(one(each, dice.uniform(0, POLL_INTERVAL)) for each in ids))
    if len(detected) != many or min(detected) < 0:
        raise SystemExit(f"{many} waits, {len(detected)} detected, the first after {min(detected)} s.")
    return detected


async def _beat(lags: list[float], most: list[int], process: psutil.Process) -> None:
    last, beats = time.perf_counter(), 0
    while True:
        await asyncio.sleep(0.01)
        now = time.perf_counter()
        lags.append(max(0.0, now - last - 0.01))
        last, beats = now, beats + 1
        if beats % 20 == 0:
            most.append(process.memory_info().rss)


def _stats(address: str) -> dict[str, int]:
    import urllib.request

    with urllib.request.urlopen(f"{address}/stats", timeout=60) as response:
        stats: dict[str, int] = json.load(response)
        return stats


async def _contestant(contestant: str, address: str) -> tuple[Wait, Callable[[], Awaitable[None]]]:
    if contestant == OVER_HTTPX:
        # As where it isn't installed.
        sys.modules["aiohttp"] = None  # type: ignore[assignment]
    if contestant.startswith(OURS):
        return _ours, _nothing
    if contestant.startswith("HttpTrigger"):
        return _http_trigger, _nothing
    if contestant == OPENAI:
        return _openai_trigger, _nothing
    path = f"{address}/v1/tasks/"
    headers = {"authorization": f"Bearer {KEY}"}
    if "httpx" in contestant:
        import httpx

        client = httpx.AsyncClient(headers=headers)

        async def by_httpx(generation_id: str) -> bool:
            return bool((await client.get(path + generation_id)).json()["status"] == "completed")

        return _every_interval(by_httpx), client.aclose
    import aiohttp

    session = aiohttp.ClientSession(headers=headers)

    async def by_aiohttp(generation_id: str) -> bool:
        async with session.get(path + generation_id) as response:
            return bool((await response.json())["status"] == "completed")

    return _every_interval(by_aiohttp), session.close


async def _nothing() -> None:
    pass


def _every_interval(finished: Callable[[str], Awaitable[bool]]) -> Wait:
    async def wait(generation_id: str, first: float) -> None:
        await asyncio.sleep(max(0.0, first - time.time()))
        while not await finished(generation_id):  # noqa: ASYNC110 - what is measured
            await asyncio.sleep(POLL_INTERVAL)

    return wait


async def _ours(generation_id: str, first: float) -> None:
    from airflow_gpt_image.triggers.gpt_image import GptImageTrigger

    trigger = GptImageTrigger(
        gpt_image_conn_id="gpt_image_default",
        generation_ids=[generation_id],
        deadline=time.time() + 600,
        poll_interval=POLL_INTERVAL,
        first_poll_at=first,
    )
    async for event in trigger.run():
        assert event.payload["reason"] == "finished", event.payload


async def _http_trigger(generation_id: str, first: float) -> None:
    from airflow.providers.http.triggers.http import HttpResponseSerializer, HttpTrigger

    async def finished(generation_id: str) -> bool:
        trigger = HttpTrigger(http_conn_id="http_default", method="GET", endpoint=f"v1/tasks/{generation_id}")
        events = [event async for event in trigger.run()]
        response = HttpResponseSerializer.deserialize(events[0].payload["response"])
        return bool(response.json()["status"] == "completed")

    await _every_interval(finished)(generation_id, first)


async def _openai_trigger(generation_id: str, first: float) -> None:
    from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

    await asyncio.sleep(max(0.0, first - time.time()))
    trigger = OpenAIBatchTrigger(
        conn_id="openai_default",
        batch_id=generation_id,
        poll_interval=POLL_INTERVAL,
        timeout=600,
    )
    async for event in trigger.run():
        assert event.payload["status"] == "success", event.payload


if __name__ == "__main__":
    asyncio.run(compete(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
