"""What a wait has come to so far, and how much of it the log hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_gpt_image.errors import GptImageError
    from airflow_gpt_image.log import Log

# So many have a line each; of more only counts are logged, or nobody finds anything in the task's log.
FEW: Final = 20
SECONDS_BETWEEN_COUNTS: Final = 10.0


class Tally:
    """
    Counts what is settled: finished, or given up because waiting for it makes no sense any more.

    :param log: hears of each generation when they are few, else of the counts now and then.
    :param total: how many are waited for.
    :param now: seconds, by any clock that only goes forward; the same one in every call.
    """

    def __init__(self, log: Log, total: int, *, now: float) -> None:
        self.finished: dict[str, list[str]] = {}
        self.failures: list[GptImageError] = []
        self._log = log
        self._total = total
        self._next_counts = now + SECONDS_BETWEEN_COUNTS

    @property
    def finished_count(self) -> int:
        return sum(map(len, self.finished.values()))

    @property
    def settled(self) -> int:
        return self.finished_count + len(self.failures)

    def finish(self, generation_id: str, status: str, now: float) -> None:
        self.finished.setdefault(status, []).append(generation_id)
        if self._few:
            self._log.info("Generation %s is %s.", generation_id, status)
        else:
            self._count(now)

    def give_up(self, generation_id: str, error: GptImageError, now: float) -> None:
        self.failures.append(error)
        if self._few:
            self._log.warning("No longer waiting for generation %s: %s", generation_id, error)
        else:
            self._count(now)

    def end(self) -> None:
        """The last line: what the counts came to."""
        if self._few:
            return
        if self.failures:
            self._log.warning("The wait ends: %s. The first: %s", self._counts(), self.failures[0])
        else:
            self._log.info("The wait ends: %s.", self._counts())

    @property
    def _few(self) -> bool:
        return self._total <= FEW

    def _count(self, now: float) -> None:
        if now >= self._next_counts:
            self._next_counts = now + SECONDS_BETWEEN_COUNTS
            self._log.info("%s.", self._counts())

    def _counts(self) -> str:
        given_up = f", {len(self.failures)} given up" if self.failures else ""
        return f"{self.finished_count} of {self._total} finished{given_up}"
