"""Documents of a task instance in Airflow's task state store: the fence, and a copy of the records.

1. Writing is the fence. A worker whose task instance was replaced (retried, cleared) reads "nothing there",
   but its write fails.
2. "Could not be read" is an error, never "nothing there".
3. A retry keeps the store. So does a clear on Airflow 3.3; on 3.4 a clear empties it, unless it is told to
   keep it.
4. Each document is kept under one key, so that every step is one write. Keys are words without slash and dot:
   Airflow 3.3.0 answers 404 to others.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_gpt_image.api.rules import check_generation_id
from airflow_gpt_image.errors import GptImageError, LedgerError, ReplacedError
from airflow_gpt_image.ledger.payer import Count
from airflow_gpt_image.ledger.record import Record

VERSION: Final = 1

T = TypeVar("T", bound=BaseModel)


class TaskStateStore(Protocol):
    """What is needed of ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None: ...


class Document(Generic[T]):
    """
    A document under one key of the task state store.

    :param model: what it is, with a field ``version``.
    """

    def __init__(self, store: TaskStateStore, key: str, model: type[T]) -> None:
        self._store = store
        self._key = key
        self._model = model

    def read(self) -> T | None:
        """
        Return the document; None when there provably is none.

        :raises LedgerError: when it can't be read, or makes no sense.
        """
        try:
            found = self._store.get(self._key)
        except Exception as error:
            raise LedgerError(
                f"Airflow's task state store could not be read ({type(error).__name__}).\n"
                "That is not the same as an empty one, so nothing is submitted.\n"
                "Trying again is safe."
            ) from error
        if found is None:
            return None
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise LedgerError(
                f"The task state {self._key!r} is of version {version!r}.\n"
                f"This release reads version {VERSION}.\n"
                "Upgrade airflow-provider-gpt-image to the release that wrote it."
            )
        try:
            return self._model.model_validate(found)
        except (ValidationError, GptImageError) as error:
            raise LedgerError(f"The task state {self._key!r} makes no sense: {error}") from None

    def write(self, document: T) -> None:
        """
        Keep a document for good.

        :raises ReplacedError: when this worker's task instance was retried or cleared meanwhile.
        :raises LedgerError: when it can't be written for another reason.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # made when it is asked for

        try:
            self._store.set(self._key, document.model_dump(mode="json"), retention=NEVER_EXPIRE)
        except Exception as error:
            if _is_not_found(error):
                raise ReplacedError(
                    "Airflow's task state store no longer knows this try of the task.\n"
                    "It was retried or cleared meanwhile, and another worker goes on.\n"
                    "This one submits nothing more."
                ) from error
            raise LedgerError(
                f"Airflow's task state store could not be written ({type(error).__name__}).\n"
                "Nothing may be submitted without it.\n"
                "Trying again is safe."
            ) from error


def _is_not_found(error: Exception) -> bool:
    # The SDK has no class for it: a 404 of the API server arrives in the text of an AirflowRuntimeError.
    text = str(error)
    return "404" in text or "NOT_FOUND" in text.upper()


class Waiting(BaseModel):
    """
    What an attempt waits for, for the method that resumes it: templates render again, and attributes are
    gone.

    :param deadline: seconds since 1970.
    :param reused: whether this attempt submitted nothing.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    generation_id: str | None
    deadline: float
    reused: bool


class ImageTaskState(BaseModel):
    """
    The document of a task that makes one image.

    :param clear_epoch: the task instance's ``max_tries`` when it was written.
    :param records_at: the folder that has the records, too; None when the store alone has them.
    :param records: of this task instance, the latest version of each.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    clear_epoch: Count
    records_at: str | None = None
    records: tuple[Record, ...] = Field(default=(), max_length=10_000)
    waiting: Waiting | None = None


IMAGE_KEY: Final = "gpt_image"
"""The key of :class:`ImageTaskState`."""


class ToldId(BaseModel):
    """The id that a callback told of a submit whose own answer was lost. Whoever reads it has to check it."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    generation_id: Annotated[str, BeforeValidator(check_generation_id)]


def told_key(intent_digest: str) -> str:
    """
    Return the key of :class:`ToldId`: each submit has its own, for the API server writes it, not the worker.

    :param intent_digest: of the submit's record.
    """
    return f"{IMAGE_KEY}_told_{intent_digest}"
