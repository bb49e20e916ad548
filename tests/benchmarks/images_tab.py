"""The Images tab of a batch of 10,000 images: finished and running, on a disk and on S3.

Airflow's own API server, with the plugin in it, answers in a process of its own; so does the S3 server. Cold
means that the server has seen neither the plan nor the manifest yet: both are written anew, for a process
that has answered for a small batch before. A figure is the median of several rounds: the time until the whole
answer is there and, in parentheses, the CPU of the API server.

``IMAGES_TAB_IMAGES=1000 IMAGES_TAB_ROUNDS=1`` makes it a small one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests.airflow_database import AirflowDatabase
from tests.large_batch import LargeBatch, pictures
from tests.measured_airflow import Cost, MeasuredAirflow, measured_airflow
from tests.object_store import CONN_ID, object_store

IMAGES = int(os.environ.get("IMAGES_TAB_IMAGES", "10000"))
ROUNDS = int(os.environ.get("IMAGES_TAB_ROUNDS", "5"))
RUN = "manual__2026-11-26T18:12:09+00:00"
TASK = "posters"
PAGE = 200
# A browser has as many connections to one server.
AT_ONCE = 6
# The page of a running batch asks so often.
INTERVAL = 3.0
LONGEST_GAP = 50

FIRST, WARM = "first page, cold", "first page, warm"
READ = "until the first page has all that is there, cold"
LAST, SORTED = "last page", "sorted by status"
BY_TEXT, BY_STATUS = "filter by text", "filter by status"
PANEL, STAGE = "panel of a tile, with its thumbnail", "its picture of 1,024 pixels, cold"
ONE, ONE_WARM = "one thumbnail, cold", "one thumbnail, warm"
MANY, MANY_WARM = (
    f"{PAGE} thumbnails, {AT_ONCE} at a time, cold",
    f"{PAGE} thumbnails, {AT_ONCE} at a time, warm",
)
LIVE, LIVE_NEW = "live, nothing new", f"live, {PAGE} new images"

# In milliseconds.
GOALS = {
    FIRST: 500, READ: None, WARM: 500, LAST: 500, SORTED: 200, BY_TEXT: 200, BY_STATUS: 200,
    LIVE: None, LIVE_NEW: None, PANEL: 100, STAGE: None, ONE: None, ONE_WARM: None,
    MANY: None, MANY_WARM: None,
}  # fmt: skip


@dataclass
class Subject:
    """A batch that is looked at, and what that has cost by now."""

    name: str
    dag_id: str
    batch: LargeBatch
    running: bool
    costs: defaultdict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))

    @property
    def place(self) -> str:
        return f"task/{self.dag_id}/{RUN}/{TASK}/-1"


def main() -> None:
    """Print the figures as a Markdown table, beside the goals."""
    home = Path(os.environ["AIRFLOW_HOME"])
    # Each batch has a bucket of its own: the tests' server looks at a bucket's every object to list a few.
    buckets = {kind: f"s3://{CONN_ID}@{kind}-pictures" for kind in ("small", "finished", "running")}
    with ExitStack() as stack:
        store = stack.enter_context(object_store())
        for bucket in buckets:
            store.client().create_bucket(Bucket=f"{bucket}-pictures")
        os.environ |= {
            f"AIRFLOW_CONN_{CONN_ID.upper()}": store.airflow_connection(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": ",".join([f"{home}/images", *buckets.values()]),
        }
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        made = list(pictures(20))
        places = {"disk": dict.fromkeys(buckets, f"{home}/images"), "S3": buckets}
        small = [_subject("small", place, roots["small"], 5, made) for place, roots in places.items()]
        subjects = [
            _subject(kind, place, roots[kind], IMAGES, made)
            for kind in ("finished", "running")
            for place, roots in places.items()
        ]
        airflow = stack.enter_context(measured_airflow())
        for subject in (*small, *subjects):
            _look(airflow, subject, made, rounds=ROUNDS if subject in subjects else 1)
    _print(subjects)


def _subject(kind: str, place: str, root: str, images: int, made: Sequence[bytes]) -> Subject:
    """Return a batch: whole, or half of it stored, a tenth under way, some failed and some without answer."""
    running = kind == "running"
    dag_id = f"{kind}_{place}_{images}"
    batch = LargeBatch(f"{root}/{dag_id}", images, dag_id=dag_id, run_id=RUN, task_id=TASK)
    batch.begin()
    stored = images // 2 if running else min(images, PAGE)
    batch.store(range(stored), lambda index: made[index % len(made)] if index < PAGE else None)
    names, database = (dag_id, RUN, TASK), AirflowDatabase()
    database.run(dag_id, RUN)
    operator = {"operator": "GptImageBatchOperator"}
    if running:
        ahead = range(stored, stored + images // 10)
        batch.submit(ahead[:-20])
        batch.fail(ahead[-20:-10])
        batch.lose(ahead[-10:])
        database.task(*names, **operator, state="deferred", kept=batch.task_state(), ended=None)
    else:
        batch.describe(range(stored, images))
        database.task(*names, **operator, result=batch.finish())
    return Subject(f"{kind}, {place}", dag_id, batch, running)


def _look(airflow: MeasuredAirflow, subject: Subject, made: Sequence[bytes], *, rounds: int) -> None:
    """Ask for everything, as often as there are rounds."""
    data = f"/gpt-image/data/{subject.place}"

    def ask(name: str, url: str, **headers: str) -> httpx.Response:
        with airflow.measure() as cost:
            answer = airflow.client.get(url, headers=headers)
        assert answer.status_code in (200, 304), answer.text[:300]
        subject.costs[name] += cost
        return answer

    for number in range(rounds):
        subject.batch.rewrite()
        ask(FIRST, f"/gpt-image/{subject.place}")
        subject.batch.rewrite()
        with airflow.measure() as cost:
            # A batch that is at work is read in the background where that takes long.
            while airflow.client.get(data).raise_for_status().json()["kind"] != "batch":
                time.sleep(0.1)
        subject.costs[READ] += cost
        page = ask(WARM, data).json()
        ask(LAST, f"{data}?page=999")
        ask(SORTED, f"{data}?sort=status")
        ask(BY_TEXT, f"{data}?text=article+1{number}")
        ask(BY_STATUS, f"{data}?status=done")
        tile = page["tiles"][number]
        ask(ONE, tile["image"]["thumb"])
        ask(ONE_WARM, tile["image"]["thumb"])
        with airflow.measure() as cost:
            airflow.client.get(f"{data}/tile/{tile['key']}").raise_for_status()
            airflow.client.get(tile["image"]["thumb"]).raise_for_status()
        subject.costs[PANEL] += cost
        ask(STAGE, tile["image"]["stage"])
        if subject.running:
            _watch(airflow, subject, made, ask)
    thumbnails = [tile["image"]["thumb2"] for tile in page["tiles"]]
    for name in (MANY, MANY_WARM):
        with airflow.measure() as cost:
            asyncio.run(_many(airflow.client.base_url, thumbnails))
        subject.costs[name] += cost


def _watch(airflow: MeasuredAirflow, subject: Subject, made: Sequence[bytes], ask: Any) -> None:
    """Ask as a page does while a batch runs; some images are stored meanwhile."""
    data = f"/gpt-image/data/{subject.place}"
    answer = airflow.client.get(data)
    time.sleep(INTERVAL)
    ask(LIVE, data, **{"if-none-match": answer.headers["etag"]})
    done = answer.json()["counts"]["done"]
    subject.batch.store(range(done, done + PAGE), lambda index: None)
    until = time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(INTERVAL)
        answer = ask(LIVE_NEW, data)
        if answer.json()["counts"]["done"] == done + PAGE:
            return
        subject.costs[LIVE_NEW].pop()
    raise RuntimeError(f"{PAGE} new images were not counted: {answer.json()['counts']}")


async def _many(base_url: httpx.URL, urls: Sequence[str]) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=300) as client:
        for answer in await asyncio.gather(*map(client.get, urls)):
            answer.raise_for_status()


def _print(subjects: Sequence[Subject]) -> None:
    print(f"### The Images tab of a batch of {IMAGES:,} images (median of {ROUNDS} rounds: ms, and CPU)\n")
    print("| | goal | " + " | ".join(subject.name for subject in subjects) + " |")
    print("|---|--:|" + "--:|" * len(subjects))
    for name, goal in GOALS.items():
        cells = [_cell(subject.costs.get(name, ())) for subject in subjects]
        print(f"| {name} | {'' if goal is None else f'≤ {goal}'} | {' | '.join(cells)} |")
    gaps = [max(cost.gap for costs in subject.costs.values() for cost in costs) for subject in subjects]
    cells = [f"{gap * 1000:.0f}" for gap in gaps]
    print(f"| the loop was held at most | ≤ {LONGEST_GAP} | {' | '.join(cells)} |")
    for subject in subjects:
        longest = max(subject.costs, key=lambda name: max(cost.gap for cost in subject.costs[name]))
        pause = max(cost.collecting for costs in subject.costs.values() for cost in costs)
        told = f"It was held longest by “{longest}” ({subject.name})"
        print(f"\n{told}; the garbage collector's longest pause took {pause * 1000:.0f} ms.")


def _cell(costs: Sequence[Cost]) -> str:
    if not costs:
        return ""
    wall, cpu = median(cost.wall for cost in costs), median(cost.cpu for cost in costs)
    return f"{wall * 1000:.0f} ({cpu * 1000:.0f})"
