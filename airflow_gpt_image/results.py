"""What a task returns: a small plain dict, for XCom takes nothing else across processes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.api.text import redact_queries
from airflow_gpt_image.ledger.record import GenerationFacts, Record
from airflow_gpt_image.log import Log, span
from airflow_gpt_image.storage.folders import Folder


def of_record(record: Record, folder: Folder | None) -> dict[str, Any]:
    """
    Return what is known of a generation, by its record.

    Money is in decimal strings, times in ISO 8601 UTC, None where the API gave none. What was asked for and
    what it cost is left out where somebody else submitted it.

    :param folder: that the images are in; None when they are where the API put them.
    """
    facts = record.generation or GenerationFacts(status=record.state)
    images = [image.located(folder).model_dump(mode="json") for image in record.images]
    first = images[0] if images else {}
    result = {
        "generation_id": record.generation_id,
        "status": facts.status,
        "model": facts.model,
        "created_at": _iso(facts.created_at),
        "completed_at": _iso(facts.completed_at),
        "metadata": facts.metadata,
        "images": images,
        # Of the first, so that the next task needs no list: what most generations have one of.
        "path": first.get("path"),
        "url": first.get("url"),
    }
    if record.request is None:
        return result
    return result | {
        "aspect_ratio": record.request.aspect_ratio,
        "resolution": record.request.resolution,
        "credits": str(plain(record.credits)),
        "usd": str(plain(record.usd)),
        "fingerprint": record.fingerprint,
    }


def spent_fields(charged: Decimal, refunded: Decimal, prices: Prices) -> dict[str, str]:
    """Return what a task instance spent since its last clear: credits, and the net sum in US dollars."""
    return {
        "charged": str(plain(charged)),
        "refunded": str(plain(refunded)),
        "usd": str(prices.usd(charged - refunded)),
    }


def event_fields(result: dict[str, Any]) -> dict[str, Any]:
    """Return what an asset's event tells those who are scheduled on it."""
    paths = [image["path"] for image in result["images"] if image["path"] is not None]
    names = ("credits", "usd", "fingerprint", "generation_id")
    return {"paths": paths, "count": len(result["images"]), **{name: result[name] for name in names}}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


NOT_STORED: Final = (
    "It isn't stored: without a destination it is where the API put it, for a day or so.\n"
    "Fetch it before that, by the whole address in the result (XCom); or give a destination."
)
"""What is said of an image that nobody stored; its address comes behind it, without what signs it."""


def log_done(log: Log, result: Mapping[str, Any], *, price: str, seconds: float | None) -> None:
    """
    Log what came of a generation, for people; the paths are on lines of their own.

    Where nobody stored the images, it warns of that, with their addresses.

    :param result: of :func:`of_record`.
    :param price: what was paid.
    :param seconds: since the submit; None: that isn't known.
    """
    images = result["images"]
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    sizes = dict.fromkeys(f"{image['width']} x {image['height']}" for image in images if image["width"])
    took = [] if seconds is None else [span(seconds)]
    stored = [image["path"] for image in images if image["path"] is not None]
    log.info("%s", "\n".join([f"Done: {', '.join([count, *sizes, price, *took])}.", *stored]))
    if not stored:
        # Whoever reads a log isn't whom a signature is for; the result has the whole address.
        log.warning("%s\n%s", NOT_STORED, "\n".join(redact_queries(image["url"]) for image in images))
