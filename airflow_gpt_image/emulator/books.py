"""The books: every submit that was accepted, what it was charged, what was refunded. The judge of "nobody
pays twice".

A submit is booked at the moment it is accepted, before any answer is sent, so the books are right also about
answers that never arrived. A refund is due at the moment a generation fails; it is entered before anybody
looks.

The invariant: balance = granted - charged + refunded, exactly, in Decimal.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from decimal import Decimal
from math import isfinite
from typing import Any

from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.emulator.error_table import RefusalError
from airflow_gpt_image.emulator.generations import Generation


class Books:
    """One account's books.

    :param granted: the balance it is opened with, in credits.
    """

    def __init__(self, granted: Decimal) -> None:
        self.granted = granted
        self.charged = Decimal(0)
        self.refunded = Decimal(0)
        self.generations: dict[str, Generation] = {}
        self.callbacks: list[dict[str, Any]] = []
        self.requests: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.most_at_once = 0
        self.seen_authorization_on_files = 0
        self._at_once = 0
        # Only those that will fail: with a fail rate of none, looking at the balance costs nothing.
        self._refunds_due: list[tuple[float, int, Generation]] = []

    def balance(self, now: float) -> Decimal:
        """Credits left, after every refund that is due by ``now``."""
        self._settle(now)
        return self.granted - self.charged + self.refunded

    def in_whole_credits(self, now: float) -> dict[str, int]:
        """Return what ``GET /v1/credits`` tells; its numbers are integers, while prices have fractions.

        1. The balance is rounded down: nobody is promised more than there is.
        2. So is what was purchased.
        3. What was consumed is the difference of the two: the three always add up, and it is less than one
           credit off. With a whole number purchased that rounds it up.
        """
        balance, purchased = int(self.balance(now)), int(self.granted)
        return {
            "balance": balance,
            "total_purchased": purchased,
            "total_consumed": purchased - balance,
        }

    def set_balance(self, credits: Decimal, now: float) -> None:
        """Top up or take away so that this is left."""
        self.granted += credits - self.balance(now)

    def check_affords(self, credits: Decimal, now: float) -> None:
        """:raises RefusalError: ``insufficient_credits``."""
        if self.balance(now) < credits:
            raise RefusalError("insufficient_credits")

    def accept(self, generation: Generation) -> None:
        """Enter and charge it.

        :raises RefusalError: ``insufficient_credits``; nothing is entered then.
        """
        self.check_affords(generation.credits, generation.accepted_at)
        self.generations[generation.id] = generation
        self.charged += generation.credits
        if generation.fate.failure is not None:
            heapq.heappush(self._refunds_due, (generation.finished_at, generation.number, generation))

    def earlier(self, number: int, match: str | None) -> str | None:
        """Return the id of the ``number``-th last submit whose prompt contains ``match``, if there is one."""
        latest = (
            generation.id
            for generation in reversed(self.generations.values())
            if match is None or match in (generation.prompt or "")
        )
        return next(itertools.islice(latest, number - 1, None), None)

    def _settle(self, now: float) -> None:
        while self._refunds_due and self._refunds_due[0][0] <= now:
            generation = heapq.heappop(self._refunds_due)[2]
            generation.refunded = True
            self.refunded += generation.credits

    def enter(self) -> None:
        """An API request arrived."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)

    def leave(self) -> None:
        """An API request was answered or given up."""
        self._at_once -= 1

    def report(self, now: float) -> dict[str, Any]:
        """Everything, as ``GET /_emulator/books`` gives it:

        money as decimal strings, times in seconds since 1970.
        """
        balance = self.balance(now)
        return {
            "balance": str(plain(balance)),
            "granted": str(plain(self.granted)),
            "charged": str(plain(self.charged)),
            "refunded": str(plain(self.refunded)),
            "submits": len(self.generations),
            "charges": [_charge(generation, now) for generation in self.generations.values()],
            "callbacks": [dict(callback) for callback in self.callbacks],
            "requests": {
                **{
                    endpoint: self.requests[endpoint]
                    for endpoint in ("submit", "poll", "credits", "download")
                },
                "most_at_once": self.most_at_once,
                "rejected": dict(self.rejected),
            },
            "seen_authorization_on_files": self.seen_authorization_on_files,
        }


def _charge(generation: Generation, now: float) -> dict[str, Any]:
    return {
        "task_id": generation.id,
        "request": generation.input,
        "callback_url": generation.request.callback_url,
        "resolution": generation.request.resolution,
        "credits": str(plain(generation.credits)),
        "refunded": generation.refunded,
        "status": generation.status(now),
        "submitted_at": generation.accepted_at,
        "finished_at": generation.finished_at if isfinite(generation.finished_at) else None,
        "polls": generation.polls,
        "downloads": generation.downloads,
    }
