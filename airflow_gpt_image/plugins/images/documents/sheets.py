"""Filter, sort and page what a sheet shows, by a few facts of each tile: no picture is read for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, TypeVar

from airflow_gpt_image.plugins.images.documents.amounts import NOTHING
from airflow_gpt_image.plugins.images.documents.places import Query, Status

PER_PAGE: Final = 200

T = TypeVar("T")

# What wants a person first.
_URGENCY: Final[dict[Status, int]] = {"unknown": 0, "failed": 1, "in_flight": 2, "not_sent": 3, "done": 4}


class Entry(NamedTuple, Generic[T]):
    """
    What a sheet needs to know of a tile that it may not show.

    :param words: what a filter looks in, case-folded.
    :param source: what the tile is made of.
    """

    status: Status
    price: Decimal | None
    seconds: float | None
    words: str
    source: T


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a sheet; rows are counted from 1."""

    entries: Sequence[Entry[T]]
    number: int
    pages: int
    first: int
    total: int

    def fields(self) -> dict[str, Any]:
        """Return what the document says of it."""
        last = self.first + len(self.entries) - 1
        return {
            "page": self.number,
            "pages": self.pages,
            "first": self.first,
            "last": last,
            "total": self.total,
        }


def page_of(entries: Iterable[Entry[T]], query: Query, *, per_page: int = PER_PAGE) -> Page[T]:
    """Return the page that a query asks for; the last one where there are fewer."""
    wanted = query.text.casefold()
    found = [
        entry
        for entry in entries
        if query.status in (None, entry.status) and (not wanted or wanted in entry.words)
    ]
    if query.sort == "price":
        found.sort(key=lambda entry: -(entry.price or NOTHING))
    elif query.sort == "seconds":
        found.sort(key=lambda entry: -(entry.seconds or 0.0))
    elif query.sort == "status":
        found.sort(key=lambda entry: _URGENCY[entry.status])
    pages = max(1, -(-len(found) // per_page))
    number = min(query.page, pages)
    begin = (number - 1) * per_page
    shown = found[begin : begin + per_page]
    return Page(shown, number, pages, begin + 1 if shown else 0, len(found))
