"""What a task returns: a small plain dict, for XCom takes nothing else across processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_gpt_image.api.models import MODEL, GeneratedImage, Generation, ImageRequest
from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.ledger import Spent


def of_generation(generation: Generation) -> dict[str, Any]:
    """What is known of a generation whoever submitted it.

    Times are ISO 8601 in UTC, None where the API gave none.
    """
    return {
        "generation_id": generation.id,
        "status": generation.status,
        "model": generation.model or MODEL,
        "created_at": _iso(generation.created_at),
        "completed_at": _iso(generation.completed_at),
        "metadata": generation.output.metadata,
    }


def of_images(images: Sequence[GeneratedImage]) -> dict[str, Any]:
    """Where the images are."""
    return {"images": [image.model_dump(mode="json") for image in images]}


def of_request(request: ImageRequest, fingerprint: str) -> dict[str, Any]:
    """What is known of a generation because we submitted it. Money is in decimal strings."""
    return {
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
        "credits": str(plain(request.credits)),
        "usd": str(usd(request.credits)),
        "fingerprint": fingerprint,
    }


def of_try(*, reused: bool, spent: Spent) -> dict[str, Any]:
    """What this try did: whether it submitted nothing, and the task's credits since its last clear."""
    return {
        "reused": reused,
        "spent": {
            "charged": str(plain(spent.charged)),
            "refunded": str(plain(spent.refunded)),
            "usd": str(usd(spent.net)),
        },
    }


def of_event(result: dict[str, Any]) -> dict[str, Any]:
    """What an asset's event tells those who are scheduled on it."""
    paths = [image["path"] for image in result["images"] if image["path"] is not None]
    told = ("credits", "usd", "fingerprint", "generation_id")
    return {"paths": paths, "count": len(result["images"]), **{name: result[name] for name in told}}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
