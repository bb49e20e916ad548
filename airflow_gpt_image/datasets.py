"""Prompts out of a list, CSV, JSONL or Parquet: every row a request, or bad cells that say where they stand.

Every image costs money, so a data set is read to its end and judged row by row before anything is submitted,
and what could mean two things is refused instead of guessed. Whoever wrote it isn't trusted: no content of a
file ends in another exception than one of ours.

A prompt is data: never rendered, never stripped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.dataset_files import FIELDS, SOURCES, Given, is_text, of_item, refusal, safely_shown
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError, Problem

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

# Nobody's metadata is deeper, and who writes it down again has a stack of his own to think of.
_MAX_DEPTH: Final = 32
# Other readers of JSON turn a number into a float, and the largest one has no more digits.
_MAX_INTEGER: Final = 10**309
_MOST_LISTED: Final = 20


@dataclass(frozen=True)
class Row:
    """
    One row of a data set, ready to be paid for.

    :param number: its position, from 1 on; a CSV's header and blank lines aren't counted.
    :param request: what it asks for, with what ``defaults`` add.
    :param metadata: its other columns in their order; a column without a value isn't there.
    :param given: the row without what ``defaults`` add. As a line of JSONL it is the same row again.
    """

    number: int
    request: ImageRequest
    metadata: Mapping[str, Json]
    given: Mapping[str, Json]


class BadCell(NamedTuple):
    """
    Why a row can't be a request; its text is one line.

    :param row: as :attr:`Row.number`.
    :param column: None when it is the row as a whole.
    :param value: as given, shortened; empty when nothing was.
    :param rule: the value, the rule and the remedy in a sentence.
    :param line: where the row begins in a CSV or JSONL file, from 1 on.
    """

    row: int
    column: str | None
    value: str
    rule: str
    line: int | None = None

    def __str__(self) -> str:
        line = "" if self.line is None else f" (line {self.line})"
        tame = self.column and self.column.isprintable() and len(self.column) <= 80
        column = "" if self.column is None else f", column {self.column if tame else quote(self.column)}"
        return f"row {self.row}{line}{column}: {self.rule}"


def invalid_rows(bad: Sequence[BadCell]) -> InvalidRowsError:
    """Build the error about these cells, of which there is at least one."""
    lines = [str(cell) for cell in bad[:_MOST_LISTED]]
    if len(bad) > _MOST_LISTED:
        lines.append(f"… and {len(bad) - _MOST_LISTED:,} more")
    return InvalidRowsError(
        f"Invalid rows in the data set: {len({cell.row for cell in bad}):,}. Nothing was submitted. "
        "Correct them, or leave them out with on_invalid='skip'.\n" + "\n".join(lines),
        bad=bad,
        problems=[Problem(cell.column or "", str(cell)) for cell in bad],
    )


def read(
    requests: object, *, defaults: Mapping[str, Any] | None = None, open: Callable[[str], BinaryIO]
) -> tuple[list[Row], list[BadCell]]:
    """
    Read a data set to its end: the rows that can be paid for, and what is wrong with the others.

    :param requests: a sequence of prompts and mappings, or the path (also an ObjectStoragePath) of a .csv,
        .jsonl, .ndjson or .parquet file. The columns that are no field of a request are metadata.
    :param defaults: fields of a request for the rows that don't give them.
    :param open: opens a path for reading bytes; for Parquet the stream must be seekable.
    :raises InvalidRequestError: when there are no rows to be judged: no data set, an empty or a broken one, a
        file that isn't there; or when ``defaults`` are wrong.
    :raises OSError: of other kinds, when the file can't be reached: trying again can help.
    """
    fields = _checked_defaults(defaults)
    rows: list[Row] = []
    bad: list[BadCell] = []
    for number, given in enumerate(_rows_of(requests, fields, open), 1):
        judged = _judge(number, given, fields)
        if isinstance(judged, Row):
            rows.append(judged)
        else:
            bad += judged
    if not rows and not bad:
        raise refusal(f"{safely_shown(requests)} is empty; give at least one prompt.")
    return rows, bad


def _rows_of(
    requests: object, defaults: Mapping[str, Json], open: Callable[[str], BinaryIO]
) -> Iterator[Given]:
    no_list = (str, bytes, bytearray, memoryview)
    if isinstance(requests, Sequence) and not isinstance(requests, no_list):
        yield from map(of_item, requests)
        return
    # An ObjectStoragePath is no os.PathLike.
    is_path = isinstance(requests, (str, os.PathLike)) or hasattr(requests, "open")
    path = str(requests) if is_path else ""
    source = SOURCES.get(path[path.rfind(".") :].lower())
    if source is None or "\0" in path or ("://" in path and ("?" in path or "#" in path)):
        what = "is a single string, not a data set" if isinstance(requests, str) else "is not a data set"
        raise refusal(
            f"{safely_shown(requests)} {what}; give a list of prompts (['…']) or of mappings, or the path of "
            "a .csv, .jsonl (.ndjson) or .parquet file."
        )
    try:
        with closing(open(path)) as stream:
            yield from source(stream, path, defaults)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        reason = error.strerror or type(error).__name__
        raise refusal(
            f"{quote_path(path)} can't be read ({reason}); give the path of a file that this worker may read."
        ) from error


def _checked_defaults(defaults: object) -> dict[str, Json]:
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping):
        raise refusal(f"{safely_shown(defaults)} is no mapping of fields to values; give one.", "defaults")
    unknown = [name for name in defaults if name not in FIELDS]
    if unknown:
        message = f"{safely_shown(unknown)} can't have a default; only {', '.join(FIELDS)} can."
        raise refusal(message, "defaults")
    cells = {name: value for name, value in defaults.items() if value is not None}
    judged = _judge(0, Given({"prompt": "anything", **cells}), {})
    if not isinstance(judged, Row):
        raise refusal(" ".join(f"{cell.column}: {cell.rule}" for cell in judged), "defaults")
    return {name: value for name, value in judged.given.items() if name in cells}


def _judge(number: int, given: Given, defaults: Mapping[str, Json]) -> Row | list[BadCell]:
    bad = list(given.bad)
    plain: dict[str, Json] = {}
    for column, value in given.cells.items():
        try:
            plain[column] = _plain(value)
        except ValueError as error:
            bad.append((column, value, str(error)))
    if not given.cells and not bad:
        # What a spreadsheet leaves behind its last row. With a default prompt each would be an image.
        bad.append((None, None, "The row gives nothing; remove it, or give it a prompt."))
    columns = {column for column, _, _ in bad}
    if None not in columns:
        # As given, not as plain values: a date that became text would be a prompt.
        asked = {name: given.cells[name] for name in FIELDS if name in given.cells}
        fields = {name: value for name, value in {**defaults, **asked}.items() if name not in columns}
        if columns & {"prompt", "image_urls"}:
            fields.setdefault("prompt", "anything")  # wrong is not missing, too
        try:
            request = ImageRequest(**fields)
        except InvalidRequestError as error:
            for problem in error.problems:
                column, _, item = problem.field.partition(".")
                rule = f"item {item}: {problem.message}" if item else problem.message
                if column in fields and column not in asked:
                    rule += " It comes from defaults."
                bad.append((column, fields.get(column), rule))
    if bad:
        return [
            BadCell(number, column, "" if value is None else safely_shown(value), rule, given.line)
            for column, value, rule in bad
        ]
    row = {column: value for column, value in plain.items() if value is not None}
    metadata = {column: value for column, value in row.items() if column not in FIELDS}
    return Row(number, request, metadata, row)


def _plain(value: object, depth: int = 0) -> Json:
    """
    The value as JSON can hold it, whoever reads it.

    :raises ValueError: when JSON can't.
    """
    if isinstance(value, str):
        if not is_text(value):
            raise ValueError(f"{quote(value)} contains half a surrogate pair, which is no text; remove it.")
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_MAX_INTEGER < value < _MAX_INTEGER:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (list, tuple, Mapping)) and depth == _MAX_DEPTH:
        raise ValueError(f"A {type(value).__name__} is nested more than {_MAX_DEPTH} deep; flatten it.")
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) and is_text(name) for name in value):
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    raise ValueError(f"{safely_shown(value)} can't be written down as JSON; give text, or leave it out.")
