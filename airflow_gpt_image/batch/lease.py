"""Which worker may submit for a task instance, and what its attempts leave for each other in the task state
store.

The lease is a document there, and writing it is the fence:

1. A worker whose task instance was replaced (retried, cleared) can't write it any more.
2. Between two writes a worker trusts the last one for ``expires_after`` seconds, counted from before that
   write, and looks at the clock right before every POST. Before a submit it writes again when the last write
   is ``renew_after`` seconds old.
3. A worker that begins writes first, which shuts the one before it out. If that one did not release its
   lease, it waits ``takeover_wait`` seconds, which is longer than ``expires_after``, and writes once more.
4. So when the successor's first POST goes out, the predecessor's last one has gone out before. Both measure
   on their own clock from a write of their own: no two clocks are compared.
"""

from __future__ import annotations

from threading import RLock
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.batch.checkpoint import Checkpoint
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.errors import InvalidRequestError, LedgerError, ReplacedError
from airflow_gpt_image.ledger.payer import Count
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.ledger.task_state import VERSION, Document, TaskStateStore
from airflow_gpt_image.ledger.timing import Clock, SystemClock

KEY: Final = "gpt_image_batch"


class BatchTaskState(BaseModel):
    """
    The document of a batch task in the task state store.

    :param clear_epoch: the task instance's ``max_tries`` when it was written.
    :param open: that a worker is at work, or died.
    :param destination: where the attempts since the last clear put their images.
    :param published: that a plan was put there.
    :param recorded: the scope of the records that were put there, if any were.
    :param stranded: records of what is paid for that the destination did not take.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    clear_epoch: Count
    open: bool = False
    destination: str | None = None
    published: bool = False
    recorded: str | None = None
    stranded: tuple[Record, ...] = Field(default=(), max_length=100_000)
    checkpoint: Checkpoint | None = None


class Lease:
    """
    A worker's permission to submit for a task instance.

    :param clear_epoch: the task instance's ``max_tries``.
    :raises LedgerError: when the store does not answer as it should, here and in every method.
    """

    def __init__(
        self,
        store: TaskStateStore,
        clear_epoch: int,
        *,
        timing: Timing = Timing(),
        clock: Clock = SystemClock(),
    ) -> None:
        self._document = Document(store, KEY, BatchTaskState)
        self._timing = timing
        self._clock = clock
        self._changing = RLock()
        self.found = self._document.read()
        before = self.found or BatchTaskState(clear_epoch=clear_epoch)
        self._state = before.model_copy(update={"clear_epoch": clear_epoch})
        self._written_at = self._renewed_at = float("-inf")
        self._replaced = False

    @property
    def state(self) -> BatchTaskState:
        """Return the document as it was read or will be written next."""
        return self._state

    @property
    def checkpoint(self) -> Checkpoint:
        """Return what the work before a deferral left."""
        if self._state.checkpoint is None:
            raise LedgerError(
                "The task state store does not say what this task was at. The next try begins anew."
            )
        return self._state.checkpoint

    def bind(self, destination: str) -> None:
        """
        Remember where the images go: an attempt at another place would not find what is paid for.

        :raises InvalidRequestError: when an earlier attempt since the last clear went elsewhere.
        """
        found = self.found
        before = found.destination if found and found.clear_epoch >= self._state.clear_epoch else None
        if before not in (None, destination):
            raise InvalidRequestError(
                f"destination: {quote_path(destination)} isn't where an earlier try of this task put its "
                f"images,\n"
                f"{quote(before)}, and they would be paid for again.\n"
                "Give one that is the same in every try (none with a clock or the try's number in it), or "
                "clear the "
                "task, to begin anew."
            )
        changes: dict[str, Any] = {"destination": destination, "checkpoint": None}
        if found is not None and found.destination != destination:
            changes |= {"published": False, "recorded": None}
        self.note(**changes)

    def note(self, **changes: Any) -> None:
        """Change what the next write of the document says."""
        with self._changing:
            self._state = self._state.model_copy(update=changes)

    def keep_stranded(self, record: Record) -> None:
        """Put a record into the store that the destination did not take, at once."""
        with self._changing:
            self.forget_stranded(record)
            self.note(stranded=(*self._state.stranded, record))
            self._write(open=True)

    def forget_stranded(self, record: Record) -> None:
        """Leave a record out of the next write: the destination has it."""
        with self._changing:
            rest = tuple(each for each in self._state.stranded if not each.same_submit(record))
            self.note(stranded=rest)

    def acquire(self, *, predecessor: bool = False) -> None:
        """
        Begin to work, after waiting for a predecessor that may still be at work.

        :param predecessor: that there is one, whatever the store says.
        """
        unfinished = predecessor or self._state.open
        self._write(open=True)
        if unfinished:
            self._clock.sleep(self._timing.takeover_wait)
            self._write(open=True)

    @property
    def needs_renewal(self) -> bool:
        """Return whether it has to be written again before the next submit."""
        return self._clock.elapsed() - self._renewed_at > self._timing.renew_after

    def renew(self) -> None:
        """Write it again when that is needed."""
        if self.needs_renewal:
            self._write(open=True)

    def check(self) -> None:
        """
        Refuse a POST that a successor may be sending, too: one that came since the last write may not wait
        any more, or is known to have come.

        :raises LedgerError: when another worker may have taken over; nothing was submitted.
        """
        expired = self._clock.elapsed() - self._written_at > self._timing.expires_after
        if self._replaced or expired:
            raise LedgerError(
                "This worker could not say in time that it is still at work, and another one may have taken "
                "over.\n"
                "It submits nothing more.\nThe next try goes on."
            )

    def release(self, checkpoint: Checkpoint | None = None) -> None:
        """End the work up to here; with what the work after a deferral needs."""
        self._write(open=False, checkpoint=checkpoint)

    def _write(self, **changes: Any) -> None:
        with self._changing:
            began = self._clock.elapsed()
            state = self._state.model_copy(update=changes)
            try:
                self._document.write(state)
            except ReplacedError:
                self._replaced = True
                raise
            self._state = state
        # It is valid from before the write, which may take long; as long it takes until it has to be renewed,
        # or with a slow store nothing else would be done.
        self._written_at, self._renewed_at = began, self._clock.elapsed()
