"""
What Airflow 3.4 has and 3.3 has not: regions, and tables that are keyed by a task instance's id.

Nothing here may be called on 3.3. What was stored before an upgrade lies in tables of its own, by names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

from airflow.models import renderedtifields, taskinstance, xcom
from sqlalchemy import and_, select
from sqlalchemy.orm import Session

_xcom: Any = xcom
_rendered: Any = renderedtifields
_owner: Any = taskinstance

_NAMES = ("dag_id", "task_id", "run_id", "map_index")


def xcoms() -> Sequence[Any]:
    """Return the models that hold XComs, the one that counts last."""
    return _xcom.XComModelV1, _xcom.XComModelV2


def rendered_fields() -> Sequence[Any]:
    """Return the models that hold rendered template fields, the one that counts last."""
    return _rendered.LegacyRenderedTaskInstanceFields, _rendered.RenderedTaskInstanceFields


def nodes(session: Session, region_ids: Collection[UUID]) -> Iterator[tuple[UUID, str, int | None]]:
    """Yield of regions which task or loop each one executes, and at which index of the region around it."""
    from airflow.models.dynamic_region import DynamicRegion  # type: ignore[import-not-found]

    region = DynamicRegion
    query = select(region.id, region.node_id, region.parent_region_index).where(region.id.in_(region_ids))
    for found in session.execute(query):
        yield found[0], found[1], found[2]


def select_owned(model: Any, ids: Collection[UUID], columns: Collection[Any]) -> Any:
    """Select the id of a task instance, and what a model holds of it."""
    if hasattr(model, "task_instance_id"):
        return select(model.task_instance_id, *columns).where(model.task_instance_id.in_(ids))
    owner = _owner.LegacyTaskDataOwner
    same = and_(*(getattr(owner, name) == getattr(model, name) for name in _NAMES))
    query = select(owner.task_instance_id, *columns).select_from(owner).join(model, same)
    return query.where(owner.task_instance_id.in_(ids))
