"""The record of one paid generation, from the intent to the stored image.

States::

    (nothing) ──> intent ──> submitted ──> stored
                    │            │
                    v            v
                  failed <───────┘            refused, withdrawn, or refunded: nothing is paid for
                    │
                    └──> intent               submitted again

Rules:

1. The intent is on record before the POST, and the id right after its answer. Whatever dies in between, the
   next attempt knows that something may have been paid for.
2. ``failed`` means that nothing is paid for. What is paid for and not (yet) an image stays ``submitted``.
3. A record belongs to what the request *is* (its fingerprint), and to who paid. The map index is a position:
   it only tells equal requests apart.
4. Each attempt writes records of its own. So an earlier attempt that wakes up late never writes over a later
   one's.
5. Of several records about one request the one furthest along counts (:func:`furthest`).
6. Paths and addresses in a record are not trusted. Its images are files of the folder that the record was
   read from; one that is missing or has another size counts as not stored.

The same document is kept in Airflow's task state store, in the folder of records, and beside each image as
its sidecar. What was written first must be read by every later release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_serializer,
)

from airflow_gpt_image.api import sizes
from airflow_gpt_image.api.models import MODEL, Generation, ImageRequest
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.api.rules import check_generation_id
from airflow_gpt_image.errors import GptImageError, RecordMoveError, Scope
from airflow_gpt_image.ledger.payer import Count, Payer, Slot
from airflow_gpt_image.storage.images import FileName, ImageFile

State = Literal["intent", "submitted", "stored", "failed"]

ALLOWED_FROM: Final[dict[State, frozenset[State | None]]] = {
    "intent": frozenset({None, "intent", "failed"}),
    "submitted": frozenset({"intent", "submitted"}),
    "stored": frozenset({"submitted", "stored"}),
    "failed": frozenset({"intent", "submitted"}),
}
"""The table of moves: a state, and the states that it may come from. None: there is no record yet."""


def _bounded(amount: Decimal) -> Decimal:
    # pydantic 2.11 lets 1E-999999999 pass its bounds of digits.
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or not -12 <= exponent <= 12:
        raise ValueError("it is no amount of money")
    return amount


Money = Annotated[Decimal, Field(ge=0, max_digits=24, decimal_places=12), AfterValidator(_bounded)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

LARGEST_RECORD: Final = 1_000_000
"""Bytes. A prompt and sixteen addresses, as long as they may be, are a third of it."""

_LONGEST_MESSAGE: Final = 1_000

# With the longest timeouts that a connection can have it is two hours and a quarter.
_LONGEST_SUBMIT: Final = timedelta(hours=3)


def fingerprint(request: ImageRequest, *, conn_id: str, host: str) -> str:
    """Return what a request is, as 64 hex digits (v1): the same for the same image from the same account.

    It covers the account (connection id and host, never the key), model, prompt, reference images in order,
    resolved size and tier, and nsfw_checker. ``auto`` and ``1:1`` are the same size. The callback_url makes
    no other image, so it is not covered.
    """
    ratio = sizes.RATIO_OF_AUTO if request.aspect_ratio == sizes.AUTO else request.aspect_ratio
    parts = ["v1", conn_id, host, MODEL, request.prompt, request.image_urls, ratio, request.resolution]
    text = json.dumps([*parts, request.nsfw_checker], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def redacted_request(request: ImageRequest) -> ImageRequest:
    """Return the request as records keep it: without the queries of addresses, which may be signatures."""
    urls = tuple(url.partition("?")[0] for url in request.image_urls)
    return request.model_copy(update={"image_urls": urls, "callback_url": None})


class Failure(BaseModel):
    """Why there is no image: the error's class, its scope, the API's code, and the message."""

    model_config = ConfigDict(frozen=True)

    error: Annotated[str, Field(max_length=200)]
    code: Annotated[str | None, Field(max_length=1_000)] = None
    message: str
    retryable: bool = False
    scope: Scope = "request"

    @classmethod
    def of(cls, error: GptImageError) -> Self:
        """Take from an error what is kept of it."""
        return cls(
            error=type(error).__name__,
            code=error.code,
            message=error.message[:_LONGEST_MESSAGE],
            retryable=error.retryable,
            scope=error.scope,
        )

    @property
    def final(self) -> bool:
        """Return whether the same request would fail the same way: it is the request's own fault."""
        return self.scope == "request" and not self.retryable


