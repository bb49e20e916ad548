"""What each source of a data set gives: rows of cells, not judged yet; and how a data set is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import InvalidRequestError, Problem

MOST_COLUMNS: Final = 1_000
"""Different columns of a data set: each is a column of ``manifest.csv``, in every row."""

MOST_CELLS: Final = 20_000_000
"""Lines times columns of ``manifest.csv``."""

MOST_TEXT: Final = 256 * 1024 * 1024
"""Characters in all rows of a data set, once for each of their images: so long are plan and manifest."""

LONGEST_ROW: Final = 1024 * 1024
"""Bytes of a line, characters of a row. 16 of the longest addresses and the longest prompt fit in."""


class Given(NamedTuple):
    """
    A row as its source gives it.

    :param cells: what has a value, by column; a field's column has the field's name.
    :param bad: column (None: the whole row), value and rule of what can't be read.
    :param line: where it begins in a file of lines, from 1 on.
    :param file: the name of its part, of a data set that is several files.
    :param named: how the data set calls the fields that it doesn't call as we do.
    :param fields: those that its data set has columns for, empty in this row or not.
    :param text: that its cells may be text whatever they say, as in a CSV.
    """

    cells: dict[str, Any]
    bad: Sequence[tuple[str | None, object, str]] = ()
    line: int | None = None
    file: str | None = None
    named: Mapping[str, str] = {}
    fields: Collection[str] = ()
    text: bool = False


def refusal(message: str, field: str = "requests") -> InvalidRequestError:
    """
    Return the error about a data set as a whole, or about an argument that says how it is read.

    :param message: value, rule and remedy, each on a line of its own.
    """
    return InvalidRequestError(f"{field}: {message}", problems=[Problem(field, message.replace("\n", " "))])


def safely_quote(value: object) -> str:
    """Do as :func:`quote`, however deep the value is nested and whatever its ``repr`` does."""
    try:
        return quote(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deep to be shown"
    except Exception:  # noqa: BLE001  # anybody's object
        return f"a {type(value).__name__} that can't be shown"


def is_text(text: str) -> bool:
    """Return whether it can be written as UTF-8; a byte that can't be read is half a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_line(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as it is written down to be read again: one that gives no field itself says so."""
    return dict(given) if any(field in given for field in FIELDS) else {**given, "prompt": None}
