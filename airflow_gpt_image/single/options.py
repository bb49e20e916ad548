"""What the author of a task decided, where that is needed while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from airflow_gpt_image.storage.references import NO_REFERENCES, References

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
    references: References = NO_REFERENCES
    retries: int | None = None
