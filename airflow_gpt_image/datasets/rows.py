"""Read a data set to its end before anything is paid for, and keep no more of it than is taken."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, BinaryIO, Final

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import quote_path
from airflow_gpt_image.datasets.cells import size_of
from airflow_gpt_image.datasets.given import MOST_CELLS, MOST_TEXT, refusal
from airflow_gpt_image.datasets.judging import BadCell, Judge, Row, count_rows, invalid_rows
from airflow_gpt_image.datasets.names import ColumnNames, Names, check_columns
from airflow_gpt_image.datasets.paths import Find, path_of
from airflow_gpt_image.datasets.sources import Source
from airflow_gpt_image.datasets.templates import PromptTemplate
from airflow_gpt_image.errors import EmptyDataSetError, Problem
from airflow_gpt_image.log import Log

MOST_ROWS: Final = 100_000
"""Rows of a data set: images of one task, at one for each."""

# Read, kept or not: a sample is of no more.
_MOST_READ: Final = 1_000_000
_MOST_BAD: Final = 200_000
_UNBOUNDED: Final = 2**62


class _Silent:
    def info(self, event: str, /, *args: object) -> None: ...

    def warning(self, event: str, /, *args: object) -> None: ...


def _a_file(path: str) -> None:
    return None


def read(
    requests: object,
    *,
    open: Callable[[str], BinaryIO],
    find: Find = _a_file,
    defaults: Mapping[str, Any] | None = None,
    columns: Mapping[str, str | None] | None = None,
    prompt_template: str | None = None,
    needs: Sequence[str] = (),
    limit: int | None = None,
    sample: int | None = None,
    images_per_row: int = 1,
    log: Log = _Silent(),
) -> tuple[list[Row], list[BadCell]]:
    """
    Read a data set to its end: the rows that can be paid for, and what is wrong with the others.

    :param requests: a sequence of prompts and mappings; a table of pandas, Polars or Arrow; or the path (also
        an ObjectStoragePath) of a .csv, .tsv, .jsonl, .ndjson or .parquet file, plain or compressed, of a
        folder of such, or a pattern. The columns that are no field of a request are the row's data.
    :param open: opens a path for reading bytes; for Parquet the stream must be seekable.
    :param find: as :data:`~airflow_gpt_image.datasets.paths.Find`; by default every path is a file.
    :param defaults: fields of a request for the rows that don't give them.
    :param columns: which column is which field; None: no column is, whatever looks like it.
    :param prompt_template: the prompt, with names of columns in braces.
    :param needs: columns that images are named by, which no row may leave empty.
    :param limit: the first so many rows alone; what is behind them isn't read. None: all.
    :param sample: so many rows, chosen by what they ask for: the same ones in whatever order they are read.
        None: all.
    :param images_per_row: bounds the rows: at most 100,000 images are made.
    :param log: is told which columns are fields, and what separates them.
    :raises EmptyDataSetError: when there are no rows.
    :raises InvalidRequestError: when there are no rows to be judged: no data set, a broken one, a file that
        isn't there, one of which no column is a field; one that is too large; or wrong arguments.
    :raises OSError: of other kinds, when the file can't be reached: trying again can help.
    """
    template = PromptTemplate(prompt_template) if prompt_template is not None else None
    judge = Judge(check_columns(columns), template, defaults, needs)
    names = ColumnNames(judge.columns, lambda text: log.info("%s", text))
    most_rows = MOST_ROWS // images_per_row
    source = Source(
        names=names,
        columns=judge.columns,
        template=template,
        needs=needs,
        defaults=judge.defaults,
        open=open,
        find=find,
        say=lambda text: log.info("%s", text),
        most_rows=_UNBOUNDED if limit is not None else most_rows,
    )
    total = len(requests) if isinstance(requests, list | tuple) else None
    reading = _Reading(names, most_rows, images_per_row, sample, total)
    with closing(source.rows(requests)) as given:
        for number, row in enumerate(islice(given, limit), 1):
            reading.take(judge.judge(number, row))
    rows, bad = reading.result()
    if not rows and not bad:
        raise EmptyDataSetError(
            f"requests: {_shown(requests)} is empty.\n"
            "Give at least one prompt, or on_empty='skip' if that may be.",
            problems=[Problem("requests", "it is empty; give at least one prompt.")],
        )
    if rows and names.known:
        # Rows that name their columns themselves have no header that could be looked at before.
        known = list({**names.known, **dict.fromkeys(judge.seen)})
        source.check(Names.of(known, judge.named), _shown(requests), known)
    if limit is not None or sample is not None:
        kind = f"limit={limit}: the first" if limit is not None else f"sample={sample}:"
        log.info("%s %d rows of the data set, no more.", kind, len(rows) + count_rows(bad))
    return rows, bad


def _shown(requests: object) -> str:
    """Return what a message calls a data set: a list is not shown, for it may be megabytes."""
    path = path_of(requests)
    return quote_path(path) if path is not None else f"The {type(requests).__name__}"


class _Reading:
    """What is kept of a data set while it is read; what is too much is refused as soon as it is seen."""

    def __init__(
        self,
        names: ColumnNames,
        most_rows: int,
        images_per_row: int,
        sample: int | None,
        total: int | None,
    ) -> None:
        self._total = total
        self._names = names
        self._most_rows = most_rows
        self._images_per_row = images_per_row
        self._sample = sample
        self._rows: list[Row] = []
        self._chosen: list[tuple[int, int, Row]] = []
        self._bad: list[BadCell] = []
        self._bytes: dict[str | None, tuple[int, int]] = {}
        self._count = self._text = 0

    def take(self, judged: Row | list[BadCell]) -> None:
        """Keep a row, or what is wrong with it."""
        self._count += 1
        if isinstance(judged, Row):
            self._keep(judged)
        else:
            for cell in judged:
                self._note(cell)
        self._check_size()

    def _keep(self, row: Row) -> None:
        if self._sample is not None:
            # The least hashes; of rows that ask for the same, the first ones.
            key = (-int.from_bytes(_digest(row.request)[:8], "big"), -row.number, row)
            if len(self._chosen) < self._sample:
                heapq.heappush(self._chosen, key)
            elif key[:2] > self._chosen[0][:2]:
                self._text -= _text_of(heapq.heapreplace(self._chosen, key)[2])
            else:
                return
        else:
            self._rows.append(row)
        self._text += _text_of(row)

    def _note(self, cell: BadCell) -> None:
        if cell.more:  # bytes: said once for the column
            place, more = self._bytes.setdefault(cell.column, (len(self._bad), -1))
            self._bytes[cell.column] = (place, more + 1)
            if more + 1:
                return
        self._bad.append(cell)

    def _check_size(self) -> None:
        kept = len(self._rows) or len(self._chosen)
        if kept > self._most_rows or self._count > _MOST_READ:
            many = self._total or self._count
            images = many * self._images_per_row
            raise refusal(
                f"{many:,} rows{'' if self._total else ', and there are more,'} with {self._images_per_row} "
                f"variants are {images:,} images.\n"
                f"A batch takes 1 to {MOST_ROWS:,}.\nGive several data sets, "
                "or a limit."
            )
        columns = len(self._names.known)
        if kept * self._images_per_row * columns > MOST_CELLS:
            raise refusal(
                f"{kept:,} rows with {columns:,} different columns make manifest.csv larger than "
                f"{MOST_CELLS:,} cells.\n"
                "Put what belongs together into one column, such as an object of JSON."
            )
        if self._text * self._images_per_row > MOST_TEXT:
            raise refusal(
                f"The first {kept:,} rows with {self._images_per_row} variants hold more than {MOST_TEXT:,} "
                "characters.\nLeave columns out, or give several data sets."
            )
        if len(self._bad) > _MOST_BAD:
            raise invalid_rows(self._bad)

    def result(self) -> tuple[list[Row], list[BadCell]]:
        """Return the rows in their order, and all that is wrong."""
        for place, more in self._bytes.values():
            self._bad[place] = self._bad[place]._replace(more=more)
        rows = sorted((row for _, _, row in self._chosen), key=lambda row: row.number)
        return rows or self._rows, self._bad


def _text_of(row: Row) -> int:
    """Return about how many characters a row takes in the plan and, for each of its images, in a manifest."""
    return size_of(dict(row.given)) + len(row.request.prompt or "")


def _digest(request: ImageRequest) -> bytes:
    return hashlib.sha256(request.model_dump_json().encode()).digest()
