"""Rows out of text with separators: CSV as spreadsheets, databases and other tools write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.datasets.given import LONGEST_ROW, is_text, refusal
from airflow_gpt_image.datasets.lines import lines

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# A row over many lines; its longest cell is a mebibyte.
_LONGEST_RECORD: Final = 4 * LONGEST_ROW


_OTHER_QUOTES: Final = ("''", "``", "“”", "„“", "„”", "””", "‘’", "‚‘", "«»", "»«")
_AROUND_NAMES: Final = "\ufeff\u200b \t\r\n"
_BEGINS_WITH_BLANK: Final = re.compile(r'\s+"[^"]*"\s*')


class Record:
    """
    A row of cells, and the line that it begins in, from 1 on.

    :param header: that it names the columns.
    """

    __slots__ = ("cells", "header", "line")

    def __init__(self, cells: Sequence[str], line: int, *, header: bool) -> None:
        self.cells = cells
        self.line = line
        self.header = header


def read_records(
    stream: BinaryIO, path: str, is_known: Callable[[str], bool], say: Callable[[str], object]
) -> Iterator[Record]:
    """
    Yield the header of a file, then its rows; blank lines and rows of nothing but separators are left out.

    :param is_known: whether a name is a column's that is asked for: by it the separator is told.
    :param say: is told what separates the columns.
    :raises InvalidRequestError: when rows can't be told apart.
    """
    texts = _Texts(stream, path)
    header = True
    with _long_cells():
        separator = _separator(texts, path, is_known, say)
        begins = texts.number + 1
        records = csv.reader(texts, strict=True, delimiter=separator)
        try:
            for record in records:
                line, begins = begins, texts.number + 1
                texts.begin_record()
                if any(cell.strip() for cell in record):
                    yield Record(record, line, header=header)
                    header = False
        except csv.Error as error:
            # After a stray quote other rows would be read than were written, so none is taken.
            raise refusal(
                f"{quote_path(path)} is broken CSV from line {begins} on ({error}).\n"
                "Quote cells that contain a separator, a quote or a line break, and double the "
                "quotes in them."
            ) from None


class _Texts(Iterator[str]):
    """The lines of a file; a byte that is no text is kept until it is known which cell it is in."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._lines = lines(stream, path)
        self._path = path
        self._ahead: list[str] = []
        self._length = 0
        self.number = 0

    def __next__(self) -> str:
        text = self._ahead.pop() if self._ahead else self._next()
        self.number += 1
        self._length += len(text)
        if self._length > _LONGEST_RECORD:
            raise refusal(
                f"A row of {quote_path(self._path)} is longer than {_LONGEST_RECORD:,} characters at line "
                f"{self.number}.\nIs a quote not closed?"
            )
        return text

    def _next(self) -> str:
        line = next(self._lines)
        if len(line) > LONGEST_ROW:
            raise refusal(
                f"Line {self.number + 1} of {quote_path(self._path)} is longer than {LONGEST_ROW:,} bytes.\n"
                "Shorten it."
            )
        return line.decode(errors="surrogateescape")

    def begin_record(self) -> None:
        """Count the length of a row anew."""
        self._length = 0

    def first(self) -> str | None:
        """Return the first line that isn't blank, which stays to be read; those before it are passed."""
        while True:
            try:
                text = self._next()
            except StopIteration:
                return None
            if text.strip():
                self._ahead.append(text)
                return text
            self.number += 1


def _separator(
    texts: _Texts, path: str, is_known: Callable[[str], bool], say: Callable[[str], object]
) -> str:
    """Return what separates the columns: by a first line such as ``sep=;``, or by the header."""
    first = texts.first()
    if first is None:
        return ","
    said = first.strip('\r\n"')
    if said.lower().startswith("sep="):
        separator = said.partition("=")[2].strip(" ")
        if separator not in _SEPARATORS:
            raise refusal(
                f"{quote_path(path)} says that {quote(separator)} separates its columns.\nOne of "
                f"{', '.join(map(repr, _SEPARATORS))} is taken."
            )
        next(texts)
        texts.first()
    else:
        separator = _guess(first, path, is_known)
    say(f"{quote_path(path)}: {_SEPARATORS[separator]} separate the columns.")
    return separator


def _guess(header: str, path: str, is_known: Callable[[str], bool]) -> str:
    """Return what separates the names that are known, or else the most columns."""
    default = "\t" if ".tsv" in path.lower() else ","
    counts: dict[str, tuple[int, int]] = {}
    for separator in _SEPARATORS:
        names = next(csv.reader([header.strip("\r\n")], delimiter=separator), [])
        counts[separator] = (sum(map(is_known, names)), len(names))
    most = max(counts.values())
    best = [separator for separator, count in counts.items() if count == most]
    if len(best) == 1 or most[1] == 1:
        return best[0] if len(best) == 1 else default
    raise refusal(
        f"The header of {quote_path(path)}, {quote(header.strip())}, can be read with "
        f"{' or '.join(_SEPARATORS[separator] for separator in best)} between the columns.\nQuote the names, "
        "or write the separator into a first line such as 'sep=;'."
    )


def refuse_quotes(header: Sequence[str], path: str) -> None:
    """
    Refuse names in other quotes than CSV's, which would stand in every cell.

    :raises InvalidRequestError: then.
    """
    for name in header:
        if len(text := name.strip()) > 1 and text[0] + text[-1] in _OTHER_QUOTES:
            raise refusal(
                f"The header of {quote_path(path)} can't be used. {quote(text)} stands in quotes that aren't "
                "CSV's.\nWrite straight double quotes around cells, or none."
            )


def repeats(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Return whether a row is the header again, as files have it that were joined."""
    return len(cells) == len(header) and all(map(_is_same_name, header, cells))


def _is_same_name(one: str, other: str) -> bool:
    return one.strip(_AROUND_NAMES).casefold() == other.strip(_AROUND_NAMES).casefold()


@contextmanager
def _long_cells() -> Iterator[None]:
    # 16 of the longest addresses are just above the limit, which is the whole process's.
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, LONGEST_ROW))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def cells_of(
    names: Sequence[str | None], record: Record
) -> tuple[dict[str, Any], list[tuple[str | None, Any, str]]]:
    """Return what a row gives, by column, and what can't be read; empty cells give nothing."""
    cells, bad = dict[str, Any](), list[tuple[str | None, Any, str]]()
    found = list(record.cells)
    while len(found) > len(names) and not found[-1].strip():
        found.pop()  # padding
    if len(found) != len(names):
        # Half a prompt, most likely: its comma or its line break isn't quoted.
        rule = (
            f"{quote(found)} has {len(found)} cells, the header has {len(names)}. Quote cells that "
            "contain a separator, a quote or a line break; keep the separators of empty ones."
        )
        return {}, [(None, record.cells, rule)]
    for number, (name, text) in enumerate(zip(names, found, strict=True), 1):
        if not (text.strip() if name in FIELDS and name != "prompt" else text):
            continue
        if name is None:
            if number == 1 and text.strip().isdigit():
                cells.setdefault("index", text)  # pandas writes it so, unless index=False
            elif text.strip():
                bad.append(
                    (None, text, f"{quote(text)} stands in column {number}, which has no name; give it one.")
                )
        elif not is_text(text) or "\0" in text:
            bad.append(
                (name, text, f"{quote(text)} contains a byte that is no UTF-8 text; save the file as UTF-8.")
            )
        elif name == "prompt" and _BEGINS_WITH_BLANK.fullmatch(text):
            bad.append((name, text, f"{quote(text)}: a blank stands before its quote; remove that."))
        else:
            cells[name] = text
    return cells, bad
