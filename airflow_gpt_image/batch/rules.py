"""What the author of a batch decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from airflow_gpt_image.paying import OnUnknownSubmit

Reuse = Literal["run", "destination", "never"]
OnInvalid = Literal["fail", "skip"]
OnItemFailure = Literal["continue", "fail"]


@dataclass(frozen=True)
class Rules:
    """
    The operator's arguments, where they are explained.

    :param source: where the rows came from, if that is an address.
    :param defers: stop working when all that could be done is wait.
    """

    conn_id: str
    source: str
    variants: int
    reuse: Reuse
    on_invalid: OnInvalid
    max_in_flight: int
    poll_interval: float
    timeout: float
    item_retries: int
    on_item_failure: OnItemFailure
    max_failures: float | None
    on_unknown_submit: OnUnknownSubmit
    max_credits: Decimal | None
    check_balance: bool
    defers: bool

    @property
    def resubmit(self) -> bool:
        """Whether to pay again where an earlier submit may have been accepted."""
        return self.on_unknown_submit == "resubmit"

    def most_failures(self, images: int) -> int | None:
        """How many of so many images may fail; None: any number."""
        if self.on_item_failure == "fail":
            return 0
        most = self.max_failures
        return math.floor(most * images) if isinstance(most, float) else most
