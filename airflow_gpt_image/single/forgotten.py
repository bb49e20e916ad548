"""Say of a generation that the API doesn't know (any more) what is on record about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_gpt_image.errors import GenerationNotFoundError
from airflow_gpt_image.ledger.record import Record


@contextmanager
def on_record(record: Record) -> Iterator[None]:
    """Say of a generation that the API doesn't know (any more) since when it is on record as paid for."""
    try:
        yield
    except GenerationNotFoundError as error:
        raise forgotten(error, record) from None


def forgotten(error: GenerationNotFoundError, record: Record) -> GenerationNotFoundError:
    """Return the error about a generation that the API doesn't know (any more)."""
    since = record.submitted_at or record.intended_at
    return GenerationNotFoundError(
        f"{error.message}\nIt is on record as paid for since {since:%Y-%m-%d %H:%M:%S} UTC.\n"
        "To pay for a new one, clear the task with on_clear='regenerate'.",
        status=error.status,
        code=error.code,
        type=error.type,
        generation_id=record.generation_id,
        request_id=error.request_id,
    )
