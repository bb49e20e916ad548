"""A prompt written once for all rows: ``{title}, studio photo on {background}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from string import Formatter
from typing import Any, Final

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets.cells import is_missing, python_value, refuse_nothing
from airflow_gpt_image.datasets.given import refusal, safely_quote
from airflow_gpt_image.datasets.names import same_column

_JINJA: Final = re.compile(r"(?<!\{)\{\{\s*[\w.\[\]'\"()|, -]+\s*\}\}(?!\})|\{%.*%\}", re.DOTALL)

# Floats up to it hold every whole number.
_EXACT: Final = 2**53


class PromptTemplate:
    """
    A prompt with names of columns in braces, as Python's ``format`` has them; ``{{`` is a brace.

    :raises InvalidRequestError: when it holds anything in braces but names, or no name at all.
    """

    def __init__(self, template: object) -> None:
        if not isinstance(template, str):
            raise self._refused(template, "is no text")
        if _JINJA.search(template):
            raise self._refused(template, "looks like Jinja, which isn't asked here")
        try:
            pieces = list(Formatter().parse(template))
        except ValueError as error:
            raise self._refused(template, f"is no template ({error})") from None
        if any(spec or conversion for _, _, spec, conversion in pieces):
            raise self._refused(template, "holds a format or a conversion")
        names = [name for _, name, _, _ in pieces if name is not None]
        if not names or any(not name.strip() or re.search(r"[.\[\]{}]", name) for name in names):
            raise self._refused(template, "names no column")
        if any(name.strip().isdigit() for name in names):
            raise self._refused(template, "holds a number, which is no name")
        self.names = tuple(dict.fromkeys(name.strip() for name in names))
        self._pieces = [(text, name.strip() if name is not None else None) for text, name, _, _ in pieces]

    @staticmethod
    def _refused(template: object, rule: str) -> Exception:
        return refusal(
            f"{safely_quote(template)} {rule}.\n"
            "Names of columns alone stand in braces.\n"
            "Give one such as '{title}, studio photo on {background}'.",
            "prompt_template",
        )

    def render(
        self, cells: Mapping[str, Any], named: Mapping[str, str]
    ) -> tuple[str, list[tuple[str, Any, str]]]:
        """
        Return the prompt of a row; and column, value and rule of what it lacks.

        :param named: how the data set calls the fields that it doesn't call as we do.
        """
        values: dict[str, str] = {}
        bad: list[tuple[str, Any, str]] = []
        for name in self.names:
            value = look_up(cells, named, name)
            try:
                values[name] = as_text(value)
            except ValueError as error:
                bad.append((name, value, f"{error} The prompt_template needs it."))
        if bad:
            return "", bad
        text = "".join(text + (values[name] if name is not None else "") for text, name in self._pieces)
        return text, []


def look_up(cells: Mapping[str, Any], named: Mapping[str, str], name: str) -> Any:
    """Return a row's cell by the name that an author gives its column; None when there is none."""
    if name in cells:
        return cells[name]
    called = {named.get(column, column): column for column in cells}
    return next((cells[called[other]] for other in called if same_column(other, name, tuple(called))), None)


def as_text(value: Any) -> str:
    """
    Return a cell's value as a part of a text.

    :raises ValueError: when it is empty, stands for nothing, or is no text, number or date.
    """
    value = python_value(value)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise ValueError("It is empty; fill the cell.")
    if isinstance(value, str):
        refuse_nothing(value)
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))  # a column of whole numbers of which one is missing
    if isinstance(value, (int, float, Decimal, date)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{quote(value)} is no text; give some.")
