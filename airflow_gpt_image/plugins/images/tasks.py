"""The tab of a task instance: its picture, its batch, or why there is nothing."""

from __future__ import annotations

from typing import Any

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images import airflow_rows, batch, papers, single
from airflow_gpt_image.plugins.images.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.context import Context
from airflow_gpt_image.plugins.images.pictures import key_of, place_of
from airflow_gpt_image.plugins.images.places import Place, Query


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return a task instance's document, or the picture of one tile of its batch."""
    with create_session() as session:
        siblings = airflow_rows.find(
            session, place.dag_id, [place.run_id], task_id=place.task_id, any_operator=True
        )
        row = chosen(siblings, place)
        if row is not None:
            airflow_rows.load(session, [row])
    if row is None:
        if place.key is not None:
            return None
        return papers.empty(
            "No images here",
            "There is no such task instance. The run, or the task in it, may have been deleted.",
            "Look at another run.",
            place.task_id,
            context,
            query,
        )
    switch = None
    if len(siblings) > 1:
        everything = Place("mapped", row.dag_id, row.run_id, row.task_id)
        switch = papers.switch(place_of(row), everything, len(siblings), "this")
    if row.makes == "batch":
        return batch.build(row, place, query, context, switch)
    if place.key is not None:
        return single.picture_of(row, context) if place.key == key_of(row) else None
    return single.build(row, query, context, switch)


def chosen(rows: list[TaskRow], place: Place) -> TaskRow | None:
    """Return the task instance of a place; of iterations that share an address, the latest."""
    for row in reversed(rows):
        looped = place.loop_index in (None, row.loop_index)
        if row.map_index == place.map_index and looped:
            return row
    return rows[0] if len(rows) == 1 and place.map_index < 0 else None
