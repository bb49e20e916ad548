"""Plans and records as a batch task makes them, without the task."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

from airflow_gpt_image import datasets
from airflow_gpt_image.api.models import GeneratedImage
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.records import Payer, Record, image_stem, intended
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.errors import GenerationFailedError, UpstreamError

ME = Payer("me-0", 1)
ANOTHER = Payer("another-0", 1)
PICTURE = b"\x89PNG, as far as a listing can tell"


def rows_of(requests: Iterable[Any], **defaults: Any) -> list[Row]:
    """Rows of a data set without a mistake."""
    rows, bad = datasets.read(list(requests), defaults=defaults, open=open)  # type: ignore[arg-type]
    assert bad == []
    return rows


def plan_of(requests: Iterable[Any], *, variants: int = 1, scope: str = "", **account: str) -> Plan:
    """A plan as it is drafted and read on the worker that begins."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
    of = {"conn_id": "gpt_image_default", "host": "api.aivideoapi.ai", **account}
    Plan.drafted(rows_of(requests), variants=variants, scope=scope, into=file, **of)
    return Plan.read(file)


def submitted(item: Item, payer: Payer = ME) -> Record:
    return intended(item, None, payer).submitted(f"g{item.index}")


def stored(item: Item, payer: Payer = ME, *, at: str = "/images", count: int = 1) -> Record:
    """A record of an image that lies at ``at``, which the test has to put there."""
    return submitted(item, payer).stored(
        GeneratedImage(
            url=f"https://files.example.com/{item.index}-{index}.png?Signature=secret",
            path=f"{at}/{image_stem(item, index)}.png",
            width=1024,
            height=1024,
            sha256="0" * 64,
            bytes=len(PICTURE),
        )
        for index in range(count)
    )


def failed(item: Item, payer: Payer = ME, *, code: str = "invalid_request") -> Record:
    """The generation failed and was refunded; ``upstream_error`` is a code that may pass."""
    error = GenerationFailedError("The prompt was refused.", code=code, generation_id=f"g{item.index}")
    return submitted(item, payer).failed(error)


def late(item: Item, payer: Payer = ME) -> Record:
    """Paid for, and no image yet for a reason."""
    return submitted(item, payer).without_image(UpstreamError("The service is down.", code="upstream_error"))
