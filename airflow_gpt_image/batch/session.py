"""The work of a batch between two deferrals: submit, poll and store side by side, as long as there is more to
do than to wait.

Each item has a coroutine of its own, of which a bounded number is under way. What blocks (submits, the
destination) happens in threads. What concerns all items stops the submitting at once: then what is in flight
still finishes and is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.context import BatchContext
from airflow_gpt_image.batch.outcomes import During, outcome_of
from airflow_gpt_image.batch.phases import Entry, ItemTable
from airflow_gpt_image.batch.report import Progress
from airflow_gpt_image.batch.sender import Sender
from airflow_gpt_image.batch.trouble import TroubleLog
from airflow_gpt_image.errors import (
    DestinationError,
    DestinationTakenError,
    DownloadError,
    GenerationFailedError,
    GptImageError,
    ItemsFailedError,
    TaskInterruptedError,
)
from airflow_gpt_image.events import Failed, Polled, Progressed, RateLimited, Stored
from airflow_gpt_image.events.telling import code_of
from airflow_gpt_image.ledger.record import GenerationFacts, Record
from airflow_gpt_image.polling.poller import Poller
from airflow_gpt_image.storage.images import ImageFile, ImageFolder, about

T = TypeVar("T")

# Images at a time: one may take 17 MB on its way to a store.
_STORED_AT_ONCE: Final = 8

# A second, of all in flight together: when these are many, each is polled less often.
_MOST_POLLS: Final = 80

_ONCE: Final = Retrying(most_sends=1)


class Session:
    """
    The work on a plan from now until it is done, or until waiting is all that is left.

    :param began: when the attempt began, in seconds since 1970.
    """

    def __init__(self, context: BatchContext, table: ItemTable, *, began: float) -> None:
        self._context = context
        self._table = table
        self._began = began
        self._options = context.options
        self._log = context.log
        self._images = ImageFolder(context.folder)
        self._progress = Progress(table, context.prices, now=time.monotonic())
        self._pauses = Retrying(first_pause=context.timing.item_pause)
        self._storing = asyncio.Semaphore(_STORED_AT_ONCE)
        self._active_until = time.monotonic()
        self._locking: asyncio.Future[bool] | None = None
        self._trouble = TroubleLog(self._log, late_for=context.timing.patience.lasts)
        # Of the generations that this session submitted: those before were told of by whoever waited.
        self._started = context.now()
        self._lags: list[float] = []
        # Neither sends anything twice by itself.
        settings = context.client.settings
        self._submitting = GptImageClient(settings, retrying=_ONCE)
        self._polling = AsyncGptImageClient(settings, retrying=_ONCE)
        self._sender = Sender(context, self._submitting)
        # Of their own: one that waits for its place must not be in the way of images that are to be stored.
        self._senders = ThreadPoolExecutor(context.timing.senders, "gpt-image-submit")
        self._check_failures()

    async def run(self) -> list[Entry]:
        """
        Work; return what is still in flight when waiting is all that is left, or nothing when all is done.

        However it ends, what was being submitted has its id on record, and no thread is at work any more.

        :raises LedgerError: when this worker is out of date.
        :raises DestinationTakenError: when another task has taken the destination.
        """
        async with self._polling:
            self._poller = Poller(self._polling, retrying=_ONCE)
            tasks: set[asyncio.Task[None]] = set()
            try:
                return self._table.entries("waiting") if await self._work(tasks) else []
            except BaseException as error:
                foreign = TaskInterruptedError(f"{type(error).__name__} ended the work.")
                self._context.stop.set(error if isinstance(error, GptImageError) else foreign)
                raise
            finally:
                for task in tasks:
                    task.cancel()
                await self._drain()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._poller.aclose()
                self._tell_polls()

    @property
    def has_more(self) -> bool:
        """Return whether anything is left to begin with."""
        return self._next() is not None

    def progress(self) -> Progressed:
        """Return how far the batch is."""
        return self._progress.at(self._context.budget, now=time.monotonic())

    def pause(self, waiting: Sequence[Entry], enough: int) -> float:
        """
        Return the seconds until it is worth looking at what is waited for; 0 as soon as it is finished.

        :param enough: how many of them have to be finished. Those whose images are late are.
        """
        late = sorted(entry.asked_at for entry in waiting if entry.asked_at)
        return max(0.0, late[0] - time.monotonic()) if len(late) >= enough else 0.0

    def deadline(self, record: Record) -> float:
        """Return when the wait for a generation ends, in seconds since 1970."""
        # By its age, which another machine's clock can't move into the future.
        now = self._context.now()
        return max(now.timestamp() - record.age(now), self._began) + self._options.timeout

    async def _work(self, tasks: set[asyncio.Task[None]]) -> bool:
        """Begin and end items until none is left; return whether that is because the rest is waiting."""
        ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

        def begin(work: asyncio.Task[None]) -> None:
            tasks.add(work)
            work.add_done_callback(ended.put_nowait)

        begin(ticking := asyncio.create_task(self._tick()))
        while True:
            while len(tasks) <= self._options.max_in_flight and (entry := self._next()) is not None:
                attached = entry.record if entry.phase == "to_attach" else None
                self._table.move(entry, "working")
                begin(asyncio.create_task(self._carry_through(entry, attached)))
            if tasks == {ticking}:
                return False
            try:
                # Not wait_for, which on Python 3.11 forgets a cancellation that comes together with an end.
                async with asyncio.timeout(self._context.timing.idle_after):
                    over = await ended.get()
            except TimeoutError:
                if self._only_waits(full=len(tasks) > self._options.max_in_flight):
                    return True
            else:
                tasks.discard(over)
                over.result()

    def _next(self) -> Entry | None:
        attach = self._table.first("to_attach")
        if attach is not None or self._context.stop.error is not None:
            return attach
        return self._table.first("to_submit")

    def _only_waits(self, *, full: bool) -> bool:
        """
        Return whether waiting has been all that is left for as long as another worker takes to get here: so
        this one waits in vain no longer than giving it up too early would cost.
        """
        table, timing = self._table, self._context.timing
        if not self._options.deferrable or table.count("working") or (self.has_more and not full):
            return False
        waiting, now = table.entries("waiting"), time.monotonic()
        idle = now - self._active_until > timing.idle + timing.idle_each * len(table)
        late = now + timing.longest_late_hold
        return bool(waiting) and all(entry.asked_at > late if entry.asked_at else idle for entry in waiting)

    async def _tick(self) -> None:
        """Log the progress, and keep the lock on the destination."""
        timing, locked = self._context.timing, time.monotonic()
        while True:
            await asyncio.sleep(timing.report_every)
            self._context.tell(self.progress())
            self._tell_polls()
            age = time.monotonic() - locked
            if age < timing.lock_renew_every:
                continue
            try:
                self._locking = asyncio.ensure_future(self._in_thread(self._context.lock.acquire))
                await asyncio.shield(self._locking)
                locked = time.monotonic()
            except DestinationTakenError:
                raise
            except DestinationError as error:
                if age > timing.lock_expires_after / 2:
                    raise
                self._log.warning("The lock on the destination could not be renewed yet: %s", error.message)

    async def _drain(self) -> None:
        """Wait for what mustn't be cut off: submits that are under way, and a lock that is being renewed."""
        await self._in_thread(partial(self._senders.shutdown, cancel_futures=True))
        self._submitting.close()
        if self._locking is not None:
            await asyncio.wait([self._locking])

    # --- one item

    async def _carry_through(self, entry: Entry, record: Record | None) -> None:
        """Submit an item unless it is paid for, wait for it, store it; again, where that can help."""
        failures = 0
        while True:
            during: During = "submit"
            try:
                if record is None:
                    loop = asyncio.get_running_loop()
                    record = await loop.run_in_executor(self._senders, self._sender.submit, entry)
                else:
                    self._sender.resumed()
                during = "wait"
                try:
                    generation = await self._wait(entry, record)
                finally:
                    self._sender.finished()
                during = "store"
                await self._store_when_there(entry, record, generation)
                return
            except GptImageError as error:
                entry.asked_at = 0.0
                self._active()
                self._table.move(entry, "working")
                failures += 1
                retries = self._options.item_retries
                left = failures <= retries
                last = record or entry.record
                if during == "submit" or isinstance(error, GenerationFailedError):
                    # Also over deferrals.
                    left = left and not (last and self._is_own(last) and last.retries >= retries)
                outcome = outcome_of(error, during, tries_left=left, resubmit=self._options.resubmit)
                if outcome.then == "raise":
                    raise
                if isinstance(error, GenerationFailedError) and record is not None:
                    if record.payer.same_epoch(self._context.payer):
                        self._context.budget.refund(record.credits)
                    await self._note(entry, record.failed(error, self._context.now()))
                    self._context.tell(Failed(code_of(error), record.credits))
                    record = None
                if outcome.then != "again" or (record is None and self._context.stop.error is not None):
                    await self._give_up(entry, record, error, during)
                    return
            await asyncio.sleep(self._pauses.backoff(failures))

    async def _store_when_there(self, entry: Entry, record: Record, generation: Generation) -> None:
        """
        Store an item's images; one that is late is asked for again, at the address that the API tells then.

        That is no failure of the item, holds up no other one, and needs no worker.
        """
        while True:
            try:
                await self._store(entry, record, generation)
                return
            except DownloadError as error:
                pause = self._pause_while_late(record, generation, error)
                if pause is None:
                    raise
                self._trouble.late(entry, error)
            entry.asked_at = time.monotonic() + pause
            self._table.move(entry, "waiting")
            await asyncio.sleep(pause)
            generation = await self._wait(entry, record)

    def _pause_while_late(self, record: Record, generation: Generation, error: DownloadError) -> float | None:
        now, patience = self._context.now(), self._context.timing.patience
        # Whatever the API says of its age: it was completed before the deadline.
        if now.timestamp() > self.deadline(record) + patience.lasts:
            return None
        return patience.pause(error, record.age_of_images(generation, now))

    async def _wait(self, entry: Entry, record: Record) -> Generation:
        self._table.move(entry, "waiting", record)
        if not entry.asked_at:
            self._active()
        generation = await self._poller.wait(
            record.generation_id or "",
            poll_interval=max(self._options.poll_interval, self._table.count("waiting") / _MOST_POLLS),
            deadline=self.deadline(record),
            on_unknown_status=self._trouble.unknown_status,
            seconds=None,
            kind=entry.item.kind,
            since=(record.submitted_at or record.intended_at).timestamp(),
        )
        if generation.lag is not None and entry.found != generation.id and self._is_of_session(record):
            entry.found = generation.id
            self._lags.append(generation.lag)
        return flows.succeeded(generation)

    def _is_of_session(self, record: Record) -> bool:
        return record.submitted_at is not None and record.submitted_at >= self._started

    def _tell_polls(self) -> None:
        """Tell of the polls since this was called last."""
        polls, refused, in_flight = self._poller.take_counts()
        lags, self._lags = tuple(self._lags), []
        self._context.tell(Polled(polls, in_flight, lags))
        if refused:
            self._context.tell(RateLimited("poll", refused))

    async def _store(self, entry: Entry, record: Record, generation: Generation) -> None:
        entry.asked_at = 0.0
        self._table.move(entry, "working")
        async with self._storing:
            stored = await self._in_thread(self._fetch_images, entry, record, generation)
        self._table.move(entry, "stored", stored)
        self._context.tell(Stored(len(stored.images), stored.seconds))
        self._active()

    def _fetch_images(self, entry: Entry, record: Record, generation: Generation) -> Record:
        # A successor may have paid for the item again by now, as its author wants it, and stored that.
        self._sender.ensure_not_replaced()
        context, name = self._context, record.name or entry.item.name
        request = context.plan.request(entry.item)
        age = record.age_of_images(generation, context.now())
        # While it may be late it is asked for again without holding up the others.
        retrying = _ONCE if age < context.timing.patience.lasts else None
        images: list[ImageFile] = []
        warnings: list[str] = []
        first = context.records.files.stem(entry.item.file or name, name)
        for index, url in enumerate(generation.urls):
            stem = first if index == 0 else f"{first}~{index}"
            try:
                image, unusual = self._images.fetch(
                    context.client, url, stem, request, age=age, retrying=retrying
                )
            except DownloadError as error:
                raise about(generation.id, error) from error
            images.append(image)
            warnings += unusual
        for warning in warnings:
            self._log.warning("Row %d: %s", entry.item.row, warning)
        facts = GenerationFacts.of(generation)
        whole = record.model_copy(update={"request": request})
        stored = whole.stored(images, facts, context.now(), name=name, warnings=warnings)
        return context.records.write_stored(stored, name)

    async def _note(self, entry: Entry, record: Record) -> None:
        """Put on record how it ended; it is not worth losing the others for."""
        entry.record = record
        try:
            await self._in_thread(self._write, entry, record)
        except DestinationError as error:
            self._context.stop.set(error)

    def _write(self, entry: Entry, record: Record) -> None:
        # A successor may have paid for it again by now, and stored it; "failed" would pay once more.
        self._sender.ensure_lease()
        request = self._context.plan.request(entry.item)
        self._context.records.write(record.model_copy(update={"request": request}))

    async def _give_up(
        self, entry: Entry, record: Record | None, error: GptImageError, during: During
    ) -> None:
        """Put an item into the phase in which this attempt leaves it."""
        outcome = outcome_of(error, during, tries_left=False, resubmit=self._options.resubmit)
        if outcome.then == "unsettled" and record is not None and not outcome.stops:
            await self._note(entry, record.without_image(error))
        if outcome.stops:
            self._context.stop.set(error)
        self._table.move(entry, outcome.phase)
        self._active()
        if outcome.then != "not_submitted" and not outcome.stops:
            self._trouble.lost(entry, error, count=self._table.lost)
            self._check_failures()

    def _is_own(self, record: Record) -> bool:
        return record.payer.same_attempt(self._context.payer)

    def _check_failures(self) -> None:
        failed, images = self._table.lost, len(self._table)
        most = self._options.most_failures(images)
        if most is not None and failed > most:
            self._context.stop.set(
                ItemsFailedError(
                    f"{failed:,} of {images:,} images failed; at most {most:,} may (on_item_failure, "
                    "max_failures).\n"
                    "The manifest at the destination tells which."
                )
            )

    # --- tools

    def _active(self) -> None:
        """Note that something else happened than waiting."""
        self._active_until = time.monotonic()

    async def _in_thread(self, function: Callable[..., T], /, *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._context.threads, function, *args)
