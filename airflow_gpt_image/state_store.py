"""One JSON document of a task instance, kept in Airflow's task state store.

It survives retries and clears, which XCom does not. "Could not be read" is an error, never "nothing
there"; and writing is the fence: a worker whose task instance was replaced reads "nothing there", but its
write fails.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_gpt_image.errors import GptImageError, LedgerError

VERSION: Final = 1

T = TypeVar("T", bound=BaseModel)


class TaskStateStore(Protocol):
    """What is needed of ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None: ...


class Document(Generic[T]):
    """
    A document under one key: every step is one write.

    :param model: what it is, with a field ``version``.
    """

    def __init__(self, store: TaskStateStore, key: str, model: type[T]) -> None:
        self._store = store
        self._key = key
        self._model = model

    def read(self) -> T | None:
        """The document; None when there provably is none.

        :raises LedgerError: when it can't be read, or makes no sense.
        """
        try:
            found = self._store.get(self._key)
        except Exception as error:
            raise LedgerError(
                f"The ledger could not be read ({type(error).__name__}). That is not the same as an empty "
                "one, so nothing is submitted; try again."
            ) from error
        if found is None:
            return None
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise LedgerError(
                f"The ledger is of version {version!r}; this release reads version {VERSION}. Upgrade "
                "airflow-provider-gpt-image to the release that wrote it."
            )
        try:
            return self._model.model_validate(found)
        except (ValidationError, GptImageError) as error:
            raise LedgerError(f"The ledger makes no sense: {error}") from None

    def write(self, document: T) -> None:
        """Keep it for good.

        :raises LedgerError: when it can't be written; then this worker may be out of date.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # missing in its stub alone

        try:
            self._store.set(self._key, document.model_dump(mode="json"), retention=NEVER_EXPIRE)
        except Exception as error:
            raise LedgerError(
                f"The ledger could not be written ({type(error).__name__}). If this task was cleared or "
                "retried meanwhile, this worker is out of date and stops here."
            ) from error
