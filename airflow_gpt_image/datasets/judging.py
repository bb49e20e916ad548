"""Judge the rows of a data set: every row a request, or bad cells that say where they stand.

What could mean two things is refused instead of guessed. Whoever wrote it isn't trusted: no content of a file
ends in another exception than one of ours.

A prompt is data: never rendered, never stripped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets.cells import BytesError, Json, of_field, plain
from airflow_gpt_image.datasets.given import Given, refusal, safely_quote
from airflow_gpt_image.datasets.misnamed import refuse_misnamed
from airflow_gpt_image.datasets.templates import PromptTemplate, as_text, look_up
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError, Problem

_MOST_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row of a data set, ready to be paid for.

    :param number: its position, from 1 on; a header, blank lines and rows of nothing aren't counted.
    :param request: what it asks for, with what ``defaults`` and ``prompt_template`` add.
    :param given: the row without what was added. As a line of JSONL it is the same row again.
    :param named: how the data set calls the fields that it doesn't call as we do.
    """

    number: int
    request: ImageRequest
    given: Mapping[str, Json]
    named: Mapping[str, str] = field(compare=False)

    @property
    def metadata(self) -> Mapping[str, Json]:
        """Return its other columns in their order; a column without a value isn't there."""
        return {column: value for column, value in self.given.items() if column not in FIELDS}


class BadCell(NamedTuple):
    """
    Why a row can't be a request; its text is one line.

    :param row: as :attr:`Row.number`.
    :param column: None when it is the row as a whole.
    :param value: as given, shortened; empty when nothing was.
    :param rule: the value, the rule and the remedy in a sentence.
    :param line: where the row begins in a CSV or JSONL file, from 1 on.
    :param file: the part it is in, of a data set that is several files.
    :param more: how many other rows have the same wrong in this column.
    """

    row: int
    column: str | None
    value: str
    rule: str
    line: int | None = None
    file: str | None = None
    more: int = 0

    def __str__(self) -> str:
        places = [quote(self.file, 200)] if self.file is not None else []
        places += [f"line {self.line}"] if self.line is not None else []
        place = f" ({', '.join(places)})" if places else ""
        tame = self.column and self.column.isprintable() and len(self.column) <= 80
        column = "" if self.column is None else f", column {self.column if tame else quote(self.column)}"
        more = f" So it is in {self.more:,} more rows." if self.more else ""
        return f"row {self.row}{place}{column}: {self.rule}{more}"


def count_rows(bad: Iterable[BadCell]) -> int:
    """Return how many rows these cells are about."""
    rows: set[int] = set()
    more = 0
    for cell in bad:
        rows.add(cell.row)
        more = max(more, cell.more)
    return len(rows) + more


def invalid_rows(bad: Sequence[BadCell]) -> InvalidRowsError:
    """Build the error about these cells, of which there is at least one."""
    lines = [str(cell) for cell in bad[:_MOST_LISTED]]
    if len(bad) > _MOST_LISTED:
        lines.append(f"… and {len(bad) - _MOST_LISTED:,} more")
    return InvalidRowsError(
        f"Invalid rows in the data set: {count_rows(bad):,}. Nothing was submitted. "
        "Correct them, or leave them out with on_invalid='skip'.\n" + "\n".join(lines),
        bad=bad,
        problems=[Problem(cell.column or "", str(cell)) for cell in bad],
    )


