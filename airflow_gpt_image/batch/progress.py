"""How far a data set is, for people who watch the task's log; it carries on across deferrals."""

from __future__ import annotations

import time
from collections import deque
from decimal import Decimal
from typing import Final

from airflow_gpt_image.api.pricing import plain, usd

EVERY: Final = 10.0
"""Seconds from one line in the log to the next."""

_WINDOW: Final = 60.0


class Progress:
    """
    Counts of a plan's items.

    :param stored: how many are stored already, ``failed`` how many failed for good.
    :param credits: what this try spent before, net of refunds.
    """

    def __init__(self, items: int, *, stored: int, failed: int, credits: Decimal) -> None:
        self.items = items
        self.stored = stored
        self.failed = failed
        self.credits = credits
        self.in_flight = 0
        self._recent = deque([(time.monotonic(), stored + failed)])

    @property
    def done(self) -> int:
        return self.stored + self.failed

    def line(self) -> str:
        """One line: done, failed, in flight, rate, credits, time left."""
        now = time.monotonic()
        self._recent.append((now, self.done))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        since, before = self._recent[0]
        rate = (self.done - before) / max(now - since, 0.001)
        left = f"about {_span((self.items - self.done) / rate)} left" if rate > 0 else "time left unknown"
        return (
            f"{self.done:,} of {self.items:,} done ({self.failed:,} failed), {self.in_flight:,} in flight, "
            f"{rate:.1f}/s, {plain(self.credits):,} credits (${usd(self.credits):,}), {left}."
        )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
