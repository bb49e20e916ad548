"""The tab of a task instance: its picture, its batch, or why there is nothing."""

from __future__ import annotations

import re
from typing import Any

from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from airflow_gpt_image.plugins.images.documents import airflow_rows, batch, papers, single
from airflow_gpt_image.plugins.images.documents.airflow_rows import HAS_REGIONS, TaskRow
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.pictures import key_of, place_of
from airflow_gpt_image.plugins.images.documents.places import Place, Query


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return a task instance's document, or the picture of one tile of its batch."""
    with create_session() as session:
        row = _find(session, place)
        several = airflow_rows.count(session, place.dag_id, place.run_id, place.task_id)
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
    if several > 1:
        everything = Place("mapped", row.dag_id, row.run_id, row.task_id)
        switch = papers.switch(place_of(row), everything, several, "this")
    if row.makes == "batch":
        return batch.build(row, place, query, context, switch)
    if place.key is not None:
        return single.picture_of(row, context) if place.key == key_of(row) else None
    return single.build(row, query, context, switch)


def place_in_region(place: Place, region_id: str, region_index: str) -> Place | None:
    """
    Return the place of the instance that a region of Airflow 3.4 has of a place's task; None: there is none.

    :param region_index: which of the region's instances it is.
    """
    if not HAS_REGIONS or not re.fullmatch(r"[0-9]{1,9}", region_index):
        return None
    with create_session() as session:
        found = airflow_rows.find(
            session,
            place.dag_id,
            [place.run_id],
            task_id=place.task_id,
            indexes={int(region_index)},
            any_operator=True,
        )
    rows = (row for row in found if row.region is not None and str(row.region[0]) == region_id)
    return next((place_of(row) for row in rows), None)


def _find(session: Session, place: Place) -> TaskRow | None:
    """Return the task instance of a place; of iterations that share an address, the latest."""
    # An iteration has no map index, whatever is in its place in the database.
    looped = HAS_REGIONS and place.loop_index is None and place.map_index < 0
    indexes = None if looped else {place.map_index, -1 if place.loop_index is None else place.loop_index}
    found = airflow_rows.find(
        session, place.dag_id, [place.run_id], task_id=place.task_id, indexes=indexes, any_operator=True
    )
    rows = [
        row
        for row in found
        if row.map_index == place.map_index and place.loop_index in (None, row.loop_index)
    ]
    return max(rows, key=lambda row: -1 if row.loop_index is None else row.loop_index, default=None)
