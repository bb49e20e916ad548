"""The only place of a batch that submits: a place in the rate, the lease, the intent, the POST, the id. In
that order, and from its place to its id in one thread, so that no event loop comes between a POST and its id.

If the process dies: before the intent nothing is paid for; from there on the intent says that nobody knows,
until the id stands in its place: at most as many items as were being submitted at that moment, and never one
twice. If the work ends in any other way, what is between its intent and its id is waited for.
"""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Lock
from typing import Final

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pacing import LEAST_RATE, Pacer
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.batch.context import BatchContext
from airflow_gpt_image.batch.outcomes import CircuitBreaker
from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.errors import (
    DestinationError,
    DestinationTakenError,
    GptImageError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    ReplacedError,
    StoppedError,
    SubmissionUnknownError,
)
from airflow_gpt_image.events import RateLimited
from airflow_gpt_image.ledger import submitting
from airflow_gpt_image.ledger.record import Record, intend
from airflow_gpt_image.storage.signing import signed

# Seconds after which whoever waits looks whether anything may still be submitted.
_LONGEST_SLEEP: Final = 0.5

# Of what keeps a submit back right before it is sent: it says nothing of the API.
_NOT_SENT: Final = (StoppedError, LedgerError, DestinationTakenError)


class Sender:
    """
    Submits items of a plan, as fast as the API takes them and no faster. It blocks; many threads may use it.

    :param client: sends nothing twice by itself.
    """

    def __init__(self, context: BatchContext, client: GptImageClient) -> None:
        timing = context.timing
        self._context = context
        self._client = client
        self._pacer = _pacer(timing.first_rate, client.settings.rate_limit)
        self._breaker = CircuitBreaker(
            longest_refusal=timing.longest_refusal, longest_hold=timing.longest_hold
        )
        self._write_backoff = Retrying(longest_pause=timing.write_pause)
        # For the pacer and the breaker, free again at once; for whose turn it is to wait for a place; for who
        # renews the lease, which takes as long as the store.
        self._counting, self._order, self._renewing = Lock(), Lock(), Lock()
        seconds = submitting.answer_seconds(client.settings.connect_timeout, client.settings.read_timeout)
        self._answer_time = timedelta(seconds=seconds + timing.expires_after)

    def submit(self, entry: Entry) -> Record:
        """
        Submit an item; return its record, with the generation's id.

        :raises StoppedError: when nothing may be submitted any more; it wasn't.
        :raises SubmissionUnknownError: when nobody knows; its intent stays on record.
        :raises LedgerError: when this worker is out of date; it wasn't submitted.
        :raises GptImageError: when it wasn't accepted; that is on record.
        """
        context, item = self._context, entry.item
        context.budget.reserve(item.index, item.credits)
        try:
            self._wait_for_place()
            request = context.plan.request(item)
            intent = self._intent(entry, request)
            try:
                options = context.options
                prepared = signed(request, seconds=options.timeout, references=options.references)
            except InvalidRequestError as error:
                self._write_outcome(entry, intent.not_accepted(error, context.now()))
                raise
            self.ensure_lease()
            context.stop.check()
            return self._send(entry, intent, prepared)
        finally:
            context.budget.release(item.index)

    def resumed(self) -> None:
        """Count a generation that is in flight, and was submitted before."""
        with self._counting:
            self._pacer.resumed(1)

    def finished(self) -> None:
        """Count a generation that is in flight no longer, or isn't watched any more."""
        with self._counting:
            self._pacer.finished(time.monotonic())

    def ensure_lease(self) -> None:
        """
        Make sure that this worker has not been replaced.

        :raises LedgerError: when it has been, or that can't be told.
        """
        if self._context.lease.needs_renewal:
            with self._renewing:
                self._context.lease.renew()

    def ensure_not_replaced(self) -> None:
        """
        Make sure of it as far as the store answers; for what may be done without it.

        :raises ReplacedError: when another worker goes on.
        """
        try:
            self.ensure_lease()
        except ReplacedError:
            raise
        except LedgerError as error:
            self._context.log.warning("The lease could not be renewed yet: %s", error.message)

    # --- one submit

    def _intent(self, entry: Entry, request: ImageRequest) -> Record:
        context, item, before = self._context, entry.item, entry.record
        now = context.now()
        return intend(
            request,
            item.fingerprint,
            item.slot,
            before=before if before is not None and before.payer.same_attempt(context.payer) else None,
            payer=context.payer,
            prices=context.prices,
            now=now,
            answer_by=now + self._answer_time,
        )

    def _send(self, entry: Entry, intent: Record, prepared: ImageRequest) -> Record:
        """Carry out one submit: intent, POST, id."""
        context = self._context

        def write_intent(record: Record) -> None:
            try:
                context.records.write(record)
            except DestinationError as error:
                # It may have been written all the same.
                self._write_outcome(entry, record.not_accepted(error, context.now()))
                raise
            context.lease.note(recorded=context.records.folder.scope)

        def write_outcome(record: Record) -> None:
            if record.charges == intent.charges:
                context.budget.charge(entry.item.index, record.credits)
            self._write_outcome(entry, record)

        return submitting.submit(
            intent,
            prepared,
            write_intent=write_intent,
            post=lambda request: self._post(entry, intent, request),
            write_outcome=write_outcome,
            now=context.now,
            name=lambda _: entry.item.name,
            is_known=context.records.is_known,
            tell=context.tell,
        )

    def _post(self, entry: Entry, intent: Record, prepared: ImageRequest) -> str:
        """Send a request until the API takes it, or refuses it for another reason than the rate."""
        context = self._context
        while True:
            # Writing the intent took its time; others may have been told to wait meanwhile, or are while the
            # lease is renewed. A hold can outlast the lease, so that is made sure of in every round.
            self.ensure_lease()
            while held := self._held():
                self._sleep(held)
                self.ensure_lease()
            waited = (context.now() - intent.intended_at).total_seconds()
            if waited > context.timing.rewrite_after:
                changes = {"intended_at": context.now(), "answer_by": context.now() + self._answer_time}
                intent = intent.model_copy(update=changes)
                context.records.write(intent)
                self.ensure_lease()
            try:
                generation_id = self._client.submit(
                    prepared,
                    # Also when it is connected: that may take longer than the lease lasts.
                    before_send=self._check,
                    on_rate_limit=lambda: context.tell(RateLimited("submit")),
                )
            except _NOT_SENT:
                raise
            except RateLimitError as error:
                self._refused(error)
                self._wait_for_place()
            except SubmissionUnknownError as error:
                self._unknown(error)
                raise
            except GptImageError as error:
                self._failed(entry, error)
                raise
            else:
                self._accepted()
                return generation_id

    def _check(self) -> None:
        """Refuse to send what may not be sent any more, or what a successor may be sending, too."""
        self._context.stop.check()
        self._context.lease.check()
        self._context.lock.check()

    def _wait_for_place(self) -> None:
        """Wait until the rate allows one more submit; one asks at a time, so they go in order."""
        with self._order:
            while True:
                self._context.stop.check()
                with self._counting:
                    pause = self._pacer.pause(time.monotonic())
                if not pause:
                    return
                self._sleep(pause)

    def _sleep(self, seconds: float) -> None:
        """Sleep, but not on when nothing may be submitted any more."""
        self._context.stop.check()
        time.sleep(min(seconds, _LONGEST_SLEEP))
        self._context.stop.check()

    # --- what came of it, for the rate and for the others

    def _held(self) -> float:
        with self._counting:
            return self._pacer.held(time.monotonic())

    def _accepted(self) -> None:
        with self._counting:
            self._breaker.accepted()
            self._pacer.accepted(time.monotonic())

    def _refused(self, error: RateLimitError) -> None:
        with self._counting:
            now = time.monotonic()
            self._pacer.refused(now, error.retry_after)
            stops = self._breaker.refused(now, error.retry_after or 0.0)
        if stops:
            self._context.stop.set(error)

    def _unknown(self, error: SubmissionUnknownError) -> None:
        if error.generation_id is not None:
            self._context.log.warning("%s", error.message)
            self._accepted()
            return
        with self._counting:
            stops = self._breaker.lost()
        if stops:
            self._context.stop.set(error)

    def _failed(self, entry: Entry, error: GptImageError) -> None:
        with self._counting:
            if error.status is not None:
                self._pacer.passed(time.monotonic())
            stops = self._breaker.failed(entry.item.index, error)
        if stops:
            self._context.stop.set(error)

    # --- on record

    def _write_outcome(self, entry: Entry, record: Record) -> None:
        """
        Put on record what came of a submit, again and again until the destination takes it.

        In the meantime the task state store keeps it, so that an id is never in the log alone.
        """
        context, failures, stranded = self._context, 0, False
        what = (
            f"generation {record.generation_id}, which is paid for," if record.generation_id else record.state
        )
        entry.record = context.records.add(record)
        seconds = context.timing.insist if record.generation_id else context.timing.insist_withdrawn
        give_up_at = context.clock.elapsed() + seconds
        while True:
            try:
                context.records.write(record)
            except DestinationError as error:
                failures += 1
                problem = error
                context.log.warning(
                    "Row %d: %s could not be put on record yet: %s", entry.item.row, what, error.message
                )
            else:
                if context.lease.state.stranded:
                    context.lease.forget_stranded(record)
                return
            stranded = stranded or self._strand(record)
            over = context.clock.elapsed() >= give_up_at
            if over or (stranded and context.stop.interrupted):
                if record.generation_id or not stranded:
                    context.stop.set(problem)
                return
            time.sleep(self._write_backoff.backoff(failures))

    def _strand(self, record: Record) -> bool:
        try:
            self._context.lease.keep_stranded(record)
        except LedgerError as error:
            self._context.log.warning("Nor could the task state store keep it: %s", error.message)
            return False
        return True


def _pacer(first_rate: float, rate_limit: float | None) -> Pacer:
    """Return a pacer that keeps to the connection's limit, in submits per second; None: there is none."""
    if rate_limit is None:
        return Pacer(first_rate=first_rate)
    first_rate = min(first_rate, rate_limit)
    return Pacer(first_rate=first_rate, least=min(LEAST_RATE, first_rate), most=rate_limit)
