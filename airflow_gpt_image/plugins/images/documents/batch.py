"""The page of a task that makes a data set's images: live while it runs, afterwards by its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from airflow_gpt_image.batch.columns import caption_of
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.plugins.images.documents import batch_views, foreign, papers, pictures
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import dollars, price
from airflow_gpt_image.plugins.images.documents.batch_looks import StillReadingError
from airflow_gpt_image.plugins.images.documents.batch_rows import RowImage
from airflow_gpt_image.plugins.images.documents.batch_views import BatchView, Summary
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Place, Query
from airflow_gpt_image.plugins.images.documents.sheets import page_of
from airflow_gpt_image.plugins.images.documents.single import checked
from airflow_gpt_image.plugins.images.roots import OutsideRootsError

_PROMPT: Final = "prompt"
_LINKS: Final = ("manifest_csv", "failures", "unsettled", "contact_sheet", "manifest_parquet")
_CLEAR: Final = "Clear the task to try again."
_ENDED: Final = {
    "skipped": ("Airflow skipped this task.", _CLEAR),
    "upstream_failed": ("A task before this one failed, so this one did not run.", _CLEAR),
    "removed": ("This task is no longer in the Dag.", ""),
    "success": (
        "The task succeeded, and its result is not in Airflow's database. It may be kept elsewhere.",
        "The manifest in the task's destination has all images.",
    ),
}


def build(
    row: TaskRow, place: Place, query: Query, context: Context, switch: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Return the document of a batch, or the picture of one of its images."""
    title = foreign.text(row.label, 250) or row.task_id
    given = (title, context, query)
    try:
        view = batch_views.of_row(row, context, at_once=place.key is None)
        if place.key is not None:
            return None if view is None else _picture(view, place.key, row, context)
    except StillReadingError:
        why = "What is stored so far is being read. It appears here in a moment."
        return papers.empty("No images yet", why, "", *given, live=True, switch=switch)
    except OutsideRootsError as error:
        if place.key is not None:
            return None
        what = "Outside the gallery roots" if context.roots else "No gallery roots yet"
        return papers.problem(what, str(error), _address(row), *given, switch=switch)
    except GptImageError as error:
        if place.key is not None:
            return None
        return papers.problem(*_unreadable(row, error), *given, switch=switch)
    if view is None:
        return _nothing(row, given, switch)
    page = page_of(view.entries, query)
    captions = [*view.columns, _PROMPT]
    caption = _caption(query.caption, captions)
    shown = view.read([entry.source for entry in page.entries])
    return papers.document(
        "batch",
        *given,
        live=row.is_live,
        switch=switch,
        notices=view.notices,
        figures=_figures(view),
        counts=view.summary.counts,
        tiles=[tile(image, row, caption, context) for image in shown],
        **page.fields(),
        captions=captions,
        caption=caption,
        links=_links(row, context),
    )


def summary_of(row: TaskRow, context: Context) -> Summary:
    """Return a batch's counts and money, by its result alone where it has one."""
    known = batch_views.summary_of_result(row)
    if known is not None:
        return known
    try:
        view = batch_views.of_row(row, context)
    except (GptImageError, OutsideRootsError, StillReadingError):
        view = None
    return view.summary if view is not None else Summary.nothing(row)


def first_tiles(row: TaskRow, context: Context, most: int) -> list[dict[str, Any]]:
    """Return tiles of a batch's first images; none where they can't be read here."""
    try:
        images, columns = batch_views.first_images(row, most, context)
    except (GptImageError, OutsideRootsError, StillReadingError):
        return []
    caption = _caption("", [*columns, _PROMPT])
    return [tile(image, row, caption, context) for image in images]


