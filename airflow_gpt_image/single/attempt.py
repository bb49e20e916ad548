"""One image through one attempt of a task: find what is paid for, pay for what isn't, wait, store, tell.

1. :meth:`ImageAttempt.begin` reads the records and decides. It pays where they say that nothing is paid for.
2. Whoever drives it waits, on the worker or in the triggerer.
3. :meth:`ImageAttempt.finish` stores the images, puts that on record, and returns the task's result.

After a deferral another process makes the attempt anew and goes on at 2 or 3: the task state store says what
for.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image import results
from airflow_gpt_image.api import flows
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.errors import (
    DownloadError,
    GenerationFailedError,
    GenerationNotFoundError,
    LedgerError,
)
from airflow_gpt_image.events import Failed, Polled, Reused, Stored
from airflow_gpt_image.events.telling import code_of
from airflow_gpt_image.ledger import submitting
from airflow_gpt_image.ledger.decisions import Policy, Verdict, decide
from airflow_gpt_image.ledger.reading import as_anothers, is_reused
from airflow_gpt_image.ledger.record import Record, fingerprint
from airflow_gpt_image.log import Reporter, span, waiting_line
from airflow_gpt_image.single.context import ImageContext
from airflow_gpt_image.single.forgotten import forgotten, on_record
from airflow_gpt_image.single.healing import take_told_id
from airflow_gpt_image.single.paying import ImageSubmitter
from airflow_gpt_image.single.storing import store_images
from airflow_gpt_image.storage.folders import Folder

# Seconds that a worker's slot is held for an image that is late, where the triggerer can wait.
_LONGEST_HOLD: Final = 5.0


class ImageAttempt:
    """
    One attempt of a task that makes one image, or the part of it after a deferral.

    :param context: what it works with.
    """

    def __init__(self, context: ImageContext) -> None:
        self._context = context
        self._client = context.client
        self._ledger = context.ledger
        self._log = context.log
        self._submitter = ImageSubmitter(context)
        self._lost: set[str] = set()
        self._record: Record | None = None

    # --- from here to there

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log last what was spent, however the attempt ends; one that defers has not ended."""
        if isinstance(error, TaskDeferred):
            return
        record = self._record
        if error is not None and not self._submitter.submitted:
            self._ledger.note_attempt()
        elif error is None and record is not None and is_reused(record, self._ledger.payer):
            self._context.tell(Reused(len(record.images)))
        charged, refunded = self._ledger.spent
        net = charged - refunded
        self._log.info(
            "Spent since the last clear: $%s; credits: %s charged, %s refunded. This try %s.",
            self._context.prices.usd(net),
            plain(charged),
            plain(refunded),
            "submitted" if self._submitter.submitted else "paid nothing",
        )

    @property
    def spent(self) -> dict[str, str]:
        """Return what the task instance spent since its last clear, as XCom has it."""
        return results.spent_fields(*self._ledger.spent, self._context.prices)

    def begin(self, request: ImageRequest) -> dict[str, Any] | None:
        """
        Find out what is paid for, and pay for what isn't.

        :return: the task's result if the images are stored already; None when there is something to wait for.
        :raises SubmissionUnknownError: when it may have been paid for and nobody knows.
        :raises RecordMissingError: when the task was cleared, and nothing tells what it had paid for.
        :raises CreditLimitError: when ``max_credits`` forbids it; nothing was submitted.
        :raises InsufficientCreditsError: when the balance doesn't suffice; nothing was submitted.
        :raises GptImageError: as the API has it, when it was not accepted.
        """
        conn_id, host = self._context.options.conn_id, self._client.settings.host
        identity = fingerprint(request, conn_id=conn_id, host=host)
        while self._record is None:
            decision, record = self._decided(identity, request)
            if record is not None and decision in _FOUND:
                if not self._tells_all(record):
                    decision = "attach"
                if decision == "attach" and self._is_lost(record):
                    continue
                self._say_whose(record)
                self._log.info(_FOUND[decision], record.generation_id)
                if decision == "attach":
                    self._ledger.restore()
                self._ledger.wait_for(record, deadline=self._context.deadline(), reused=True)
                self._record = record
            elif record is not None and decision == "unknown":
                raise self._submitter.unknown_error(
                    f"An earlier try was about to submit this at {record.intended_at:%Y-%m-%d %H:%M:%S} UTC, "
                    "and no answer is on record: it died, or the answer was lost.",
                    request,
                    record.intended_at,
                )
            else:
                submit = partial(self._submitter.submit, identity, request, record)
                self._record = submitting.uninterrupted(submit)
        return self.stored_result

    def _say_whose(self, record: Record) -> None:
        payer = self._ledger.payer
        if not record.payer.same_task(payer):
            self._log.info("It was paid for by %s.", record.payer)
        elif record.payer.map_index != payer.map_index:
            self._log.warning(
                "The same request was paid for at map index %d before the clear; its image is taken.",
                record.payer.map_index,
            )

    def resume(self) -> bool:
        """
        Go on after a deferral with what the task state store says.

        :return: False when it says nothing any more; then the attempt has to begin anew, which pays for
            nothing twice.
        """
        self._ledger.read()
        waiting = self._ledger.waiting
        if waiting is not None and waiting.generation_id is not None:
            found = self._ledger.find(waiting.fingerprint)
            of_this = [record for record in found if record.generation_id == waiting.generation_id]
            self._record = of_this[-1] if of_this else None
            self._submitter.submitted = not waiting.reused
        if self._record is None:
            self._ledger.check_readable()
        return self._record is not None

    @property
    def stored_result(self) -> dict[str, Any] | None:
        """Return the task's result if the images are stored already; None when they aren't."""
        if self._current.state != "stored" or not self._tells_all(self._current):
            return None
        return self._result(self._current)

    @property
    def record(self) -> Record | None:
        """Return what is known of the generation by now; None: nothing."""
        return self._record

    @property
    def folder(self) -> Folder | None:
        """Return the folder of its images; None: they are where the API put them."""
        return self._context.images.folder if self._context.images is not None else None

    @property
    def request(self) -> ImageRequest | None:
        """Return what was asked for, by the record."""
        return self._current.request

    @property
    def deadline(self) -> float:
        """Return when the wait ends, in seconds since 1970."""
        waiting = self._ledger.waiting
        return waiting.deadline if waiting is not None else self._context.deadline()

    @property
    def callback(self) -> str | None:
        """Return the submit whose callback is expected, if it was this very process that submitted."""
        return self._submitter.callback

    @property
    def since(self) -> float:
        """Return when what is waited for was submitted, in seconds since 1970."""
        record = self._current
        return (record.submitted_at or record.intended_at).timestamp()

    @property
    def generation_id(self) -> str:
        """Return what is waited for."""
        generation_id = self._current.generation_id
        if generation_id is None:
            raise LedgerError("The record has no generation id for what this task waits for.")
        return generation_id

    def poll(self) -> Generation:
        """Read the generation once."""
        with on_record(self._current):
            return self._client.get(self.generation_id)

    def wait(self, poll_interval: float) -> Generation:
        """Wait on this worker for the generation to finish; it is read a last time at the deadline."""
        clock, record = self._ledger.clock, self._current
        reporter = Reporter(self._log, now=clock.elapsed(), every=self._context.report_every)

        polls = 0

        def report(seen: str) -> None:
            nonlocal polls
            polls += 1
            reporter.say(waiting_line(seen, record.age(clock.now())), now=clock.elapsed())

        with on_record(record):
            generation = self._client.wait_until(
                self.generation_id,
                poll_interval=poll_interval,
                deadline=self.deadline,
                on_poll=report,
                on_unknown_status=lambda text: self._log.warning("%s", text),
            )
        lags = (generation.lag,) if generation.lag is not None and self._submitter.submitted else ()
        self._context.tell(Polled(polls, 0, lags))
        return generation

    def finish(self, generation: Generation) -> dict[str, Any]:
        """
        Store what a finished generation made, put on record how it ended, and return the task's result.

        :raises GenerationFailedError: when it failed and was refunded.
        :raises DownloadError: when an image didn't arrive; nothing is lost, and trying again costs nothing.
        :raises DestinationError: likewise, when the destination didn't take it.
        """
        record = self._current
        try:
            flows.succeeded(generation)
        except GenerationFailedError as error:
            self._record = self._settle_failed(record, error)
            raise
        self._record = stored = store_images(self._context, record, generation)
        if record.state != "stored":  # one without a destination is read again by a retry
            self._context.tell(Stored(len(stored.images), stored.seconds))
        result = self._result(stored)
        price = f"${plain(stored.usd)}" if self._submitter.submitted else "nothing paid by this try"
        results.log_done(self._log, result, price=price, seconds=stored.age(self._context.now()))
        return result

    def finish_or_defer(self, generation: Generation, *, deferrable: bool) -> dict[str, Any] | float:
        """
        As :meth:`finish`; an image that is late is asked for again, each time at the address that the API
        tells then.

        :param deferrable: wait here for no longer than a few seconds at a time.
        :return: the task's result; or the seconds until the image is to be asked for again, by another
            worker.
        """
        while True:
            try:
                return self.finish(generation)
            except DownloadError as error:
                pause = self._pause_while_late(generation, error)
                if pause is None:
                    raise
                self._log.warning("%s\nIt is asked for again in %.0f s.", error.message, pause)
            if deferrable and pause > _LONGEST_HOLD:
                return pause
            self._ledger.clock.sleep(pause)
            generation = self.poll()

    def _pause_while_late(self, generation: Generation, error: DownloadError) -> float | None:
        now = self._context.now()
        # Whatever the API says of its age: it was completed before the deadline.
        if now.timestamp() > self.late_deadline:
            return None
        return self._context.patience.pause(error, self._current.age_of_images(generation, now))

    @property
    def late_deadline(self) -> float:
        """Return until when images may be late at most, in seconds since 1970."""
        return self.deadline + self._context.patience.lasts

    def submitted_result(self) -> dict[str, Any]:
        """Return the result as far as it is known while nobody waits."""
        return self._result(self._current)

    # --- what is on record

    def _decided(self, identity: str, request: ImageRequest) -> Verdict:
        """Decide by the records; an intent that another worker may still be at work on is waited for."""
        context, ledger = self._context, self._ledger
        resubmit = context.options.on_unknown_submit == "resubmit"
        told = False
        while True:
            ledger.read()
            policy = Policy(regenerate=context.regenerates, resubmit_unknown=resubmit, retry_failed=True)
            verdict = decide(self._known(identity, request), ledger.payer, policy)
            if verdict.decision in ("attach", "done"):
                return verdict
            ledger.check_readable()
            record = verdict.record
            if record is not None and record.state == "intent" and take_told_id(context, record):
                continue
            if record is None or not record.may_be_under_way(self._context.now()):
                return verdict
            if not told:
                told = True
                self._log.info(
                    "An earlier try may still be at its submit; that is waited for, %s at most.\n%s, try %d",
                    span((record.answer_by - self._context.now()).total_seconds()),
                    record.payer,
                    record.payer.attempt,
                )
            ledger.clock.sleep(ledger.timing.retry_every)

    def _known(self, identity: str, request: ImageRequest) -> list[Record]:
        context = self._context
        own = [record for record in self._ledger.find(identity) if self._counts(record)]
        if not context.options.reuse_destination or context.regenerates:
            return own
        fresh_after = context.now() - timedelta(seconds=context.options.timeout)
        name = context.names.shared_stem(identity, request.prompt)
        found = self._ledger.find_shared(name, identity, fresh_after=fresh_after)
        shared = [as_anothers(record, request, context.prices) for record in found if self._counts(record)]
        # What this task instance paid for goes before what another run did, unless nothing is paid for there.
        return own if any(record.state in ("submitted", "stored") for record in own) else [*own, *shared]

    def _counts(self, record: Record) -> bool:
        return record.payer.same_task(self._ledger.payer) or record.generation_id not in self._lost

    def _tells_all(self, record: Record) -> bool:
        """Return whether a stored record suffices for a result: signatures of addresses are not on record."""
        return self._context.images is not None or all(image.can_be_fetched for image in record.images)

    def _is_lost(self, record: Record) -> bool:
        """
        Return whether what is on record as paid for turns out not to be: it failed, or another run's is
        forgotten.

        Where nobody will wait for it in this task, a failed generation would be taken for a paid one.
        """
        another = not record.payer.same_task(self._ledger.payer)
        if self._context.options.wait_for_completion and not another:
            return False
        try:
            generation = self._client.get(record.generation_id or "")
            if generation.status != "failed":
                return False
            flows.succeeded(generation)
        except GenerationNotFoundError as error:
            if not another:
                raise forgotten(error, record) from None
        except GenerationFailedError as error:
            if not another:
                self._settle_failed(record, error)
        self._lost.add(record.generation_id or "")
        return True

    def _settle_failed(self, record: Record, error: GenerationFailedError) -> Record:
        failed = record.failed(error, self._context.now())
        self._ledger.write_outcome(failed)
        self._context.tell(Failed(code_of(error), record.credits))
        return failed

    # --- telling

    def _result(self, record: Record) -> dict[str, Any]:
        told = results.of_record(record, self.folder)
        return told | {"reused": not self._submitter.submitted, "spent": self.spent}

    @property
    def _current(self) -> Record:
        if self._record is None:
            raise LedgerError("No record says what this task waits for.")
        return self._record


_FOUND: Final = {
    "done": "Generation %s is stored already; nothing is paid.",
    "attach": "Generation %s is paid for already; it is waited for.",
}