class GenerationFacts(BaseModel):
    """What the API told of a finished generation besides its images."""

    model_config = ConfigDict(frozen=True)

    status: Annotated[str, Field(max_length=64)]
    model: Annotated[str, Field(max_length=1_000)] = MODEL
    created_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, generation: Generation) -> Self:
        """Take from a generation what is kept of it."""
        return cls(
            status=generation.status,
            model=generation.model or MODEL,
            created_at=generation.created_at,
            completed_at=generation.completed_at,
            metadata=generation.output.metadata,
        )


class Record(BaseModel):
    """What is known of one paid generation.

    :param request: what was asked for; None of a generation that somebody else submitted.
    :param credits: what one charge costs, by the price list of the connection; ``usd`` likewise in US
        dollars.
    :param charges: how often this attempt was charged for it, an unknown submit included; ``refunds``
        likewise.
    :param retries: how often this attempt submitted it again.
    :param answer_by: when the answer to the POST is certainly there or lost: until then whoever wrote the
        intent may still be at work.
    :param name: where its images are or will be, relative to the folder and without their ending.
    :param failure: with ``failed`` why nothing is paid for; else why there is no image yet.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    state: State
    fingerprint: Hex64
    slot: Slot = Slot()
    request: ImageRequest | None
    payer: Payer
    credits: Money
    usd: Money
    charges: Count = 1
    refunds: Count = 0
    retries: Count = 0
    intended_at: AwareDatetime
    answer_by: AwareDatetime
    submitted_at: AwareDatetime | None = None
    settled_at: AwareDatetime | None = None
    generation_id: Annotated[str, BeforeValidator(check_generation_id)] | None = None
    generation: GenerationFacts | None = None
    name: FileName | None = None
    images: tuple[ImageFile, ...] = Field(default=(), max_length=100)
    warnings: tuple[str, ...] = Field(default=(), max_length=1_000)
    failure: Failure | None = None

    @field_serializer("request")
    def _without_signatures(self, request: ImageRequest | None) -> dict[str, Any] | None:
        return (
            redacted_request(request).model_dump(mode="json", exclude={"callback_url"}) if request else None
        )

    def same_submit(self, other: Record) -> bool:
        """Return whether both are of the same attempt, about the same image."""
        same = (self.fingerprint, self.slot) == (other.fingerprint, other.slot)
        return same and self.payer.same_attempt(other.payer)

    @property
    def net_charges(self) -> int:
        """Return how many of its charges were not refunded."""
        return self.charges - self.refunds

    @property
    def in_files(self) -> bool:
        """Return whether its images are files: there are some, and not just where the API has them."""
        return self.state == "stored" and any(image.name is not None for image in self.images)

    @property
    def seconds(self) -> float | None:
        """Return the seconds from the submit to the stored image."""
        if self.submitted_at is None or self.settled_at is None:
            return None
        return round((self.settled_at - self.submitted_at).total_seconds(), 1)

    def age(self, now: datetime) -> float:
        """Return the seconds since it was submitted; 0 when another machine's clock is ahead of ``now``."""
        return max(0.0, (now - self.submitted_at).total_seconds()) if self.submitted_at else 0.0

    def age_of_images(self, generation: Generation, now: datetime) -> float:
        """Return its images' age in seconds: by the API's clock, but at most that of the submit by ours."""
        ours = self.age(now)
        return ours if generation.age is None else min(ours, generation.age)

    def may_be_under_way(self, now: datetime) -> bool:
        """Return whether the POST after this intent may still be going on somewhere.

        Not one that would take longer than any: then another clock, or another's hand, wrote it.
        """
        ends = now < self.answer_by <= now + _LONGEST_SUBMIT
        return self.state == "intent" and self.failure is None and ends

    def submitted(self, generation_id: str, now: datetime, *, name: str | None = None) -> Record:
        """Return the record of an accepted submit."""
        changes = {"generation_id": generation_id, "submitted_at": now, "failure": None}
        return self._moved("submitted", **changes, name=name or self.name)

    def stored(
        self,
        images: Iterable[ImageFile],
        facts: GenerationFacts,
        now: datetime,
        *,
        name: str | None = None,
        warnings: Sequence[str] = (),
    ) -> Record:
        """Return the record of a generation whose images are where they belong."""
        return self._moved(
            "stored",
            images=tuple(images),
            generation=facts,
            settled_at=now,
            name=name or self.name,
            warnings=tuple(warnings),
            failure=None,
        )

    def failed(self, error: GptImageError, now: datetime) -> Record:
        """Return the record of a generation that failed and was refunded."""
        changes = {"refunds": self.refunds + 1, "settled_at": now, "failure": Failure.of(error)}
        return self._moved("failed", **changes)

    def not_accepted(self, error: GptImageError, now: datetime) -> Record:
        """Return the record of a submit that provably was not accepted, or never sent: it is no charge."""
        changes = {"charges": self.charges - 1, "settled_at": now, "failure": Failure.of(error)}
        return self._moved("failed", **changes)

    def unknown(self, error: GptImageError) -> Record:
        """Return the record of a submit of which nobody knows whether it was accepted."""
        return self._moved("intent", failure=Failure.of(error))

    def without_image(self, error: GptImageError) -> Record:
        """Return the record of a paid generation that has no image yet, for this reason."""
        return self._moved("submitted", failure=Failure.of(error))

    def not_stored(self) -> Record:
        """Return the record as it was before its images were stored: they are gone."""
        changes = {"images": (), "generation": None, "settled_at": None, "warnings": ()}
        return self.model_copy(update={"state": "submitted", **changes})

    def _moved(self, state: State, **changes: Any) -> Record:
        if self.state not in ALLOWED_FROM[state]:
            raise RecordMoveError(f"A record can't go from {self.state!r} to {state!r}.")
        moved = self.model_copy(update={"state": state, **changes})
        if state in ("submitted", "stored") and moved.generation_id is None:
            raise RecordMoveError(f"A record can't go from {self.state!r} to {state!r} without an id.")
        return moved


