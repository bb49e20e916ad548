"""What the author of a batch decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from airflow_gpt_image.ledger.decisions import Policy
from airflow_gpt_image.storage.references import NO_REFERENCES, References

Reuse = Literal["run", "destination", "never"]
OnInvalid = Literal["fail", "skip"]
OnEmpty = Literal["fail", "skip"]
OnItemFailure = Literal["continue", "fail"]
OnUnknownSubmit = Literal["fail", "resubmit"]


@dataclass(frozen=True)
class BatchOptions:
    """
    The operator's arguments, where they are explained.

    :param source: where the rows came from, if that is an address.
    """

    conn_id: str
    source: str = ""
    variants: int = 1
    filename: str | None = None
    reuse: Reuse = "run"
    on_invalid: OnInvalid = "fail"
    max_in_flight: int = 500
    poll_interval: float = 5.0
    timeout: float = 3600.0
    item_retries: int = 2
    on_item_failure: OnItemFailure = "continue"
    max_failures: float | None = None
    on_unknown_submit: OnUnknownSubmit = "fail"
    max_credits: Decimal | None = None
    check_balance: bool = False
    deferrable: bool = True
    references: References = NO_REFERENCES
    retries: int | None = None

    @property
    def resubmit(self) -> bool:
        """Return whether to pay again where an earlier submit may have been accepted."""
        return self.on_unknown_submit == "resubmit"

    @property
    def policy(self) -> Policy:
        """Return how records are decided upon."""
        return Policy(resubmit_unknown=self.resubmit, retry_failed=False)

    def most_failures(self, images: int) -> int | None:
        """Return how many of so many images may fail; None: any number."""
        if self.on_item_failure == "fail":
            return 0
        most = self.max_failures
        return math.floor(most * images) if isinstance(most, float) else most
