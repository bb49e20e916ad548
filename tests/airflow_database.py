"""A migrated Airflow database of the test session, and task instances in it as Airflow leaves them behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

NOW = datetime(2026, 11, 26, 18, 12, 9, tzinfo=UTC)


@cache
def migrate(shared: Path) -> None:
    """
    Put a migrated database where Airflow looks: made once for all processes side by side, and copied.

    Once for each process: whoever has opened it would find it changed under his hands. A server's database is
    migrated in its place, and belongs to one process.
    """
    if not os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite"):
        _migrate()
        return
    own = Path(os.environ["AIRFLOW_HOME"], "airflow.db")
    made = shared / "airflow.db"
    with Path(shared, "airflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _migrate()
            shutil.move(own, made)
    shutil.copy(made, own)


def _migrate() -> None:
    # In a process of its own: it sets up logging and a session, and leaves neither of them behind.
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


class AirflowDatabase:
    """Dag runs and task instances, written into Airflow's database without any Dag."""

    def run(self, dag_id: str, run_id: str, *, due: datetime = NOW, version: UUID | None = None) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import insert

        with create_session() as session:
            fields = {"run_type": "manual", "run_after": due, "state": "success", "created_at": due}
            names = {"dag_id": dag_id, "run_id": run_id, "created_dag_version_id": version}
            session.execute(insert(DagRun).values(**names, **fields))

    def version(self, dag_id: str, number: int) -> UUID:
        """A version of a Dag, as its tasks were at some time: its id."""
        from airflow.models.dag import DagModel
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagbundle import DagBundleModel
        from airflow.utils.session import create_session
        from uuid6 import uuid7

        with create_session() as session:
            session.merge(DagBundleModel(name="dags"))
            session.flush()
            session.merge(DagModel(dag_id=dag_id, bundle_name="dags", max_active_tasks=16, fileloc="shop.py"))
            session.flush()
            made = DagVersion(id=uuid7(), dag_id=dag_id, version_number=number, bundle_name="dags")
            session.add(made)
            return made.id

    def task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        map_index: int = -1,
        state: str | None = "success",
        operator: str = "GptImageGenerateOperator",
        result: object = None,
        spent: object = None,
        kept: dict[str, Any] | None = None,
        rendered: dict[str, Any] | None = None,
        ended: datetime | None = NOW,
        label: str | None = None,
        tries: tuple[int, int] = (1, 3),
        region_id: UUID | None = None,
    ) -> None:
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.state import TaskScope, get_state_backend
        from airflow.utils.session import create_session
        from sqlalchemy import insert
        from uuid6 import uuid7

        names = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        looped = hasattr(TaskInstance, "region_id")  # Airflow 3.4
        index = {"region_index" if looped else "map_index": map_index}
        region = {"region_id": region_id or UUID(int=0)} if looped else {}
        ti_id = uuid7()
        with create_session() as session:
            session.execute(
                insert(TaskInstance.__table__).values(
                    id=ti_id,
                    **names,
                    **index,
                    **region,
                    state=state,
                    operator=operator,
                    custom_operator_name=operator,
                    try_number=tries[0],
                    max_tries=tries[1],
                    pool="default_pool",
                    pool_slots=1,
                    queue="default",
                    priority_weight=1,
                    start_date=None if ended is None else ended - timedelta(seconds=30),
                    end_date=ended,
                    rendered_map_index=label,
                )
            )
        scope = TaskScope(dag_id, run_id, task_id, map_index, **region)
        with create_session() as session:
            for key, value in (("return_value", result), ("spent", spent)):
                if value is not None:
                    where = {**names, "map_index": map_index, **region}
                    XComModel.set(key, value, **where, serialize=False, session=session)
            for key, value in (kept or {}).items():
                get_state_backend().set(scope, key, json.dumps(value), session=session)
            if rendered is not None:
                owner = {"task_instance_id": ti_id} if looped else {**names, "map_index": map_index}
                fields = insert(RenderedTaskInstanceFields)
                session.execute(fields.values(**owner, rendered_fields=rendered))

    def keep(self, task: Any, *, state: str | None = "success", result: object = None, **fields: Any) -> None:
        """Write down a task instance of :mod:`tests.task_instance` as its tries have left it."""
        kept = {key: json.loads(text) for key, text in task.store.texts.items()}
        names = (task.dag_id, task.run_id, task.task_id)
        tries = (task.try_number, task.max_tries)
        given = {"map_index": task.map_index, "kept": kept, "tries": tries, "spent": task.pushed.get("spent")}
        self.task(*names, state=state, result=result, **{**given, **fields})

    def asset(self, *sources: tuple[str, str, str, int]) -> int:
        """An asset that task instances updated one after the other: its id."""
        from airflow.models.asset import AssetEvent, AssetModel
        from airflow.utils.session import create_session
        from uuid6 import uuid7

        with create_session() as session:
            asset = AssetModel(name=f"pictures {uuid7()}", uri=f"s3://bucket/{uuid7()}", group="asset")
            session.add(asset)
            session.flush()
            for number, (dag_id, run_id, task_id, map_index) in enumerate(sources):
                source = {"source_dag_id": dag_id, "source_run_id": run_id, "source_task_id": task_id}
                at = NOW + timedelta(seconds=number)
                event = AssetEvent(asset_id=asset.id, source_map_index=map_index, timestamp=at, **source)
                session.add(event)
            return int(asset.id)

    def clear(self) -> None:
        """Forget all runs, and what belongs to them."""
        from airflow.models.dag import DagModel
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        with create_session() as session:
            for model in (TaskInstance, DagRun, DagVersion, DagModel):
                session.execute(delete(model.__table__))
