"""What many images cost Airflow: one batch task, beside mapped tasks and beside the http provider's tasks.

The same prompts go through one real Airflow, one way after the other. Nothing throttles the mapped ways but
the executor's slots, which are the same for all. Our batch comes first, and pays for what is still cold.

``BESIDE_MAPPED_PROMPTS=20 BESIDE_MAPPED_WAYS=mapped,mapped_http`` makes it a smaller one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from stack import postgres
from stack.airflow import ScratchAirflow

PROMPTS = int(os.environ.get("BESIDE_MAPPED_PROMPTS", "200"))
WAYS = {
    "batch": "`GptImageBatchOperator`",
    "mapped": "mapped `GptImageGenerateOperator`",
    "mapped_http": "mapped `HttpOperator`, `HttpSensor`, download",
}
CHOSEN = os.environ.get("BESIDE_MAPPED_WAYS", ",".join(WAYS)).split(",")

DAGS = Path(__file__).parent / "dags" / "beside_mapped"

# Seconds a generation takes: the real thing takes longer, and all ways would wait.
DURATION = "5-10"
KEY = "sk-emulator"

PARALLELISM = 8
# Above the executor's slots, so that these alone bound every way.
LIMITS = {
    "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "128",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "128",
}

# In half a minute the dag-processor reads every file once more.
IDLE_SECONDS = 30.0
LOOK_INTERVAL = 2.0
RUN_TIMEOUT = 3600.0

COMPONENTS = ("scheduler", "api-server", "triggerer", "dag-processor")
POSTGRES, EMULATOR, ORPHANS = "postgres", "emulator", "orphans"


@dataclass(frozen=True)
class Figures:
    """
    Of one way.

    :param wall: Seconds from the trigger to the end of the run.
    :param seconds: From the trigger until the last process of the run was gone.
    :param cpu: CPU seconds by component in these seconds.
    :param idle: CPU seconds a second by component, with nothing to do.
    :param starts: Processes that were started for a task: its first, its resumes, its reschedules.
    """

    wall: float
    seconds: float
    cpu: Counter[str]
    idle: dict[str, float]
    starts: int
    requests: dict[str, int]
    charges: int
    images: int


def main() -> None:
    """Print the figures as a Markdown table."""
    if not sys.platform.startswith("linux"):
        print("beside_mapped needs Linux: elsewhere the CPU time of ended processes is not to be had.")
        return
    home = Path(tempfile.mkdtemp(prefix="gpt-image-bench-"))
    database = "postgres" if postgres.available() else "sqlite"
    try:
        with orphans_adopted(), emulator() as (url, pid), airflow_with(home, database, url) as airflow:
            meter = Meter(airflow, emulator=pid)
            figures = {way: measured(airflow, meter, way, url, home / "images" / way) for way in CHOSEN}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(
        f"### {PROMPTS} prompts through one Airflow (LocalExecutor with {PARALLELISM} slots, "
        f"{'PostgreSQL' if database == 'postgres' else 'SQLite'}; a generation takes {DURATION} s)\n"
    )
    table(figures)


# The surroundings -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def emulator() -> Iterator[tuple[str, int]]:
    """The API in a process of its own; its address, and the process's id."""
    command = [sys.executable, "-m", "airflow_gpt_image.emulator", "--port", "0", "--duration", DURATION]
    command += ["--credits", "100000", "--key", KEY, "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.communicate(timeout=10)


@contextlib.contextmanager
def airflow_with(home: Path, database: Any, url: str) -> Iterator[ScratchAirflow]:
    # A file for each way: every task reads its DAG's file anew, and would pay for the other ways' imports.
    dags = home / "dags"
    dags.mkdir()
    for way in CHOSEN:
        shutil.copy(DAGS / f"{way}.py", dags)
    env = {
        **LIMITS,
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": json.dumps(
            {"conn_type": "gpt_image", "password": KEY, "host": url}
        ),
        # The http provider sends the extras as headers.
        "AIRFLOW_CONN_IMAGES_API": json.dumps(
            {"conn_type": "http", "host": url, "extra": {"Authorization": f"Bearer {KEY}"}}
        ),
        "BENCH_PROMPTS": str(PROMPTS),
        "BENCH_DESTINATION": str(home / "images"),
    }
    with ScratchAirflow(
        home / "airflow", dags_folder=dags, database=database, env=env, parallelism=PARALLELISM
    ) as airflow:
        for way in CHOSEN:
            airflow.wait_for_dag(way)
        yield airflow


