"""What the author of a batch decided, and what it is to go beyond."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_gpt_image.api.errors import GptImageError
from airflow_gpt_image.batch.records import Payer
from airflow_gpt_image.paying import OnUnknownSubmit


class ItemsFailedError(GptImageError):
    """More images failed than the author allows. The others are stored, or on record."""


class EndedError(GptImageError):
    """The task was ended from outside. What is paid for is on record, and the next try goes on."""

    retryable = True


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
    :param max_credits: what may be spent in this try, net of refunds; None: no bound.
    :param on_unknown_submit: ``resubmit`` pays again where an earlier submit may have been accepted.
    :param defers: stop working when all that could be done is wait.
    """

    payer: Payer
    max_in_flight: int
    poll_interval: float
    timeout: float
    item_retries: int
    most_failures: int | None
    max_credits: Decimal | None
    on_unknown_submit: OnUnknownSubmit
    defers: bool
