"""A clock that stands still until somebody sleeps, for code that takes one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class FakeClock:
    """
    Time that passes only when it is slept or advanced.

    :param start: the time of day at the beginning.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._due: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def elapsed(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Let time pass; what is due meanwhile happens."""
        self._elapsed += seconds
        due = [do for moment, do in self._due if moment <= self._elapsed]
        self._due = [(moment, do) for moment, do in self._due if moment > self._elapsed]
        for do in due:
            do()

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Have something happen when so much time has passed."""
        self._due.append((self._elapsed + seconds, do))
