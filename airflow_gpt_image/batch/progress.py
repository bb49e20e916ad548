"""How far a data set is, for people who watch the task's log; it carries on across deferrals."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.batch.records import Record

EVERY: Final = 10.0
"""Seconds from one line in the log to the next."""

_WINDOW: Final = 60.0


class Progress:
    """
    What has become of a plan's items; they are named by their indexes.

    :param items: how many there are.
    :param stored: those whose images are stored; ``failed`` those that failed for good; ``unknown`` those
        that may be paid for.
    """

    def __init__(
        self,
        items: int,
        *,
        stored: Iterable[int] = (),
        failed: Iterable[int] = (),
        unknown: Iterable[int] = (),
    ) -> None:
        self.items = items
        self.stored, self.failed, self.unknown = set(stored), set(failed), set(unknown)
        self.in_flight: dict[int, Record] = {}
        self._recent = deque([(time.monotonic(), self.done)])

    @property
    def lost(self) -> int:
        """How many have no image, and won't have one in this try."""
        return len(self.failed) + len(self.unknown)

    @property
    def done(self) -> int:
        return len(self.stored) + self.lost

    def line(self, credits: Decimal) -> str:
        """One line: done, failed, in flight, rate, what this try spent, time left."""
        now = time.monotonic()
        self._recent.append((now, self.done))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        since, before = self._recent[0]
        rate = (self.done - before) / max(now - since, 0.001)
        left = f"about {_span((self.items - self.done) / rate)} left" if rate > 0 else "time left unknown"
        return (
            f"{self.done:,} of {self.items:,} done ({self.lost:,} failed), "
            f"{len(self.in_flight):,} in flight, {rate:.1f}/s, "
            f"{plain(credits):,} credits (${usd(credits):,}), {left}."
        )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
