"""What a task returns: a small plain dict, for XCom takes nothing else across processes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.ledger.record import GenerationFacts, Record
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
