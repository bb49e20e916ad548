"""Clocks for code that takes one: nobody waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class FakeClock:
    """
    Time that passes only when it is slept or put forward.

    What shall happen meanwhile is said before: ``clock.after(30, store_is_back)``.

    :param start: the time of day at the beginning.
    :param ahead: seconds that have passed at the beginning.
    :ivar slept: seconds of each sleep.
    """

    def __init__(
        self, start: datetime = datetime(2026, 11, 24, 10, 0, tzinfo=UTC), *, ahead: float = 0.0
    ) -> None:
        self._start = start
        self.ahead = ahead
        self.slept: list[float] = []
        self._due: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.ahead)

    def elapsed(self) -> float:
        return self.ahead

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.forward(seconds)

    def forward(self, seconds: float) -> None:
        """Let so much time pass; what is due meanwhile happens."""
        self.ahead += seconds
        due = [do for moment, do in self._due if moment <= self.ahead]
        self._due = [(moment, do) for moment, do in self._due if moment > self.ahead]
        for do in due:
            do()

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Have something happen once, when so much time has passed from now on."""
        self._due.append((self.ahead + seconds, do))


class RunningClock(FakeClock):
    """The machine's clock, ahead by what was slept or put forward."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def elapsed(self) -> float:
        return time.monotonic() + self.ahead
