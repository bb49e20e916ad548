"""A data set that is written down in a DAG file, with other tasks' results wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_gpt_image.airflow_internals import ResolveMixin, SetDuringExecution

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_gpt_image.datasets import BadCell, Row
    from airflow_gpt_image.storage.references import References


class Rows(ResolveMixin):
    """
    Hold rows that the author wrote down: other tasks' results among them are put in, and Jinja is not asked.

    :param given: a sequence of prompts, mappings, and references to other tasks' results.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        self._given = given

    @classmethod
    def of(cls, requests: object) -> Any:
        """Return a list or a table as such rows; a path, another task's result and the rest as they are."""
        if isinstance(requests, (str, bytes, ResolveMixin, SetDuringExecution)):
            return requests
        if isinstance(requests, Sequence):
            return cls(requests)
        return _Table(requests) if _is_table(requests) else requests

    def iter_references(self) -> Iterable[tuple[Any, str]]:
        """Yield the results that are needed: Airflow asks for them, to know which tasks come before."""
        from airflow.sdk import XComArg

        yield from XComArg.iter_xcom_references(self._given)

    def resolve(self, context: Context) -> list[Any]:
        """Return the rows with all results put in: Airflow asks for them when the task runs."""
        return [_resolve(value, context) for value in self._given]

    def __str__(self) -> str:
        # What the DAG's page shows: not ten thousand prompts.
        return f"{len(self._given):,} rows"


class _Table(ResolveMixin):
    """
    Hold a table of pandas, Polars or Arrow, which is handed on as it is.

    :param given: the table.
    """

    def __init__(self, given: Any) -> None:
        self._given = given

    def iter_references(self) -> Iterable[tuple[Any, str]]:
        """Yield nothing: no other task's result is in it."""
        return ()

    def resolve(self, context: Context) -> Any:
        """Return the table."""
        return self._given

    def __str__(self) -> str:
        count = len(self._given) if hasattr(self._given, "__len__") else "some"
        return f"{type(self._given).__name__}: {count} rows"


def _is_table(value: Any) -> bool:
    # As `datasets` knows them, which is not imported while DAGs are parsed.
    marks = ("itertuples", "iter_rows", "to_batches", "to_pylist", "to_list", "tolist", "__arrow_c_stream__")
    return not isinstance(value, type) and any(hasattr(value, mark) for mark in marks)


def _resolve(value: Any, context: Context) -> Any:
    if isinstance(value, ResolveMixin):
        return value.resolve(context)
    if isinstance(value, Mapping):
        return {name: _resolve(cell, context) for name, cell in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, context) for item in value]
    return value


def refuse_references(
    rows: list[Row], bad: list[BadCell], references: References
) -> tuple[list[Row], list[BadCell]]:
    """Return the rows whose objects may be signed; and the bad cells, those of the other rows among them."""
    from airflow_gpt_image.datasets import BadCell

    taken, refused = [], []
    for row in rows:
        refusals = [
            BadCell(row.number, "image_urls", refusal.value, f"item {index}: {' '.join(refusal)}")
            for index, address in enumerate(row.request.image_urls)
            if (refusal := references.refusal(address)) is not None
        ]
        refused += refusals
        if not refusals:
            taken.append(row)
    return (taken, sorted([*bad, *refused], key=lambda cell: cell.row)) if refused else (rows, bad)
