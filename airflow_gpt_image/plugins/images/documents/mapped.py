"""The sheet of a mapped task, or of one in a loop: every index and iteration is a tile."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows, foreign, papers, single
from airflow_gpt_image.plugins.images.documents.airflow_rows import MOST, TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import dollars, total
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.pictures import key_of
from airflow_gpt_image.plugins.images.documents.places import Place, Query
from airflow_gpt_image.plugins.images.documents.sheets import Entry, page_of
from airflow_gpt_image.plugins.images.documents.tiles import TaskTile, side_by_side, tiles_of


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return the sheet of all instances of a task in a run, or the picture of one of them."""
    rows = read(place)
    if place.key is not None:
        chosen = [row for row in rows if key_of(row) == place.key and row.makes == "image"]
        return single.picture_of(chosen[0], context) if chosen else None
    if not rows:
        why = "No GptImage task of this name ran in this run."
        return papers.empty("No images here", why, "", place.task_id, context, query)
    made = tiles_of(rows, context)
    page = page_of([_entry(tile) for tile in made], query)
    return papers.document(
        "sheet",
        place.task_id,
        context,
        query,
        live=any(row.is_live for row in rows),
        switch=_switch(place, made, query),
        notices=_notices(rows),
        figures=figures(made),
        counts=papers.counts(tile.status for tile in made),
        tiles=_documents([entry.source for entry in page.entries]),
        **page.fields(),
        captions=[],
        caption="",
        links=[],
    )


def read(place: Place) -> list[TaskRow]:
    """Return all instances of a task in a run, by index and iteration."""
    with create_session() as session:
        rows = airflow_rows.find(
            session, place.dag_id, [place.run_id], task_id=place.task_id, any_operator=True
        )
        airflow_rows.load(session, rows)
    ours = [row for row in rows if row.makes is not None]
    return sorted(ours, key=lambda row: (-1 if row.loop_index is None else row.loop_index, row.map_index))


def figures(made: Sequence[TaskTile]) -> list[dict[str, Any]]:
    """Return how many images are there, and the money."""
    done, images = sum(tile.done for tile in made), sum(tile.images for tile in made)
    sums = [
        ("Paid", sum((tile.paid for tile in made), Decimal(0))),
        ("Refunded", sum((tile.refunded for tile in made), Decimal(0))),
        ("At stake", sum((tile.at_stake for tile in made), Decimal(0))),
    ]
    shown = [sums[0], *(each for each in sums[1:] if each[1])]
    return [papers.figure("Done", f"{done:,}", f"of {images:,}"), *papers.figures_of_money(shown)]


def _documents(made: Sequence[TaskTile]) -> list[dict[str, Any]]:
    """Return the tiles of a page; one of a data set is its first image's, under its index."""
    found = []
    for tile, shown in zip(made, side_by_side(made), strict=True):
        row, index = tile.row, key_of(tile.row)
        if row.makes == "image":
            found += shown
            continue
        first = shown[0] if shown else {"image": None, "prompt": "", "time": None, "money": None}
        told = f"{tile.done:,} of {tile.images:,} images"
        named = {
            "key": index,
            "place": tile.place.path,
            "status": tile.status,
            "caption": foreign.text(row.label, 250) or f"#{index}",
            "sub": f"#{index} · {told} · {dollars(total(tile.paid))}",
            "reason": None if first["image"] else told,
        }
        found.append(first | named)
    return found


def _entry(tile: TaskTile) -> Entry[TaskTile]:
    return Entry(tile.status, tile.price, tile.seconds, tile.words.casefold(), tile)


def _switch(place: Place, made: Sequence[TaskTile], query: Query) -> dict[str, Any] | None:
    if len(made) < 2:
        return None
    first = next((tile for tile in made if tile.status == "done"), made[0])
    return papers.switch(first.place, place, len(made), "all")


def _notices(rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
    if len(rows) < MOST:
        return []
    return [papers.notice(f"Only the first {MOST:,} task instances are shown.")]
