"""Where the rows of a data set come from: each source tells its rows as cells, and judges none of them.

What is refused here is what can't be told apart: a broken file, a row that doesn't fit its header, a column
that is there twice or almost named like a field.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NamedTuple

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.errors import InvalidRequestError, Problem

FIELDS: Final = tuple(ImageRequest.model_fields)
"""The columns that are fields of a request; every other one is metadata."""

_CHUNK: Final = 1024 * 1024
# 16 of the longest addresses and the longest prompt fit several times; a file without line ends doesn't.
_MAX_LINE: Final = 1024 * 1024
_MAX_DIGITS: Final = 309
_ROWS_AT_ONCE: Final = 1_000
_YES_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Given(NamedTuple):
    """
    A row as its source tells it.

    :param cells: what has a value, by column.
    :param bad: column (None: the whole row), value and rule of what can't be read.
    :param line: where it begins in a file of lines, from 1 on.
    """

    cells: dict[str, Any]
    bad: Sequence[tuple[str | None, object, str]] = ()
    line: int | None = None


def refusal(message: str, field: str = "requests") -> InvalidRequestError:
    """The error about a data set as a whole."""
    return InvalidRequestError(f"{field}: {message}", problems=[Problem(field, message)])


def safely_shown(value: object) -> str:
    """As :func:`quote`, however deep the value is nested."""
    try:
        return quote(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deep to be shown"


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8; a byte that could not be read is half a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- a list, JSONL: each row names its columns itself


def of_item(item: object, line: int | None = None) -> Given:
    """The row that is a prompt, or a mapping of columns to values."""
    if isinstance(item, str):
        return Given({"prompt": item}, line=line)
    try:
        if not isinstance(item, Mapping):
            raise ValueError(f"{safely_shown(item)} is neither a prompt (a string) nor a mapping; give one.")
        names = _names(item)
    except ValueError as error:
        return Given({}, [(None, item, str(error))], line)
    cells = zip(names, item.values(), strict=True)
    return Given({name: value for name, value in cells if value is not None}, line=line)


def _jsonl(stream: BinaryIO, path: str, defaults: Mapping[str, object]) -> Iterator[Given]:
    for number, line in enumerate(_lines(stream), 1):
        text = line.decode(errors="surrogateescape").strip()
        if not text:
            continue
        try:
            if len(line) > _MAX_LINE:
                raise ValueError(f"{quote(text)} is longer than {_MAX_LINE:,} bytes; shorten it.")
            if not is_text(text):
                raise ValueError(f"{quote(text)} is not UTF-8 text; save the file as UTF-8.")
            item = _json(text, "Give one JSON object or string per line.")
        except ValueError as error:
            yield Given({}, [(None, text, str(error))], number)
        else:
            yield of_item(item, number)


def _json(text: str, remedy: str) -> Any:
    """
    Read JSON strictly: no number that isn't one, nothing said twice.

    :raises ValueError: in our words.
    """
    try:
        return json.loads(text, object_pairs_hook=_said_once, parse_int=_integer, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{quote(text)} can't be read as JSON: {reason}. {remedy}")


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, value in pairs:
        if name in said:
            raise ValueError(f"{quote(name)} is there twice")
        said[name] = value
    return said


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has more than {_MAX_DIGITS} digits")
    return int(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")


# --- CSV, Parquet: a header names the columns


def _csv(stream: BinaryIO, path: str, defaults: Mapping[str, object]) -> Iterator[Given]:
    header: list[str] | None = None
    begins = 1
    with _long_cells():
        records = csv.reader(_texts(stream, path), strict=True)
        try:
            for record in records:
                line, begins = begins, records.line_num + 1
                if not record:  # a blank line
                    continue
                if header is None:
                    header = _header(record, path, defaults)
                else:
                    yield _of_record(header, record, line)
        except csv.Error as error:
            # After a stray quote other rows would be read than were written, so none is taken.
            raise refusal(
                f"{quote_path(path)} is broken CSV from line {begins} on ({error}). Quote cells that "
                f"contain a "
                "comma, a quote or a line break, and double the quotes in them."
            ) from None


def _of_record(header: Sequence[str], record: Sequence[str], line: int) -> Given:
    if len(record) != len(header):
        # Half a prompt, most likely: its comma or its line break isn't quoted.
        rule = (
            f"{quote(record)} has {len(record)} cells, the header has {len(header)}. Quote cells that "
            "contain a comma, a quote or a line break; keep the commas of empty ones."
        )
        return Given({}, [(None, record, rule)], line)
    cells: dict[str, Any] = {}
    bad: list[tuple[str | None, object, str]] = []
    for name, cell in zip(header, record, strict=True):
        text = cell.strip() if name in FIELDS and name != "prompt" else cell
        try:
            if text:
                cells[name] = _of_text(name, text)
        except ValueError as error:
            bad.append((name, text, str(error)))
    return Given(cells, bad, line)


def _of_text(name: str, text: str) -> Any:
    if not is_text(text) or "\0" in text:
        raise ValueError(f"{quote(text)} contains a byte that is no UTF-8 text; save the file as UTF-8.")
    if name == "image_urls":
        remedy = "Give a JSON array of addresses, or addresses with white space between."
        return _json(text, remedy) if text.startswith("[") else text.split()
    if name == "nsfw_checker":
        if text.lower() not in _YES_NO:
            raise ValueError(f"{quote(text)} is neither true nor false; give one (or yes, no, 1, 0).")
        return _YES_NO[text.lower()]
    return text


def _texts(stream: BinaryIO, path: str) -> Iterator[str]:
    for number, line in enumerate(_lines(stream), 1):
        if len(line) > _MAX_LINE:
            raise refusal(
                f"Line {number} of {quote_path(path)} is longer than {_MAX_LINE:,} bytes; shorten it."
            )
        # A byte that is no text is kept until it is known which cell it is in.
        yield line.decode(errors="surrogateescape")


@contextmanager
def _long_cells() -> Iterator[None]:
    # 16 of the longest addresses are just above the limit, which is the whole process's.
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, _MAX_LINE))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, without its byte order mark; of one above the limit no more than shows it.

    Not ``readline(limit)``: fsspec's files take no limit there.
    """
    mark, rest = codecs.BOM_UTF8, b""
    while chunk := stream.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removeprefix(mark) + b"\n"
            mark = b""
        rest = rest[: _MAX_LINE + len(codecs.BOM_UTF8) + 1]
    if rest := rest.removeprefix(mark):
        yield rest


