"""What was paid for, kept where a retry, a clear and a crash can't lose it.

States of one request in one task instance::

    (nothing) ──intend──▶ intent ──submitted──▶ submitted ──stored──▶ stored
                            │                       │
                            ▼                       └──────failed──▶ failed ──intend──▶ intent
                     withdraw: as before

    nothing or failed ──found──▶ stored       an image of the same request was at the destination already
    stored ──stored──▶ stored                 its files were gone, and landed again

Rules:

1. The intent is written before the POST, and the id right after its answer. So whatever dies in between, the
   next try knows that something may have been paid for.
2. A record belongs to a fingerprint: to what the request *is*, never to the try and never to the map index,
   which is a position.
3. "Could not read" is an error, never "nothing there".
4. The intent holds the whole request: after a deferral templates have rendered again, attributes are gone,
   and a decorated function isn't called again.
5. Writing is the fence, and the write comes before the money.
6. What was spent stands in the same document as the records, so the two can't disagree after a crash.

Kept in Airflow's task state store (per DAG, run, task and map index) with NEVER_EXPIRE: it survives retries
and clears, which XCom does not. One document under one key: every step is one write.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from airflow_gpt_image.api import sizes
from airflow_gpt_image.api.models import MODEL, ImageRequest
from airflow_gpt_image.errors import LedgerError
from airflow_gpt_image.state_store import VERSION, Document, TaskStateStore

KEY: Final = "gpt_image/ledger"

State = Literal["intent", "submitted", "stored", "failed"]

_BEFORE: Final[dict[State, frozenset[State | None]]] = {
    "intent": frozenset({None, "failed"}),
    "submitted": frozenset({"intent"}),
    "stored": frozenset({"submitted", "stored"}),
    "failed": frozenset({"submitted"}),
}


def fingerprint(request: ImageRequest, *, conn_id: str, host: str) -> str:
    """
    Say what a request is, as 64 hex digits (v1): the same for the same image from the same account.

    Over the account (connection id and host, never the key), model, prompt, reference images in order,
    resolved size and tier, and nsfw_checker. ``auto`` and ``1:1`` are the same; the callback_url makes no
    other image.
    """
    ratio = sizes.RATIO_OF_AUTO if request.aspect_ratio == sizes.AUTO else request.aspect_ratio
    parts = ["v1", conn_id, host, MODEL, request.prompt, request.image_urls, ratio, request.resolution]
    text = json.dumps([*parts, request.nsfw_checker], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Record(BaseModel):
    """
    One request's line in the ledger.

    :param max_tries: the task instance's when it was intended: a refund counts for the clear it was charged
        under.
    :param result: what the task returned once the images were stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    request: ImageRequest
    max_tries: int
    intended_at: AwareDatetime
    submitted_at: AwareDatetime | None = None
    settled_at: AwareDatetime | None = None
    generation_id: str | None = None
    result: dict[str, Any] | None = None
    failure: str | None = None


class Waiting(BaseModel):
    """
    What this try waits for, for the method that resumes it.

    :param deadline: seconds since 1970.
    :param reused: whether this try submitted nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    deadline: float
    reused: bool


class Spent(BaseModel):
    """Credits of this task instance since its last clear. An unknown submit counts as charged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    charged: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)

    @property
    def net(self) -> Decimal:
        return self.charged - self.refunded


