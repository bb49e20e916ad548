"""Pay for one image: guards, intent, POST, id; in that order, and not cut off by a signal."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.callbacks import Callback
from airflow_gpt_image.errors import GptImageError, LedgerError, SubmissionUnknownError
from airflow_gpt_image.events import RateLimited
from airflow_gpt_image.ledger import submitting
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.ledger import slot_of
from airflow_gpt_image.ledger.record import Record, intend
from airflow_gpt_image.log import NO_RETRIES
from airflow_gpt_image.single.context import ImageContext
from airflow_gpt_image.storage.signing import signed


class ImageSubmitter:
    """
    Submits the request of a task that makes one image.

    :ivar callback: the submit that the API shall notify us of, as the address names it; None: it shall not.
    """

    def __init__(self, context: ImageContext) -> None:
        self._context = context
        self.submitted = False
        self.callback: str | None = None

    def submit(self, identity: str, request: ImageRequest, earlier: Record | None) -> Record | None:
        """Submit the request; None when another run has just begun to: then its answer is waited for."""
        context, ledger, options = self._context, self._context.ledger, self._context.options
        regenerate = options.on_clear == "regenerate"
        ledger.check_nothing_is_missing(identity, earlier, regenerate=regenerate)
        ledger.restore()  # another destination than before shall know all that a clear may ask it for
        budget = Budget(options.max_credits, *ledger.spent, prices=context.prices)
        price = context.prices.credits(request.resolution)
        budget.check(price)
        if options.check_balance:
            budget.check_balance(context.client.credits(), price)
        if options.retries == 0:
            context.log.warning("%s", NO_RETRIES)
        prepared = signed(request, seconds=options.timeout, references=options.references)
        if earlier is not None:
            context.log.info("%s", _SUBMITTING_AGAIN[earlier.state].format(earlier.generation_id))
        now, settings = context.now(), context.client.settings
        seconds = submitting.answer_seconds(settings.connect_timeout, settings.read_timeout)
        seconds += ledger.timing.fence_valid  # so late the POST may go
        intent = intend(
            request,
            identity,
            slot_of(ledger.payer),
            before=ledger.own_record(identity),
            payer=ledger.payer,
            prices=context.prices,
            now=now,
            answer_by=now + timedelta(seconds=seconds),
        )
        prepared, callback = self._with_callback(prepared, intent)
        # Not where an image is to be replaced: its record stays until the new one is stored.
        looked_for = options.reuse_destination and not context.regenerates
        shared = context.names.shared_stem(identity, request.prompt) if looked_for else None
        yielded = False

        def write_intent(record: Record) -> None:
            nonlocal yielded
            if not ledger.write_intent(record, deadline=context.deadline(), shared=shared):
                yielded = True
                raise LedgerError("Another run has just begun to submit the same request.")
            self.submitted = True

        try:
            record = submitting.submit(
                intent,
                prepared,
                write_intent=write_intent,
                post=lambda sent: context.client.submit(
                    sent,
                    before_send=lambda: ledger.renew_fence(intent),
                    on_rate_limit=lambda: context.tell(RateLimited("submit")),
                ),
                write_outcome=ledger.write_outcome,
                now=context.now,
                name=lambda generation_id: context.names.of(identity, generation_id, request.prompt).stem(0),
                is_known=ledger.is_known,
                tell=context.tell,
            )
        except SubmissionUnknownError as error:
            raise self.unknown_error(error.message, request, intent.intended_at, error) from None
        except LedgerError:
            if yielded:
                return None
            raise
        except GptImageError:
            self.submitted = False
            raise
        self.callback = callback
        return record

    def _with_callback(self, prepared: ImageRequest, intent: Record) -> tuple[ImageRequest, str | None]:
        """
        Return the request with an address to notify us at, and what names the submit in it; None where the
        author gave an address of his own, or callbacks are off.
        """
        callbacks, ti_id = self._context.callbacks, intent.payer.ti_id
        if callbacks is None or prepared.callback_url is not None or not ti_id:
            return prepared, None
        digest = submitting.intent_digest(intent)
        address = callbacks.address(
            Callback(UUID(ti_id), digest),
            timeout=self._context.options.timeout,
            now=intent.intended_at.timestamp(),
        )
        return prepared.model_copy(update={"callback_url": address}), digest

    def may_be_told(self, request: ImageRequest, since: datetime) -> bool:
        """Return whether a callback may still tell what became of a submit of that moment."""
        if self._context.callbacks is None or request.callback_url is not None:
            return False
        return self._context.now() < since + timedelta(seconds=self._context.options.timeout)

    def unknown_error(
        self,
        what_happened: str,
        request: ImageRequest,
        since: datetime,
        cause: SubmissionUnknownError | None = None,
    ) -> SubmissionUnknownError:
        """
        Return the error about a submit that is unknown: what it may have cost, and what helps.

        :param since: when it was about to be sent.
        """
        told = self.may_be_told(request, since)
        prices = self._context.prices
        price = prices.credits(request.resolution)
        error = SubmissionUnknownError(
            f"{what_happened}\n"
            f"If it was accepted, it cost {plain(price)} credits (${prices.usd(price)}). Its id "
            "may be in the log of an earlier try, or in the account's history.\n"
            "With the id, GptImageSensor(generation_id=…, destination=…) fetches the image for nothing. To "
            "submit again regardless, set on_unknown_submit='resubmit', or clear the task with "
            "on_clear='regenerate'."
            + ("\nA callback may still tell its id, and then the next try takes it." if told else ""),
            status=cause.status if cause else None,
            request_id=cause.request_id if cause else None,
        )
        # The author's decision makes it a thing that can be tried again, and so does an answer on its way.
        error.retryable = told or self._context.options.on_unknown_submit == "resubmit"  # type: ignore[misc]
        return error


_SUBMITTING_AGAIN: Final = {
    "stored": "on_clear is 'regenerate' after a clear: paying for a new generation beside {}.",
    "submitted": "on_clear is 'regenerate' after a clear: paying for a new generation beside {}.",
    "failed": "Nothing is paid for by the earlier submit (generation {}): paying for a new one.",
    "intent": "An earlier submit is unknown: submitting again, as on_unknown_submit says.",
}
