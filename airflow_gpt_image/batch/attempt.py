"""One attempt of a batch task: find what is paid for, guard, work from deferral to deferral, tell what became
of it.

1. :meth:`BatchAttempt.begin` plans, reads the records, and decides for every item. Nothing is paid for before
   the plan is at the destination and the guards agree.
2. A :class:`~airflow_gpt_image.batch.session.Session` works until all is done or waiting is all that is left.
3. :meth:`BatchAttempt.resume` goes on after a deferral, by the plan as it is written and nothing else.
4. In the end the manifest is written; then the attempt succeeds, or raises what is wrong.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image import results
from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.batch import MOST_ITEMS, manifest, report
from airflow_gpt_image.batch.checkpoint import Checkpoint, Deferral, decode_indexes, encode_indexes
from airflow_gpt_image.batch.context import BatchContext
from airflow_gpt_image.batch.deciding import decide_phases, merge_stranded, reconsider_unknown
from airflow_gpt_image.batch.ending import finish
from airflow_gpt_image.batch.filenames import FileNames
from airflow_gpt_image.batch.lease import Lease
from airflow_gpt_image.batch.lock import DestinationLock, HasEnded
from airflow_gpt_image.batch.missing import (
    check_nothing_is_missing,
    check_plan_is_there,
    refuse_missing,
    scope_of,
)
from airflow_gpt_image.batch.options import BatchOptions
from airflow_gpt_image.batch.phases import Entry, ItemTable
from airflow_gpt_image.batch.plan import Plan
from airflow_gpt_image.batch.records import BatchRecords
from airflow_gpt_image.batch.running import run
from airflow_gpt_image.batch.session import Session
from airflow_gpt_image.batch.stop import Stop, StopReason
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.datasets import BadCell, Row, count_rows, invalid_rows
from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    InvalidRequestError,
    LedgerError,
    TaskInterruptedError,
)
from airflow_gpt_image.events import Tell, ignore
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.task_state import TaskStateStore
from airflow_gpt_image.ledger.timing import Clock, SystemClock
from airflow_gpt_image.log import NO_RETRIES, Log
from airflow_gpt_image.storage.folders import Folder, open_folder

# Small files, most of them, on stores that answer slowly.
_THREADS: Final = 32

_MOST_BAD_LOGGED: Final = 20


@dataclass
class BatchAttempt:
    """
    One attempt of a batch task, or the part of it after a deferral.

    :param client: of the task's connection; it may be used by many threads.
    :param destination: of this attempt; after a deferral the task state store's counts.
    :param has_ended: asks Airflow whether a task instance has ended.
    :param tell: is told what happens.
    :param open_folder: opens a destination.
    """

    client: GptImageClient
    destination: object
    store: TaskStateStore
    payer: Payer
    history: History
    options: BatchOptions
    log: Log
    has_ended: HasEnded
    timing: Timing = field(default_factory=Timing)
    clock: Clock = field(default_factory=SystemClock)
    tell: Tell = ignore
    open_folder: Callable[[object], Folder] = open_folder
    _budget: Budget | None = field(default=None, init=False)
    _begun: Checkpoint = field(init=False)
    _plan: Plan | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.stop = Stop(self.log)

    @property
    def spent(self) -> dict[str, str] | None:
        """Return what was spent since the last clear, as XCom has it; None when that isn't known yet."""
        if self._budget is None:
            return None
        return results.spent_fields(self._budget.charged, self._budget.refunded, self._prices)

    @property
    def plan(self) -> Plan | None:
        """Return what is carried out; None: nothing yet."""
        return self._plan

    def interrupt(self) -> None:
        """Submit nothing more, for the task is ended from outside."""
        self.stop.set(TaskInterruptedError("The task was ended from outside.\nThe next try goes on."))

    def preview(self, rows: list[Row], bad: Sequence[BadCell]) -> dict[str, Any]:
        """
        Log what would be paid for, and return it; nothing is paid.

        :param rows: are taken out of the list once the plan has them.
        """
        invalid = self._judge(bad)
        count = len(rows)
        plan, folder = self._draft(rows), self.open_folder(self.destination)
        with ThreadPoolExecutor(_THREADS) as threads:
            context = self._open(folder, plan, self._read_lease(), self._lock(folder), threads)
            context.records.load(plan.items)
            merge_stranded(context, write=False)
        table = ItemTable(plan.items)
        decide_phases(context, table, table)
        self.log.info("This would be done (dry_run):\n%s", report.plan_table(table, self._prices, rows=count))
        return {**report.preview_of(table, self._prices), "invalid": invalid}

    def begin(self, rows: list[Row], bad: Sequence[BadCell]) -> Deferral | dict[str, Any]:
        """
        Find out what is paid for, pay for what isn't, and work as far as that goes.

        :param rows: are taken out of the list once the plan has them, for there may be many.
        :return: what it waits for, or the task's result.
        :raises InvalidRowsError: when rows can't be requests, and that is no reason to leave them out.
        :raises DestinationTakenError: when another task is at work at the destination.
        :raises RecordMissingError: when the task was cleared, and nothing tells what it had paid for.
        :raises CreditLimitError: when ``max_credits`` doesn't suffice; nothing was submitted.
        :raises InsufficientCreditsError: when the balance doesn't, or runs out.
        :raises ItemsFailedError: when more items failed than may.
        :raises UnsettledImagesError: when images are paid for and not stored.
        :raises GptImageError: what stopped the whole; what is paid for is on record.
        """
        folder = self.open_folder(self.destination)
        if bad:
            with contextlib.suppress(DestinationError):
                told = manifest.write_invalid(folder, bad, place=self._place)
                self.log.warning("All that is wrong with rows: %s", told)
        invalid = self._judge(bad)
        count = len(rows)
        plan, lease = self._draft(rows), self._read_lease()
        noted = check_nothing_is_missing(
            folder, lease.found, plan.items, self.payer, self.history, self.options.reuse
        )
        lease.bind(folder.address(""))
        began = self.clock.now().timestamp()
        self._begun = Checkpoint(plan=plan.sha256, began=began, invalid=invalid)
        with self._at_work(folder, lease) as (lock, threads):
            context = self._open(folder, plan, lease, lock, threads)
            records = context.records
            if not noted:
                records.folder.write_note(self.payer)
            records.load(plan.items, with_spent=True)
            merge_stranded(context)
            self._spent_before(context.budget, *records.spent())
            table = ItemTable(plan.items)
            decide_phases(context, table, table)
            if records.adopted:
                self.log.info(
                    "%d images are taken from other map indexes: the list was cleared.", records.adopted
                )
            self.log.info("The plan:\n%s", report.plan_table(table, self._prices, rows=count))
            self._guard(table, context.budget)
            if self.options.retries == 0 and table.count("to_submit"):
                self.log.warning("%s", NO_RETRIES)
            if not bad:
                folder.remove(self._place + manifest.INVALID)  # an earlier try's, of rows that are mended
            plan.publish(folder)
            lease.note(published=True)
            return self._work(context, table)

    def resume(self) -> Deferral | dict[str, Any]:
        """
        Go on after a deferral, by the plan as it is written.

        :return: as :meth:`begin`.
        :raises DestinationError: when images or records are gone that were there before the deferral.
        :raises GptImageError: as :meth:`begin`, but for what concerns the rows.
        """
        lease = self._read_lease()
        self._begun = begun = lease.checkpoint
        if begun.stopped is not None:
            self.stop.error = begun.stopped.to_error()
        # The template has rendered again, to something else perhaps.
        folder = self.open_folder(lease.state.destination)
        with self._at_work(folder, lease) as (lock, threads):
            check_plan_is_there(folder, lease.found)
            plan = Plan.fetch(folder, sha256=begun.plan, prices=self._prices)
            context = self._open(folder, plan, lease, lock, threads)
            table = ItemTable(plan.items)
            table.place(decode_indexes(begun.stored), "stored")
            table.place(decode_indexes(begun.failed), "failed")
            table.place(decode_indexes(begun.unsettled), "unsettled")
            rest = table.entries("not_submitted")
            context.records.load(entry.item for entry in rest)
            merge_stranded(context)
            self._spent_before(context.budget, begun.charged, begun.refunded)
            decide_phases(context, table, rest)
            in_flight = table.at(decode_indexes(begun.in_flight))
            gone = [entry for entry in in_flight if entry.record is None or entry.record.state == "intent"]
            refuse_missing(folder, len(gone))
            return self._work(context, table)

    # --- before anything is paid

    @property
    def _prices(self) -> Prices:
        return self.client.settings.prices

    @property
    def _scope(self) -> str:
        return scope_of(self.payer, self.options.reuse)

    @property
    def _place(self) -> str:
        return manifest.place_of(self.payer, self.history)

    def _read_lease(self) -> Lease:
        return Lease(self.store, self.payer.clear_epoch, timing=self.timing, clock=self.clock)

    def _lock(self, folder: Folder) -> DestinationLock:
        return DestinationLock(
            folder,
            self.payer.instance,
            self.payer.ti_id,
            self.log,
            has_ended=self.has_ended,
            timing=self.timing,
            clock=self.clock,
        )

    def _judge(self, bad: Sequence[BadCell]) -> int:
        """Refuse bad rows, or return how many are left out."""
        if bad and self.options.on_invalid == "fail":
            raise invalid_rows(bad)
        for cell in bad[:_MOST_BAD_LOGGED]:
            self.log.warning("Left out: %s", cell)
        return count_rows(bad)

    def _draft(self, rows: list[Row]) -> Plan:
        images = len(rows) * self.options.variants
        if not 1 <= images <= MOST_ITEMS:
            raise InvalidRequestError(
                f"requests: {len(rows):,} valid rows by {self.options.variants} variants are {images:,}.\n"
                f"A batch takes 1 to {MOST_ITEMS:,} images.\nGive several data sets."
            )
        names = FileNames(self.options.filename, self._name_parts())
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
        try:
            Plan.draft(
                rows,
                variants=self.options.variants,
                scope=self._scope,
                map_index=-1 if self.options.reuse == "destination" else self.payer.map_index,
                conn_id=self.options.conn_id,
                host=self.client.settings.host,
                into=file,
                names=names,
            )
        except InvalidRequestError:
            file.close()
            raise
        rows.clear()
        return Plan.read(file, prices=self._prices)

    def _name_parts(self) -> dict[str, object]:
        names = ("dag_id", "run_id", "task_id", "map_index")
        return {name: getattr(self.payer, name) for name in names}

    def _guard(self, table: ItemTable, budget: Budget) -> None:
        """Refuse what costs too much as a whole; exactly, and before the first POST."""
        cost, images = table.credits("to_submit"), table.count("to_submit")
        if not images:
            return
        budget.check(cost, images=images)
        if self.options.check_balance:
            budget.check_balance(self.client.credits(), cost, images=images)

    # --- at work

    @contextlib.contextmanager
    def _at_work(self, folder: Folder, lease: Lease) -> Iterator[tuple[DestinationLock, Executor]]:
        """Exclude everybody else from the destination and the task instance; release both in the end."""
        lock = self._lock(folder)
        predecessor = lock.acquire()
        try:
            lease.acquire(predecessor=predecessor)
            with ThreadPoolExecutor(_THREADS) as threads:
                yield lock, threads
        except LedgerError:
            raise  # the lock may be our successor's by now
        except BaseException:
            with contextlib.suppress(GptImageError):
                if self._plan is not None:
                    self._plan.redact(folder)
            with contextlib.suppress(GptImageError):
                lease.release()
                lock.release()
            raise

    def _open(
        self, folder: Folder, plan: Plan, lease: Lease, lock: DestinationLock, threads: Executor
    ) -> BatchContext:
        self._plan = plan
        records = BatchRecords(
            RecordsFolder(folder, self._scope),
            threads,
            self.payer,
            cleared=self.history.cleared,
            adopts=self.options.reuse == "run",
        )
        return BatchContext(
            client=self.client,
            folder=folder,
            plan=plan,
            records=records,
            lease=lease,
            lock=lock,
            options=self.options,
            payer=self.payer,
            budget=Budget(self.options.max_credits, prices=self._prices),
            stop=self.stop,
            threads=threads,
            timing=self.timing,
            clock=self.clock,
            log=self.log,
            tell=self.tell,
        )

    def _spent_before(self, budget: Budget, charged: Decimal, refunded: Decimal) -> None:
        """Begin the budget with what was spent since the last clear; from now on that is known."""
        budget.charged, budget.refunded = charged, refunded
        self._budget = budget

    def _work(self, context: BatchContext, table: ItemTable) -> Deferral | dict[str, Any]:
        while True:
            # Reading the records, or the wait for an earlier try, may have taken as long as it lasts.
            context.lock.acquire()
            session = Session(context, table, began=self._begun.began)
            waiting = run(session, self.stop)
            if waiting:
                return self._defer(context, table, session, waiting)
            if not reconsider_unknown(context, table):
                return finish(context, table, self._begun, self._place)

    def _defer(
        self, context: BatchContext, table: ItemTable, session: Session, waiting: Sequence[Entry]
    ) -> Deferral:
        records = [entry.record for entry in waiting if entry.record is not None]
        # With more to submit, half a window is worth a worker's start; else nearly all of it.
        share = 0.5 if session.has_more else 0.9
        pause = session.pause(waiting, math.ceil(len(waiting) * share))
        deadline = max(*map(session.deadline, records), self.clock.now().timestamp() + pause)
        context.lock.acquire(until=deadline)
        changes: dict[str, Any] = {
            "stored": encode_indexes(table.indexes("stored")),
            "failed": encode_indexes(table.indexes("failed")),
            "unsettled": encode_indexes(table.indexes("unsettled")),
            "in_flight": encode_indexes(table.indexes("waiting")),
            "stopped": None if self.stop.error is None else StopReason.of(self.stop.error),
            "charged": context.budget.charged,
            "refunded": context.budget.refunded,
        }
        context.lease.release(self._begun.model_copy(update=changes))
        self.log.info("%s\nWaiting is all that is left for now.", session.progress())
        usd = str(self._prices.usd(context.budget.spent))
        counts = {"total": len(table), "done": table.done, "failed": table.lost}
        so_far = {"since": self._begun.began, "usd": usd, **counts}
        ids = [record.generation_id or "" for record in records]
        kinds = [entry.item.kind for entry in waiting if entry.record is not None]
        return Deferral(ids, share, deadline, pause, kinds, so_far)
