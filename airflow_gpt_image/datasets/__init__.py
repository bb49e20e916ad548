"""Prompts out of lists, tables and files: every row a request, or bad cells that say where they stand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_gpt_image.api.rules import FIELDS
    from airflow_gpt_image.datasets.given import as_line
    from airflow_gpt_image.datasets.judging import BadCell, Row, count_rows, invalid_rows
    from airflow_gpt_image.datasets.rows import MOST_ROWS, read

__all__ = ["FIELDS", "MOST_ROWS", "BadCell", "Row", "as_line", "count_rows", "invalid_rows", "read"]

# Where they stand. A DAG file that is parsed needs one room of this package, and not all it takes to read.
_MODULES: Final = {
    "FIELDS": "api.rules",
    "as_line": "datasets.given",
    "BadCell": "datasets.judging",
    "Row": "datasets.judging",
    "count_rows": "datasets.judging",
    "invalid_rows": "datasets.judging",
    "MOST_ROWS": "datasets.rows",
    "read": "datasets.rows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"airflow_gpt_image.{_MODULES[name]}"), name)
