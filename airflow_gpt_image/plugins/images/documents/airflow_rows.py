"""
Read Airflow's database: task instances of ours, with their results, records and rendered fields.

Used are models that are the same from Airflow 3.3.0 to 3.4, but for this: 3.4 keys what belongs to a task
instance by its id, and tells instances by a region, too. Every query names Dag and runs, which are indexed,
and has a limit. JSON is taken as text, bounded, and parsed here: a Dag's author may have written anything.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, Literal, TypeVar

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import Text, case, cast, func, or_, select
from sqlalchemy.orm import Session

from airflow_gpt_image.batch.lease import KEY as BATCH_KEY
from airflow_gpt_image.ledger.task_state import IMAGE_KEY
from airflow_gpt_image.operators.ending import SPENT
from airflow_gpt_image.plugins.images.documents import airflow_regions

T = TypeVar("T")
Makes = Literal["image", "batch"]

HAS_REGIONS: Final = hasattr(TaskInstance, "region_id")
"""Whether this is Airflow 3.4, where a task may have iterations."""

OPERATORS: Final[dict[str, Makes]] = {
    "GptImageGenerateOperator": "image",
    "GptImageSensor": "image",
    "_GptImageDecoratedOperator": "image",
    "GptImageBatchOperator": "batch",
    "_GptImageBatchDecoratedOperator": "batch",
}
STATE_KEYS: Final[dict[str, Makes]] = {IMAGE_KEY: "image", BATCH_KEY: "batch"}
_RESULT: Final = "return_value"

UNFINISHED: Final = frozenset(
    {None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule",
     "awaiting_input"}
)  # fmt: skip
"""States of task instances that something still comes of."""

MOST: Final = 5_000
"""Task instances that one page reads at most."""

_LARGEST: Final = 2_000_000
"""Characters of one document; a task's records with the longest prompts are a tenth of it."""

_LARGEST_OF_MANY: Final = 64_000
"""Characters of one result where a page reads more of them than :data:`_FEW`; ours are a tenth of it."""

_FEW: Final = 32

_AT_ONCE: Final = 500


@dataclass
class TaskRow:
    """
    A task instance, as Airflow's database has it.

    :param loop_index: the iteration of a Task Loop; None outside of one.
    :param result: what the task returned, as JSON; None when it returned nothing, or too much.
    :param spent: what a failed try told of its spending.
    :param kept: documents of ours in the task state store, by their keys.
    :param rendered: the template fields, as Airflow shows them: cut after some 4,096 characters.
    """

    id: Any
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    operator: str
    shown_operator: str
    label: str | None
    try_number: int
    max_tries: int
    begun: datetime | None
    ended: datetime | None
    loop_index: int | None = None
    region: tuple[Any, int] | None = None
    result: Any = None
    spent: Any = None
    kept: dict[str, Any] = field(default_factory=dict)
    rendered: dict[str, Any] = field(default_factory=dict)

    @property
    def makes(self) -> Makes | None:
        """Return what it makes; None: it is no task of ours, as far as can be told."""
        for known, makes in STATE_KEYS.items():
            if known in self.kept:
                return makes
        if self.operator in OPERATORS:
            return OPERATORS[self.operator]
        if isinstance(self.result, dict) and isinstance(self.result.get("images"), list):
            return "image" if "generation_id" in self.result else None
        return None

    @property
    def is_live(self) -> bool:
        """Return whether something still comes of it."""
        return self.state in UNFINISHED