# Measuring ------------------------------------------------------------------------------------------------


def measured(airflow: ScratchAirflow, meter: Meter, way: str, url: str, images: Path) -> Figures:
    httpx.post(f"{url}/_emulator/reset").raise_for_status()
    airflow.unpause(way)
    time.sleep(LOOK_INTERVAL)

    before, since = meter.read(), time.monotonic()
    while (idle_seconds := time.monotonic() - since) < IDLE_SECONDS:
        # Looked at as during a run, so that the looks are no part of what is above idle.
        airflow.request("GET", f"/api/v2/dags/{way}")
        time.sleep(LOOK_INTERVAL)
    at_start, since = meter.read(), time.monotonic()

    triggered = time.time()
    run_id = airflow.trigger(way)
    state = ended(airflow, way, run_id)
    # The run is over when its last task says so; that task's process still has to end.
    while airflow.running_tasks():
        time.sleep(0.2)
    at_end, seconds = meter.read(), time.monotonic() - since

    books = httpx.get(f"{url}/_emulator/books").raise_for_status().json()
    check(airflow, way, run_id, state, books, images)
    run = airflow.request("GET", f"/api/v2/dags/{way}/dagRuns/{run_id}").json()
    return Figures(
        wall=datetime.fromisoformat(run["end_date"]).timestamp() - triggered,
        seconds=seconds,
        cpu=Counter({name: at_end[name] - at_start[name] for name in at_end}),
        idle={name: (at_start[name] - before[name]) / idle_seconds for name in at_end},
        starts=starts(airflow, way, run_id),
        requests=books["requests"],
        charges=len(books["charges"]),
        images=len(pictures(images)),
    )


