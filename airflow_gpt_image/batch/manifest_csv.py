"""``manifest.csv``: the manifest for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Final

NAME: Final = "manifest.csv"

COLUMNS: Final = (
    "row",
    "variant",
    "status",
    "prompt",
    "image_urls",
    "aspect_ratio",
    "resolution",
    "nsfw_checker",
    "generation_id",
    "paths",
    "error",
    "error_code",
    "error_message",
    "credits",
    "seconds",
    "reused",
    "fingerprint",
)
"""The columns of ``manifest.csv``; the data set's own other columns come behind them, with ``data.``."""

_LINE_END: Final = re.compile(r"[\r\n]+")

# A cell that begins so is a formula to a spreadsheet; the apostrophe makes it text.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cells(line: Mapping[str, Any]) -> list[Any]:
    """Return a manifest line's values of :data:`COLUMNS`."""
    request = line["request"]
    return [line[name] if name in line else request[name] for name in COLUMNS]


class CsvManifest:
    """
    Write the table.

    :param data: the data set's own columns.
    """

    def __init__(self, draft: BinaryIO, data: Iterable[str]) -> None:
        self._text = io.TextIOWrapper(draft, encoding="utf-8", newline="", write_through=True)
        # All quoted: where a spreadsheet separates by semicolons, one within a cell would begin another.
        self._writer = csv.writer(self._text, quoting=csv.QUOTE_ALL)
        self._data = list(data)
        # A line's end within the header is more than DuckDB understands by itself.
        self._writer.writerow([*COLUMNS, *(_LINE_END.sub(" ", f"data.{name}") for name in self._data)])

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line of the manifest."""
        data = line["data"]
        self._writer.writerow([_cell(value) for value in (*cells(line), *map(data.get, self._data))])

    def close(self) -> None:
        """Leave the draft to its owner."""
        self._text.detach()


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        flat = all(isinstance(item, str) for item in value)
        value = " ".join(value) if flat else json.dumps(value, ensure_ascii=False)
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, (bool, int, float)):
        return str(value)  # a number is no formula, whatever its sign
    return "" if value is None else _harmless(str(value))


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
