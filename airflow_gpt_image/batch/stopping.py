"""Why nothing more is submitted, and how the reason outlasts a deferral."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict

from airflow_gpt_image import errors
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.log import Log


class StoppedError(Exception):
    """Nothing more is submitted; this item stays as it was."""


class Stop:
    """Whether anything may still be submitted; the first reason against it counts."""

    def __init__(self, error: GptImageError | None, log: Log) -> None:
        self.error = error
        self._log = log

    def because(self, error: GptImageError) -> None:
        """Submit nothing more; what is in flight still finishes."""
        if self.error is None:
            self.error = error
            self._log.warning(
                "Nothing more is submitted; what is in flight still finishes and is stored. %s: %s",
                type(error).__name__,
                error.message,
            )

    def check(self) -> None:
        """Raise :class:`StoppedError` when nothing may be submitted any more."""
        if self.error is not None:
            raise StoppedError


_FIELDS: Final = ("status", "code", "type", "retry_after", "generation_id", "request_id")


class Stopped(BaseModel):
    """A reason as the task state store keeps it: an error by its name, with its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, error: GptImageError) -> Self:
        """The reason without the API's own words, which may quote a prompt."""
        message = error.message
        if error.status is not None:
            said = f"The API said {error.status} {error.code or error.type or ''} before this task waited."
            message = f"{said} {error.remedy}".rstrip()
        fields = {"message": message, **{name: getattr(error, name) for name in _FIELDS}}
        return cls(error=type(error).__name__, fields=fields)

    def again(self) -> GptImageError:
        """The error again, of its own class."""
        error: GptImageError = getattr(errors, self.error, GptImageError)(**self.fields)
        return error
