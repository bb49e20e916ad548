"""10,000 prompts in one task: what the rate limit allows, what is paid, what stays in memory.

The emulator takes 40 submits a second (looks don't count), a generation takes 10 to 30 s, 1 % of them fail,
2 % of the looks get no answer. The operator, its trigger and its second half run for real, in a process of
their own; only the task state store is a dict. Where the operator defers, the trigger runs in the same
process, which makes its memory look larger than a worker's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil

PROMPTS = int(os.environ.get("TEN_THOUSAND_PROMPTS", "10000"))
RATE_LIMIT = 40
# 40 a second that take 20 s each, and some seconds more until they are seen and stored.
IN_FLIGHT = 1_000
MOST_RSS_GROWTH = 150
LEAST_SHARE = 0.9


def main() -> None:
    """Print the figures as a Markdown table; raise when money or an image is lost."""
    command = [sys.executable, "-m", "airflow_gpt_image.emulator", "--port", "0", "--duration", "10-30"]
    command += ["--credits", "1000000", "--rate-limit", str(RATE_LIMIT), "--fail-rate", "0.01"]
    command += ["--fault", "get:close;share=0.02", "--log-level", "warning"]
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    home = Path(tempfile.mkdtemp(prefix="ten-thousand-"))
    try:
        assert emulator.stdout is not None
        url = emulator.stdout.readline().split()[-1]
        connection = {"conn_type": "gpt_image", "password": "sk-emulator", "host": url}
        worker = subprocess.run(
            [sys.executable, "-m", __name__, str(home)],
            env={**os.environ, "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": json.dumps(connection)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(worker.stdout.splitlines()[-1])
        books = httpx.get(f"{url}/_emulator/books", timeout=120).json()
        _print(told, books, home / "images")
    finally:
        emulator.terminate()
        emulator.communicate(timeout=10)
        shutil.rmtree(home, ignore_errors=True)


def _print(told: dict[str, Any], books: dict[str, Any], images: Path) -> None:
    charges = books["charges"]
    first: dict[str, float] = {}
    for charge in charges:
        first.setdefault(charge["request"]["prompt"], charge["submitted_at"])
    kept = Counter(charge["request"]["prompt"] for charge in charges if not charge["refunded"])
    # Until the last prompt was first submitted; what failed in the end is tried again after that.
    before_last = [charge for charge in charges if charge["submitted_at"] <= max(first.values())]
    seconds = max(first.values()) - min(first.values())
    share = (len(before_last) - 1) / seconds / RATE_LIMIT
    stored = len(list((images / "items").glob("*.png")))
    twice = sum(count - 1 for count in kept.values())
    rejected = books["requests"]["rejected"].get("rate_limit_exceeded", 0)
    print(f"### {PROMPTS:,} prompts in one task, {RATE_LIMIT} submits a second allowed\n")
    print("| | |\n|---|--:|")
    for name, value in {
        "from start to result": f"{told['wall']:.0f} s",
        "submits a second, of those allowed": f"{share:.1%}",
        "refused for the rate": f"{rejected:,} ({rejected / len(charges):.1%})",
        "submits accepted / failed and refunded": f"{len(charges):,} / {len(charges) - sum(kept.values()):,}",
        "images paid for twice / lost": f"{twice} / {PROMPTS - stored}",
        "looks at the API for each image": f"{books['requests']['poll'] / PROMPTS:.1f}",
        "CPU of the worker": f"{told['cpu']:.0f} s ({told['cpu'] / PROMPTS * 1000:.1f} ms for each image)",
        "growth of its memory (RSS)": f"{told['growth']:.0f} MB",
        "deferrals / largest trigger and event": f"{told['deferrals']} / {told['largest']:,} bytes",
    }.items():
        print(f"| {name} | {value} |")
    wrong = {
        "images paid for twice": twice,
        "prompts never paid for": PROMPTS - len(kept),
        "images lost": PROMPTS - stored,
        "the result's images": PROMPTS - told["result"]["stored"],
        "credits that the result and the books disagree about": float(told["result"]["charged"])
        - float(books["charged"]),
        "too slow": max(0.0, LEAST_SHARE - share),
        "too much memory": max(0.0, told["growth"] - MOST_RSS_GROWTH),
    }
    if any(wrong.values()):
        raise RuntimeError(f"Not as promised: { {name: value for name, value in wrong.items() if value} }")


class _Store:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.texts[key]) if key in self.texts else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.texts[key] = json.dumps(value)


def work(home: Path) -> None:
    """The worker's part: print its own figures as one line of JSON."""
    os.environ["AIRFLOW_HOME"] = str(home)
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_gpt_image.operators.batch import GptImageBatchOperator

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    store = _Store()
    ti = SimpleNamespace(
        id="bench",
        dag_id="bench",
        run_id="run",
        task_id="images",
        map_index=-1,
        max_tries=0,
        try_number=1,
        get_task_states=lambda dag_id, **asked: {},
    )
    context: Any = {"ti": ti, "task_state_store": store, "outlet_events": {}}

    def operator() -> GptImageBatchOperator:
        made = GptImageBatchOperator(
            task_id="images",
            requests=[
                {"prompt": f"A product photo of article {number}, front view, studio light", "sku": number}
                for number in range(PROMPTS)
            ],
            destination=str(home / "images"),
            max_in_flight=IN_FLIGHT,
        )
        made.render_template_fields(context)
        return made

    async def event(trigger: Any) -> Any:
        return (await anext(trigger.run())).payload

    # What every task has loaded, so that growth is what the work itself takes.
    from airflow_gpt_image.batch import attempt  # noqa: F401

    process, most, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not done.wait(0.5):
            most = max(most, process.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    began, deferrals, largest, used = time.monotonic(), 0, 0, _cpu()
    step = lambda: operator().execute(context)  # noqa: E731
    while True:
        try:
            result = step()
            break
        except TaskDeferred as deferral:
            deferrals += 1
            told = asyncio.run(event(deferral.trigger))
            sizes = [len(json.dumps(part)) for part in (deferral.trigger.serialize()[1], told)]
            largest = max(largest, *sizes)
            step = lambda told=told: operator().execute_complete(context, told)  # noqa: E731
    done.set()
    figures = {
        "result": result,
        "wall": time.monotonic() - began,
        "cpu": _cpu() - used,
        "growth": (max(most, process.memory_info().rss) - before) / 1e6,
        "deferrals": deferrals,
        "largest": largest,
    }
    print(json.dumps(figures))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    work(Path(sys.argv[1]))
