"""What a task returns: a small plain dict, for XCom takes nothing else across processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image.api.models import GeneratedImage
from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.ledger.record import GenerationFacts, Record
from airflow_gpt_image.log import span
from airflow_gpt_image.storage.folders import Folder


def of_record(record: Record, folder: Folder | None) -> dict[str, Any]:
    """
    Return what is known of a generation, by its record.

    Money is in decimal strings, times in ISO 8601 UTC, None where the API gave none. What was asked for and
    what it cost is left out where somebody else submitted it.

    :param folder: that the images are in; None when they are where the API put them.
    """
    facts = record.generation or GenerationFacts(status=record.state)
    result = {
        "generation_id": record.generation_id,
        "status": facts.status,
        "model": facts.model,
        "created_at": _iso(facts.created_at),
        "completed_at": _iso(facts.completed_at),
        "metadata": facts.metadata,
        "images": [image.located(folder).model_dump(mode="json") for image in record.images],
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
    "Fetch it before, or give the task a destination. Its address:"
)
"""What is said of an image that nobody stored; its whole address comes behind it."""


def done_line(images: Sequence[GeneratedImage], price: str, seconds: float | None) -> str:
    """
    Return what came of a generation, for people; the paths are on lines of their own.

    :param price: what was paid.
    :param seconds: since the submit; None: that isn't known.
    """
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    sizes = dict.fromkeys(f"{image.width} x {image.height}" for image in images if image.width)
    took = [] if seconds is None else [span(seconds)]
    line = f"Done: {', '.join([count, *sizes, price, *took])}."
    return "\n".join([line, *(image.path for image in images if image.path is not None)])
