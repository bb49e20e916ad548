"""Count what a wait has settled so far, and log it without flooding the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_gpt_image.errors import GptImageError
    from airflow_gpt_image.log import Log

# Up to so many have a line each. Of more, only counts are logged: a thousand lines would hide the others.
MAX_LINES: Final = 20
SECONDS_BETWEEN_COUNTS: Final = 10.0


class Tally:
    """Count what is settled: finished, or given up because waiting can't help any more.

    :param log: gets a line for each generation when they are few, else the counts now and then.
    :param total: how many are waited for.
    :param now: seconds, by any clock that only goes forward; the same one in every call.
    """

    def __init__(self, log: Log, total: int, *, now: float) -> None:
        self.finished: dict[str, list[str]] = {}
        self.failures: list[GptImageError] = []
        self._log = log
        self._total = total
        self._warned = False
        self._next_counts = now + SECONDS_BETWEEN_COUNTS

    @property
    def finished_count(self) -> int:
        """Return how many are completed or failed."""
        return sum(map(len, self.finished.values()))

    @property
    def settled(self) -> int:
        """Return how many need not be waited for any more."""
        return self.finished_count + len(self.failures)

    def finish(self, generation_id: str, status: str, now: float) -> None:
        """Count a generation that is completed or failed."""
        self.finished.setdefault(status, []).append(generation_id)
        if self._few:
            self._log.info("Generation %s is %s.", generation_id, status)
        else:
            self._count(now)

    def give_up(self, generation_id: str, error: GptImageError, now: float) -> None:
        """Count a generation that is not waited for any more."""
        self.failures.append(error)
        if self._few:
            self._log.warning("No longer waiting for generation %s: %s", generation_id, error)
        else:
            self._count(now)

    def warn(self, text: str) -> None:
        """Log a warning about one generation; when they are many, one stands for all."""
        if self._few or not self._warned:
            self._warned = True
            self._log.warning("%s", text)

    def end(self) -> None:
        """Log the final counts, unless each generation had its line."""
        if self._few:
            return
        if self.failures:
            self._log.warning("The wait ends: %s. The first: %s", self._counts(), self.failures[0])
        else:
            self._log.info("The wait ends: %s.", self._counts())

    @property
    def _few(self) -> bool:
        return self._total <= MAX_LINES

    def _count(self, now: float) -> None:
        if now >= self._next_counts:
            self._next_counts = now + SECONDS_BETWEEN_COUNTS
            self._log.info("%s.", self._counts())

    def _counts(self) -> str:
        given_up = f", {len(self.failures)} given up" if self.failures else ""
        return f"{self.finished_count} of {self._total} finished{given_up}"
