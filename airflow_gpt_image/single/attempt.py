"""One image through one attempt of a task: find what is paid for, pay for what isn't, wait, store, tell.

1. :meth:`ImageAttempt.begin` reads the records and decides. It pays where they say that nothing is paid for.
2. Whoever drives it waits, on the worker or in the triggerer.
3. :meth:`ImageAttempt.finish` stores the images, puts that on record, and returns the task's result.

After a deferral another process makes the attempt anew and goes on at 2 or 3: the task state store says what
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self

from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image import results
from airflow_gpt_image.api import flows
from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.errors import (
    GenerationFailedError,
    GenerationNotFoundError,
    GptImageError,
    LedgerError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger import submitting
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.decisions import Policy, Verdict, decide
from airflow_gpt_image.ledger.ledger import Ledger, same_id_error, slot_of
from airflow_gpt_image.ledger.record import GenerationFacts, Record, fingerprint, intend
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.images import ImageFile, ImageFolder
from airflow_gpt_image.storage.names import Names

OnClear = Literal["reuse", "regenerate"]
OnUnknownSubmit = Literal["fail", "resubmit"]


@dataclass(frozen=True)
class ImageOptions:
    """The operator's arguments, where they are explained."""

    conn_id: str
    timeout: float
    wait_for_completion: bool = True
    reuse_destination: bool = False
    on_clear: OnClear = "reuse"
    on_unknown_submit: OnUnknownSubmit = "fail"
    max_credits: Decimal | None = None
    check_balance: bool = False


