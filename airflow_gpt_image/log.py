"""What is needed of a logger (Airflow's is none of the standard library's), and lines of progress.

Some 95 characters of a line can be seen in Airflow's UI, so what is longer has lines of its own.
"""

from __future__ import annotations

from typing import Final, Protocol

REPORT_EVERY: Final = 60.0
"""Seconds between two lines that say how long something has been waited for."""


NO_RETRIES: Final = (
    "retries=0: if anything fails from here on, Airflow doesn't try again.\n"
    "What is paid for by then is on record; clear the task, and it isn't paid for again.\n"
    "Give the task retries=3 or so; a retry never pays for the same image twice."
)
"""What is said before money is spent by a task that Airflow doesn't retry, which is its default."""


class Log(Protocol):
    """Takes a text with its values apart, as both kinds of logger do."""

    def info(self, event: str, /, *args: object) -> object: ...

    def warning(self, event: str, /, *args: object) -> object: ...


class Reporter:
    """
    Log a line now and then, however often there is something to say.

    :param every: seconds between two lines.
    :param now: seconds, by any clock that only goes forward; likewise in every call.
    """

    def __init__(self, log: Log, *, now: float, every: float = REPORT_EVERY) -> None:
        self._log = log
        self._every = every
        self._next = now + every

    def say(self, line: str, *, now: float) -> None:
        """Log the line, unless the last one was a moment ago."""
        if now >= self._next:
            self._next = now + self._every
            self._log.info("%s", line)


def span(seconds: float) -> str:
    """Return how long something took, for people: ``21 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def waiting_line(seen: str, age: float) -> str:
    """
    Return how a generation is.

    :param seen: what its last poll said, such as ``its status is 'processing'``.
    :param age: seconds since it was submitted.
    """
    return f"Waiting for {span(age)} since the submit: {seen}."