def _parquet(stream: BinaryIO, path: str, defaults: Mapping[str, object]) -> Iterator[Given]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise refusal(
            f"{quote_path(path)} can't be read without pyarrow. Run pip install "
            "'airflow-provider-gpt-image[parquet]', or give a .csv or .jsonl file."
        ) from error
    watched = _Watched(stream)
    try:
        # Reading ahead would hold most of the file.
        file = parquet.ParquetFile(watched, pre_buffer=False)
        header = _header(file.schema_arrow.names, path, defaults)
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            columns = [_values(column, pyarrow.ArrowException) for column in batch.columns]
            for row in zip(*columns, strict=True):
                cells = zip(header, row, strict=True)
                yield Given({name: value for name, value in cells if value is not None})
    except (OSError, ValueError, ArithmeticError, pyarrow.ArrowException) as error:
        if watched.trouble is not None:
            raise watched.trouble from None
        raise refusal(
            f"{quote_path(path)} is no Parquet file, or a broken one ({quote(str(error))}); write it again."
        ) from error


class _Watched:
    """A stream that remembers its own trouble.

    pyarrow raises OSError for a broken file, too, and only the stream's is worth another try.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.trouble: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def read(self, size: int = -1) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:
            self.trouble = error
            raise


def _values(column: Any, arrow_error: type[Exception]) -> Sequence[object]:
    cannot = (ValueError, ArithmeticError, LookupError, TypeError, ImportError, arrow_error)

    def value(scalar: Any) -> object:
        try:
            return scalar.as_py()
        except cannot:
            return _Unreadable(scalar.type)

    try:
        values: Sequence[object] = column.to_pylist()
    except cannot:
        values = [value(scalar) for scalar in column]  # the fault of one cell, not of the column
    return values


class _Unreadable:
    """What Arrow can hold and Python can't: the year 30000, broken UTF-8, an unknown time zone."""

    def __init__(self, type: object) -> None:
        self.type = type

    def __repr__(self) -> str:
        return f"<a {self.type} that Python can't hold>"


SOURCES: Final = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}


# --- the columns' names, whatever the source


def _header(columns: Iterable[object], path: str, defaults: Mapping[str, object]) -> list[str]:
    try:
        names = _names(columns)
    except ValueError as error:
        raise refusal(f"The header of {quote_path(path)} can't be used. {error}") from None
    if not {"prompt", "image_urls"} & {*names, *defaults}:
        # Said once, instead of for each of 10,000 rows.
        raise refusal(
            f"{quote_path(path)} has neither a column prompt nor image_urls; found {quote(names, 400)}. "
            f"Name the "
            "columns so (in a CSV in its first line, with commas between), or give one of them in defaults."
        )
    return names


def _names(columns: Iterable[object]) -> list[str]:
    """
    The columns' names, without white space around them.

    :raises ValueError: when one is no text, is there twice, or is almost a field's: who writes "Resolution"
        and gets 1k has paid for something else.
    """
    names: list[str] = []
    for column in columns:
        if not isinstance(column, str) or not is_text(column) or "\0" in column:
            raise ValueError(f"{safely_shown(column)} is no name of a column; give UTF-8 text.")
        name = column.strip()
        almost = "_".join(name.lower().replace("-", " ").split())
        if almost in FIELDS and name != almost:
            raise ValueError(f"Column {quote(name)} looks like {almost}; name it so, or quite differently.")
        if name in names:
            raise ValueError(f"Column {quote(name)} is there twice; give each column a name of its own.")
        names.append(name)
    return names