def find(
    session: Session,
    dag_id: str,
    run_ids: Sequence[str],
    *,
    task_id: str | None = None,
    indexes: Collection[int] | None = None,
    any_operator: bool = False,
    limit: int = MOST,
) -> list[TaskRow]:
    """
    Return task instances of a Dag's runs that are of ours, by run, task and index.

    :param indexes: map indexes, and on Airflow 3.4 also iterations, to look at; None: all.
    :param any_operator: return others, too.
    """
    ti = TaskInstance
    query = select(*columns()).where(ti.dag_id == dag_id, ti.run_id.in_(run_ids))
    if task_id is not None:
        query = query.where(ti.task_id == task_id)
    if indexes is not None:
        query = query.where(ti.map_index.in_(indexes))
    if not any_operator:
        query = query.where(
            or_(ti.operator.in_(OPERATORS), ti.task_id.in_(_tasks_with_records(dag_id, run_ids)))
        )
    query = query.order_by(ti.run_id, ti.task_id, ti.map_index).limit(limit)
    rows = [task_row(*found) for found in session.execute(query)]
    name_iterations(session, rows)
    return rows


def count(session: Session, dag_id: str, run_id: str, task_id: str) -> int:
    """Return how many instances a task has in a run, whatever it is."""
    ti = TaskInstance
    same = (ti.dag_id == dag_id, ti.run_id == run_id, ti.task_id == task_id)
    return session.scalar(select(func.count(ti.id)).where(*same)) or 0


def columns() -> tuple[Any, ...]:
    """Return what is selected of task instances, for :func:`task_row`."""
    ti = TaskInstance
    named = (ti.id, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state, ti.operator,
             ti.custom_operator_name, ti._rendered_map_index, ti.try_number, ti.max_tries, ti.start_date,
             ti.end_date)  # fmt: skip
    return (*named, *((ti.region_id,) if HAS_REGIONS else ()))


def _tasks_with_records(dag_id: str, run_ids: Sequence[str]) -> Any:
    """Select the tasks whose operators are called otherwise: somebody's subclasses of ours."""
    store = TaskStateStoreModel
    named = (store.dag_id == dag_id, store.run_id.in_(run_ids), store.key.in_(STATE_KEYS))
    return select(store.task_id).where(*named).distinct()


def task_row(*found: Any) -> TaskRow:
    """Return a task instance out of :func:`columns`."""
    ti_id, dag_id, run_id, task_id, map_index, state, operator, custom, *more = found
    label, tries, most, begun, ended, *region_id = more
    return TaskRow(
        id=ti_id,
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        state=str(state) if state else None,
        operator=operator or "",
        shown_operator=(custom or operator or "")[:200],
        label=label,
        try_number=tries or 0,
        max_tries=most or 0,
        begun=utc(begun),
        ended=utc(ended),
        region=(region_id[0], map_index) if region_id else None,
    )


def name_iterations(session: Session, rows: Iterable[TaskRow]) -> None:
    """Tell map indexes from iterations: Airflow 3.4 has both in one column, and their region tells which."""
    if not HAS_REGIONS:
        return
    regional: defaultdict[Any, list[TaskRow]] = defaultdict(list)
    for row in rows:
        if row.region is not None and row.region[0].int:  # 0 is no region
            regional[row.region[0]].append(row)
    for ids in _chunks(list(regional)):
        for region_id, node_id, parent_index in airflow_regions.nodes(session, ids):
            for row in regional[region_id]:
                if node_id == row.task_id:
                    row.loop_index = parent_index
                else:
                    row.loop_index, row.map_index = row.map_index, -1


def load(
    session: Session, rows: Sequence[TaskRow], *, records: bool = True, rendered: bool = True
) -> Sequence[TaskRow]:
    """
    Read what belongs to task instances: results, and what else is asked for.

    :param records: read our documents of the task state store, too.
    :param rendered: read the template fields, too.
    """
    most = _LARGEST if len(rows) <= _FEW else _LARGEST_OF_MANY
    for _, of_dag in groupby(sorted(rows, key=lambda row: row.dag_id), key=lambda row: row.dag_id):
        for some in _chunks(list(of_dag)):
            _load_results(session, some, most)
            if records:
                _load_records(session, some)
            if rendered:
                _load_rendered(session, some, most)
    return rows


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), _AT_ONCE):
        yield items[begin : begin + _AT_ONCE]


