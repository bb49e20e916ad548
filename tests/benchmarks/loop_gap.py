"""How long waiting triggers hold up the triggerer's loop: a heartbeat's largest gap, beside an idle loop.

Airflow complains above 0.2 s. The first client of a process costs an import, so the first round stands apart.
Now and then Python's garbage collector looks at every object of the process, with all of Airflow among them;
the longest of its pauses is shown, too, for a gap may be one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import time
from statistics import median

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest

TRIGGERS = 200
ROUNDS = 5
SECONDS = 3.0


def main() -> None:
    """Print the gaps as a Markdown table."""
    command = [sys.executable, "-m", "airflow_gpt_image.emulator", "--port", "0", "--duration", "2-3"]
    command += ["--credits", "100000", "--log-level", "warning"]
    # In a process of its own, where its work can't hold up our loop.
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    logging.getLogger("airflow").setLevel(logging.WARNING)
    try:
        assert emulator.stdout is not None
        url = emulator.stdout.readline().split()[-1]
        os.environ["AIRFLOW_CONN_GPT_IMAGE_DEFAULT"] = (
            f'{{"conn_type": "gpt_image", "password": "sk-emulator", "host": "{url}"}}'
        )
        collections = _time_collections()
        first, *later = [asyncio.run(_largest_gap(_wait_for(_submitted(url)))) for _ in range(ROUNDS + 1)]
        idle = [asyncio.run(_largest_gap(asyncio.sleep(SECONDS))) for _ in range(ROUNDS)]
    finally:
        emulator.terminate()
        emulator.communicate(timeout=10)
    print(f"### The largest gap of a heartbeat while {TRIGGERS} triggers wait (of {ROUNDS} rounds)\n")
    print("| loop | median | largest |\n|---|--:|--:|")
    print(f"| with {TRIGGERS} triggers | {median(later) * 1000:.0f} ms | {max(later) * 1000:.0f} ms |")
    print(f"| idle | {median(idle) * 1000:.0f} ms | {max(idle) * 1000:.0f} ms |")
    print(f"\nThe longest pause of the garbage collector: {max(collections, default=0.0) * 1000:.0f} ms.")
    print(f"The first round of the process: {first * 1000:.0f} ms.")


def _submitted(url: str) -> list[str]:
    with GptImageClient(api_key="sk-emulator", base_url=url) as client:
        return [client.submit(ImageRequest(prompt=f"picture {number}")) for number in range(TRIGGERS)]


async def _wait_for(generation_ids: list[str]) -> None:
    from airflow_gpt_image.triggers.gpt_image import GptImageTrigger

    async def one(generation_id: str) -> None:
        trigger = GptImageTrigger(
            gpt_image_conn_id="gpt_image_default",
            generation_ids=[generation_id],
            deadline=time.time() + 60,
            poll_interval=0.5,
        )
        events = [event async for event in trigger.run()]
        assert events[0].payload["reason"] == "finished"

    await asyncio.gather(*(one(generation_id) for generation_id in generation_ids))


def _time_collections() -> list[float]:
    """Return the seconds that each garbage collection takes from now on; the list grows."""
    seconds: list[float] = []
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            seconds.append(time.perf_counter() - began)

    gc.callbacks.append(note)
    return seconds


async def _largest_gap(busy: object) -> float:
    largest = 0.0

    async def beat() -> None:
        nonlocal largest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            largest, last = max(largest, now - last), now

    heart = asyncio.create_task(beat())
    await busy  # type: ignore[misc]
    heart.cancel()
    return largest
