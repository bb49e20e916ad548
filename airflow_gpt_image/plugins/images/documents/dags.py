"""The tab of a Dag, and of one of its tasks: what its runs made and spent, and the chosen run's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from statistics import median_low
from typing import Any

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows, foreign, papers, runs, single
from airflow_gpt_image.plugins.images.documents.airflow_rows import MOST, TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import dollars, totals
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import RUNS, Place, Query
from airflow_gpt_image.plugins.images.documents.tiles import TaskTile, side_by_side, tiles_of


@dataclass(frozen=True)
class _Run:
    """A run, with its tiles."""

    run_id: str
    due: datetime
    made: Sequence[TaskTile]

    @property
    def usd(self) -> Decimal:
        return sum((tile.paid for tile in self.made), Decimal(0))

    @property
    def images(self) -> int:
        return sum(tile.done for tile in self.made)

    @property
    def best(self) -> TaskTile | None:
        """Return the tile that stands for the run: its first with a picture, else its first."""
        return next((tile for tile in self.made if tile.done), self.made[0] if self.made else None)


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return the document of a Dag or of one of its tasks."""
    if place.key is not None:
        return None
    found = _read(place, query, context)
    if query.runs < RUNS[-1] and not any(run.made for run in found):
        query = replace(query, runs=RUNS[-1])
        found = _read(place, query, context)
    title = place.task_id or place.dag_id
    if not any(run.made for run in found):
        of = "task" if place.task_id else "Dag"
        why = f"This tab shows what GptImage tasks make. The last {query.runs} runs of this {of} have none."
        return papers.empty("No images here", why, "", title, context, query)
    chosen = next((run for run in found if run.run_id == query.run), None)
    chosen = chosen or next(run for run in found if run.made)
    return papers.document(
        "dag",
        title,
        context,
        query,
        live=any(tile.row.is_live for run in found for tile in run.made),
        notices=_notices(found),
        figures=_figures(found),
        ranges=list(RUNS),
        runs=_bars(place, found),
        chosen=_chosen(place, chosen, context),
    )


def _read(place: Place, query: Query, context: Context) -> list[_Run]:
    rows: dict[str, list[TaskRow]] = {}
    with create_session() as session:
        newest = airflow_rows.newest_runs(session, place.dag_id, limit=query.runs)
        if query.run and query.run not in dict(newest):
            newest += airflow_rows.newest_runs(session, place.dag_id, limit=1, run_id=query.run)
        left = MOST
        for run_id, _ in newest:
            found = airflow_rows.find(
                session, place.dag_id, [run_id], task_id=place.task_id or None, limit=left
            )
            rows[run_id] = found
            left -= len(found)
            if left <= 0:
                break
        everything = [row for found in rows.values() for row in found]
        # What has a result needs no records, and most have one.
        ended = [row for row in everything if row.state == "success"]
        airflow_rows.load(session, ended, records=False, rendered=False)
        airflow_rows.load(session, [row for row in everything if row.state != "success"], rendered=False)
    made = {run_id: [row for row in found if row.makes is not None] for run_id, found in rows.items()}
    return [_Run(run_id, due, tiles_of(made.get(run_id, ()), context)) for run_id, due in newest]


def _bars(place: Place, found: Sequence[_Run]) -> list[dict[str, Any]]:
    most = max(run.usd for run in found)
    best = [run.best for run in found]
    shown = iter(side_by_side(tile for tile in best if tile is not None))
    first = [next(iter(next(shown)), None) if tile is not None else None for tile in best]
    return [
        {
            "run_id": run.run_id,
            "date": foreign.iso(run.due),
            "usd": usd,
            "images": run.images,
            "image": tile["image"] if tile else None,
            "status": tile["status"] if tile else None,
            "reason": tile["reason"] if tile else None,
            "place": Place("run", place.dag_id, run.run_id).path,
            "share": float(run.usd / most) if most else 0.0,
        }
        for run, usd, tile in zip(found, totals(run.usd for run in found), first, strict=True)
    ]


def _chosen(place: Place, chosen: _Run, context: Context) -> dict[str, Any]:
    """Return the chosen run with its tasks; one that made a single picture has that, with all its facts."""
    rows = runs.read(place.dag_id, chosen.run_id, task_id=place.task_id or None)
    made = tiles_of(rows, context)
    alone = len(rows) == 1 and rows[0].makes == "image"
    return {
        "run_id": chosen.run_id,
        "date": foreign.iso(chosen.due),
        "usd": totals([chosen.usd])[0],
        "place": Place("run", place.dag_id, chosen.run_id).path,
        "tasks": runs.tasks_of(made),
        "picture": single.picture_of(rows[0], context) if alone else None,
    }


def _figures(found: Sequence[_Run]) -> list[dict[str, Any]]:
    spent = [run.usd for run in found if run.made]
    refunded = sum((tile.refunded for run in found for tile in run.made), Decimal(0))
    images = sum(run.images for run in found)
    sums = [sum(spent, Decimal(0)), median_low(spent), refunded]
    written = [dollars(text) for text in totals(sums)]
    count = f"{images:,} image{'' if images == 1 else 's'}"
    several = "Last run" if len(spent) == 1 else f"Last {len(spent)} runs"
    named = zip((several, "Spent", "Median run", "Refunded"), (count, *written), strict=True)
    return [papers.figure(label, value) for label, value in named]


def _notices(found: Sequence[_Run]) -> list[dict[str, Any]]:
    if sum(len(run.made) for run in found) < MOST:
        return []
    return [papers.notice(f"Only the newest {MOST:,} task instances are counted.")]