def _load_results(session: Session, rows: Sequence[TaskRow], most: int) -> None:
    for row, key, value in _owned(session, rows, _models()[0], "value", (_RESULT, SPENT), most):
        if key == _RESULT:
            # Where a trigger ended the task it is JSON within JSON.
            row.result = _parse(value) or value if isinstance(value, str) else value
        else:
            row.spent = value


def _load_rendered(session: Session, rows: Sequence[TaskRow], most: int) -> None:
    for row, _, value in _owned(session, rows, _models()[1], "rendered_fields", (), most):
        row.rendered = value if isinstance(value, dict) else {}


def _models() -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the models that hold XComs, and those of rendered fields; of each the one that counts last."""
    if HAS_REGIONS:
        return airflow_regions.xcoms(), airflow_regions.rendered_fields()
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel

    return (XComModel,), (RenderedTaskInstanceFields,)


def _owned(
    session: Session,
    rows: Sequence[TaskRow],
    models: Sequence[Any],
    column: str,
    keys: Sequence[str],
    most: int,
) -> Iterator[tuple[TaskRow, str, Any]]:
    """Yield what models hold of task instances: by their ids, or as Airflow 3.3 has it, by their names."""
    for model in models:
        columns = (_bounded(getattr(model, column), most), *((model.key,) if keys else ()))
        owners: dict[Any, TaskRow]
        if HAS_REGIONS:
            owners = {(row.id,): row for row in rows}
            query = airflow_regions.select_owned(model, [row.id for row in rows], columns)
        else:
            owners = {(row.run_id, row.task_id, row.map_index): row for row in rows}
            names = (model.run_id, model.task_id, model.map_index)
            query = select(*names, *columns).where(*_names_are(model, rows))
        if keys:
            query = query.where(model.key.in_(keys))
        for found in session.execute(query):
            name, (text, *key) = tuple(found[: -len(columns)]), found[-len(columns) :]
            if name in owners and (value := _parse(text)) is not None:
                yield owners[name], key[0] if key else "", value


def _load_records(session: Session, rows: Sequence[TaskRow]) -> None:
    store = TaskStateStoreModel
    place = (store.region_id, store.region_index) if HAS_REGIONS else (store.map_index,)
    query = select(store.run_id, store.task_id, *place, store.key, _bounded(store.value, _LARGEST))
    query = query.where(*_names_are(store, rows), store.key.in_(STATE_KEYS))
    owners = {(row.run_id, row.task_id, *(row.region or (row.map_index,))): row for row in rows}
    for found in session.execute(query):
        owner = owners.get(tuple(found[:-2]))
        if owner is not None:
            owner.kept[found[-2]] = _parse(found[-1])


def _names_are(model: Any, rows: Sequence[TaskRow]) -> list[Any]:
    indexes = {row.map_index for row in rows}
    conditions = [
        model.dag_id == rows[0].dag_id,
        model.run_id.in_({row.run_id for row in rows}),
        model.task_id.in_({row.task_id for row in rows}),
    ]
    if not HAS_REGIONS and len(indexes) == 1:
        conditions.append(model.map_index == indexes.pop())
    return conditions


def _bounded(column: Any, most: int) -> Any:
    text = cast(column, Text)
    return case((func.length(text) <= most, text), else_=None)


def _parse(text: str | None) -> Any:
    """Return what a JSON text says; None where that is nothing, or makes no sense."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def newest_runs(session: Session, dag_id: str, *, limit: int, run_id: str = "") -> list[tuple[str, datetime]]:
    """
    Return a Dag's newest runs and when each was due, newest first.

    :param run_id: of the only one that is asked for; empty: all.
    """
    query = select(DagRun.run_id, DagRun.run_after).where(DagRun.dag_id == dag_id)
    if run_id:
        query = query.where(DagRun.run_id == run_id)
    query = query.order_by(DagRun.run_after.desc()).limit(limit)
    return [(run, utc(due) or datetime.min.replace(tzinfo=UTC)) for run, due in session.execute(query)]


def utc(moment: datetime | None) -> datetime | None:
    """Return a time out of the database in UTC; what has no zone there is UTC."""
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
