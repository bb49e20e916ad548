"""Whether anything may still be submitted, and how the reason against it outlasts a deferral."""

from __future__ import annotations

from threading import RLock
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict

from airflow_gpt_image import errors
from airflow_gpt_image.errors import GptImageError, StoppedError, TaskInterruptedError
from airflow_gpt_image.log import Log


class Stop:
    """
    Hold the first reason why nothing more is submitted, if there is one.

    Many threads may use it, and a signal's handler.
    """

    def __init__(self, log: Log, error: GptImageError | None = None) -> None:
        self.error = error
        self._log = log
        self._setting = RLock()

    def set(self, error: GptImageError) -> None:
        """Submit nothing more; what is in flight still finishes."""
        with self._setting:
            if self.error is not None:
                return
            self.error = error
        self._log.warning(
            "Nothing more is submitted; what is in flight still finishes and is stored.\n%s: %s",
            type(error).__name__,
            error.message,
        )

    @property
    def interrupted(self) -> bool:
        """Return whether the task was ended from outside."""
        return isinstance(self.error, TaskInterruptedError)

    def check(self) -> None:
        """
        Refuse to go on when nothing may be submitted any more.

        :raises StoppedError: then.
        """
        if self.error is not None:
            raise StoppedError(f"It was not submitted: the batch had stopped ({type(self.error).__name__}).")


_FIELDS: Final = ("status", "code", "type", "retry_after", "generation_id", "request_id")


class StopReason(BaseModel):
    """Keep a reason in the task state store: an error by its class's name, with its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, error: GptImageError) -> Self:
        """Take a reason without the API's own words, which may quote a prompt."""
        message = error.message
        if error.status is not None:
            said = f"The API said {error.status} {error.code or error.type or ''}".rstrip()
            message = f"{said} before this task waited.\n{error.remedy}".rstrip()
        fields = {"message": message, **{name: getattr(error, name) for name in _FIELDS}}
        return cls(error=type(error).__name__, fields=fields)

    def to_error(self) -> GptImageError:
        """Return the error again, of its own class."""
        found = getattr(errors, self.error, GptImageError)
        known = isinstance(found, type) and issubclass(found, GptImageError)
        error: GptImageError = (found if known else GptImageError)(**self.fields)
        return error
