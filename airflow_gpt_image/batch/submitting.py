"""The only place of a batch that submits: intent, place, lease, POST, id. In that order, for each item.

What if the process dies? Before the intent nothing was paid. From there on the intent says that nobody knows,
until the id stands in its place: at most as many items as were being submitted at that moment, never one
twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from airflow_gpt_image.api.client import AsyncGptImageClient
from airflow_gpt_image.api.errors import GptImageError, RateLimitError, SubmissionUnknownError
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pacing import Pacer
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.lease import Lease
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.records import ItemError, Payer, Record, Records, intended
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import DestinationError
from airflow_gpt_image.storage.signing import signed

T = TypeVar("T")

SUBMITS_AT_ONCE: Final = 64
"""At a rate of 40 per second, an API that takes a second for each has so many under way."""

# So many submits in a row that fail for a passing reason, without one that is accepted, are no item's fault.
_MOST_TROUBLE: Final = 12

# A longer wish of the server isn't waited for on a worker, nor a longer time in which it takes nothing:
# Airflow's own retry does that.
_LONGEST_HOLD: Final = 60.0
_LONGEST_REFUSAL: Final = 600.0

_WRITES: Final = 3
_BACKOFF: Final = Retrying(longest_pause=4.0)


class StoppedError(Exception):
    """Nothing more is submitted; this item stays as it was."""


class Stop:
    """Whether anything may still be submitted; the first reason against it counts."""

    def __init__(self, error: GptImageError | None, log: Log) -> None:
        self.error = error
        self._log = log

    def because(self, error: GptImageError) -> None:
        """Submit nothing more; what is in flight still finishes."""
        if self.error is None:
            self.error = error
            self._log.warning(
                "Nothing more is submitted; what is in flight still finishes and is stored. %s: %s",
                type(error).__name__,
                error.message,
            )

    def check(self) -> None:
        """Raise :class:`StoppedError` when nothing may be submitted any more."""
        if self.error is not None:
            raise StoppedError


class InThread(Protocol):
    """Calls something that blocks, in a thread."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@dataclass
class Submitter:
    """
    Submits items of a plan, as fast as the API takes them and no faster.

    :param payer: whose doing it is.
    :param resubmit: pay again where an earlier submit may have been accepted.
    :param valid: seconds that signed addresses of reference images shall be valid.
    """

    plan: Plan
    records: Records
    lease: Lease
    client: AsyncGptImageClient
    stop: Stop
    in_thread: InThread
    payer: Payer
    resubmit: bool
    valid: float
    log: Log

    def __post_init__(self) -> None:
        self._pacer = Pacer()
        self._turn = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._under_way = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._trouble = 0
        self._refused_since: float | None = None

    async def pay(self, item: Item) -> Record:
        """
        Submit an item; its record, with the generation's id.

        :raises StoppedError: when nothing may be submitted any more; it wasn't.
        :raises SubmissionUnknownError: when nobody knows; its intent stays on record.
        :raises LedgerError: when this worker is out of date; it wasn't submitted.
        :raises GptImageError: when it wasn't accepted; what was on record before is there again.
        """
        before = self.records.find(item)
        self._check_free(item, before)
        await self._place()
        request, ready = await self.in_thread(self._ready, item)
        await self.renewed()
        self._under_way += 1
        self._drained.clear()
        try:
            return await self._paid(item, before, request, ready)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._drained.set()

    async def drained(self) -> None:
        """Wait until nothing is being submitted any more; comes after the stop."""
        await self._drained.wait()

    async def _paid(
        self, item: Item, before: Record | None, request: ImageRequest, ready: ImageRequest
    ) -> Record:
        mine = intended(item, before, self.payer)
        await self.in_thread(self.records.write, item, mine, request)
        try:
            generation_id = await self._sent(ready)
        except SubmissionUnknownError as error:
            told = mine.model_copy(update={"error": ItemError.of(error)})
            with suppress(DestinationError):  # the intent is there, and says enough
                await self.in_thread(self.records.write, item, told, request)
            raise
        except (GptImageError, StoppedError):
            # A worker that is out of date takes nothing back: by now it may be its successor's.
            if self.lease.holds:
                await self.in_thread(self.records.withdraw, item, before, request)
            raise
        return await self._put_on_record(item, mine.submitted(generation_id), request)

    def _check_free(self, item: Item, before: Record | None) -> None:
        """Refuse to pay for what may be paid for; also when an intent could not be taken back."""
        if before is None or before.state == "failed" or (before.state == "intent" and self.resubmit):
            return
        raise SubmissionUnknownError(
            f"It may be paid for: its record is {before.state!r}. It is submitted again only with "
            "on_unknown_submit='resubmit'.",
            generation_id=before.generation_id,
        )

    def _ready(self, item: Item) -> tuple[ImageRequest, ImageRequest]:
        request = self.plan.request(item)
        return request, signed(request, seconds=self.valid)

    async def _place(self) -> None:
        """Wait for a place; one asks at a time, so they go in order."""
        async with self._turn:
            while pause := self._pacer.pause(time.monotonic()):
                await self._slept(pause)
            self.stop.check()

    async def renewed(self) -> None:
        """Make sure that this worker isn't out of date.

        :raises LedgerError: when it is.
        """
        if self.lease.due:
            async with self._renewing:
                await self.in_thread(self.lease.renew)

    async def _sent(self, request: ImageRequest) -> str:
        """Send it until the API takes it, or refuses it for another reason than the rate."""
        while True:
            # Writing the intent took its time; others may have been told to wait meanwhile.
            while held := self._pacer.held(time.monotonic()):
                await self._slept(held)
            self.stop.check()
            await self.renewed()
            self.lease.check()
            try:
                generation_id = await self.client.submit(request)
            except RateLimitError as error:
                self._refused(error)
                await self._place()
            except SubmissionUnknownError as error:
                if error.generation_id is None:
                    raise
                self.log.warning("%s", error.message)
                return self._taken(error.generation_id)
            except GptImageError as error:
                if error.status is not None:
                    self._pacer.accepted(time.monotonic())  # it has passed the rate limit
                self._trouble += error.retryable
                if self._trouble >= _MOST_TROUBLE:
                    self.stop.because(error)
                raise
            else:
                return self._taken(generation_id)

    def _taken(self, generation_id: str) -> str:
        self._trouble = 0
        self._refused_since = None
        self._pacer.accepted(time.monotonic())
        return generation_id

    def _refused(self, error: RateLimitError) -> None:
        now = time.monotonic()
        self._pacer.refused(now, error.retry_after)
        self._refused_since = self._refused_since or now
        if self._pacer.held(now) > _LONGEST_HOLD or now - self._refused_since > _LONGEST_REFUSAL:
            self.stop.because(error)

    async def _slept(self, seconds: float) -> None:
        """Sleep, but not on when nothing may be submitted any more."""
        self.stop.check()
        await asyncio.sleep(min(seconds, 1.0))
        self.stop.check()

    async def _put_on_record(self, item: Item, record: Record, request: ImageRequest) -> Record:
        """It is paid for, so this is tried for all it is worth; and the log has the id, should it fail."""
        for write in range(1, _WRITES + 1):
            try:
                return await self.in_thread(self.records.write, item, record, request)
            except DestinationError as error:
                self.log.warning(
                    "Generation %s is paid for, and could not be put on record: %s",
                    record.generation_id,
                    error.message,
                )
                if write == _WRITES:
                    self.stop.because(error)
                else:
                    await asyncio.sleep(_BACKOFF.backoff(write))
        return record
