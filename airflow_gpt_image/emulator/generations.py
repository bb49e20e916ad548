"""One generation on the emulator: its whole fate is drawn when it is accepted, and read off the clock
afterwards.

So nothing runs in the background while ten thousand of them are under way, and the n-th generation of a seed
always takes the same time and ends the same way.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Any, Final

from airflow_gpt_image.api.models import MODEL, ImageRequest
from airflow_gpt_image.emulator.error_table import ROWS
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.settings import Settings

# The document's example of a failed generation says this.
_UPSTREAM_MESSAGE: Final = "Generation failed"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a generation; times in seconds after acceptance, ``inf`` for never.

    :param processing: when it leaves ``pending``.
    :param finished: when it is completed or failed.
    :param failure: code it fails with, usually one of the error table; None completes.
    :param images: how many addresses its output has.
    :param seen_from: until then the API answers 404 for it.
    :param seen_until: from then on the API answers 404 for it.
    """

    processing: float
    finished: float
    failure: str | None = None
    images: int = 1
    seen_from: float = 0.0
    seen_until: float = inf


def draw_fate(settings: Settings, number: int, fault: Fault | None) -> Fate:
    """The fate of the ``number``-th accepted generation."""
    chance = random.Random(f"{settings.seed}/{number}")
    total = chance.uniform(*settings.duration)
    pending_share = chance.uniform(0.1, 0.4)
    failure = "upstream_error" if chance.random() < settings.fail_rate else None
    if fault is None:
        return Fate(total * pending_share, total, failure)
    value: Any = fault.value
    match fault.kind:
        case "failed":
            return Fate(total * pending_share, total, value)
        case "takes":
            return Fate(value * pending_share, value, failure)
        case "never":
            return Fate(inf if value == "pending" else total * pending_share, inf)
        case "forgotten":
            return Fate(total * pending_share, total, failure, seen_until=value)
        case "unseen":
            return Fate(total * pending_share, total, failure, seen_from=value)
        case "images":
            return Fate(total * pending_share, total, failure, images=value)
    raise AssertionError(f"no such generation fault: {fault.kind}")


@dataclass(slots=True)
class Generation:
    """One accepted and charged submit.

    :param number: 1 for the first that was accepted.
    :param key: the API key it was submitted with; no other sees it.
    :param input: the ``input`` object exactly as it was sent.
    :param accepted_at: seconds since 1970.
    :param credits: what it is charged, at the price of that moment.
    """

    id: str
    number: int
    key: str
    input: dict[str, Any]
    request: ImageRequest
    accepted_at: float
    fate: Fate
    credits: Decimal
    refunded: bool = False
    polls: int = 0
    downloads: int = 0

    @property
    def prompt(self) -> str | None:
        return self.request.prompt

    @property
    def finished_at(self) -> float:
        return self.accepted_at + self.fate.finished

    def status(self, now: float) -> str:
        # The moment itself is compared, not an age: the books refund at this moment, and rounding must not
        # come between the two.
        if now < self.accepted_at + self.fate.processing:
            return "pending"
        if now < self.finished_at:
            return "processing"
        return "failed" if self.fate.failure else "completed"

    def visible(self, now: float) -> bool:
        """Whether the API admits to knowing it."""
        return self.accepted_at + self.fate.seen_from <= now < self.accepted_at + self.fate.seen_until

    def file_names(self) -> list[str]:
        return [f"{self.id}.png", *(f"{self.id}-{copy}.png" for copy in range(2, self.fate.images + 1))]

    def payload(self, now: float, urls: Sequence[str]) -> dict[str, Any]:
        """What a GET answers and a callback carries.

        :param urls: the addresses of its images; they are given out only when it is completed.
        """
        status = self.status(now)
        payload = {"id": self.id, "status": status, "model": MODEL, "created_at": int(self.accepted_at)}
        if status == "completed":
            mode = "image-to-image" if self.request.image_urls else "text-to-image"
            payload["completed_at"] = int(self.finished_at)
            # The document gives costTime without a unit; its example is larger than the seconds that passed.
            cost_time = max(1, round(self.fate.finished))
            payload["output"] = {
                "urls": list(urls),
                "metadata": {"model": f"{MODEL}-{mode}", "costTime": cost_time},
            }
        elif status == "failed":
            assert self.fate.failure is not None
            payload["error"] = {"code": self.fate.failure, "message": failure_message(self.fate.failure)}
        return payload


def failure_message(code: str) -> str:
    """What a failed generation says about the code it failed with; that may be one the document lacks."""
    return ROWS[code].message if code in ROWS and code != "upstream_error" else _UPSTREAM_MESSAGE
