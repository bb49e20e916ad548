"""Times of the ledger as values, and the clock they are measured with: tests hand in others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What is needed of time."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""

    def elapsed(self) -> float:
        """Return seconds since some moment; they go on while the process is frozen."""

    def sleep(self, seconds: float) -> None:
        """Do nothing for so many seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Timing:
    """
    How long the ledger trusts, waits and insists; all in seconds.

    :param fence_valid: a worker trusts its last write to the task state store for so long. Before a POST
        after that it writes again, which fails when its task instance was replaced.
    :param give_up_after: what was paid for is written again and again to a place that doesn't take it, for so
        long: an outage of two minutes loses nothing.
    :param retry_every: the pause between two such writes, or between two looks at an intent that may be under
        way.
    """

    fence_valid: float = 10.0
    give_up_after: float = 150.0
    retry_every: float = 3.0