def ended(airflow: ScratchAirflow, way: str, run_id: str) -> str:
    """The state a run ends in. Looks less often than ``wait_for_run``, which costs the api-server."""
    deadline = time.monotonic() + RUN_TIMEOUT
    while (state := airflow.run_state(way, run_id)) not in ("success", "failed"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{way} is still {state!r} after {RUN_TIMEOUT} s")
        time.sleep(LOOK_INTERVAL)
    return state


def starts(airflow: ScratchAirflow, way: str, run_id: str) -> int:
    """
    How many processes were started for the run's tasks.

    Each asks the api-server's leave to run, which enters it into the audit log. A task instance counts its
    tries only, and a resume after a deferral is none.
    """
    query = "select count(*) as number from log where event = 'running' and dag_id = :dag and run_id = :run"
    return int(airflow.sql(query, {"dag": way, "run": run_id})[0]["number"])


@contextlib.contextmanager
def orphans_adopted() -> Iterator[None]:
    """Let processes below us whose parent dies become our children; as init's their time would be lost."""
    set_child_subreaper = 36
    libc = ctypes.CDLL(None, use_errno=True)

    def subreaper(value: int) -> None:
        if libc.prctl(set_child_subreaper, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")

    subreaper(1)
    try:
        yield
    finally:
        subreaper(0)


class Meter:
    """
    CPU seconds, user and system, that each component and all it ever started have taken so far.

    Sampling the living would miss the many processes that live for a second. But the kernel adds the time of
    a process that ended to its parent's, when the parent waits for it, as Airflow's do. So the time of all
    living processes below us plus that of their waited-for children never loses any: an ended process counts
    as a zombie until it is waited for, and then at its parent; one whose parent died is adopted by us.
    """

    def __init__(self, airflow: ScratchAirflow, *, emulator: int) -> None:
        self._names = {airflow.component(name).pid: name for name in COMPONENTS}
        self._names[emulator] = EMULATOR

    def read(self) -> Counter[str]:
        us = psutil.Process()
        while True:
            found: Counter[str] = Counter()
            there = us.children(recursive=True)
            with contextlib.suppress(psutil.NoSuchProcess):
                for root in us.children():
                    name = self._names.get(root.pid) or (POSTGRES if root.name() == POSTGRES else ORPHANS)
                    for process in (root, *root.children(recursive=True)):
                        times = process.cpu_times()
                        found[name] += times.user + times.system + times.children_user + times.children_system
            # One that ended meanwhile may be missing, or be counted at its parent too.
            if there == us.children(recursive=True):
                return found


# Correctness ----------------------------------------------------------------------------------------------


def check(
    airflow: ScratchAirflow, way: str, run_id: str, state: str, books: dict[str, Any], images: Path
) -> None:
    """:raises RuntimeError: when a prompt isn't paid for exactly once, or has no image."""
    problems = [] if state == "success" else [f"the run is {state}\n{first_failure(airflow, way, run_id)}"]
    charged = Counter(charge["request"]["prompt"] for charge in books["charges"])
    if charged != Counter(f"picture {number}" for number in range(PROMPTS)):
        problems.append(f"charged {charged.total()} times for {len(charged)} prompts")
    if books["refunded"] != "0":
        problems.append(f"{books['refunded']} credits were refunded")
    stored = pictures(images)
    if len(stored) != PROMPTS or not all(path.read_bytes().startswith(b"\x89PNG") for path in stored):
        problems.append(f"{len(stored)} files are stored, not {PROMPTS} PNGs")
    if problems:
        raise RuntimeError(f"{way}: {'; '.join(problems)}")


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def first_failure(airflow: ScratchAirflow, way: str, run_id: str) -> str:
    for task in airflow.task_instances(way, run_id):
        if task["state"] == "failed":
            return airflow.log(way, run_id, task["task_id"], task["try_number"], task["map_index"])
    return "no task failed"


# The table ------------------------------------------------------------------------------------------------


def table(figures: dict[str, Figures]) -> None:
    ways = list(figures.values())

    def row(name: str, values: list[float], unit: str = "", *, compared: bool = True) -> None:
        first = values[0]
        cells = [f"{max(value, 0):,.0f}{unit}" for value in values]
        for place, value in enumerate(values[1:], start=1):
            # A second of CPU, more or less, is noise.
            if compared and min(first, value) >= 1:
                cells[place] += f" ({_rounded(value / first)} ×)"
        print(f"| {name} | {' | '.join(cells)} |")

    def above_idle(way: Figures, *names: str) -> float:
        return sum(way.cpu[name] - way.idle.get(name, 0) * way.seconds for name in names)

    # Nobody but Airflow leaves any.
    airflow = (*COMPONENTS, ORPHANS)

    print(f"| | {' | '.join(WAYS[way] for way in figures)} |")
    print(f"|---|{'--:|' * len(figures)}")
    row("wall time", [way.wall for way in ways], " s")
    row("CPU of Airflow", [sum(way.cpu[name] for name in airflow) for way in ways], " s")
    row("CPU of Airflow above idle", [above_idle(way, *airflow) for way in ways], " s")
    for name in airflow:
        shown = "scheduler, executor and tasks" if name == "scheduler" else name
        if any(way.cpu[name] for way in ways):
            row(f"– {shown}", [above_idle(way, name) for way in ways], " s")
    if any(way.cpu[POSTGRES] for way in ways):
        row("CPU of PostgreSQL above idle", [above_idle(way, POSTGRES) for way in ways], " s")
    row("processes started for tasks", [way.starts for way in ways])
    row("looks at the API", [way.requests["poll"] for way in ways])
    row("charges", [way.charges for way in ways], compared=False)
    row("images stored", [way.images for way in ways], compared=False)
    rates = [sum(way.idle.get(name, 0) for name in airflow) for way in ways]
    print(f"\nIdle, this Airflow takes {min(rates):.2f} – {max(rates):.2f} CPU seconds a second.")


def _rounded(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
