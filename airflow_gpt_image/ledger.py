"""What was paid for, kept where a retry, a clear and a crash can't lose it.

States of one request in one task instance::

    (nothing) ──intend──▶ intent ──submitted──▶ submitted ──stored──▶ stored
        ▲                   │                       │
        └─────withdraw──────┘                       └──────failed──▶ failed ──intend──▶ intent

Rules:

1. The intent is written before the POST, and the id right after its answer. So whatever dies in between, the
   next try knows that something may have been paid for.
2. A record belongs to a fingerprint: to what the request *is*, never to the try and never to the map index,
   which is a position.
3. "Could not read" is an error, never "nothing there".
4. The intent holds the whole request: after a deferral templates have rendered again, attributes are gone,
   and a decorated function isn't called again.
5. Writing is the fence. A worker whose task instance was replaced reads "nothing there", but its write fails,
   and the write comes before the money.

Kept in Airflow's task state store (per DAG, run, task and map index) with NEVER_EXPIRE: it survives retries
and clears, which XCom does not.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from airflow_gpt_image.api import sizes
from airflow_gpt_image.api.errors import GptImageError
from airflow_gpt_image.api.models import MODEL, ImageRequest

VERSION: Final = 1

M = TypeVar("M", bound=BaseModel)

State = Literal["intent", "submitted", "stored", "failed"]

_FROM: Final[dict[State, frozenset[State | None]]] = {
    "intent": frozenset({None, "failed"}),
    "submitted": frozenset({"intent"}),
    "stored": frozenset({"submitted"}),
    "failed": frozenset({"submitted"}),
}


class LedgerUnreadableError(GptImageError):
    """The ledger couldn't be read or makes no sense.

    Not the same as an empty one: trying again is safe, paying isn't.
    """

    retryable = True


class TaskStateStore(Protocol):
    """What the ledger needs of ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None: ...

    def delete(self, key: str) -> None: ...


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
    """One request's line in the ledger; plain JSON at rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    state: State
    fingerprint: str
    request: ImageRequest
    intended_at: AwareDatetime
    submitted_at: AwareDatetime | None = None
    settled_at: AwareDatetime | None = None
    generation_id: str | None = None
    result: dict[str, Any] | None = None
    failure: str | None = None


class Current(BaseModel):
    """What this try is about, for the method that resumes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    deadline: float
    reused: bool


class Ledger:
    """
    The records of one task instance.

    :param store: Airflow's task state store of the task instance.

    Every method raises :class:`LedgerUnreadableError` when the store does not answer as it should.
    """

    def __init__(self, store: TaskStateStore) -> None:
        self._store = store

    def find(self, fingerprint: str) -> Record | None:
        """The record of a request; None when there provably is none."""
        found = self._read(fingerprint)
        return None if found is None else _understood(Record, found)

    def intend(self, fingerprint: str, request: ImageRequest, *, now: datetime) -> Record:
        """Put on record that a request is about to be submitted. Comes before the POST, always."""
        self._check("intent", self.find(fingerprint))
        return self._write(Record(state="intent", fingerprint=fingerprint, request=request, intended_at=now))

    def withdraw(self, record: Record) -> None:
        """Take an intent back: the API said that it was not accepted, or it provably never left."""
        self._store.delete(_key(record.fingerprint))

    def submitted(self, record: Record, generation_id: str, *, now: datetime) -> Record:
        """Put the id on record that the API gave."""
        return self._move(record, "submitted", generation_id=generation_id, submitted_at=now)

    def stored(self, record: Record, result: dict[str, Any], *, now: datetime) -> Record:
        """Put on record that the images are where they belong, with what the task returns."""
        return self._move(record, "stored", result=result, settled_at=now)

    def failed(self, record: Record, failure: str, *, now: datetime) -> Record:
        """Put on record that the generation failed and was refunded."""
        return self._move(record, "failed", failure=failure, settled_at=now)

    def begin(self, current: Current) -> None:
        """Put on record what this try waits for:

        deferral arguments are no safe place, attributes are gone.
        """
        self._store.set(_CURRENT, current.model_dump(mode="json"), retention=_never())

    def current(self) -> tuple[Current, Record]:
        """What this try waits for."""
        found = self._read(_CURRENT, prefixed=True)
        if found is None:
            raise LedgerUnreadableError("The ledger does not say what this task waits for.")
        current = _understood(Current, found)
        record = self.find(current.fingerprint)
        if record is None:
            raise LedgerUnreadableError(
                f"The ledger has no record of {current.fingerprint}, which it waits for."
            )
        return current, record

    def _move(self, record: Record, state: State, **changes: Any) -> Record:
        self._check(state, record)
        return self._write(record.model_copy(update={"state": state, **changes}))

    def _check(self, state: State, before: Record | None) -> None:
        if (before.state if before else None) not in _FROM[state]:
            raise LedgerUnreadableError(
                f"The ledger can't go from {before.state if before else 'nothing'!r} to {state!r}."
            )

    def _write(self, record: Record) -> Record:
        self._store.set(_key(record.fingerprint), record.model_dump(mode="json"), retention=_never())
        return record

    def _read(self, name: str, *, prefixed: bool = False) -> Any:
        try:
            return self._store.get(name if prefixed else _key(name))
        except Exception as error:
            raise LedgerUnreadableError(
                f"The ledger could not be read ({type(error).__name__}). That is not the same as an empty "
                "one, so "
                "nothing is submitted; try again."
            ) from error


_CURRENT: Final = "gpt_image/current"


def _key(fingerprint: str) -> str:
    return f"gpt_image/{fingerprint}"


def _never() -> timedelta:
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    return NEVER_EXPIRE


def _understood(kind: type[M], found: Any) -> M:
    version = found.get("version", VERSION) if isinstance(found, dict) else None
    if version != VERSION:
        raise LedgerUnreadableError(
            f"The ledger holds a record of version {version!r}; this release reads version {VERSION}. "
            "Upgrade "
            "airflow-provider-gpt-image to the release that wrote it."
        )
    try:
        return kind.model_validate(found)
    except (ValidationError, GptImageError) as error:
        raise LedgerUnreadableError(f"The ledger holds a record that makes no sense: {error}") from None
