"""The only place of a batch that submits: a turn, the lease, the intent, the POST, the id. In that order.

What if the process dies? Before the intent nothing was paid. From there on the intent says that nobody knows,
until the id stands in its place: at most as many items as were being submitted at that moment, never one
twice. And whatever else ends the work, what is between its intent and its id is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pacing import Pacer
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.claims import Claim
from airflow_gpt_image.batch.lease import Lease
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.records import ItemError, Payer, Record, Records, intended
from airflow_gpt_image.batch.stopping import Stop, StoppedError
from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    RateLimitError,
    SubmissionUnknownError,
    UpstreamError,
)
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.signing import signed

T = TypeVar("T")

SUBMITS_AT_ONCE: Final = 64
"""At a rate of 40 per second, an API that takes a second for each has so many under way."""

# Items in a row whose submit failed for a passing reason, or got no answer that can be read, without one that
# was accepted. An upstream error may be a prompt's fault, so more of them are needed; a lost answer may have
# been paid for, so fewer.
_MOST_TROUBLE: Final = 12
_MOST_SENDS_IN_TROUBLE: Final = 8
_MOST_UNKNOWN: Final = 5

# A longer wish of the server isn't waited for on a worker, nor a longer time in which it takes nothing:
# Airflow's own retry does that.
_LONGEST_HOLD: Final = 60.0
_LONGEST_REFUSAL: Final = 600.0

# Of a record that has to be written, with up to 4 s between: a store that is away for a moment costs nothing.
_WRITES: Final = 6
_BACKOFF: Final = Retrying(longest_pause=4.0)


class InThread(Protocol):
    """Calls something that blocks, in a thread."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@dataclass(frozen=True)
class Place:
    """Where a wave works, and with what: the destination, and who may write there."""

    folder: Folder
    plan: Plan
    records: Records
    lease: Lease
    claim: Claim
    client: GptImageClient
    threads: Executor


