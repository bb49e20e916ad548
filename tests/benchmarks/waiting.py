"""What waiting costs: our trigger beside the http provider's and beside one shared client, in one run.

N generations are submitted in the same moment and take 10 to 30 s. Each wait's first poll comes at random
within one ``poll_interval`` (5 s), as when tasks defer one after the other. The API is a process of its own,
and every contestant is a fresh one. Of ours the second N are shown, too: by then durations are known.
What is said on the loop between two heartbeats is its lag; what these themselves cost is not counted.
WAITING="100 1000 10000" says how many.

Not measured here: the openai provider's trigger, which isn't installed for development; the real triggerer;
an API that takes its time to answer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

import psutil

from tests.benchmarks.waiting_api import ends_at, id_of

MANY = os.environ.get("WAITING", "100 1000")
POLL_INTERVAL = 5.0
SHORTEST, LONGEST = 10.0, 30.0
OURS = "GptImageTrigger"
OVER_HTTPX = "GptImageTrigger without aiohttp"
CONTESTANTS = (OURS, OVER_HTTPX, "HttpTrigger, every 5 s", "one httpx client", "one aiohttp session")
KEY = "sk-benchmark"

Wait = Callable[[str, float], Awaitable[None]]


def main() -> None:
    """Print the figures as a Markdown table."""
    print("### Waiting for generations of 10 to 30 s, polled every 5 s\n")
    print(
        "| waits | how | CPU s | connections | requests | found p50 / p95 / last s | RSS + MB | lag p99 ms |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    command = [sys.executable, "-m", "tests.benchmarks.waiting_api"]
    for many in MANY.split():
        for contestant in CONTESTANTS:
            api = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                assert api.stdout is not None
                address = f"http://127.0.0.1:{int(api.stdout.readline())}"
                _contest(contestant, int(many), address)
            finally:
                api.terminate()
                api.communicate(timeout=10)


def _contest(contestant: str, many: int, address: str) -> None:
    ours = {"conn_type": "gpt_image", "password": KEY, "host": address}
    http = {"conn_type": "http", "host": address, "password": KEY}
    done = subprocess.run(
        [sys.executable, "-m", __name__, contestant, str(many), address],
        env={
            **os.environ,
            "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": json.dumps(ours),
            "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(http),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("| "):
            print(line, flush=True)


# --- in the contestant's process


async def compete(contestant: str, many: int, address: str) -> None:
    """Wait for ``many`` generations, and print a line of the table."""
    wait, close = await _contestant(contestant, address)
    # What is imported and read once isn't the price of waiting.
    await wait(id_of(0, time.time() - 100, 20.0), 0.0)
    rounds = ("durations unknown", "durations known") if contestant.startswith(OURS) else ("",)
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
        lagging = quantiles(lags, n=100)[98] * 1000
        p = quantiles(detected, n=20)
        label = f"{contestant}, {name}" if name else contestant
        print(
            f"| {many:,} | {label} | {cpu:.1f} | {after['connections'] - before['connections']:,} "
            f"| {after['requests'] - before['requests']:,} | {p[9]:.1f} / {p[18]:.1f} / {max(detected):.1f} "
            f"| {(max(most) - began) / 2**20:.1f} | {lagging:.0f} |",
            flush=True,
        )
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


if __name__ == "__main__":
    asyncio.run(compete(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
