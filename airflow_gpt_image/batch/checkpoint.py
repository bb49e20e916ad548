"""What the work up to a deferral leaves for the work after it, as the task state store keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from airflow_gpt_image.batch.stop import StopReason

Indexes = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
"""A set of items' indexes: a number with a bit for each, in hex."""


class Deferral(NamedTuple):
    """
    What is waited for when waiting is all that is left to do.

    :param generation_ids: in the order in which they were submitted.
    :param share: of those that a trigger takes, how many are worth a worker's start.
    :param deadline: when the last of them has had its time, in seconds since 1970.
    :param pause: seconds until the first look, at least.
    :param kinds: of each of them, as :func:`~airflow_gpt_image.polling.schedule.kind_of` has it.
    :param so_far: how far the batch is, for its log: as the trigger takes it.
    """

    generation_ids: list[str]
    share: float
    deadline: float
    pause: float = 0.0
    kinds: Sequence[str] = ()
    so_far: Mapping[str, Any] = {}


class Checkpoint(BaseModel):
    """
    How far an attempt is.

    :param plan: the SHA-256 of the plan that is carried out, in hex.
    :param stored: items whose images are stored.
    :param failed: items that are not tried again in this attempt.
    :param unsettled: items that are paid for and not waited for any more in this attempt.
    :param in_flight: items whose generations are under way; each has a record.
    :param stopped: why nothing more is submitted.
    :param began: when the attempt began, in seconds since 1970.
    :param invalid: how many rows were left out.
    :param charged: credits since the last clear; ``refunded`` likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    stored: Indexes = "0"
    failed: Indexes = "0"
    unsettled: Indexes = "0"
    in_flight: Indexes = "0"
    stopped: StopReason | None = None
    began: float
    invalid: int = Field(default=0, ge=0)
    charged: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)


def encode_indexes(indexes: Iterable[int]) -> str:
    """Return a set of indexes as a number with a bit for each, in hex: ten thousand take 2.5 kB."""
    number = bytearray()
    for index in indexes:
        place, bit = divmod(index, 8)
        number.extend(bytes(max(0, place + 1 - len(number))))
        number[place] |= 1 << bit
    return f"{int.from_bytes(number, 'little'):x}"


def decode_indexes(text: str) -> set[int]:
    """Return the set of indexes of such a number."""
    data = int(text, 16).to_bytes(len(text) // 2 + 1, "little")
    return {place * 8 + bit for place, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}
