"""Make tiles of task instances, whatever they make: one image, or a data set's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image.plugins.images.documents import batch, foreign
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.image_facts import ImageFacts, of_row
from airflow_gpt_image.plugins.images.documents.pictures import place_of, tile
from airflow_gpt_image.plugins.images.documents.places import Place, Status

_THREADS: Final = 8


@dataclass(frozen=True)
class TaskTile:
    """
    A task instance's tile, and what is counted of it.

    :param images: how many the task makes; ``done``: how many are there.
    :param documents: makes at most so many tiles of its pictures; of a data set's a few first rows. It may
        look at a destination.
    """

    place: Place
    status: Status
    images: int
    done: int
    paid: Decimal
    refunded: Decimal
    at_stake: Decimal
    price: Decimal | None
    seconds: float | None
    words: str
    row: TaskRow
    counts: dict[str, int]
    documents: Callable[[int], list[dict[str, Any]]]


def tiles_of(rows: Iterable[TaskRow], context: Context) -> list[TaskTile]:
    """Return the tiles of task instances of ours, in their order."""
    return [_batch(row, context) if row.makes == "batch" else _image(row, context) for row in rows]


def side_by_side(made: Iterable[TaskTile]) -> list[list[dict[str, Any]]]:
    """Return the first tile of each, if it has any; stores are asked about many at a time."""
    made = list(made)
    if not any(tile.row.makes == "batch" for tile in made):
        return [tile.documents(1) for tile in made]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="gpt-image-tiles") as threads:
        return list(threads.map(lambda tile: tile.documents(1), made))


def _image(row: TaskRow, context: Context) -> TaskTile:
    facts = of_row(row, context.now)
    prompt = foreign.text(facts.prompt, foreign.SHORT_PROMPT)
    stake = facts.price if facts.status == "unknown" else None
    count = max(1, len(facts.images))
    counts = {"all": count, "done": 0, "in_flight": 0, "failed": 0, "unknown": 0, "not_sent": 0}
    counts[facts.status] = count
    return TaskTile(
        place=place_of(row),
        status=facts.status,
        images=count,
        done=len(facts.images),
        paid=cost_of(facts),
        refunded=(facts.price or NOTHING) if facts.refunded else NOTHING,
        at_stake=stake or NOTHING,
        price=facts.price,
        seconds=facts.seconds,
        words=" ".join(filter(None, [prompt, row.label, facts.code, facts.why])),
        row=row,
        counts=counts,
        documents=lambda most: [tile(row, facts, context)],
    )


def cost_of(facts: ImageFacts) -> Decimal:
    """Return what a task instance has spent: as it told, or as its record says while it is at work."""
    if facts.spent is None:
        return NOTHING if facts.status == "unknown" else facts.paid
    # What it told counts a submit that may have been accepted: that one is at stake.
    return max(NOTHING, facts.spent - facts.paid) if facts.status == "unknown" else facts.spent


def _batch(row: TaskRow, context: Context) -> TaskTile:
    summary = batch.summary_of(row, context)
    return TaskTile(
        place=place_of(row),
        status=summary.status,
        images=summary.counts["all"],
        done=summary.counts["done"],
        paid=summary.paid,
        refunded=summary.refunded,
        at_stake=summary.at_stake,
        price=None,
        seconds=summary.seconds,
        words=" ".join(filter(None, [row.label, row.task_id])),
        row=row,
        counts=summary.counts,
        documents=lambda most: batch.first_tiles(row, context, most),
    )
