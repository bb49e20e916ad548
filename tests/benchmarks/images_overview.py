"""The Images tab's overview of all Dags in a large Airflow: 10,000 Dags and a million task instances.

On SQLite, and on PostgreSQL where it is installed. Each Dag has had three versions; a hundredth of them have
tasks of ours, half of these only in the version in the middle. Cold means that no task instance has been
counted before. A figure is the median of several rounds, without HTTP.

``IMAGES_OVERVIEW_DAGS=100`` makes it a small one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import Any
from uuid import UUID

from stack.postgres import ScratchPostgres, available

DAGS = int(os.environ.get("IMAGES_OVERVIEW_DAGS", "10000"))
RUNS, TASKS, OURS = 10, 10, 100
DAYS = 30
ROUNDS = 3
GOAL = 500


def main() -> None:
    """Print the figures as a Markdown table."""
    names = ["sqlite", *(["postgres"] if available() else [])]
    figures = {name: _measured(name) for name in names}
    rows = DAGS * RUNS * TASKS
    print(f"### All Dags of an Airflow with {DAGS:,} of them and {rows:,} task instances (ms)\n")
    print("| | goal | " + " | ".join(names) + " |")
    print("|---|--:|" + "--:|" * len(names))
    for name in figures["sqlite"]:
        goal = f"≤ {GOAL}" if name.startswith("overview") else ""
        print(f"| {name} | {goal} | {' | '.join(f'{figures[each][name]:.0f}' for each in names)} |")


def _measured(name: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="images-overview-") as home, _database(name, home) as url:
        env = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        env["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, env=env
        )
        command = [sys.executable, "-m", __name__]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _database(name: str, home: str) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{home}/airflow.db"
        return
    with ScratchPostgres() as server:
        yield server.url


def work() -> None:
    """Fill Airflow's database, ask for pages, and print the figures of this process as one line of JSON."""
    from sqlalchemy import text

    from airflow_gpt_image.plugins.images.balances import Balances, read_balance
    from airflow_gpt_image.plugins.images.documents import building, caches, spend
    from airflow_gpt_image.plugins.images.roots import Roots
    from airflow_gpt_image.plugins.images.tokens import Tokens
    from tests.airflow_database import NOW

    _fill()
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(text("ANALYZE"))
    readable = {_name(number) for number in range(DAGS)}

    def ask(path: str, **query: str) -> float:
        context = building.Context(
            user="somebody",
            roots=Roots(["/data"]),
            tokens=Tokens("a secret of twenty-six bytes"),
            may_read=lambda user, dag_id: True,
            readable_dags=lambda user: readable,
            may_read_connection=lambda user, conn_id: False,
            balances=Balances(read_balance),
            now=NOW,
        )
        begun = time.perf_counter()
        place = building.Place.parse(path)
        assert place is not None
        document = building.build(place, building.Query.parse(query), context)
        assert document is not None
        assert document["kind"] in ("overview", "dag", "run"), document
        if path == "all":
            assert len(document["by_dag"]) == min(50, max(1, DAGS // OURS)), len(document["by_dag"])
        return (time.perf_counter() - begun) * 1000

    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        spend._kept = caches.Cache(100_000)
        for name, path, query in (
            ("overview of 30 days, cold", "all", {"days": "30"}),
            ("overview of 30 days, warm", "all", {"days": "30"}),
            ("overview of 90 days, warm", "all", {"days": "90"}),
            ("a Dag's page", f"dag/{_name(0)}", {}),
            ("a run's page", f"run/{_name(0)}/r0", {}),
        ):
            figures.setdefault(name, []).append(ask(path, **query))
    print(json.dumps({name: median(found) for name, found in figures.items()}))


def _name(number: int) -> str:
    return f"dag_{number:05}"


def _fill() -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert
    from uuid6 import uuid7

    from tests.airflow_database import NOW

    image = {"url": "u", "path": "/data/1.png", "width": 1024, "height": 1024, "bytes": 5, "sha256": "a" * 64}
    result = {"generation_id": "g", "images": [image], "usd": "0.0235", "credits": "4.7"}
    result["spent"] = {"charged": "4.7", "refunded": "0", "usd": "0.0235"}
    limits = {"max_active_tasks": 16, "max_consecutive_failed_dag_runs": 0}
    limits["has_task_concurrency_limits"] = 0
    with create_session() as session:
        session.execute(insert(DagBundleModel).values(name="dags"))
    for begin in range(0, DAGS, 500):
        dags, versions, runs, instances, made = ([] for _ in range(5))  # type: ignore[var-annotated]
        for number in range(begin, min(begin + 500, DAGS)):
            dag_id, ours = _name(number), number % OURS == 0
            dags.append({"dag_id": dag_id, "bundle_name": "dags", "fileloc": "a", **limits})
            ids = [uuid7() for _ in range(3)]
            for index, each in enumerate(ids):
                versions.append({"id": each, "dag_id": dag_id, "version_number": index + 1})
            for run in range(RUNS):
                version = run * 3 // RUNS
                due = NOW - timedelta(days=1 + (DAYS - 2) * (RUNS - 1 - run) / RUNS)
                runs.append(_run(dag_id, f"r{run}", due, ids[version]))
                for task in range(TASKS):
                    makes = ours and task < 2 and (version == 1 or number % (2 * OURS) == 0)
                    instances.append(_instance(uuid7(), dag_id, f"r{run}", f"task_{task}", due, makes))
                    if makes:
                        made.append({"dag_id": dag_id, "run_id": f"r{run}", "task_id": f"task_{task}"})
        with create_session() as session:
            tables = (DagModel, DagVersion, DagRun, TaskInstance)
            for model, rows in zip(tables, (dags, versions, runs, instances), strict=True):
                session.execute(insert(model.__table__), rows)
        with create_session() as session:
            for names in made:
                XComModel.set("return_value", result, **names, serialize=False, session=session)


def _run(dag_id: str, run_id: str, due: Any, version: UUID) -> dict[str, Any]:
    names = {"dag_id": dag_id, "run_id": run_id, "created_dag_version_id": version}
    return {**names, "run_type": "manual", "run_after": due, "state": "success", "created_at": due}


def _instance(ti_id: UUID, dag_id: str, run_id: str, task_id: str, due: Any, makes: bool) -> dict[str, Any]:
    operator = "GptImageGenerateOperator" if makes else "BashOperator"
    names = {"id": ti_id, "dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": -1}
    shown = {"state": "success", "operator": operator, "custom_operator_name": operator}
    ran = {"try_number": 1, "max_tries": 3, "start_date": due, "end_date": due + timedelta(minutes=1)}
    return {
        **names,
        **shown,
        **ran,
        "pool": "default_pool",
        "pool_slots": 1,
        "queue": "default",
        "priority_weight": 1,
    }


if __name__ == "__main__":
    work()
