"""
Count what task instances of ours made and spent within days, over many Dags.

Airflow has no index that leads to a kind of task, and may have millions of task instances. So first it is
found out which Dags have tasks of ours, by the oldest and the newest run of each of their versions within the
days, then their runs within the days are looked at, the newest first and within a limit. What a task instance
came to is kept: it changes only with a retry or a clear, which give it another id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import and_, exists, func, or_, select, union
from sqlalchemy.orm import Session

from airflow_gpt_image.api.pricing import USD_PER_CREDIT
from airflow_gpt_image.plugins.images.documents import airflow_rows, foreign
from airflow_gpt_image.plugins.images.documents.airflow_rows import OPERATORS, STATE_KEYS, TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING, amount
from airflow_gpt_image.plugins.images.documents.caches import Cache

MOST_INSTANCES: Final = 20_000
"""Task instances that are counted; the newest ones."""

# A run may end days after it was due.
_LATE: Final = timedelta(days=3)
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Spent:
    """
    What one task instance made and spent since its last clear, in US dollars.

    :param connection: that it paid with; None: Airflow no longer has its rendered fields.
    """

    images: int
    usd: Decimal
    refunded: Decimal
    connection: str | None


_kept: Cache[Spent] = Cache(100_000)


def find_dags(session: Session, since: datetime) -> set[str]:
    """
    Return the ids of the Dags that have tasks of ours, by two runs since then of each version of each Dag.

    A Dag that has got other tasks has got another version; where Airflow doesn't know a run's any more, it
    counts as one.
    """
    runs = select(func.min(DagRun.id).label("oldest"), func.max(DagRun.id).label("newest"))
    runs = runs.where(DagRun.run_after >= since - _LATE)
    ends = runs.group_by(DagRun.dag_id, DagRun.created_dag_version_id).cte("ends")
    looked_at = union(select(ends.c.oldest), select(ends.c.newest)).subquery()
    is_looked_at = DagRun.id.in_(select(looked_at))
    ti, store = TaskInstance, TaskStateStoreModel
    same_run = and_(ti.dag_id == DagRun.dag_id, ti.run_id == DagRun.run_id)
    named = select(ti.dag_id).join(DagRun, same_run).where(is_looked_at, ti.operator.in_(OPERATORS))
    # Somebody's subclass of an operator of ours is called otherwise, and keeps records all the same.
    kept = select(DagRun.dag_id).join(store, store.dag_run_id == DagRun.id)
    kept = kept.where(is_looked_at, store.key.in_(STATE_KEYS))
    return {dag_id for query in (named, kept) for dag_id in session.scalars(query.distinct())}


def find_ended(
    session: Session, dag_ids: Collection[str], since: datetime, *, limit: int = MOST_INSTANCES
) -> list[TaskRow]:
    """Return task instances of ours that ended since then, the newest first."""
    rows: list[TaskRow] = []
    for some in _chunks(sorted(dag_ids)):
        query = _of_ours(select(*airflow_rows.columns())).where(
            DagRun.dag_id.in_(some), DagRun.run_after >= since - _LATE, TaskInstance.end_date >= since
        )
        query = query.order_by(TaskInstance.end_date.desc()).limit(limit)
        rows += [airflow_rows.task_row(*found) for found in session.execute(query)]
    airflow_rows.name_iterations(session, rows)
    return sorted(rows, key=lambda row: row.ended or since, reverse=True)[:limit]


def _of_ours(query: Any) -> Any:
    ti, store = TaskInstance, TaskStateStoreModel
    # Somebody's subclass of an operator of ours is called otherwise, and keeps records all the same.
    kept = (store.dag_run_id == DagRun.id, store.task_id == ti.task_id, store.key.in_(STATE_KEYS))
    same_run = and_(ti.dag_id == DagRun.dag_id, ti.run_id == DagRun.run_id)
    return query.join(DagRun, same_run).where(or_(ti.operator.in_(OPERATORS), exists().where(*kept)))


def count(session: Session, rows: Sequence[TaskRow]) -> list[Spent]:
    """Return what task instances came to; only those are read that weren't before."""
    found = {row.id: _kept.peek((row.id, row.ended)) for row in rows}
    new = [row for row in rows if found[row.id] is None]
    for some in _chunks(new):
        airflow_rows.load(session, some, records=False)
        for row in some:
            found[row.id] = _kept.get((row.id, row.ended), partial(_spent, row))
            # They are large, and nobody asks for them again.
            row.rendered, row.result = {}, None
    return [spent for row in rows if (spent := found[row.id]) is not None]


def _spent(row: TaskRow) -> Spent:
    result = foreign.mapping(row.result)
    batch = row.makes == "batch"
    told = result if batch else foreign.mapping(result.get("spent") or row.spent)
    usd = amount(told.get("usd")) or NOTHING
    charged, refunded = amount(told.get("charged")) or NOTHING, amount(told.get("refunded")) or NOTHING
    price = usd / (charged - refunded) if charged > refunded else USD_PER_CREDIT
    images = foreign.count(result.get("stored")) if batch else len(foreign.items(result.get("images")))
    connection = foreign.text(row.rendered.get("gpt_image_conn_id"), 200)
    return Spent(images or 0, usd, refunded * price, connection)


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[begin : begin + _AT_ONCE] for begin in range(0, len(items), _AT_ONCE))
