"""Where rows come from: a list, a table in memory, or files; each gives them as cells, and judges none.

What is refused here is what can't be told apart: a broken file, a row that doesn't fit its header, columns of
which none is a field of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from airflow_gpt_image.api.models import MODEL
from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.datasets import csv_rows, tables
from airflow_gpt_image.datasets.cells import read_json
from airflow_gpt_image.datasets.given import (
    LONGEST_ROW,
    MOST_COLUMNS,
    Given,
    is_text,
    refusal,
    safely_quote,
)
from airflow_gpt_image.datasets.lines import lines, unpacked
from airflow_gpt_image.datasets.names import ColumnNames, Names, field_of, letters, same_column
from airflow_gpt_image.datasets.paths import Find, Part, check_path, parts_of, path_of
from airflow_gpt_image.datasets.tables import Table
from airflow_gpt_image.datasets.templates import PromptTemplate

_NO_LIST: Final = (str, bytes, bytearray, memoryview)


@dataclass
class Source:
    """
    Reads rows, whatever they are in.

    :param names: what the columns' names mean.
    :param columns: which column is which field, as the author said.
    :param template: the prompt's, whose columns have to be there.
    :param needs: other columns that have to be there: images are named by them.
    :param defaults: the fields that rows needn't give.
    :param most_rows: how many a file may have.
    :param folders: the columns that the names of folders give.
    """

    names: ColumnNames
    columns: Mapping[str, str | None]
    template: PromptTemplate | None
    needs: Sequence[str]
    defaults: Mapping[str, object]
    open: Callable[[str], BinaryIO]
    find: Find
    say: Callable[[str], object]
    most_rows: int
    folders: Collection[str] = ()

    def rows(self, requests: object) -> Generator[Given, None, None]:
        """
        Yield the rows of a data set.

        :raises InvalidRequestError: when it is none, or a broken one.
        :raises OSError: of other kinds, when a file can't be reached: trying again can help.
        """
        if isinstance(requests, Sequence) and not isinstance(requests, _NO_LIST):
            yield from map(self.of_item, requests)
        elif path_of(requests) is not None:
            yield from self._of_path(check_path(requests))
        elif (table := tables.table_of(requests)) is not None:
            yield from self._of_table(table, f"The {type(requests).__name__}")
        elif (items := None if isinstance(requests, _NO_LIST) else tables.items_of(requests)) is not None:
            yield from map(self.of_item, items)
        else:
            check_path(requests)

    # --- a list, JSON lines: each row names its columns itself

    def of_item(self, item: object, line: int | None = None) -> Given:
        """Return the row that is a prompt, or a mapping of columns to values."""
        if isinstance(item, str):
            return Given({"prompt": item}, line=line)
        try:
            if not isinstance(item, Mapping):
                raise ValueError(
                    f"{safely_quote(item)} is neither a prompt (a string) nor a mapping; give one."
                )
            if len(item) <= MOST_COLUMNS:  # of more, none is looked at
                item = _without_envelope(item)
            found = self.names.read(item)
        except ValueError as error:
            return Given({}, [(None, item, str(error))], line)
        cells = zip(found.columns, item.values(), strict=True)
        given = {name: value for name, value in cells if value is not None and name is not None}
        return Given(given, (), line, named=found.named, fields=found.fields)

    def _of_jsonl(self, stream: BinaryIO, path: str) -> Iterator[Given]:
        for number, line in enumerate(lines(stream, path), 1):
            text = line.decode(errors="surrogateescape").strip()
            if not text:
                continue
            try:
                if len(line) > LONGEST_ROW:
                    raise ValueError(f"{quote(text)} is longer than {LONGEST_ROW:,} bytes; shorten it.")
                if not is_text(text):
                    raise ValueError(f"{quote(text)} is not UTF-8 text; save the file as UTF-8.")
                item = read_json(text, "Give one JSON object or string per line.")
            except ValueError as error:
                yield Given({}, [(None, text, str(error))], number)
            else:
                yield self.of_item(item, number)

    # --- CSV, Parquet, tables: a header names the columns

    def _of_csv(self, stream: BinaryIO, path: str) -> Iterator[Given]:
        names: Names | None = None
        header: Sequence[str] = ()
        for record in csv_rows.read_records(stream, path, self._is_known, self.say):
            if record.header:
                header = record.cells
                csv_rows.refuse_quotes(header, path)
                names = self._header(header, quote_path(path))
            elif csv_rows.repeats(header, record.cells):
                rule = f"{quote(record.cells)} is the header again; remove the line."
                yield Given({}, [(None, record.cells, rule)], record.line)
            elif names is not None:
                cells, bad = csv_rows.cells_of(names.columns, record)
                yield Given(cells, bad, record.line, named=names.named, fields=names.fields, text=True)

    def _of_parquet(self, stream: BinaryIO, path: str) -> Iterator[Given]:
        yield from self._of_table(tables.read_parquet(stream, path, self.most_rows), quote_path(path))

    def _of_table(self, table: Table, shown: str) -> Iterator[Given]:
        if any(map(_is_input, table.names[:MOST_COLUMNS])):
            for row in table.rows:  # the API's own body, of which a column is the request
                yield self.of_item(tables.cells_of(table.names, row))
            return
        names: Names | None = None
        for row in table.rows:
            if names is None:
                names = self._header(table.names, shown)
            cells = tables.cells_of(names.columns, row)
            if cells:  # a row of nothing is what a spreadsheet leaves behind its last one
                given = {name: cells[name] for name in cells if name is not None}
                yield Given(given, named=names.named, fields=names.fields, text=True)
        if names is None and table.names:
            self._header(table.names, shown)

    def _is_known(self, name: str) -> bool:
        asked = (
            self.names.meant | {letters(column) for column in self.template.names}
            if self.template
            else (self.names.meant)
        )
        return field_of(name) is not None or letters(name) in asked

    def _header(self, given: Sequence[object], shown: str) -> Names:
        try:
            names = self.names.read(given, nameless=True)
        except ValueError as error:
            raise refusal(f"The header of {shown} can't be used.\n{error}") from None
        self.check(names, shown, given)
        return names

    def check(self, names: Names, shown: str, given: Sequence[object]) -> None:
        """
        Refuse columns that give nothing to draw: said once, instead of for each of 10,000 rows.

        :param shown: what the message calls the data set.
        :raises InvalidRequestError: then.
        """
        fields, found = names.fields, f"found {quote([str(name).strip() for name in given], 400)}"
        called = [names.named.get(name, name) for name in names.columns if name is not None]
        called += self.folders
        for field, column in self.columns.items():
            if column is not None and field not in fields and column not in self.folders:
                raise refusal(
                    f"{shown} has no column {quote(column)}, which columns names; {found}.\n"
                    "Name one that is there, or add it."
                )
        wanted = self.template.names if self.template else ()
        for name in (*wanted, *self.needs):
            if name not in fields and not any(same_column(each, name, called) for each in called):
                by = "prompt_template" if name in wanted else "filename"
                raise refusal(
                    f"{shown} has no column {quote(name)}, which {by} names; {found}.\n"
                    "Name one that is there, or add it."
                )
        if not fields and not wanted:
            raise refusal(
                f"{shown} has neither a column prompt nor image_urls, nor another field's; {found}.\n"
                f"Name the columns as the fields ({', '.join(FIELDS)}), say which they are with columns, or "
                "write a prompt_template."
            )
        if not wanted and not {"prompt", "image_urls"} & {*fields, *self.defaults}:
            raise refusal(
                f"{shown} has neither a column prompt nor image_urls; {found}.\n"
                "Name the columns so (in a CSV in its first line), say which they are with columns, or give "
                "one of them in defaults."
            )

    # --- files

    def _of_path(self, path: str) -> Iterator[Given]:
        now = path
        try:
            parts = parts_of(path, self.find, self._begin, self.say)
            self.folders = {column for part in parts for column in part.cells}
            if len(parts) > 1 or (parts and parts[0].name is not None):
                self.say(
                    f"{quote_path(path)}: {len(parts):,} files of {parts[0].kind}, in the order of their "
                    "names."
                )
            for part in parts:
                now = part.path
                yield from self._of_part(part)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            reason = error.strerror or type(error).__name__
            raise refusal(
                f"{quote_path(now)} can't be read ({reason}).\n"
                "Give the path of a file that this worker may read."
            ) from error

    def _of_part(self, part: Part) -> Iterator[Given]:
        readers = {"csv": self._of_csv, "jsonl": self._of_jsonl, "parquet": self._of_parquet}
        with closing(self.open(part.path)) as stream:
            for given in readers[part.kind](stream, part.path):
                yield given if part.name is None else self._of_part_named(given, part)

    def _of_part_named(self, given: Given, part: Part) -> Given:
        """Return a row with what the names of its folders say."""
        cells, bad = dict(given.cells), list(given.bad)
        for column, value in part.cells.items():
            field = None
            try:
                field = self.names.of_folder(column, given.fields)
                if field is not None and field not in given.cells:
                    raise ValueError("A folder's name can't be a field; write it into the files.")
                if "\0" in value or "\ufffd" in value:
                    raise ValueError(f"{quote(value)} is no text; write it into the files.")
                if str(cells.setdefault(field or column, value)) != value:
                    raise ValueError(f"Its folder says {column}={quote(value)}; keep one of them.")
            except ValueError as error:
                bad.append((field or column, value, str(error)))
        return given._replace(cells=cells, bad=bad, file=part.name)

    def _begin(self, path: str) -> bytes:
        with closing(self.open(path)) as stream:
            return unpacked(stream, path).read(4)[:4]


def _is_input(name: object) -> bool:
    # Its length first: most names are another's.
    return isinstance(name, str) and 5 <= len(name) <= 20 and letters(name) == "input"


def _without_envelope(item: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """
    Return the row that stands in the API's own body, ``{"model": …, "input": {…}}``, with what is beside it.

    :raises ValueError: when it is for another model, or something is there twice.
    """
    inside = next(filter(_is_input, item), None)
    if inside is None or not isinstance(item[inside], Mapping):
        return item
    beside = {name: value for name, value in item.items() if name != inside}
    model = beside.pop("model", None)
    if model not in (None, MODEL):
        raise ValueError(f"{safely_quote(model)} is another model; this is for {MODEL!r}.")
    twice = [name for name in item[inside] if name in beside]
    if twice:
        raise ValueError(f"{safely_quote(twice[0])} is in the row and in its {inside!r}; keep one.")
    return {**item[inside], **beside}
