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
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.client import AsyncGptImageClient
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.budget import Budget
from airflow_gpt_image.batch.claims import AT_WORK
from airflow_gpt_image.batch.plan import Item
from airflow_gpt_image.batch.progress import EVERY, Progress
from airflow_gpt_image.batch.records import Payer, Record, image_stem, refused
from airflow_gpt_image.batch.rules import Rules
from airflow_gpt_image.batch.stopping import Stop, StoppedError
from airflow_gpt_image.batch.submitting import SUBMITS_AT_ONCE, Place, Submitter
from airflow_gpt_image.batch.triage import Triage
from airflow_gpt_image.errors import (
    DestinationError,
    DestinationTakenError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    ItemsFailedError,
    LedgerError,
    SubmissionUnknownError,
    TaskInterruptedError,
)
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.landing import Landing

T = TypeVar("T")

# Looking once more in this try changes nothing about them.
_LATE: Final = (GenerationTimeoutError, GenerationNotFoundError)

# Images at a time: one may take 17 MB on its way to a store.
_STORED_AT_ONCE: Final = 8

_ONCE: Final = Retrying(most_sends=1)
_BACKOFF: Final = Retrying(first_pause=1.0)
_CLAIM_EVERY: Final = 60.0
_MOMENT: Final = 0.25
_MOST_TOLD: Final = 100


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
        payer: Payer,
        progress: Progress,
        budget: Budget,
        stop: Stop,
        *,
        began: float,
        log: Log,
    ) -> None:
        self._place = place
        self._landing = Landing(place.folder)
        self._rules = rules
        self._payer = payer
        self._progress = progress
        self._budget = budget
        self._stop = stop
        self._began = began
        self._log = log
        self._todo = deque([*triage.attach, *triage.pay])
        self._attached = {item.index for item in triage.attach}
        self._storing = asyncio.Semaphore(_STORED_AT_ONCE)
        self._busy = 0
        self._busy_until = time.monotonic()
        self._looked: dict[int, float] = {}
        self._claiming: asyncio.Future[None] | None = None
        settings = place.client.settings
        # Two of them, so that no submit queues up behind looks; neither sends anything twice by itself.
        self._sender = AsyncGptImageClient(settings, retrying=_ONCE, at_once=SUBMITS_AT_ONCE)
        self._looker = AsyncGptImageClient(settings, retrying=_ONCE)
        self._submitter = Submitter(
            place,
            self._sender,
            stop=stop,
            in_thread=self._in_thread,
            payer=payer,
            resubmit=rules.resubmit,
            valid=rules.timeout,
            charge=budget.charge,
            log=log,
        )
        self._check_failures()

    async def run(self) -> list[Record]:
        """
        Work. What is still in flight when waiting is all that is left; nothing, when it is done.

        However it ends, what was being submitted has its id on record, and no thread is at work any more.

        :raises LedgerError: when this worker is out of date.
        :raises DestinationTakenError: when another task has taken the destination.
        """
        async with self._sender, self._looker:
            tasks: set[asyncio.Task[None]] = set()
            try:
                return list(self._progress.in_flight.values()) if await self._work(tasks) else []
            except BaseException as error:
                foreign = TaskInterruptedError(f"{type(error).__name__} ended the work.")
                self._stop.because(error if isinstance(error, GptImageError) else foreign)
                raise
            finally:
                for task in tasks:
                    task.cancel()
                await self._drained()
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
                full = len(tasks) > self._rules.max_in_flight
                if self._only_waits(full=full) and await self._all_on_record():
                    return True
            else:
                tasks.discard(over)
                over.result()

    def _may_begin(self) -> bool:
        return self._stop.error is None or self._todo[0].index in self._attached

    def _only_waits(self, *, full: bool) -> bool:
        """Whether every generation in flight has been looked at since anything else happened."""
        if not self._rules.defers or self._busy or not self._progress.in_flight or (self.more and not full):
            return False
        return all(self._looked.get(index, 0.0) > self._busy_until for index in self._progress.in_flight)

    async def _all_on_record(self) -> bool:
        """Put ids on record that the destination didn't take before: a deferral forgets them."""
        for index, record in self._progress.in_flight.items():
            item = self._place.plan.items[index]
            if self._place.records.find(item) is not record:
                try:
                    async with self._working():
                        await self._in_thread(self._write, item, record)
                except DestinationError as error:
                    self._log.warning("Row %d could not be put on record yet: %s", item.row, error.message)
                return False  # meanwhile others may have ended
        return True

    async def _tick(self) -> None:
        """Tell how far it is, and keep the claim on the destination."""
        claimed = time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            self._log.info("%s", self._progress.line(self._budget.spent))
            age = time.monotonic() - claimed
            if age < _CLAIM_EVERY:
                continue
            try:
                hold = self._in_thread(self._place.claim.hold, time.time() + AT_WORK)
                self._claiming = asyncio.ensure_future(hold)
                await asyncio.shield(self._claiming)
                claimed = time.monotonic()
            except DestinationTakenError:
                raise
            except DestinationError as error:
                if age > AT_WORK / 2:
                    raise
                self._log.warning("The claim on the destination could not be renewed yet: %s", error.message)

    async def _drained(self) -> None:
        """Wait for what mustn't be cut off: submits that are under way, and a claim that is being renewed."""
        await self._submitter.drained()
        if self._claiming is not None:
            await asyncio.wait([self._claiming])

    # --- one item

    async def _walk(self, item: Item) -> None:
        """Pay for it if it isn't paid for, wait for it, store it; again, where that can help."""
        record = self._place.records.find(item) if item.index in self._attached else None
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
            except GenerationFailedError as error:
                assert record is not None  # it is what was waited for
                self._left_flight(item)
                if record.payer == self._payer:
                    self._budget.refund(item)
                await self._noted(item, record.failed(error))
                again = again and error.retryable and record.retries < self._rules.item_retries
                record = None
                failure: GptImageError = error
            except SubmissionUnknownError as error:
                again = again and self._rules.resubmit
                failure = error
            except DestinationError as error:
                if not again:
                    self._left_flight(item)
                    self._stop.because(error)
                    return
                failure = error
            except GptImageError as error:
                if error.scope == "account":
                    # What is in flight stays on record as it is: the next try picks it up.
                    self._left_flight(item)
                    self._stop.because(error)
                    return
                again = again and error.retryable and not isinstance(error, _LATE)
                if not again and record is not None:
                    await self._noted(item, record.without_image(error))
                elif not again:
                    before = self._place.records.find(item)
                    await self._noted(item, refused(item, before, error, self._payer))
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
        self._budget.reserve(item)
        try:
            async with self._working():
                return await self._submitter.pay(item)
        finally:
            self._budget.release(item)

    async def _finished(self, item: Item, record: Record) -> Generation:
        self._progress.in_flight[item.index] = record
        # Nothing is finished right after it was submitted.
        await asyncio.sleep(self._rules.poll_interval - record.age)
        generation = await self._looker.wait_until(
            record.generation_id or "",
            poll_interval=self._rules.poll_interval,
            deadline=self.deadline(record),
            on_poll=lambda: self._looked.update({item.index: time.monotonic()}),
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
                # A successor may have paid for it again by now, and stored it; "failed" would pay once more.
                await self._submitter.renewed()
                await self._in_thread(self._write, item, record)
        except DestinationError as error:
            self._stop.because(error)

    def _write(self, item: Item, record: Record) -> None:
        self._place.records.write(item, record, self._place.plan.request(item))

    # --- what has become of them

    def _stored(self, item: Item) -> None:
        self._left_flight(item)
        self._progress.stored.add(item.index)

    def _failed(self, item: Item, error: GptImageError) -> None:
        self._left_flight(item)
        # What nobody knows may yet turn out: the next look at its record decides.
        unknown = isinstance(error, SubmissionUnknownError) and not self._rules.resubmit
        (self._progress.unknown if unknown else self._progress.failed).add(item.index)
        if self._progress.lost <= _MOST_TOLD:
            self._log.warning("Row %d has no image: %s: %s", item.row, type(error).__name__, error.message)
        elif self._progress.lost == _MOST_TOLD + 1:
            self._log.warning("More rows have no image; the manifest will tell.")
        self._check_failures()

    def _left_flight(self, item: Item) -> None:
        self._progress.in_flight.pop(item.index, None)

    def _check_failures(self) -> None:
        failed, images = self._progress.lost, len(self._place.plan.items)
        most = self._rules.most_failures(images)
        if most is not None and failed > most:
            self._stop.because(
                ItemsFailedError(
                    f"{failed:,} of {images:,} images failed; at most {most:,} may "
                    "(on_item_failure, max_failures). The manifest at the destination tells which."
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