def tile(image: RowImage, row: TaskRow, caption: str, context: Context) -> dict[str, Any]:
    """Return the tile of one image of a batch."""
    facts = image.facts
    prompt = foreign.text(facts.prompt, foreign.SHORT_PROMPT) or ""
    first = facts.images[0] if facts.images else None
    return {
        "key": image.key,
        "status": facts.status,
        "caption": image.columns.get(caption) or prompt[:200] or f"row {image.row}",
        "sub": _sub(image),
        "prompt": prompt,
        "reason": pictures.reason(facts, context.now, deferred=False, again=_CLEAR),
        "money": pictures.money(facts),
        "image": None if first is None else pictures.image(first, row.dag_id, context),
        "place": None,
        "time": foreign.iso(facts.finished),
    }


def _sub(image: RowImage) -> str:
    facts, begin = image.facts, f"row {image.row}"
    if facts.status == "done" and facts.price is not None and not facts.reused:
        return f"{begin} · {dollars(price(facts.price) or '')}"
    return pictures.sub_line(begin, facts)


def _picture(view: BatchView, key: str, row: TaskRow, context: Context) -> dict[str, Any] | None:
    index = view.index_of(key)
    if index is None:
        return None
    [image] = view.read([index])
    whole = {
        **tile(image, row, _caption("", [*view.columns, _PROMPT]), context),
        **pictures.details(image.facts, row.dag_id, context),
        "columns": image.columns,
        "row": image.row,
        "variant": image.variant,
        "map_index": row.map_index if row.map_index >= 0 else None,
        "deferred": row.state == "deferred",
        "outlives_clear": True,
    }
    return checked(whole, context)


def _caption(wanted: str, captions: Sequence[str]) -> str:
    """Return the column that tiles are called by: the wanted one, else one that names things."""
    return wanted if wanted in captions else caption_of(captions) or _PROMPT


def _figures(view: BatchView) -> list[dict[str, Any]]:
    counts, summary = view.summary.counts, view.summary
    money = [("Paid", summary.paid), ("Refunded", summary.refunded), ("At stake", summary.at_stake)]
    done = papers.figure("Done", f"{counts['done']:,}", f"of {counts['all']:,}")
    found = [done, *papers.figures_of_money(money)]
    left = counts["in_flight"] + counts["not_sent"]
    if view.rate and left:
        found.append(papers.figure("Left", _span(left / view.rate), f"at {view.rate:.1f}/s"))
    return found


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"


def _links(row: TaskRow, context: Context) -> list[dict[str, str]]:
    result = foreign.mapping(row.result)
    links = (context.link(row.dag_id, foreign.path(result.get(name))) for name in _LINKS)
    return [link for link in links if link is not None]


def _nothing(
    row: TaskRow, given: tuple[str, Context, Query], switch: dict[str, Any] | None
) -> dict[str, Any]:
    result = foreign.mapping(row.result)
    if result.get("dry_run") is True:
        cost = foreign.text(result.get("usd"), 30) or "?"
        images = foreign.count(result.get("to_pay")) or 0
        why = f"This was a dry run: {images:,} images for ${cost}. Nothing was sent."
        return papers.empty("No images", why, "Set dry_run=False to make them.", *given, switch=switch)
    if row.is_live:
        why = "The task has not planned its data set yet. Its pictures appear here while it runs."
        return papers.empty("No images yet", why, "", *given, live=True, switch=switch)
    why, do = _ENDED.get(
        row.state or "", ("The task ended before it sent anything. Its log says why.", _CLEAR)
    )
    return papers.empty("No images", why, do, *given, switch=switch)


def _address(row: TaskRow) -> str:
    return f"gallery_roots = {batch_views.destination_of(row) or '…'}"


def _unreadable(row: TaskRow, error: GptImageError) -> tuple[str, str, str]:
    """Return what is said of a destination that can't be read here: what, why, what to do."""
    destination = batch_views.destination_of(row) or "the destination"
    store = destination.partition("://")[2].partition("/")[0]
    what = (
        f"This server can't read {destination.partition('://')[0]}://{store}"
        if store
        else "This server can't read it"
    )
    why = f"{foreign.text(error.message, 300)}\nThe pictures are safe: only this page can't show them."
    return what, why, f"Open the folder yourself: {destination}"
