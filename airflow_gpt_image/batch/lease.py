"""Which worker may submit for a task instance, and what one wave of work leaves for the next.

A document in the task state store. Its write is the fence: that of a worker whose task instance was replaced
fails. Between two writes a worker trusts the last one for a few seconds, no longer, and looks at the clock
right before every POST; so a successor that finds the door open waits a little longer than that, and then
nobody else submits. Both measure on their own clock from a write of their own: no two clocks are compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.batch.stopping import Stopped
from airflow_gpt_image.errors import InvalidRequestError, LedgerError
from airflow_gpt_image.state_store import VERSION, Document, TaskStateStore

KEY: Final = "gpt_image/batch"

RENEWED: Final = 3.0
"""Seconds after which a lease is renewed before the next submit."""

HELD: Final = 10.0
"""Seconds after which nothing is submitted on it any more."""

SUCCESSION: Final = 15.0
"""Seconds that a successor waits when its predecessor didn't say goodbye."""


class Left(BaseModel):
    """
    What a wave leaves for the next one.

    :param plan: the SHA-256 of the plan that is carried out, in hex.
    :param stored: the indexes of the items that are stored, as a number with a bit for each, in hex;
        ``failed`` likewise those that failed for good.
    :param stopped: why nothing more is to be submitted.
    :param began: when this try began, in seconds since 1970.
    :param invalid: how many rows were left out.
    :param credits: what was spent in this try so far, net of refunds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    stored: str = Field(default="0", pattern=r"^[0-9a-f]+$")
    failed: str = Field(default="0", pattern=r"^[0-9a-f]+$")
    stopped: Stopped | None = None
    began: float
    invalid: int = Field(default=0, ge=0)
    credits: Decimal = Decimal(0)


class _State(BaseModel):
    """
    The document.

    :param clears: how often the task instance was cleared, as far as that can be told.
    :param open: that a worker is at work, or died.
    :param destination: where the tries since the last clear put their images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    max_tries: int
    clears: int = Field(default=0, ge=0)
    open: bool = False
    destination: str | None = None
    left: Left | None = None


class Lease:
    """
    A worker's permission to submit for a task instance.

    :param max_tries: the task instance's; a clear raises it, and a doubt reads as a retry.
    :raises LedgerError: when the store does not answer as it should, here and in every method.
    """

    def __init__(self, store: TaskStateStore, *, max_tries: int) -> None:
        self._kept = Document(store, KEY, _State)
        found = self._kept.read()
        before = found or _State(max_tries=max_tries)
        cleared = max_tries > before.max_tries
        self._state = before.model_copy(
            update={"max_tries": max_tries, "clears": before.clears + 1, "destination": None}
            if cleared
            else {}
        )
        self._written_at = self._renewed_at = float("-inf")
        self._lost = False

    @property
    def clears(self) -> int:
        """How often the task was cleared; tells apart what may be reused."""
        return self._state.clears

    @property
    def destination(self) -> str | None:
        """Where the tries since the last clear put their images."""
        return self._state.destination

    def left(self) -> Left:
        """What the wave before left."""
        if self._state.left is None:
            raise LedgerError("The ledger does not say what this task was at.")
        return self._state.left

    def settle_at(self, destination: str) -> None:
        """
        All tries go to the same destination: at another one none finds what is paid for.

        :raises InvalidRequestError: when an earlier try went elsewhere.
        """
        before = self._state.destination
        if before not in (None, destination):
            raise InvalidRequestError(
                f"destination: {quote(destination)} isn't where an earlier try of this task put its images, "
                f"{quote(before)}, and they would be paid for again. Give one that is the same in every try "
                "(none with a clock or the try's number in it), or clear the task, to begin anew."
            )
        self._state = self._state.model_copy(update={"destination": destination})

    def take(self, sleep: float = SUCCESSION) -> None:
        """Begin to work, after waiting for a predecessor that may still be at it."""
        unfinished = self._state.open
        self._write(open=True)
        if unfinished:
            time.sleep(sleep)
            self._write(open=True)

    @property
    def due(self) -> bool:
        """Whether it has to be renewed before the next submit."""
        return time.monotonic() - self._renewed_at > RENEWED

    def renew(self) -> None:
        """Renew it when it is due."""
        if self.due:
            self._write(open=True)

    @property
    def alone(self) -> bool:
        """Whether nobody else is at work yet: a successor that came since the last write still waits."""
        return time.monotonic() - self._written_at <= HELD

    @property
    def holds(self) -> bool:
        """Whether it may submit: nobody else is at work, and as far as it knows nobody has come."""
        return not self._lost and self.alone

    def check(self) -> None:
        """Right before a POST.

        :raises LedgerError: when another worker may have taken over; nothing was submitted.
        """
        if not self.holds:
            raise LedgerError(
                "This worker could not say in time that it is still at work, and another one may have taken "
                "over. It submits nothing more; the next try goes on."
            )

    def release(self, left: Left | None = None) -> None:
        """End this wave's work; with what the next one needs."""
        self._write(open=False, left=left)

    def _write(self, **changes: Any) -> None:
        now = time.monotonic()
        state = self._state.model_copy(update=changes)
        try:
            self._kept.write(state)
        except LedgerError:
            self._lost = True
            raise
        self._state = state
        # It holds from before the write, which may take long; so long it takes until it is due again, too, or
        # with a slow store all would do nothing but renew.
        self._written_at, self._renewed_at = now, time.monotonic()


def bits(indexes: Iterable[int]) -> str:
    """A set of indexes as a number with a bit for each, in hex: ten thousand take 2.5 kB."""
    number = bytearray()
    for index in indexes:
        place, bit = divmod(index, 8)
        number.extend(bytes(max(0, place + 1 - len(number))))
        number[place] |= 1 << bit
    return f"{int.from_bytes(number, 'little'):x}"


def indexes(bits: str) -> set[int]:
    """The set of indexes of such a number."""
    data = int(bits, 16).to_bytes(len(bits) // 2 + 1, "little")
    return {place * 8 + bit for place, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}
