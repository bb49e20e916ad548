"""The only place that submits: what is on record decides whether there is anything to pay for.

=================  ===========================================================================
on record          what follows
=================  ===========================================================================
nothing            pay
failed             pay: it was refunded
submitted          wait for it
stored             its result is there
intent, no id      the truth can't be known: as ``on_unknown_submit`` says
=================  ===========================================================================

After a clear with ``on_clear="regenerate"`` it is "pay" in every row, once: the intent that is written before
the POST puts the decision on record, so a retry after that clear reads the table again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.errors import (
    CreditLimitError,
    GptImageError,
    InsufficientCreditsError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger import Ledger, Record
from airflow_gpt_image.log import Log

OnClear = Literal["reuse", "regenerate"]
OnUnknownSubmit = Literal["fail", "resubmit"]


@dataclass(frozen=True)
class Rules:
    """
    What the author decided about money.

    :param on_clear: ``regenerate`` pays for a new image after a clear, ``reuse`` doesn't.
    :param on_unknown_submit: ``resubmit`` pays again where an earlier submit may have been accepted.
    :param max_credits: what may be spent, net of refunds, by a task instance since its last clear.
    :param balance: asks for the account's credits, when they shall be checked first.
    """

    on_clear: OnClear = "reuse"
    on_unknown_submit: OnUnknownSubmit = "fail"
    max_credits: Decimal | None = None
    balance: Callable[[], Decimal] | None = None


def pay_once(
    ledger: Ledger,
    fingerprint: str,
    request: ImageRequest,
    submission: Callable[[], Callable[[], str]],
    rules: Rules,
    log: Log,
) -> tuple[Record, bool]:
    """
    The record of a generation that is paid for, and whether it was before.

    :param submission: makes everything ready, which may fail and costs nothing; what it returns sends the
        request, and returns the generation id.
    :raises SubmissionUnknownError: when it may have been paid for and nobody knows.
    :raises CreditLimitError: when ``max_credits`` forbids it; nothing was submitted.
    :raises InsufficientCreditsError: when the balance doesn't suffice; nothing was submitted.
    :raises GptImageError: as the API has it, when it wasn't accepted; the ledger is as before.
    """
    earlier = ledger.find(fingerprint)
    regenerate = ledger.cleared and rules.on_clear == "regenerate"
    if earlier is not None and not regenerate:
        if earlier.state in ("submitted", "stored"):
            log.info("Generation %s is paid for already; nothing is submitted.", earlier.generation_id)
            return earlier, True
        if earlier.state == "intent" and rules.on_unknown_submit == "fail":
            raise _unknown(
                request,
                f"An earlier try was about to submit this at {earlier.intended_at:%Y-%m-%d %H:%M:%S} UTC, "
                "and no answer is on record: it died, or the answer was lost.",
                rules,
            )
    if earlier is not None:
        log.info(
            "%s", _PAYING_AGAIN["regenerate" if regenerate else earlier.state].format(earlier.generation_id)
        )
    _guard(ledger, request, rules)
    submit = submission()
    before = ledger.book()
    ledger.intend(fingerprint, request, now=datetime.now(UTC), decided=earlier is not None)
    try:
        generation_id = submit()
    except SubmissionUnknownError as error:
        if error.generation_id is None:
            raise _unknown(request, error.message, rules, error) from None
        generation_id = error.generation_id
        log.warning("%s", error.message)
    except GptImageError:
        ledger.withdraw(before)
        raise
    # Logged before it is on record: should the record's write fail, the id is at least here.
    log.info(
        "Submitted generation %s: %s, %s, %s credits ($%s).",
        generation_id,
        request.aspect_ratio,
        request.resolution,
        plain(request.credits),
        usd(request.credits),
    )
    return ledger.submitted(fingerprint, generation_id, now=datetime.now(UTC)), False


_PAYING_AGAIN: Final = {
    "regenerate": "The task was cleared and on_clear is 'regenerate': paying for a new generation beside {}.",
    "failed": "Generation {} failed and was refunded: paying for a new one.",
    "intent": "An earlier submit is unknown: submitting again, as on_unknown_submit says.",
}


def _unknown(
    request: ImageRequest, what_happened: str, rules: Rules, cause: SubmissionUnknownError | None = None
) -> SubmissionUnknownError:
    error = SubmissionUnknownError(
        f"{what_happened} If it was accepted, it cost {plain(request.credits)} credits "
        f"(${usd(request.credits)}). Look in the account's history. To submit again regardless, set "
        "on_unknown_submit='resubmit', or clear the task with on_clear='regenerate'.",
        status=cause.status if cause else None,
        request_id=cause.request_id if cause else None,
    )
    # The author's decision makes it a thing that can be tried again.
    error.retryable = rules.on_unknown_submit == "resubmit"  # type: ignore[misc]
    return error


def _guard(ledger: Ledger, request: ImageRequest, rules: Rules) -> None:
    after = ledger.spent.net + request.credits
    if rules.max_credits is not None and after > rules.max_credits:
        raise CreditLimitError(
            f"Submitting would bring this task to {plain(after)} credits since its last clear; max_credits "
            f"is {plain(rules.max_credits)}. Nothing was submitted. Raise max_credits, or find out why it "
            "pays again."
        )
    if rules.balance is not None:
        balance = rules.balance()
        if balance < request.credits:
            raise InsufficientCreditsError(
                f"The balance is {plain(balance)} credits, the generation costs {plain(request.credits)}. "
                f"Nothing was submitted. {InsufficientCreditsError.remedy}",
                code="insufficient_credits",
            )
