"""Make the documents of single pictures and of tiles out of what is known of an image, in people's words."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.plugins.images.documents import foreign
from airflow_gpt_image.plugins.images.documents.airflow_rows import HAS_REGIONS, TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING, dollars, price, total
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.image_facts import ImageFacts, StoredImage
from airflow_gpt_image.plugins.images.documents.places import Place, index_text

NOT_KEPT: Final = "Not kept. This picture is only at the API, which does not keep it for ever."
UNKNOWN: Final = "Sent, no answer. It may be paid for."


def place_of(row: TaskRow) -> Place:
    """Return the place of a task instance's own page."""
    ids = (row.dag_id, row.run_id, row.task_id)
    return Place("task", *ids, map_index=row.map_index, loop_index=row.loop_index)


def key_of(row: TaskRow) -> str:
    """Return what tells a task instance from the others of its task and run."""
    return index_text(row.map_index, row.loop_index)


def tile(
    row: TaskRow, facts: ImageFacts, context: Context, *, caption: str = "", sub: str = ""
) -> dict[str, Any]:
    """
    Return the tile of a task instance that makes one image.

    :param caption: what it is called by; empty: its prompt.
    :param sub: what stands below; empty: its index, price and seconds.
    """
    prompt = foreign.text(facts.prompt, foreign.SHORT_PROMPT) or ""
    first = facts.images[0] if facts.images else None
    return {
        "key": key_of(row),
        "status": facts.status,
        "caption": caption or prompt or foreign.text(row.label, 250) or row.task_id,
        "sub": sub or sub_line(_index(row), facts),
        "prompt": prompt,
        "reason": reason(facts, context.now, deferred=row.state == "deferred", again=_clear_words(row)),
        "money": money(facts),
        "image": None if first is None else image(first, row.dag_id, context),
        "place": place_of(row).path,
        "time": foreign.iso(facts.finished or facts.since),
    }


def picture(row: TaskRow, facts: ImageFacts, context: Context) -> dict[str, Any]:
    """Return the picture of a task instance that makes one image, with all that is known of it."""
    return {
        **tile(row, facts, context),
        "prompt": facts.prompt or "",
        **details(facts, row.dag_id, context),
        "columns": {},
        "row": None,
        "variant": None,
        "map_index": row.map_index if row.map_index >= 0 else None,
        "loop_index": row.loop_index,
        "deferred": row.state == "deferred",
        "tries": {"number": row.try_number, "most": row.max_tries + 1},
    }


def details(facts: ImageFacts, dag_id: str, context: Context) -> dict[str, Any]:
    """Return what a picture has beyond its tile, whether it is a task's or a row's of a data set."""
    in_flight = facts.status == "in_flight"
    return {
        "images": [image(each, dag_id, context) for each in facts.images],
        "ratio": facts.ratio,
        "tier": facts.tier,
        "price": price(facts.price),
        "credits": None if facts.credits is None else f"{plain(facts.credits):f}",
        "paid": price(facts.paid),
        "refunded": facts.refunded,
        "reused": facts.reused,
        "kept": facts.kept,
        "seconds": _elapsed(facts, context.now) if in_flight else facts.seconds,
        "since": foreign.iso(facts.since) if facts.status in ("in_flight", "unknown") else None,
        "generation_id": facts.generation_id,
        "code": facts.code,
        "message": facts.why,
        "connection": facts.connection,
        # A clear deletes a task's state on Airflow 3.4: then only a record elsewhere outlives it.
        "outlives_clear": not HAS_REGIONS or facts.records_at is not None,
        "deciding": _deciding(facts) if facts.status == "unknown" else [],
        "spent": None if facts.spent is None else _spent(facts.spent),
        "balance": None,
    }


def image(stored: StoredImage, dag_id: str, context: Context) -> dict[str, Any]:
    """Return the document of one image: where a browser gets it, or why not."""
    facts = {"width": stored.width, "height": stored.height, "bytes": stored.bytes}
    if stored.path is None and stored.url and stored.url.startswith("https://"):
        # It lives at the API's file host for a day or so, and whoever sees this page may read its address.
        urls = dict.fromkeys(("thumb", "thumb2", "stage", "full", "download"), stored.url)
        return {**urls, **facts, "path": None, "problem": None}
    return context.image(dag_id, stored.path, **facts, version=stored.version)


def sub_line(begin: str, facts: ImageFacts) -> str:
    """Return the line below a tile's caption: what it is, what it cost, and how long it took."""
    parts = [begin]
    cost = price(facts.price)
    if facts.status == "done":
        parts.append("reused" if facts.reused else dollars(cost) if cost else "")
        parts.append(f"{facts.seconds:g} s" if facts.seconds is not None else "")
    elif facts.refunded:
        parts.append("refunded")
    elif facts.status == "unknown" and cost:
        parts.append(f"{dollars(cost)} at stake")
    elif facts.status in ("in_flight", "failed") and facts.paid:
        parts.append(f"{dollars(price(facts.paid) or '')} charged")
    return " · ".join(filter(None, parts))


def reason(facts: ImageFacts, now: datetime, *, deferred: bool, again: str) -> str | None:
    """
    Return what stands on a tile without a picture; None where there is one.

    :param again: what a person does to have it made again.
    """
    match facts.status:
        case "done":
            return None
        case "in_flight":
            elapsed = _elapsed(facts, now)
            lines = [f"{elapsed:g} s so far." if elapsed is not None else "It is being sent."]
            return " ".join([*lines, *(["No worker slot is held."] if deferred else [])])
        case "unknown":
            return UNKNOWN
        case "not_sent":
            return facts.why or "Not sent yet."
    told = ": ".join(filter(None, [facts.code, facts.why])) or "It failed."
    return " ".join([foreign.text(told, 500) or "", _paid_words(facts), again]).strip()


def money(facts: ImageFacts) -> str | None:
    """Return what a picture without an image came to, in a word or two."""
    cost = price(facts.price)
    if facts.refunded:
        return "Refunded"
    if facts.status == "unknown" and cost:
        return f"At stake: {dollars(cost)}"
    if facts.status in ("in_flight", "failed") and facts.paid:
        return f"Charged: {dollars(price(facts.paid) or '')}"
    return "Nothing was charged" if facts.status == "failed" else None


def _paid_words(facts: ImageFacts) -> str:
    if facts.refunded:
        return "Refunded."
    return "Paid for." if facts.paid else "Nothing was charged."


def _elapsed(facts: ImageFacts, now: datetime) -> float | None:
    return None if facts.since is None else max(0.0, round((now - facts.since).total_seconds()))


def _spent(amount: Decimal) -> str:
    return "0.00" if amount == NOTHING else total(amount)


def _index(row: TaskRow) -> str:
    looped = f"iteration {row.loop_index}" if row.loop_index is not None else ""
    mapped = f"#{row.map_index}" if row.map_index >= 0 else ""
    return " ".join(filter(None, [looped, mapped]))


def _clear_words(row: TaskRow) -> str:
    return "Clear this map index to try again." if row.map_index >= 0 else "Clear the task to try again."


def _deciding(facts: ImageFacts) -> list[dict[str, str]]:
    again = 'Draw it again. This may pay twice.\n`on_unknown_submit="resubmit"`\n'
    again += "Set it on the task, then clear the task."
    fetch = 'Fetch what you paid for. This pays nothing.\n`GptImageSensor(generation_id="…")`'
    if facts.records_at is not None:
        fetch += "\nGive it the same `destination`."
    return [
        {"title": "No charge, or paying twice is fine", "text": again},
        {"title": "Yes, and I know its id", "text": fetch},
    ]
