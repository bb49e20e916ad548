"""The tab of a Dag run: each task of ours with a few of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows, mapped, papers, single
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import total
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.pictures import key_of
from airflow_gpt_image.plugins.images.documents.places import Place, Query
from airflow_gpt_image.plugins.images.documents.tiles import TaskTile, side_by_side, tiles_of

_SHOWN: Final = 6


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return the document of a run, or the picture of one of its tiles."""
    rows = read(place.dag_id, place.run_id)
    if place.key is not None:
        chosen = [row for row in rows if row.makes == "image" and tile_key(row) == place.key]
        return single.picture_of(chosen[0], context) if chosen else None
    if not rows:
        why = "No GptImage task has run in this run. This tab shows what they make."
        return papers.empty("No images here", why, "", place.run_id, context, query)
    made = tiles_of(rows, context)
    return papers.document(
        "run",
        place.run_id,
        context,
        query,
        live=any(row.is_live for row in rows),
        figures=mapped.figures(made),
        tasks=tasks_of(made),
    )


def read(dag_id: str, run_id: str, *, task_id: str | None = None) -> Sequence[TaskRow]:
    """Return a run's task instances of ours, by task and index."""
    with create_session() as session:
        rows = airflow_rows.find(session, dag_id, [run_id], task_id=task_id)
        airflow_rows.load(session, rows)
    return [row for row in rows if row.makes is not None]


def tile_key(row: TaskRow) -> str:
    """Return what tells a task instance from the others of its run."""
    return f"{row.task_id}~{key_of(row)}"


def tasks_of(made: Sequence[TaskTile]) -> list[dict[str, Any]]:
    """Return each task with its count, its dollars and the first of its tiles."""
    found = []
    for task_id, group in groupby(made, key=lambda tile: tile.row.task_id):
        of_task = list(group)
        row = of_task[0].row
        several = len(of_task) > 1
        place = Place("mapped", row.dag_id, row.run_id, task_id) if several else of_task[0].place
        counts = {name: sum(tile.counts[name] for tile in of_task) for name in of_task[0].counts}
        shown = _shown(of_task)
        found.append(
            {
                "task_id": task_id,
                "place": place.path,
                "count": counts["all"],
                "indexes": len({tile.row.map_index for tile in of_task if tile.row.map_index >= 0}),
                "usd": total(sum((tile.paid for tile in of_task), Decimal(0))),
                "counts": counts,
                "tiles": shown,
                "more": max(0, counts["all"] - len(shown)),
            }
        )
    return found


def _shown(of_task: Sequence[TaskTile]) -> list[dict[str, Any]]:
    """Return a task's first tiles; a batch's are those of its rows."""
    if len(of_task) == 1:
        return _renamed(of_task[0], of_task[0].documents(_SHOWN))
    first = of_task[:_SHOWN]
    documents = side_by_side(first)
    return [each for tile, shown in zip(first, documents, strict=True) for each in _renamed(tile, shown)]


def _renamed(tile: TaskTile, shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    begin = f"{tile.row.task_id}~"
    return [
        each | {"key": f"{begin}{each['key']}", "place": each["place"] or tile.place.path} for each in shown
    ]
