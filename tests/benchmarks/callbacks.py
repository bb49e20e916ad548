"""From a generation's end to its task being scheduled again: called back, beside polling every 5 s.

The same images go through one real Airflow, one way after the other. Every generation takes longer than the
time in which a callback is left to the poll, so what is measured is the callback.

``CALLBACKS_PROMPTS=8`` makes it a smaller one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx

from stack import postgres
from stack.airflow import ScratchAirflow
from stack.processes import free_port

PROMPTS = int(os.environ.get("CALLBACKS_PROMPTS", "60"))
WAYS = {"called_back": "callback", "polled": "polling every 5 s"}
DAGS = Path(__file__).parent / "dags" / "callbacks"
DURATION = "20-50"
KEY = "sk-emulator"
PARALLELISM = 8
RUN_TIMEOUT = 1800.0


class Figures(NamedTuple):
    """
    Of one way.

    :param lags: Seconds from each generation's end to its task being scheduled again.
    :param reads: GETs of a generation, for each image.
    :param tries: The most that a task needed.
    """

    lags: list[float]
    reads: float
    tries: int


def main() -> None:
    """Print the figures as a Markdown table."""
    home = Path(tempfile.mkdtemp(prefix="gpt-image-bench-"))
    database: Any = "postgres" if postgres.available() else "sqlite"
    try:
        with emulator() as url:
            port = free_port()
            env = {
                "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "128",
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "128",
                "AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL": f"http://127.0.0.1:{port}",
                "AIRFLOW__GPT_IMAGE__CALLBACK_SECRET": "a secret of 26 characters.",
                "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": f'{{"conn_type": "gpt_image", "password": "{KEY}", '
                f'"host": "{url}"}}',
                "BENCH_PROMPTS": str(PROMPTS),
                "BENCH_DESTINATION": str(home / "images"),
            }
            with ScratchAirflow(
                home / "airflow",
                dags_folder=DAGS,
                database=database,
                env=env,
                parallelism=PARALLELISM,
                port=port,
            ) as airflow:
                figures = {way: measured(airflow, way, url) for way in WAYS}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(
        f"### {PROMPTS} images: from the end to the task being scheduled again "
        f"({'PostgreSQL' if database == 'postgres' else 'SQLite'}; a generation takes {DURATION} s)\n"
    )
    print(f"| | {' | '.join(WAYS.values())} |")
    print(f"|---|{'--:|' * len(WAYS)}")
    row("median", [f"{median(way.lags):.2f} s" for way in figures.values()])
    row("95 %", [f"{quantiles(way.lags, n=20)[-1]:.2f} s" for way in figures.values()])
    row("longest", [f"{max(way.lags):.2f} s" for way in figures.values()])
    row("reads of the generation for each image", [f"{way.reads:.2f}" for way in figures.values()])
    row("most tries of a task", [str(way.tries) for way in figures.values()])


def row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |")


@contextmanager
def emulator() -> Iterator[str]:
    """The API in a process of its own; its address."""
    command = [sys.executable, "-m", "airflow_gpt_image.emulator", "--port", "0", "--duration", DURATION]
    command += ["--credits", "100000", "--key", KEY, "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=10)


def measured(airflow: ScratchAirflow, way: str, url: str) -> Figures:
    """:raises RuntimeError: when an image isn't made, or paid for twice."""
    httpx.post(f"{url}/_emulator/reset").raise_for_status()
    airflow.wait_for_dag(way)
    airflow.unpause(way)
    run_id = airflow.trigger(way)
    state = airflow.wait_for_run(way, run_id, timeout=RUN_TIMEOUT)
    books = httpx.get(f"{url}/_emulator/books").raise_for_status().json()
    # Prompts tell the tasks apart: the last word is the map index.
    ends = {int(each["request"]["prompt"].split()[-1]): each["finished_at"] for each in books["charges"]}
    if state != "success" or len(books["charges"]) != len(ends) or len(ends) != PROMPTS:
        raise RuntimeError(f"{way}: the run is {state}, with {len(books['charges'])} charges.")
    index = "region_index" if airflow.version >= (3, 4) else "map_index"
    rows = airflow.sql(
        f"select {index} as number, scheduled_dttm as moment, try_number as tries "
        "from task_instance where dag_id = :dag and run_id = :run",
        {"dag": way, "run": run_id},
    )
    return Figures(
        lags=[seconds(each["moment"]) - ends[each["number"]] for each in rows],
        reads=books["requests"]["poll"] / PROMPTS,
        tries=max(each["tries"] for each in rows),
    )


def seconds(moment: datetime | str) -> float:
    """A moment as the database gives it, in seconds since 1970."""
    read = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
