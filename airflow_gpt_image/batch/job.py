"""A batch task from one deferral to the next: plan, guard, work, and in the end tell what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.batch import MOST_ITEMS, manifest, summary
from airflow_gpt_image.batch.budget import Budget
from airflow_gpt_image.batch.claims import AT_WORK, Claim, Owner
from airflow_gpt_image.batch.lease import Lease, Left, bits, indexes
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.progress import Progress
from airflow_gpt_image.batch.records import Payer, Record, Records
from airflow_gpt_image.batch.rules import Rules
from airflow_gpt_image.batch.stopping import Stop, Stopped
from airflow_gpt_image.batch.submitting import Place
from airflow_gpt_image.batch.triage import Triage
from airflow_gpt_image.batch.wave import Wave
from airflow_gpt_image.datasets import BadCell, Row, invalid_rows
from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    GptImageError,
    InsufficientCreditsError,
    InvalidRequestError,
    ItemsFailedError,
    LedgerError,
    TaskInterruptedError,
)
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder

# Small files, most of them, on stores that answer slowly.
_THREADS: Final = 32

_BAD_TOLD: Final = 20


@dataclass(frozen=True)
class Waiting:
    """
    Waiting is all that is left to do for now.

    :param generation_ids: what is waited for, in the order it was submitted.
    :param share: of those that a trigger takes, how many are worth a worker's start.
    :param deadline: when the last of them has had its time, in seconds since 1970.
    """

    generation_ids: list[str]
    share: float
    deadline: float


@dataclass
class Job:
    """
    One try of a batch task, or the part of it after a deferral.

    :param client: of the task's connection; it may be used by many threads.
    :param lease: of the task instance.
    :param attempt: the try's number.
    """

    client: GptImageClient
    folder: Folder
    lease: Lease
    owner: Owner
    attempt: int
    rules: Rules
    log: Log
    stop: Stop = field(init=False)
    _plan: Plan = field(init=False)
    _left: Left = field(init=False)

    def __post_init__(self) -> None:
        self.stop = Stop(None, self.log)
        self._claim = Claim(self.folder, self.owner, self.log)
        self._payer = Payer(f"{self.owner.digest[:16]}-{self.lease.clears}", self.attempt)

    def preview(self, rows: Sequence[Row], bad: Sequence[BadCell]) -> dict[str, Any]:
        """Log what would be paid for, and return it; nothing is written and nothing is paid."""
        invalid = self._judged(bad)
        plan = self._planned(rows)
        with ThreadPoolExecutor(_THREADS) as threads:
            records = Records(self.folder, threads)
            records.load(plan.items)
        triage = self._triage(plan, records)
        self.log.info("This would be done (dry_run):\n%s", triage.table(rows=len(rows)))
        return {**summary.of_triage(plan.items, triage), "invalid": invalid}

    def begin(self, rows: Sequence[Row], bad: Sequence[BadCell]) -> Waiting | dict[str, Any]:
        """
        Find out what is paid for, pay for what isn't, and work as far as that goes.

        :return: what it waits for, or the task's result.
        :raises InvalidRowsError: when rows can't be requests, and that is no reason to leave them out.
        :raises DestinationTakenError: when another task is at work at the destination.
        :raises CreditLimitError: when ``max_credits`` doesn't suffice; nothing was submitted.
        :raises InsufficientCreditsError: when the balance doesn't, or runs out.
        :raises ItemsFailedError: when more items failed than may.
        :raises GptImageError: what stopped the whole; what is paid for is on record.
        """
        if bad:
            with contextlib.suppress(DestinationError):
                self.log.warning("All that is wrong with rows: %s", manifest.write_invalid(self.folder, bad))
        invalid = self._judged(bad)
        self._plan = self._planned(rows)
        self._left = Left(plan=self._plan.sha256, began=time.time(), invalid=invalid)
        self.lease.settle_at(self.folder.address(""))
        with self._at_work() as records:
            records.load(self._plan.items)
            triage = self._triage(self._plan, records)
            self.log.info("The plan:\n%s", triage.table(rows=len(rows)))
            self._guard(triage)
            if not bad:
                self.folder.remove(manifest.INVALID)  # an earlier try's, of rows that are mended
            self._plan.publish(self.folder)
            return self._carried_out(records, triage)

    def go_on(self) -> Waiting | dict[str, Any]:
        """As :meth:`begin`, after a deferral: by the plan as it is written, and nothing else."""
        self._left = self.lease.left()
        self.stop.error = None if self._left.stopped is None else self._left.stopped.again()
        with self._at_work() as records:
            self._plan = Plan.fetched(self.folder, sha256=self._left.plan)
            stored, failed = indexes(self._left.stored), indexes(self._left.failed)
            settled = stored | failed
            records.load(item for item in self._plan.items if item.index not in settled)
            return self._carried_out(records, self._triage(self._plan, records, stored, failed))

    # --- before anything is paid

    def _judged(self, bad: Sequence[BadCell]) -> int:
        """How many rows are left out."""
        if bad and self.rules.on_invalid == "fail":
            raise invalid_rows(bad)
        for cell in bad[:_BAD_TOLD]:
            self.log.warning("Left out: %s", cell)
        return len({cell.row for cell in bad})

    def _planned(self, rows: Sequence[Row]) -> Plan:
        rules = self.rules
        images = len(rows) * rules.variants
        if not 1 <= images <= MOST_ITEMS:
            raise InvalidRequestError(
                f"requests: {len(rows):,} valid rows with {rules.variants} variants are {images:,} images; "
                f"a batch takes 1 to {MOST_ITEMS:,}."
            )
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
        scope = {"destination": "", "run": "", "never": f"/{self.lease.clears}"}[rules.reuse]
        digest = hashlib.sha256(f"{self.owner.digest}{scope}".encode()).hexdigest()[:12]
        Plan.drafted(
            rows,
            variants=rules.variants,
            scope="" if rules.reuse == "destination" else f"{digest}-",
            conn_id=rules.conn_id,
            host=self.client.settings.host,
            into=file,
        )
        return Plan.read(file)

    def _triage(
        self, plan: Plan, records: Records, stored: set[int] | None = None, failed: set[int] | None = None
    ) -> Triage:
        return Triage.of(
            plan.items,
            records.find,
            by=self._payer.by,
            resubmit=self.rules.resubmit,
            stored=stored or (),
            failed=failed or (),
        )

    def _guard(self, triage: Triage) -> None:
        """Refuse what costs too much as a whole; exactly, and before the first POST."""
        rules, cost = self.rules, triage.credits
        if rules.max_credits is not None and cost > rules.max_credits:
            raise CreditLimitError(
                f"{len(triage.pay):,} images are to be paid for, {plain(cost):,} credits "
                f"(${usd(cost):,}); max_credits is {plain(rules.max_credits):,}. Nothing was submitted. "
                "Raise max_credits, or give fewer rows; dry_run=True shows the plan."
            )
        if rules.check_balance and triage.pay:
            balance = self.client.credits()
            if balance < cost:
                raise InsufficientCreditsError(
                    f"The balance is {plain(balance):,} credits, {len(triage.pay):,} images cost "
                    f"{plain(cost):,}. Nothing was submitted. {InsufficientCreditsError.remedy}",
                    code="insufficient_credits",
                )

    # --- at work

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[Records]:
        """Nobody else works at the destination, nor for this task instance; whatever happens, say goodbye."""
        self._claim.hold(time.time() + AT_WORK)
        try:
            self.lease.take()
            with ThreadPoolExecutor(_THREADS) as threads:
                self._threads = threads
                yield Records(self.folder, threads)
        except LedgerError:
            raise  # the claim may be our successor's by now
        except BaseException:
            with contextlib.suppress(GptImageError):
                self.lease.release()
                self._claim.release()
            raise

    def _carried_out(self, records: Records, triage: Triage) -> Waiting | dict[str, Any]:
        self._progress = Progress(
            len(self._plan.items),
            stored=_indexes(triage.stored),
            failed=_indexes(triage.failed),
            unknown=_indexes(triage.unknown),
        )
        self._budget = Budget(self.rules.max_credits, spent=self._left.credits, owed=triage.pay)
        while True:
            wave = self._wave(records, triage)
            waiting = self._run(wave)
            if waiting:
                return self._left_waiting(wave, waiting)
            triage = self._second_look(records)
            if not triage.attach:
                return self._finished(records)

    def _run(self, wave: Wave) -> list[Record]:
        # In a thread of its own: a signal's exception (execution_timeout) is raised wherever the main thread
        # is. In the loop that could be right where the answer to a submit is read, or where it is swallowed.
        with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
            loop = runner.get_loop()
            work = loop.create_task(wave.run())
            try:
                ended = thread.submit(loop.run_until_complete, work)
                while not ended.done():
                    wait([ended], 1.0)  # not for ever: a signal right before a wait doesn't interrupt it
                return ended.result()
            except BaseException as error:
                self.stop.because(TaskInterruptedError(f"{type(error).__name__} ended the work."))
                loop.call_soon_threadsafe(work.cancel)
                # The loop itself may have been ended, but not what runs on it; leaving waits for it.
                thread.submit(loop.run_until_complete, work)
                raise

    def _second_look(self, records: Records) -> Triage:
        """Only what was unknown: an earlier worker may have had its answers while this one was at work."""
        progress = self._progress
        doubtful = [item for item in self._plan.items if item.index in progress.unknown]
        records.load(doubtful)
        triage = self._triage(self._plan, records, progress.stored, progress.failed)
        triage.attach = [item for item in doubtful if item in triage.attach]
        triage.pay = []
        progress.unknown -= _indexes(triage.attach)
        return triage

    def _wave(self, records: Records, triage: Triage) -> Wave:
        place = Place(self.folder, self._plan, records, self.lease, self._claim, self.client, self._threads)
        return Wave(
            place,
            triage,
            self.rules,
            self._payer,
            self._progress,
            self._budget,
            self.stop,
            began=self._left.began,
            log=self.log,
        )

    def _left_waiting(self, wave: Wave, waiting: Sequence[Record]) -> Waiting:
        deadline = max(map(wave.deadline, waiting))
        self._claim.hold(deadline + AT_WORK)
        self.lease.release(
            self._left.model_copy(
                update={
                    "stored": bits(self._progress.stored),
                    "failed": bits(self._progress.failed),
                    "stopped": None if self.stop.error is None else Stopped.of(self.stop.error),
                    "credits": self._budget.spent,
                }
            )
        )
        self.log.info("%s Waiting is all that is left for now.", self._progress.line(self._budget.spent))
        # With more to submit, half a window is worth a worker's start; else nearly all of it.
        return Waiting(
            generation_ids=[record.generation_id or "" for record in waiting],
            share=0.5 if wave.more else 0.9,
            deadline=deadline,
        )

    # --- in the end

    def _finished(self, records: Records) -> dict[str, Any]:
        plan, by = self._plan, self._payer.by
        records.load(item for item in plan.items if records.find(item) is None)
        found = [records.find(item) for item in plan.items]
        result = {
            **summary.of_records(plan.items, found, by=by),
            "invalid": self._left.invalid,
            "seconds": round(time.time() - self._left.began, 1),
            **manifest.write(self.folder, plan, records, by=by, source=self.rules.source),
        }
        self.lease.release()
        self._claim.release()
        self.log.info(
            "%d stored (%d reused), %d failed, %d unknown, %d not submitted. Spent since the last clear: %s "
            "credits ($%s): %s charged, %s refunded. Manifest: %s",
            *(result[name] for name in ("stored", "reused", "failed", "unknown", "not_submitted")),
            *(result[name] for name in ("credits", "usd", "charged", "refunded", "manifest")),
        )
        if isinstance(self.stop.error, ItemsFailedError):
            passing = any(record and record.error and record.error.retryable for record in found)
            self.stop.error.retryable = passing  # type: ignore[misc]  # as that of what failed
        if self.stop.error is not None:
            raise self.stop.error
        return result


def _indexes(items: Sequence[Item]) -> set[int]:
    return {item.index for item in items}
