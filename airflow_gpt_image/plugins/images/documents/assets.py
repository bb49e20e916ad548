"""The view of an asset (Airflow 3.4): its newest picture, and the events that brought the others."""

from __future__ import annotations

from typing import Any, Final

from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_gpt_image.plugins.images.documents import airflow_rows, foreign, papers, single
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Place, Query
from airflow_gpt_image.plugins.images.documents.tiles import TaskTile, tiles_of

MOST_EVENTS: Final = 30
_TILES: Final = 6

Source = tuple[str, str, str, int]


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return the document of an asset: of events of Dags that who asks may read."""
    if place.key is not None:
        return None
    name, events, rows = _read(place.asset_id, context)
    given = (name, context, query)
    made = dict(zip(rows, tiles_of(rows.values(), context), strict=True))
    if not made:
        why = f"No GptImage task that you may see is among the last {MOST_EVENTS} that updated this asset."
        return papers.empty("No images here", why, "", *given)
    newest = next((tile for source in events.values() if (tile := made.get(source)) and tile.done), None)
    return papers.document(
        "asset",
        *given,
        newest=_newest(newest, context),
        events=[_event(event, made[source]) for event, source in events.items() if source in made],
    )


def _read(asset_id: int, context: Context) -> tuple[str, dict[Any, Source], dict[Source, TaskRow]]:
    """Return the asset's name, its latest events and their sources, and those of ours."""
    event = AssetEvent
    columns = (event.id, event.timestamp, event.source_dag_id, event.source_run_id, event.source_task_id,
               event.source_map_index)  # fmt: skip
    with create_session() as session:
        name = session.scalar(select(AssetModel.name).where(AssetModel.id == asset_id))
        query = select(*columns).where(event.asset_id == asset_id).order_by(event.timestamp.desc())
        found = session.execute(query.limit(MOST_EVENTS)).all()
        readable = {dag_id for dag_id in {row[2] for row in found if row[2]} if context.can_read(dag_id)}
        events = {
            (number, airflow_rows.utc(at)): (
                dag_id,
                run_id or "",
                task_id or "",
                -1 if index is None else index,
            )
            for number, at, dag_id, run_id, task_id, index in found
            if dag_id in readable
        }
        sources = set(events.values())
        rows: dict[Source, TaskRow] = {}
        for dag_id in readable:
            runs = sorted({run_id for of_dag, run_id, _, _ in sources if of_dag == dag_id})
            of_dag = airflow_rows.find(session, dag_id, runs)
            wanted = {_source(row): row for row in of_dag if _source(row) in sources}
            airflow_rows.load(session, list(wanted.values()))
            rows |= {source: row for source, row in wanted.items() if row.makes is not None}
    return foreign.text(name, 250) or f"Asset {asset_id}", events, rows


def _source(row: TaskRow) -> Source:
    # An iteration of a loop stands in events as what Airflow calls its index.
    index = row.loop_index if row.loop_index is not None and row.map_index < 0 else row.map_index
    return row.dag_id, row.run_id, row.task_id, index


def _newest(tile: TaskTile | None, context: Context) -> dict[str, Any] | None:
    if tile is None:
        return None
    if tile.row.makes == "image":
        return single.picture_of(tile.row, context)
    return next(iter(tile.documents(1)), None)


def _event(event: Any, tile: TaskTile) -> dict[str, Any]:
    shown = tile.documents(_TILES)
    return {
        "time": foreign.iso(event[1]),
        "dag_id": tile.row.dag_id,
        "run_id": tile.row.run_id,
        "place": tile.place.path,
        "tiles": [each | {"place": each["place"] or tile.place.path} for each in shown],
    }