@dataclass
class Submitter:
    """
    Submits items of a plan, as fast as the API takes them and no faster.

    :param payer: whose doing it is.
    :param resubmit: pay again where an earlier submit may have been accepted.
    :param valid: seconds that signed addresses of reference images shall be valid.
    :param charge: told of every item that is charged, or may be.
    """

    place: Place
    client: AsyncGptImageClient
    stop: Stop
    in_thread: InThread
    payer: Payer
    resubmit: bool
    valid: float
    charge: Callable[[Item], None]
    log: Log

    def __post_init__(self) -> None:
        self._pacer = Pacer()
        # Taken before the intent: who only queues has none.
        self._senders = asyncio.Semaphore(SUBMITS_AT_ONCE)
        self._order = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._under_way: set[asyncio.Task[Record]] = set()
        self._in_trouble: set[int] = set()
        self._sends_in_trouble = 0
        self._unknown = 0
        self._refused_since: float | None = None

    async def pay(self, item: Item) -> Record:
        """
        Submit an item; its record, with the generation's id.

        :raises StoppedError: when nothing may be submitted any more; it wasn't.
        :raises SubmissionUnknownError: when nobody knows; its intent stays on record.
        :raises LedgerError: when this worker is out of date; it wasn't submitted.
        :raises GptImageError: when it wasn't accepted; what was on record before is there again.
        """
        before = self.place.records.find(item)
        self._check_free(before)
        async with self._senders:
            await self._turn()
            request, ready = await self.in_thread(self._ready, item)
            await self.renewed()
            self.stop.check()
            # Its own task: whoever waits for it may be cancelled, what is between intent and id may not.
            paying = asyncio.create_task(self._paid(item, before, request, ready))
            self._under_way.add(paying)
            paying.add_done_callback(self._over)
            return await asyncio.shield(paying)

    def _over(self, paying: asyncio.Task[Record]) -> None:
        self._under_way.discard(paying)
        if not paying.cancelled():
            paying.exception()  # it is looked at here, should nobody wait for it any more

    async def drained(self) -> None:
        """Wait until nothing is between its intent and its id; comes after the stop."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def renewed(self) -> None:
        """Make sure that this worker isn't out of date.

        :raises LedgerError: when it is.
        """
        if self.place.lease.due:
            async with self._renewing:
                await self.in_thread(self.place.lease.renew)

    async def _paid(
        self, item: Item, before: Record | None, request: ImageRequest, ready: ImageRequest
    ) -> Record:
        mine = intended(item, before, self.payer)
        try:
            await self.in_thread(self.place.records.write, item, mine, request)
            generation_id = await self._sent(item, ready)
        except SubmissionUnknownError as error:
            self.charge(item)
            told = mine.model_copy(update={"error": ItemError.of(error)})
            with suppress(DestinationError):  # the intent is there, and says enough
                await self.in_thread(self.place.records.write, item, told, request)
            raise
        except (GptImageError, StoppedError):
            await self._insisted("taken back", self._withdrawn, item, before, request)
            raise
        self.charge(item)
        record = mine.submitted(generation_id)
        what = f"put on record as {generation_id}, which is paid for"
        await self._insisted(what, self.place.records.write, item, record, request)
        return record

    def _withdrawn(self, item: Item, before: Record | None, request: ImageRequest) -> None:
        # Not when a successor may be at work: by now it may be his.
        if self.place.lease.alone:
            self.place.records.withdraw(item, before, request)

    def _check_free(self, before: Record | None) -> None:
        """Refuse to pay for what may be paid for; also when an intent could not be taken back."""
        if before is None or before.state == "failed" or (before.state == "intent" and self.resubmit):
            return
        raise SubmissionUnknownError(
            f"It may be paid for: its record is {before.state!r}. It is submitted again only with "
            "on_unknown_submit='resubmit'.",
            generation_id=before.generation_id,
        )

    def _ready(self, item: Item) -> tuple[ImageRequest, ImageRequest]:
        request = self.place.plan.request(item)
        return request, signed(request, seconds=self.valid)

    async def _turn(self) -> None:
        """Wait until the rate allows one more; one asks at a time, so they go in order."""
        async with self._order:
            while pause := self._pacer.pause(time.monotonic()):
                await self._slept(pause)
            self.stop.check()

    async def _sent(self, item: Item, request: ImageRequest) -> str:
        """Send it until the API takes it, or refuses it for another reason than the rate."""
        while True:
            # Writing the intent took its time; others may have been told to wait meanwhile, or are while the
            # lease is renewed. A hold can outlast the lease, so that is looked at in every round.
            await self.renewed()
            while held := self._pacer.held(time.monotonic()):
                await self._slept(held)
                await self.renewed()
            self.stop.check()
            self.place.lease.check()
            try:
                return self._taken(await self.client.submit(request))
            except RateLimitError as error:
                self._refused(error)
                await self._turn()
            except SubmissionUnknownError as error:
                if error.generation_id is None:
                    self._unknown += 1
                    if self._unknown >= _MOST_UNKNOWN:
                        self.stop.because(error)
                    raise
                self.log.warning("%s", error.message)
                return self._taken(error.generation_id)
            except GptImageError as error:
                self._failed(item, error)
                raise

    def _taken(self, generation_id: str) -> str:
        self._in_trouble.clear()
        self._sends_in_trouble = self._unknown = 0
        self._refused_since = None
        self._pacer.accepted(time.monotonic())
        return generation_id

    def _refused(self, error: RateLimitError) -> None:
        now = time.monotonic()
        self._pacer.refused(now, error.retry_after)
        self._refused_since = self._refused_since or now
        if self._pacer.held(now) > _LONGEST_HOLD or now - self._refused_since > _LONGEST_REFUSAL:
            self.stop.because(error)

    def _failed(self, item: Item, error: GptImageError) -> None:
        if error.status is not None:
            self._pacer.accepted(time.monotonic())  # it has passed the rate limit
        if not error.retryable:
            return
        self._in_trouble.add(item.index)
        self._sends_in_trouble += not isinstance(error, UpstreamError)
        if len(self._in_trouble) >= _MOST_TROUBLE or self._sends_in_trouble >= _MOST_SENDS_IN_TROUBLE:
            self.stop.because(error)

    async def _slept(self, seconds: float) -> None:
        """Sleep, but not on when nothing may be submitted any more."""
        self.stop.check()
        await asyncio.sleep(min(seconds, 1.0))
        self.stop.check()

    async def _insisted(self, what: str, write: Callable[..., object], item: Item, *arguments: Any) -> None:
        """Write a record that has to be written; if it can't be, the log has what it says."""
        for attempt in range(1, _WRITES + 1):
            try:
                await self.in_thread(write, item, *arguments)
                return
            except DestinationError as error:
                self.log.warning("Row %d could not be %s: %s", item.row, what, error.message)
                if attempt == _WRITES:
                    self.stop.because(error)
            if attempt < _WRITES:
                await asyncio.sleep(_BACKOFF.backoff(attempt))
