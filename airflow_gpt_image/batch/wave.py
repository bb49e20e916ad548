"""One wave of work: submit, look and store side by side, as long as there is more to do than to wait.

Each item has a coroutine of its own, of which a bounded number is under way: it pays, watches, stores. What
blocks (the destination, the lease) happens in threads. Whatever concerns all of them stops the submitting at
once: then what is in flight still finishes and is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.errors import (
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    InsufficientCreditsError,
    InvalidApiKeyError,
    InvalidSettingsError,
    IpNotAllowedError,
    ModelNotFoundError,
    SpendLimitError,
    SubmissionUnknownError,
)
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.claims import AT_WORK, Claim, DestinationTakenError
from airflow_gpt_image.batch.lease import Lease
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.progress import EVERY, Progress
from airflow_gpt_image.batch.records import Payer, Record, Records, image_stem, refused
from airflow_gpt_image.batch.submitting import SUBMITS_AT_ONCE, Stop, StoppedError, Submitter
from airflow_gpt_image.batch.triage import Triage
from airflow_gpt_image.log import Log
from airflow_gpt_image.paying import OnUnknownSubmit
from airflow_gpt_image.state_store import LedgerError
from airflow_gpt_image.storage.folders import DestinationError, Folder
from airflow_gpt_image.storage.landing import Landing

T = TypeVar("T")

# They are about the account, the key or the model: every other item would meet the same.
_ACCOUNT: Final = (
    InvalidApiKeyError,
    InsufficientCreditsError,
    IpNotAllowedError,
    ModelNotFoundError,
    SpendLimitError,
    InvalidSettingsError,
)

# Looking once more in this try changes nothing about them.
_LATE: Final = (GenerationTimeoutError, GenerationNotFoundError)

# Images at a time: one may take 17 MB on its way to a store.
_STORED_AT_ONCE: Final = 8

_ONCE: Final = Retrying(most_sends=1)
_BACKOFF: Final = Retrying(first_pause=1.0)
_CLAIM_EVERY: Final = 60.0
_MOMENT: Final = 0.25
_MOST_TOLD: Final = 100


class ItemsFailedError(GptImageError):
    """More items failed than the author allows. The others are stored, or on record."""


@dataclass(frozen=True)
class Rules:
    """
    What the author decided.

    :param payer: whose doing what is paid for is.
    :param max_in_flight: generations at a time.
    :param poll_interval: seconds from one look to the next.
    :param timeout: seconds that a generation may take.
    :param item_retries: how often an item is tried again when that can help.
    :param most_failures: more stop the submitting, and fail the task; None: as many as there are.
    :param on_unknown_submit: ``resubmit`` pays again where an earlier submit may have been accepted.
    :param defers: stop working when all that could be done is wait.
    """

    payer: Payer
    max_in_flight: int
    poll_interval: float
    timeout: float
    item_retries: int
    most_failures: int | None
    on_unknown_submit: OnUnknownSubmit
    defers: bool


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


class Wave:
    """
    The work on a plan from now until it is done, or until waiting is all that is left.

    :param began: when this try began, in seconds since 1970.
    """

    def __init__(
        self,
        place: Place,
        triage: Triage,
        rules: Rules,
        progress: Progress,
        stop: Stop,
        *,
        began: float,
        log: Log,
    ) -> None:
        self.stored = {item.index for item in triage.stored}
        self.failed = {item.index for item in (*triage.failed, *triage.unknown)}
        self.in_flight: dict[int, Record] = {}
        self._place = place
        self._landing = Landing(place.folder)
        self._rules = rules
        self._progress = progress
        self._stop = stop
        self._began = began
        self._log = log
        self._todo = deque([*triage.attach, *triage.pay])
        self._paid = {item.index for item in triage.attach}
        self._busy = 0
        self._busy_until = time.monotonic()
        self._check_failures()

    async def run(self) -> list[Record]:
        """
        Work. What is still in flight when waiting is all that is left; nothing, when it is done.

        :raises LedgerError: when this worker is out of date; nothing more was submitted.
        :raises DestinationTakenError: likewise, when another task has taken the destination.
        """
        place, settings = self._place, self._place.client.settings
        self._storing = asyncio.Semaphore(_STORED_AT_ONCE)
        # Two of them, so that no submit queues up behind looks; neither sends anything twice by itself.
        async with (
            AsyncGptImageClient(settings, retrying=_ONCE, at_once=SUBMITS_AT_ONCE) as payer,
            AsyncGptImageClient(settings, retrying=_ONCE) as self._looker,
        ):
            self._submitter = Submitter(
                plan=place.plan,
                records=place.records,
                lease=place.lease,
                client=payer,
                stop=self._stop,
                in_thread=self._in_thread,
                payer=self._rules.payer,
                resubmit=self._rules.on_unknown_submit == "resubmit",
                valid=self._rules.timeout,
                log=self._log,
            )
            tasks: set[asyncio.Task[None]] = set()
            try:
                return list(self.in_flight.values()) if await self._work(tasks) else []
            except GptImageError as error:
                # What is being submitted at this moment gets its answer, and its id on record.
                self._stop.because(error)
                await self._submitter.drained()
                raise
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def more(self) -> bool:
        """Whether anything is left to be submitted."""
        return bool(self._todo) and self._may_begin()

    def deadline(self, record: Record) -> float:
        """When the wait for a generation ends, in seconds since 1970."""
        # By its age, which another machine's clock can't move into the future.
        return max(time.time() - record.age, self._began) + self._rules.timeout

    async def _work(self, tasks: set[asyncio.Task[None]]) -> bool:
        """Begin and end items until none is left; whether that is because the rest is waiting."""
        ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

        def begin(work: asyncio.Task[None]) -> None:
            tasks.add(work)
            work.add_done_callback(ended.put_nowait)

        begin(ticking := asyncio.create_task(self._tick()))
        while True:
            while self._todo and len(tasks) <= self._rules.max_in_flight and self._may_begin():
                begin(asyncio.create_task(self._walk(self._todo.popleft())))
            if tasks == {ticking}:
                return False
            try:
                over = await asyncio.wait_for(ended.get(), _MOMENT)
            except TimeoutError:
                if self._only_waits(full=len(tasks) > self._rules.max_in_flight):
                    return True
            else:
                tasks.discard(over)
                over.result()

    def _may_begin(self) -> bool:
        return self._stop.error is None or self._todo[0].index in self._paid

    def _only_waits(self, *, full: bool) -> bool:
        """Whether every generation in flight has been looked at since anything else happened."""
        quiet = time.monotonic() - self._busy_until > self._rules.poll_interval + 1.0
        return (
            self._rules.defers
            and self._busy == 0
            and quiet
            and (full or not self.more)
            and bool(self.in_flight)
        )

    async def _tick(self) -> None:
        """Tell how far it is, and keep the claim on the destination."""
        claimed = time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            self._log.info("%s", self._progress.line())
            age = time.monotonic() - claimed
            if age < _CLAIM_EVERY:
                continue
            try:
                await self._in_thread(self._place.claim.hold, time.time() + AT_WORK)
                claimed = time.monotonic()
            except DestinationTakenError:
                raise
            except DestinationError as error:
                if age > AT_WORK / 2:
                    raise
                self._log.warning("The claim on the destination could not be renewed yet: %s", error.message)

    # --- one item

    async def _walk(self, item: Item) -> None:
        """Pay for it if it isn't paid for, wait for it, store it; again, where that can help."""
        record = self._place.records.find(item) if item.index in self._paid else None
        for failures in range(1, self._rules.item_retries + 2):
            again = failures <= self._rules.item_retries
            try:
                if record is None:
                    record = await self._submitted(item)
                await self._landed(item, record, await self._finished(item, record))
            except StoppedError:
                return
            except LedgerError:
                raise
            except _ACCOUNT as error:
                # What is in flight stays on record as it is: the next try picks it up.
                self._stop.because(error)
                return
            except GenerationFailedError as error:
                assert record is not None  # it is what was waited for
                self._left_flight(item)
                self._progress.credits -= item.credits
                await self._noted(item, record.failed(error))
                again = again and error.retryable and record.retries < self._rules.item_retries
                record = None
                failure: GptImageError = error
            except SubmissionUnknownError as error:
                again = again and self._rules.on_unknown_submit == "resubmit"
                failure = error
            except DestinationError as error:
                if not again:
                    self._stop.because(error)
                    return
                failure = error
            except GptImageError as error:
                again = again and error.retryable and not isinstance(error, _LATE)
                if not again and record is not None:
                    await self._noted(item, record.without_image(error))
                elif not again:
                    before = self._place.records.find(item)
                    await self._noted(item, refused(item, before, error, self._rules.payer))
                failure = error
            else:
                self._stored(item)
                return
            if not again or (record is None and self._stop.error is not None):
                self._failed(item, failure)
                return
            async with self._working():
                await asyncio.sleep(_BACKOFF.backoff(failures))

    async def _submitted(self, item: Item) -> Record:
        async with self._working():
            try:
                record = await self._submitter.pay(item)
            except SubmissionUnknownError:
                self._progress.credits += item.credits
                raise
        self._progress.credits += item.credits
        return record

    async def _finished(self, item: Item, record: Record) -> Generation:
        self.in_flight[item.index] = record
        self._progress.in_flight = len(self.in_flight)
        # Nothing is finished right after it was submitted.
        await asyncio.sleep(self._rules.poll_interval - record.age)
        generation = await self._looker.wait_until(
            record.generation_id or "",
            poll_interval=self._rules.poll_interval,
            deadline=self.deadline(record),
        )
        return flows.succeeded(generation)

    async def _landed(self, item: Item, record: Record, generation: Generation) -> None:
        async with self._working(), self._storing:
            await self._in_thread(self._store, item, record, generation)

    def _store(self, item: Item, record: Record, generation: Generation) -> None:
        place, images = self._place, []
        request = place.plan.request(item)
        for index, url in enumerate(generation.urls):
            stem = image_stem(item, index)
            image, _, warnings = self._landing.fetched(place.folder, place.client, url, stem, request)
            images.append(image)
            for warning in warnings:
                self._log.warning("Row %d: %s", item.row, warning)
        place.records.write(item, record.stored(images), request)

    async def _noted(self, item: Item, record: Record | None) -> None:
        """Put on record how it ended; it is not worth losing the others for."""
        if record is None:
            return
        try:
            async with self._working():
                request = await self._in_thread(self._place.plan.request, item)
                # A successor may have paid for it again by now, and stored it; "failed" would pay once more.
                await self._submitter.renewed()
                await self._in_thread(self._place.records.write, item, record, request)
        except DestinationError as error:
            self._stop.because(error)

    # --- what has become of them

    def _stored(self, item: Item) -> None:
        self._left_flight(item)
        self.stored.add(item.index)
        self._progress.stored += 1

    def _failed(self, item: Item, error: GptImageError) -> None:
        self._left_flight(item)
        self.failed.add(item.index)
        self._progress.failed += 1
        if self._progress.failed <= _MOST_TOLD:
            self._log.warning("Row %d has no image: %s: %s", item.row, type(error).__name__, error.message)
        elif self._progress.failed == _MOST_TOLD + 1:
            self._log.warning("More rows have no image; the manifest will tell.")
        self._check_failures()

    def _left_flight(self, item: Item) -> None:
        self.in_flight.pop(item.index, None)
        self._progress.in_flight = len(self.in_flight)

    def _check_failures(self) -> None:
        most = self._rules.most_failures
        if most is not None and len(self.failed) > most:
            self._stop.because(
                ItemsFailedError(
                    f"{len(self.failed):,} of {len(self._place.plan.items):,} images failed; at most "
                    f"{most:,} may (on_item_failure, max_failures). failures.jsonl at the destination has "
                    "their rows."
                )
            )

    # --- tools

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._busy_until = time.monotonic()

    async def _in_thread(self, function: Callable[..., T], /, *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._place.threads, function, *args)