class Judge:
    """
    Judges rows.

    :raises InvalidRequestError: when the author's arguments are wrong.
    """

    def __init__(
        self,
        columns: dict[str, str | None],
        template: PromptTemplate | None,
        defaults: object,
        needs: Sequence[str],
    ) -> None:
        self.columns = columns
        self.template: PromptTemplate | None = None
        self.needs: Sequence[str] = ()
        self.defaults: dict[str, Json] = {}
        self.seen: set[str] = set()
        self.named: dict[str, str] = {}
        self.defaults = self._checked_defaults(defaults)
        self.template = template
        self.needs = needs
        self.seen.clear()

    def _checked_defaults(self, defaults: object) -> dict[str, Json]:
        if defaults is None:
            return {}
        if not isinstance(defaults, Mapping):
            raise refusal(
                f"{safely_quote(defaults)} is no mapping of fields to values.\nGive one.", "defaults"
            )
        unknown = [name for name in defaults if name not in FIELDS]
        if unknown:
            message = f"{safely_quote(unknown)} can't have a default; only {', '.join(FIELDS)} can."
            raise refusal(message, "defaults")
        cells = {name: value for name, value in defaults.items() if value is not None}
        judged = self.judge(0, Given({"prompt": "anything", **cells}))
        if not isinstance(judged, Row):
            raise refusal(" ".join(f"{cell.column}: {cell.rule}" for cell in judged), "defaults")
        return {name: value for name, value in judged.given.items() if name in cells}

    def judge(self, number: int, given: Given) -> Row | list[BadCell]:
        """Return the row, or what is wrong with it."""
        bad: list[tuple[str | None, object, str]] = list(given.bad)
        of_bytes: set[str | None] = set()
        row: dict[str, Json] = {}
        fields: dict[str, Any] = {}
        there = {*self.columns, *given.fields}
        if given.named and number:
            self.named.update(given.named)
        for column, value in given.cells.items():
            try:
                if column in FIELDS:
                    self.seen.add(column)
                    # As given, not as plain values: a date that became text would be a prompt.
                    fields[column] = value = of_field(column, value, text=given.text or column in given.named)
                else:
                    refuse_misnamed(column, value, there)
                kept = plain(value)
                if kept is not None:
                    row[column] = kept
            except BytesError as error:
                of_bytes.add(column)
                bad.append((column, value, str(error)))
            except ValueError as error:
                bad.append((column, value, str(error)))
        if not given.cells and not bad:
            # With a default prompt each such row would be an image.
            bad.append((None, None, "The row gives nothing; remove it, or give it a prompt."))
        if self.template is not None and given.cells:
            prompt, lacking = self._templated(given, fields)
            bad += lacking
            fields["prompt"] = prompt
        for name in self.needs if given.cells else ():
            found = look_up(row, given.named, name)
            try:
                as_text(found)
            except ValueError as error:
                bad.append((name, found, f"{error} The filename needs it."))
        request = self._request(fields, bad)
        if request is None:
            return list(self._bad_cells(number, given, bad, of_bytes if len(bad) == len(of_bytes) else set()))
        return Row(number, request, row, given.named)

    def _templated(self, given: Given, fields: Mapping[str, Any]) -> tuple[str, list[tuple[str, Any, str]]]:
        assert self.template is not None
        prompt, lacking = self.template.render(given.cells, given.named)
        used = {"prompt", given.named.get("prompt", "prompt")} & set(self.template.names)
        if "prompt" in fields and not used:
            rule = (
                "The row has a prompt that prompt_template doesn't use; name {prompt} there, or remove one."
            )
            lacking.append(("prompt", fields["prompt"], rule))
        return prompt, lacking

    def _request(
        self, asked: dict[str, Any], bad: list[tuple[str | None, object, str]]
    ) -> ImageRequest | None:
        """Return what a row asks for; None, and what is wrong with it among the bad, when it can't be had."""
        columns = {column for column, _, _ in bad}
        templated = self.template is not None
        if None not in columns:
            fields = {
                name: value for name, value in {**self.defaults, **asked}.items() if name not in columns
            }
            if columns & {"prompt", "image_urls"} or (templated and bad):
                # Wrong is not missing, too.
                fields["prompt"] = fields.get("prompt") or "anything"
            try:
                request = ImageRequest(**fields)
            except InvalidRequestError as error:
                for problem in error.problems:
                    column, rule = problem.field, " ".join(problem.message.splitlines())
                    if column in fields and column not in asked:
                        rule += " It comes from defaults."
                    bad.append((column, fields.get(column), rule))
            else:
                return None if bad else request
        return None

    @staticmethod
    def _bad_cells(
        number: int, given: Given, bad: list[tuple[str | None, object, str]], once: set[str | None]
    ) -> Iterator[BadCell]:
        for column, value, rule in bad:
            called = given.named.get(column) if column else None
            says = f"{rule} Its column is {quote(called)}." if called else rule
            text = "" if value is None else safely_quote(value)
            yield BadCell(number, column, text, says, given.line, given.file, 1 if column in once else 0)