def intend(
    request: ImageRequest,
    identity: str,
    slot: Slot,
    *,
    before: Record | None,
    payer: Payer,
    prices: Prices,
    now: datetime,
    answer_by: datetime,
) -> Record:
    """Return the record of a request that is about to be submitted.

    :param before: what this very attempt has on record about it; its charges are carried on.
    :raises RecordMoveError: when that is paid for.
    """
    if before is not None and before.state not in ALLOWED_FROM["intent"]:
        raise RecordMoveError(f"A record can't go from {before.state!r} to 'intent'.")
    price = prices.credits(request.resolution)
    return Record(
        state="intent",
        fingerprint=identity,
        slot=slot,
        request=redacted_request(request),
        payer=payer,
        credits=price,
        usd=prices.usd(price),
        charges=before.charges + 1 if before else 1,
        refunds=before.refunds if before else 0,
        retries=before.retries + 1 if before else 0,
        intended_at=now,
        answer_by=answer_by,
    )


def foreign_record(
    generation: Generation,
    images: Iterable[ImageFile],
    payer: Payer,
    now: datetime,
    *,
    name: str | None = None,
    warnings: Sequence[str] = (),
) -> Record:
    """Return the record of a generation that somebody else submitted: nobody knows what was asked for."""
    return Record(
        state="stored",
        fingerprint=hashlib.sha256(f"generation {generation.id}".encode()).hexdigest(),
        request=None,
        payer=payer,
        credits=Decimal(0),
        usd=Decimal(0),
        charges=0,
        intended_at=now,
        answer_by=now,
        settled_at=now,
        generation_id=generation.id,
        generation=GenerationFacts.of(generation),
        name=name,
        images=tuple(images),
        warnings=tuple(warnings),
    )


_RANK: Final[dict[State, int]] = {"intent": 0, "failed": 0, "submitted": 1, "stored": 2}
_STEP: Final[dict[State, int]] = {"intent": 0, "submitted": 1, "failed": 2, "stored": 3}


def furthest(records: Iterable[Record]) -> Record | None:
    """Return the record that counts of several about one request: stored, else submitted, else the latest.

    An earlier attempt's id that was recorded late counts more than a later attempt's intent or failure, for
    something is paid for there.
    """
    return max(latest_versions(records), key=_progress, default=None)


def latest_versions(records: Iterable[Record]) -> list[Record]:
    """Return the latest version of what each attempt has on record about each request."""
    latest: dict[tuple[Any, ...], Record] = {}
    for record in records:
        payer = record.payer
        key = (payer.instance_digest, payer.clear_epoch, payer.attempt, record.fingerprint, record.slot)
        known = latest.get(key)
        if known is None or (known.retries, _STEP[known.state]) <= (record.retries, _STEP[record.state]):
            latest[key] = record
    return list(latest.values())


def net_spent(records: Iterable[Record], payer: Payer) -> tuple[Decimal, Decimal]:
    """Return the credits that a task instance was charged, and refunded, since its last clear."""
    own = [record for record in latest_versions(records) if record.payer.same_epoch(payer)]
    charged = sum((record.credits * record.charges for record in own), Decimal(0))
    return charged, sum((record.credits * record.refunds for record in own), Decimal(0))


def _progress(record: Record) -> tuple[int, int, datetime]:
    # Not by the clear epoch: a clear after the DAG's `retries` were lowered lowers `max_tries`, too. The
    # numbers of tries count on.
    return _RANK[record.state], record.payer.attempt, record.intended_at
