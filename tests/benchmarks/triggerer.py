"""What 1,000 deferred tasks cost one real triggerer: our trigger, beside the http provider's sensor trigger.

A whole Airflow starts, and its scheduler is ended: what is measured is the triggerer, from the rows of 1,000
deferred tasks until the last of them is scheduled to be resumed. Nothing resumes them: a worker would start
1,000 processes, which is another matter, and the same for both.

Generations take 30 to 60 s, for the triggerer takes 50 new triggers in a second at most.
``TRIGGERER_TASKS=100`` makes it a smaller one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil

from stack import postgres
from stack.airflow import ScratchAirflow
from tests.benchmarks.waiting_api import ends_at, id_of

TASKS = int(os.environ.get("TRIGGERER_TASKS", "1000"))
POLL_INTERVAL = 5.0
SHORTEST, LONGEST = 30.0, 60.0
IDLE_SECONDS = 15.0
LIMIT = 600.0
KEY = "sk-benchmark"
DAGS = Path(__file__).parent / "dags" / "triggerer"

OURS = "airflow_gpt_image.triggers.gpt_image.GptImageTrigger"
HTTP = "airflow.providers.http.triggers.http.HttpSensorTrigger"

# Beyond those that any task of the DAG had.
FIRST_ID = 1_000_000

INSERT = """
with triggers as (
    insert into trigger (id, classpath, kwargs, created_date)
    select :first + number - 1, :classpath, kwargs, now()
    from json_array_elements_text(cast(:kwargs as json)) with ordinality as given (kwargs, number)
)
insert into task_instance (id, map_index, state, trigger_id, {columns})
select gen_random_uuid(), :first + number, 'deferred', :first + number, {columns}
from task_instance, generate_series(0, :last) as number
where map_index = -1
"""


def main() -> None:
    """Print the figures as a Markdown table."""
    if not postgres.available():
        print("The triggerer is measured on PostgreSQL, whose programs aren't installed here.")
        return
    command = [sys.executable, "-m", "tests.benchmarks.waiting_api", "0"]
    api = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    home = Path(tempfile.mkdtemp(prefix="gpt-image-triggerer-"))
    try:
        assert api.stdout is not None
        _compare(home, f"http://127.0.0.1:{int(api.stdout.readline())}")
    finally:
        api.terminate()
        api.communicate(timeout=10)
        shutil.rmtree(home, ignore_errors=True)


def _compare(home: Path, address: str) -> None:
    from cryptography.fernet import Fernet

    os.environ["AIRFLOW__CORE__FERNET_KEY"] = Fernet.generate_key().decode()
    environment = {
        "AIRFLOW__CORE__FERNET_KEY": os.environ["AIRFLOW__CORE__FERNET_KEY"],
        "AIRFLOW__TRIGGERER__CAPACITY": str(2 * TASKS),
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": json.dumps(
            {"conn_type": "gpt_image", "password": KEY, "host": address}
        ),
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", "password": KEY, "host": address}),
    }
    print(f"### {TASKS:,} deferred tasks on one real triggerer, generations of 30 to 60 s\n")
    print("| trigger | CPU s above idle | found p50 / p95 / last s | resumed |\n|---|--:|--:|--:|")
    with ScratchAirflow(home, dags_folder=DAGS, database="postgres", env=environment) as airflow:
        airflow.wait_for_dag("deferred")
        airflow.kill("scheduler")
        airflow.trigger("deferred")
        time.sleep(IDLE_SECONDS)
        cpu, began = _cpu(airflow), time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = (_cpu(airflow) - cpu) / (time.monotonic() - began)
        for turn, classpath in enumerate((OURS, HTTP)):
            _measure(airflow, classpath, FIRST_ID * (turn + 1), idle)


def _measure(airflow: ScratchAirflow, classpath: str, first: int, idle: float) -> None:
    from airflow.models.trigger import Trigger

    dice = random.Random(13)
    now = time.time()
    ids = [id_of(number, now, dice.uniform(SHORTEST, LONGEST)) for number in range(TASKS)]
    kwargs = [Trigger.encrypt_kwargs(_kwargs(classpath, each, now)) for each in ids]
    row = airflow.sql("select * from task_instance where map_index = -1")[0]
    columns = ", ".join(row.keys() - {"id", "map_index", "state", "trigger_id"})
    cpu, began = _cpu(airflow), time.monotonic()
    airflow.sql(
        INSERT.format(columns=columns),
        {"first": first, "last": TASKS - 1, "classpath": classpath, "kwargs": json.dumps(kwargs)},
    )
    resumed = _wait_for_all(airflow, first)
    cpu = _cpu(airflow) - cpu - idle * (time.monotonic() - began)
    late = [at - ends_at(ids[index - first]) for index, at in resumed.items()]
    p = quantiles(late, n=20)
    name = classpath.rpartition(".")[2]
    print(
        f"| {name} | {cpu:.1f} | {p[9]:.1f} / {p[18]:.1f} / {max(late):.1f} | {len(late):,} of {TASKS:,} |",
        flush=True,
    )


def _kwargs(classpath: str, generation_id: str, now: float) -> dict[str, Any]:
    if classpath == HTTP:
        return {"endpoint": f"poke/{generation_id}", "poke_interval": POLL_INTERVAL}
    return {
        "gpt_image_conn_id": "gpt_image_default",
        "generation_ids": [generation_id],
        "deadline": now + LIMIT,
        "poll_interval": POLL_INTERVAL,
    }


def _wait_for_all(airflow: ScratchAirflow, first: int) -> dict[int, float]:
    """Return when each task was scheduled to be resumed, in seconds since 1970, by its map index."""
    until = time.monotonic() + LIMIT
    while True:
        airflow.check_components()
        rows = airflow.sql(
            "select map_index, extract(epoch from updated_at) as at from task_instance "
            "where map_index >= :first and state = 'scheduled'",
            {"first": first},
        )
        if len(rows) == TASKS or time.monotonic() > until:
            return {row["map_index"]: float(row["at"]) for row in rows}
        time.sleep(1)


def _cpu(airflow: ScratchAirflow) -> float:
    family = airflow.component("triggerer").family()
    return sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in family)


if __name__ == "__main__":
    main()
