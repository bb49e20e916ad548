"""Count what a wait has settled so far, and log it without flooding the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from airflow_gpt_image.events import Progressed
from airflow_gpt_image.log import waiting_line

if TYPE_CHECKING:
    from airflow_gpt_image.errors import GptImageError
    from airflow_gpt_image.log import Log

# Up to so many have a line each. Of more, only counts are logged: a thousand lines would hide the others.
MAX_LINES: Final = 20


class SoFar(BaseModel):
    """
    Hold how far a task was when it deferred, for the lines of its trigger, and what may wake it.

    :param since: when what is waited for was submitted, or a batch began, in seconds since 1970.
    :param total: images of a batch; 0: it is none.
    :param done: how many of them nothing more is done for; ``failed`` of these have no image.
    :param usd: dollars spent since the last clear, as a decimal string.
    :param callback: the submit whose callback may end the wait, as its address names it; None: none may. The
        API server reads it here, where every release of the trigger keeps what it doesn't know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: float
    total: int = Field(default=0, ge=0)
    done: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    usd: str = "0"
    callback: str | None = None


class Tally:
    """Count what is settled: finished, or given up because waiting can't help any more.

    :param log: gets a line for each generation when they are few.
    :param total: how many are waited for.
    :param now: seconds since 1970, as in every call.
    :param so_far: returns how far the task was before; None: that isn't known. Asked when a line needs it.
    """

    # Ten thousand may be kept at the same time.
    __slots__ = ("_began", "_log", "_so_far", "_total", "_warned", "failures", "finished", "seen")

    def __init__(
        self, log: Log, total: int, *, now: float, so_far: Callable[[], SoFar | None] = lambda: None
    ) -> None:
        self.finished: dict[str, list[str]] = {}
        self.failures: list[GptImageError] = []
        self.seen = ""
        self._log = log
        self._total = total
        self._began = now
        self._so_far = so_far
        self._warned = False

    @property
    def finished_count(self) -> int:
        """Return how many are completed or failed."""
        return sum(map(len, self.finished.values()))

    @property
    def settled(self) -> int:
        """Return how many need not be waited for any more."""
        return self.finished_count + len(self.failures)

    def begin(self, line: str) -> None:
        """Log the first line."""
        # Here and not where it is awaited: whoever logs in a coroutine has its frame kept while that lives.
        self._log.info("%s", line)

    def see(self, seen: str) -> None:
        """Take what the last poll said."""
        self.seen = seen

    def finish(self, generation_id: str, status: str) -> None:
        """Count a generation that is completed or failed."""
        self.finished.setdefault(status, []).append(generation_id)
        # Of a single one the task says so at once, when it goes on.
        if self._few and self._total > 1:
            self._log.info("Generation %s is %s.", generation_id, status)

    def give_up(self, generation_id: str, error: GptImageError) -> None:
        """Count a generation that is not waited for any more."""
        self.failures.append(error)
        if self._few:
            self._log.warning("No longer waiting for generation %s: %s", generation_id, error)

    def warn(self, text: str) -> None:
        """Log a warning about one generation; when they are many, one stands for all."""
        if self._few or not self._warned:
            self._warned = True
            self._log.warning("%s", text)

    def line(self, now: float) -> str:
        """Return how the wait is: of one generation its status and age, of a batch its progress."""
        so_far = self._so_far() or SoFar(since=self._began)
        if self._total == 1 and not so_far.total:
            return waiting_line(self.seen or "it was not polled yet", max(0.0, now - so_far.since))
        failed = len(self.finished.get("failed", ()))
        progress = Progressed(
            done=so_far.done + self.finished_count,
            total=so_far.total or self._total,
            failed=so_far.failed + failed,
            in_flight=self._total - self.settled,
            rate=self.finished_count / max(now - self._began, 0.001),
            usd=so_far.usd,
        )
        return str(progress)

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

    def _counts(self) -> str:
        given_up = f", {len(self.failures)} given up" if self.failures else ""
        return f"{self.finished_count} of {self._total} finished{given_up}"
