"""The columns of a data set that are no fields of a request, and what kind of value each of them holds.

JSON lets every row hold another kind; tables don't. So a column has one kind, told by all of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, Literal

from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.batch.plan import Plan

Kind = Literal["integer", "number", "boolean", "text"]

NAMING: Final = ("sku", "id", "name", "title", "product", "slug", "filename", "file")
"""What people call a column that names the row."""

_INT64: Final = 2**63
# Beyond these a float no longer tells an integer from the next one.
_EXACT: Final = 2**53


def columns_of(plan: Plan) -> dict[str, Kind]:
    """
    Return a plan's columns, in the order in which rows first give them, with their kinds.

    ``integer`` if all its values are such (64 bits), ``number`` if all are integers or floats, ``boolean`` if
    all are true or false; every other column is ``text``, also one that is mixed.
    """
    seen: dict[str, set[str]] = {}
    for item in plan.items:
        if item.slot.variant == 1:
            for name, value in plan.given(item).items():
                if name not in FIELDS:
                    seen.setdefault(name, set()).add(_kind_of(value))
    return {name: _common(kinds - {"nothing"}) for name, kinds in seen.items()}


def caption_of(columns: Iterable[str]) -> str | None:
    """Return the column that images are captioned by: one that names things, else the first; None of none."""
    given = list(columns)
    lower = {name.casefold(): name for name in reversed(given)}
    return next((lower[name] for name in NAMING if name in lower), given[0] if given else None)


def value_of(value: Any, kind: Kind) -> Any:
    """Return a value as its column holds it: in a text column what is no text is written as JSON."""
    if value is None or (isinstance(value, str) and kind == "text"):
        return value
    if kind == "number":
        return float(value)
    return json.dumps(value, ensure_ascii=False) if kind == "text" else value


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            return "text"
        return "integer" if -_EXACT <= value <= _EXACT else "large integer"
    if isinstance(value, float):
        return "number"
    return "nothing" if value is None else "text"


def _common(kinds: set[str]) -> Kind:
    if kinds == {"boolean"}:
        return "boolean"
    if kinds and kinds <= {"integer", "large integer"}:
        return "integer"
    if kinds and kinds <= {"integer", "number"}:
        return "number"
    return "text"