class ImageAttempt:
    """
    One attempt of a task that makes one image, or the part of it after a deferral.

    :param client: of the task's connection.
    :param ledger: of the task instance.
    :param images: where the images are stored; None: they stay where the API put them.
    :param names: what the images are called, as far as it is known before there is a generation.
    """

    def __init__(
        self,
        client: GptImageClient,
        ledger: Ledger,
        images: ImageFolder | None,
        names: Names,
        options: ImageOptions,
        log: Log,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._images = images
        self._names = names
        self._options = options
        self._log = log
        self._submitted = False
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
        if error is not None and not self._submitted:
            self._ledger.note_attempt()
        charged, refunded = self._ledger.spent
        net = charged - refunded
        self._log.info(
            "Spent since the last clear: %s credits ($%s): %s charged, %s refunded. This try %s.",
            plain(net),
            self._prices.usd(net),
            plain(charged),
            plain(refunded),
            "submitted" if self._submitted else "paid nothing",
        )

    @property
    def spent(self) -> dict[str, str]:
        """Return what the task instance spent since its last clear, as XCom has it."""
        return results.spent_fields(*self._ledger.spent, self._prices)

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
        identity = fingerprint(request, conn_id=self._options.conn_id, host=self._client.settings.host)
        while True:
            verdict = self._decided(identity, request)
            record = verdict.record
            if verdict.decision == "done" and record is not None:
                self._say_whose(record)
                self._log.info("Generation %s is stored already; nothing is paid.", record.generation_id)
                self._ledger.wait_for(record, deadline=self._deadline(), reused=True)
                return self._result(record, reused=True)
            if verdict.decision == "attach" and record is not None:
                if self._is_lost(record):
                    continue
                self._say_whose(record)
                self._log.info("Generation %s is paid for already; it is waited for.", record.generation_id)
                self._ledger.restore()
                self._ledger.wait_for(record, deadline=self._deadline(), reused=True)
                self._record = record
                return None
            if verdict.decision == "unknown" and record is not None:
                raise self._unknown(
                    f"An earlier try was about to submit this at {record.intended_at:%Y-%m-%d %H:%M:%S} UTC, "
                    "and no answer is on record: it died, or the answer was lost.",
                    request,
                )
            submitted = submitting.uninterrupted(partial(self._submit, identity, request, record))
            if submitted is not None:
                self._record = submitted
                return None

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
            self._submitted = not waiting.reused
        if self._record is None:
            self._ledger.check_readable()
        return self._record is not None

    @property
    def stored_result(self) -> dict[str, Any] | None:
        """Return the task's result if the images are stored already; None when they aren't."""
        if self._current.state != "stored":
            return None
        return self._result(self._current, reused=not self._submitted)

    @property
    def request(self) -> ImageRequest | None:
        """Return what was asked for, by the record."""
        return self._current.request

    @property
    def deadline(self) -> float:
        """Return when the wait ends, in seconds since 1970."""
        waiting = self._ledger.waiting
        return waiting.deadline if waiting is not None else self._deadline()

    @property
    def generation_id(self) -> str:
        """Return what is waited for."""
        generation_id = self._current.generation_id
        if generation_id is None:
            raise LedgerError("The record has no generation id for what this task waits for.")
        return generation_id

    def poll(self) -> Generation:
        """Read the generation once."""
        try:
            return self._client.get(self.generation_id)
        except GenerationNotFoundError as error:
            raise _forgotten(error, self._current) from None

    def wait(self, poll_interval: float) -> Generation:
        """Wait on this worker for the generation to finish; it is read a last time at the deadline."""
        try:
            return self._client.wait_until(
                self.generation_id, poll_interval=poll_interval, deadline=self.deadline
            )
        except GenerationNotFoundError as error:
            raise _forgotten(error, self._current) from None

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
            self._record = record.failed(error, self._now())
            self._ledger.write_outcome(self._record)
            raise
        stored = self._store(record, generation)
        return self._result(stored, reused=not self._submitted)

    def submitted_result(self) -> dict[str, Any]:
        """Return the result as far as it is known while nobody waits."""
        return self._result(self._current, reused=not self._submitted)

    # --- what is on record

    def _decided(self, identity: str, request: ImageRequest) -> Verdict:
        """Decide by the records; an intent that another worker may still be at work on is waited for."""
        ledger = self._ledger
        resubmit = self._options.on_unknown_submit == "resubmit"
        told = False
        while True:
            ledger.read()
            policy = Policy(regenerate=self._regenerates, resubmit_unknown=resubmit, retry_failed=True)
            verdict = decide(self._known(identity, request), ledger.payer, policy)
            if verdict.decision in ("attach", "done"):
                return verdict
            ledger.check_readable()
            record = verdict.record
            if record is None or not record.may_be_under_way(self._now()):
                return verdict
            if not told:
                told = True
                self._log.info(
                    "Try %d of %s may still be submitting this; its answer is waited for until %s.",
                    record.payer.attempt,
                    record.payer,
                    record.answer_by.isoformat(timespec="seconds"),
                )
            ledger.clock.sleep(ledger.timing.retry_every)

    @property
    def _regenerates(self) -> bool:
        return self._options.on_clear == "regenerate" and self._ledger.cleared

    def _known(self, identity: str, request: ImageRequest) -> list[Record]:
        own = [record for record in self._ledger.find(identity) if self._counts(record)]
        if not self._options.reuse_destination or self._regenerates:
            return own
        fresh_after = self._now() - timedelta(seconds=self._options.timeout)
        name = self._stem(identity, request)
        found = self._ledger.find_shared(name, identity, fresh_after=fresh_after)
        shared = [record for record in found if self._counts(record)]
        # What this task instance paid for goes before what another run did, unless nothing is paid for there.
        return own if any(record.state in ("submitted", "stored") for record in own) else [*own, *shared]

    def _counts(self, record: Record) -> bool:
        return record.payer.same_task(self._ledger.payer) or record.generation_id not in self._lost

    def _is_lost(self, record: Record) -> bool:
        """
        Return whether what is on record as paid for turns out not to be: it failed, or another run's is
        forgotten.

        Where nobody will wait for it in this task, a failed generation would be taken for a paid one.
        """
        another = not record.payer.same_task(self._ledger.payer)
        if self._options.wait_for_completion and not another:
            return False
        try:
            generation = self._client.get(record.generation_id or "")
        except GenerationNotFoundError as error:
            if not another:
                raise _forgotten(error, record) from None
            failure: GptImageError = error
        else:
            if generation.status != "failed":
                return False
            try:
                flows.succeeded(generation)
            except GptImageError as error:
                failure = error
        self._lost.add(record.generation_id or "")
        if not another:
            self._ledger.write_outcome(record.failed(failure, self._now()))
        return True

    # --- paying

    def _submit(self, identity: str, request: ImageRequest, earlier: Record | None) -> Record | None:
        """Submit the request; None when another run has just begun to: then its answer is waited for."""
        ledger, settings = self._ledger, self._client.settings
        regenerate = self._options.on_clear == "regenerate"
        ledger.check_nothing_is_missing(identity, earlier, regenerate=regenerate)
        budget = self._budget()
        price = self._prices.credits(request.resolution)
        budget.check(price)
        if self._options.check_balance:
            budget.check_balance(self._client.credits(), price)
        prepared = submitting.prepare(request, seconds=self._options.timeout)
        if earlier is not None:
            self._log.info("%s", _SUBMITTING_AGAIN[earlier.state].format(earlier.generation_id))
        now = self._now()
        seconds = submitting.answer_seconds(settings.connect_timeout, settings.read_timeout)
        seconds += ledger.timing.fence_valid  # so late the POST may go
        intent = intend(
            request,
            identity,
            slot_of(ledger.payer),
            before=ledger.own_record(identity),
            payer=ledger.payer,
            prices=self._prices,
            now=now,
            answer_by=now + timedelta(seconds=seconds),
        )
        # Not where an image is to be replaced: its record stays until the new one is stored.
        looked_for = self._options.reuse_destination and not self._regenerates
        shared = self._stem(identity, request) if looked_for else None
        yielded = False

        def write_intent(record: Record) -> None:
            nonlocal yielded
            if not ledger.write_intent(record, deadline=self._deadline(), shared=shared):
                yielded = True
                raise LedgerError("Another run has just begun to submit the same request.")
            self._submitted = True

        flow = submitting.submit(
            intent,
            prepared,
            now=self._now,
            name=lambda generation_id: self._stem(identity, request, generation_id),
            is_known=ledger.is_known,
        )
        try:
            record = submitting.run(
                flow,
                write_intent=write_intent,
                post=lambda sent: self._client.submit(sent, before_send=lambda: ledger.renew_fence(intent)),
                write_outcome=ledger.write_outcome,
            )
        except SubmissionUnknownError as error:
            raise self._unknown(error.message, request, error) from None
        except LedgerError:
            if yielded:
                return None
            raise
        except GptImageError:
            self._submitted = False
            raise
        self._log.info(
            "Submitted generation %s: %s, %s, %s credits ($%s).",
            record.generation_id,
            request.aspect_ratio,
            request.resolution,
            plain(record.credits),
            plain(record.usd),
        )
        return record

    def _budget(self) -> Budget:
        return Budget(self._options.max_credits, *self._ledger.spent, prices=self._prices)

    def _unknown(
        self, what_happened: str, request: ImageRequest, cause: SubmissionUnknownError | None = None
    ) -> SubmissionUnknownError:
        price = self._prices.credits(request.resolution)
        resubmit = self._options.on_unknown_submit == "resubmit"
        error = SubmissionUnknownError(
            f"{what_happened}\n"
            f"If it was accepted, it cost {plain(price)} credits (${self._prices.usd(price)}). Its id "
            "may be in the log of an earlier try, or in the account's history.\n"
            "With the id, GptImageSensor(generation_id=…, destination=…) fetches the image for nothing. To "
            "submit again regardless, set on_unknown_submit='resubmit', or clear the task with "
            "on_clear='regenerate'.",
            status=cause.status if cause else None,
            request_id=cause.request_id if cause else None,
        )
        # The author's decision makes it a thing that can be tried again.
        error.retryable = resubmit  # type: ignore[misc]
        return error

    # --- storing

    def _store(self, record: Record, generation: Generation) -> Record:
        facts = GenerationFacts.of(generation)
        if self._images is None:
            stored = record.stored([ImageFile(url=url) for url in generation.urls], facts, self._now())
            self._ledger.write_stored(stored, [])
            return stored
        stems = self._free_stems(record, generation)
        self._check_is_ours(record, stems[0])
        files, warnings = self._images.fetch_all(self._client, generation, stems, record.request, self._log)
        stored = record.stored(files, facts, self._now(), name=stems[0], warnings=warnings)
        self._ledger.write_stored(stored, stems, moved=stems[0] != record.name)
        return stored

    def _free_stems(self, record: Record, generation: Generation) -> list[str]:
        """
        Return the names of a generation's images, without their endings.

        A name without the generation's id may hold another image that somebody has been told of: another
        run's, if both submitted at the same moment, or another request's, if a mapped list was shifted. Then
        these get a name of their own.
        """
        prompt = record.request.prompt if record.request is not None else None
        names = self._names.of(record.fingerprint, generation.id, prompt)
        stems = [names.stem(index) for index in range(len(generation.urls))]
        anybodys = self._names.of(record.fingerprint, "none", prompt).stem(0) == stems[0]
        if not anybodys or self._may_replace(self._ledger.holder(stems[0]), record):
            return stems
        return [names.set_apart(stem) for stem in stems]

    def _may_replace(self, holder: Record | None, record: Record) -> bool:
        """Return whether an image may take the name of another one, whose record that is."""
        if holder is None or holder.generation_id == record.generation_id:
            return True
        if self._options.reuse_destination and self._regenerates:
            return True
        mapped = record.payer.map_index >= 0 and holder.fingerprint != record.fingerprint
        return holder.payer.same_instance(record.payer) and not mapped

    def _check_is_ours(self, record: Record, stem: str) -> None:
        """Refuse a generation that another submit has on record, too: the API gave one id to both."""
        self._ledger.check_is_ours(record)
        another = self._ledger.holder(stem)
        if another is None or another.generation_id != record.generation_id or another.request is None:
            return  # one without a request was fetched by a sensor, which doesn't know whose it is
        if not another.same_submit(record):
            raise same_id_error(record.generation_id, another)

    def _stem(self, identity: str, request: ImageRequest, generation_id: str = "none") -> str:
        return self._names.of(identity, generation_id, request.prompt).stem(0)

    # --- telling

    def _result(self, record: Record, *, reused: bool) -> dict[str, Any]:
        folder = self._images.folder if self._images is not None else None
        charged, refunded = self._ledger.spent
        spent = results.spent_fields(charged, refunded, self._prices)
        return results.of_record(record, folder) | {"reused": reused, "spent": spent}

    @property
    def _current(self) -> Record:
        if self._record is None:
            raise LedgerError("No record says what this task waits for.")
        return self._record

    @property
    def _prices(self) -> Prices:
        return self._client.settings.prices

    def _deadline(self) -> float:
        return self._now().timestamp() + self._options.timeout

    def _now(self) -> datetime:
        return self._ledger.clock.now()


_SUBMITTING_AGAIN: Final = {
    "stored": "on_clear is 'regenerate' after a clear: paying for a new generation beside {}.",
    "submitted": "on_clear is 'regenerate' after a clear: paying for a new generation beside {}.",
    "failed": "Nothing is paid for by the earlier submit (generation {}): paying for a new one.",
    "intent": "An earlier submit is unknown: submitting again, as on_unknown_submit says.",
}


def _forgotten(error: GenerationNotFoundError, record: Record) -> GenerationNotFoundError:
    since = record.submitted_at or record.intended_at
    return GenerationNotFoundError(
        f"{error.message}\nIt is on record as paid for since {since:%Y-%m-%d %H:%M:%S} UTC.\n"
        "To pay for a new one, clear the task with on_clear='regenerate'.",
        status=error.status,
        code=error.code,
        type=error.type,
        generation_id=record.generation_id,
        request_id=error.request_id,
    )