class Book(BaseModel):
    """The whole document; ``max_tries`` is the task instance's when it was written, and tells a clear."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    max_tries: int
    spent: Spent = Spent()
    waiting: Waiting | None = None
    records: dict[str, Record] = {}


class Ledger:
    """
    The records of one task instance; read when it is made, written at every step.

    :param store: Airflow's task state store of the task instance.
    :param max_tries: the task instance's ``max_tries``. It stays on a retry and is raised by a clear, though
        not always: so a doubt reads as a retry.
    :raises LedgerError: when the store does not answer as it should, here and in every method.
    """

    def __init__(self, store: TaskStateStore, *, max_tries: int) -> None:
        self._kept = Document(store, KEY, Book)
        written = self._kept.read()
        self.cleared = written is not None and max_tries > written.max_tries
        self._written = written or Book(max_tries=max_tries)
        self._book = self._written
        if self.cleared:
            self._book = self._book.model_copy(update={"max_tries": max_tries, "spent": Spent()})

    @property
    def spent(self) -> Spent:
        return self._book.spent

    def find(self, fingerprint: str) -> Record | None:
        """The record of a request; None when there provably is none."""
        return self._book.records.get(fingerprint)

    def waiting(self) -> tuple[Waiting, Record]:
        """What this try waits for."""
        waiting = self._book.waiting
        record = self.find(waiting.fingerprint) if waiting is not None else None
        if waiting is None or record is None:
            raise LedgerError("The ledger does not say what this task waits for.")
        return waiting, record

    def intend(
        self, fingerprint: str, request: ImageRequest, *, now: datetime, decided: bool = False
    ) -> None:
        """
        Put on record that a request is about to be submitted. Comes before the POST, always.

        :param decided: that the author chose to pay although something is on record.
        """
        before = self.find(fingerprint)
        if not decided:
            _check("intent", before)
        self._write(
            fingerprint,
            Record(state="intent", request=request, max_tries=self._book.max_tries, intended_at=now),
            spent={"charged": self.spent.charged + request.credits},
        )

    def withdraw(self, earlier: Book) -> None:
        """Take the intent back: it provably wasn't accepted. ``earlier`` is :meth:`book` from before it."""
        self._put(earlier)

    def book(self) -> Book:
        """The document as it was last read or written."""
        return self._written

    def submitted(self, fingerprint: str, generation_id: str, *, now: datetime) -> Record:
        """Put the id on record that the API gave."""
        return self._move(fingerprint, "submitted", generation_id=generation_id, submitted_at=now)

    def stored(self, fingerprint: str, result: dict[str, Any], *, now: datetime) -> Record:
        """Put on record that the images are where they belong, with what the task returns."""
        return self._move(fingerprint, "stored", result=result, settled_at=now)

    def found(
        self, fingerprint: str, request: ImageRequest, result: dict[str, Any], *, now: datetime
    ) -> Record:
        """Put on record that somebody else's result of the same request is taken, and nothing paid."""
        _check("intent", self.find(fingerprint))
        record = Record(
            state="stored",
            request=request,
            max_tries=self._book.max_tries,
            intended_at=now,
            settled_at=now,
            generation_id=result["generation_id"],
            result=result,
        )
        return self._write(fingerprint, record, spent={})

    def failed(self, fingerprint: str, failure: str, *, now: datetime) -> Record:
        """Put on record that the generation failed and was refunded."""
        return self._move(fingerprint, "failed", failure=failure, settled_at=now)

    def wait(self, waiting: Waiting) -> None:
        """Put on record what this try waits for: arguments of a deferral can get lost, attributes do."""
        self._put(self._book.model_copy(update={"waiting": waiting}))

    def _move(self, fingerprint: str, state: State, **changes: Any) -> Record:
        record = self.find(fingerprint)
        _check(state, record)
        assert record is not None  # _check: no state but "intent" begins from nothing
        refunded = state == "failed" and record.max_tries == self._book.max_tries
        refund = record.request.credits if refunded else Decimal(0)
        return self._write(
            fingerprint,
            record.model_copy(update={"state": state, **changes}),
            spent={"refunded": self.spent.refunded + refund},
        )

    def _write(self, fingerprint: str, record: Record, *, spent: dict[str, Decimal]) -> Record:
        self._put(
            self._book.model_copy(
                update={
                    "records": {**self._book.records, fingerprint: record},
                    "spent": self.spent.model_copy(update=spent),
                }
            )
        )
        return record

    def _put(self, book: Book) -> None:
        self._kept.write(book)
        self._written = self._book = book


def _check(state: State, before: Record | None) -> None:
    """Refuse a step that the table above doesn't have."""
    if (before.state if before else None) not in _BEFORE[state]:
        raise LedgerError(f"The ledger can't go from {before.state if before else 'nothing'!r} to {state!r}.")
