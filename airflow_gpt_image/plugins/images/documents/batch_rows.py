"""
The images of a data set as its pages need them: a few facts of each in memory, the rest in an unnamed file.

Ten thousand rows with their prompts are ten megabytes; a page shows two hundred of them.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from sys import getsizeof
from typing import Any, Final

from airflow_gpt_image.plugins.images.documents import foreign
from airflow_gpt_image.plugins.images.documents.amounts import amount
from airflow_gpt_image.plugins.images.documents.foreign import SHORT_PROMPT
from airflow_gpt_image.plugins.images.documents.image_facts import ImageFacts, StoredImage
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.plugins.images.documents.sheets import Entry

_MOST_COLUMNS: Final = 50
_LONGEST_NAME: Final = 100
_LONGEST_WORDS: Final = 4_000
_MOST_IMAGES: Final = 20
# A longer line is kept without what no page shows of it.
_LONGEST_LINE: Final = 64 * 1024
_AS_KEPT: Final = ("row", "variant", "images", "generation_id", "credits", "seconds", "reused")
_SHOWN: Final = ("prompt", "aspect_ratio", "resolution")
# Of all words together: a text with one character beyond Latin takes four bytes for each.
_MOST_WORDS: Final = 256 * 1024 * 1024
_LONGEST_AMOUNT: Final = 30
# What an entry takes beside its words, in bytes.
_ENTRY: Final = 400

STATUSES: Final[Mapping[str, Status]] = {
    "stored": "done",
    "failed": "failed",
    "unknown": "unknown",
    "submitted": "in_flight",
    "not_submitted": "not_sent",
}
"""What a manifest calls an image's status, and what pages do."""

NO_IMAGE_YET: Final = "Paid for, and no image yet. Clear the task: it is fetched without a new charge."


@dataclass(frozen=True)
class RowImage:
    """
    One image of a data set.

    :param columns: of its row, as texts.
    """

    row: int
    variant: int
    columns: dict[str, str]
    facts: ImageFacts

    @property
    def key(self) -> str:
        """Return what tells it from the others of its data set."""
        return f"{self.row}-{self.variant}"


class BatchRows:
    """
    The images of a data set, in its order. Made by one thread, then read by any.

    What they take: ``weight`` bytes of memory, and ``length`` of a file without a name.
    """

    def __init__(self) -> None:
        self.entries: list[Entry[int]] = []
        self.columns: dict[str, None] = {}
        self.tiers: dict[str, Decimal] = {}
        self.indexes: dict[str, int] = {}
        self.weight = 0
        self._last: Mapping[str, Any] = {}
        # Most lines cost the same.
        self._amounts: dict[str, Decimal | None] = {}
        self._begins = array("Q")
        self.length = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when nobody has this any more
        weakref.finalize(self, self._file.close)

    def add(self, line: Mapping[str, Any], text: bytes = b"") -> None:
        """
        Take a line of a manifest, or one that is like it, whoever wrote it.

        :param text: the line's bytes; none: they are made.
        """
        if not 0 < len(text) <= _LONGEST_LINE:
            text = json.dumps(shortened(line), separators=(",", ":")).encode()
        given = foreign.mapping(line.get("data"))
        if given.keys() != self._last.keys():
            self._last = given
            self._name_columns(given)
        request = foreign.mapping(line.get("request"))
        told, tier = line.get("credits"), request.get("resolution")
        cost = None
        if isinstance(told, str) and len(told) <= _LONGEST_AMOUNT:
            cost = self._amounts.setdefault(told, amount(told))
        if cost and isinstance(tier, str):
            self.tiers.setdefault(tier[:20], cost)
        words = [
            value[:SHORT_PROMPT]
            for value in (request.get("prompt"), *given.values())
            if isinstance(value, str)
        ]
        index = len(self.entries)
        looked_in = "\n".join(words)[:_LONGEST_WORDS].casefold() if self.weight < _MOST_WORDS else ""
        status = STATUSES.get(str(line.get("status")), "not_sent")
        self.indexes.setdefault(f"{_row(line)}-{_variant(line)}", index)
        self.entries.append(Entry(status, cost, foreign.seconds(line.get("seconds")), looked_in, index))
        self._begins.append(self.length)
        self.length += self._file.write(text)
        self.weight += getsizeof(looked_in) + _ENTRY

    def _name_columns(self, given: Mapping[str, Any]) -> None:
        for name in _names(given):
            if len(self.columns) >= _MOST_COLUMNS:
                return
            self.columns[name] = None

    def done(self) -> None:
        """Make ready to be read: nothing is added any more."""
        self._begins.append(self.length)
        self._file.flush()

    def read(self, index: int, usd_per_credit: Decimal) -> RowImage:
        """
        Return an image with all that is known of it.

        :param usd_per_credit: what a credit costs, in US dollars.
        """
        begin, end = self._begins[index], self._begins[index + 1]
        kept = bounded(json.loads(os.pread(self._file.fileno(), end - begin, begin)))
        return RowImage(kept["row"], kept["variant"], kept["columns"], self._facts(kept, usd_per_credit))

    def _facts(self, kept: Mapping[str, Any], usd_per_credit: Decimal) -> ImageFacts:
        status: Status = kept["status"]
        charge = amount(kept["credits"]) or self.tiers.get(kept["tier"] or "")
        cost = None if charge is None else charge * usd_per_credit
        # A failed one that has an id was accepted, and refunded.
        refunded = status == "failed" and kept["generation_id"] is not None
        paid = status in ("done", "in_flight") and not kept["reused"]
        return ImageFacts(
            status=status,
            images=tuple(StoredImage.parse(image) for image in kept["images"]),
            prompt=kept["prompt"],
            ratio=kept["ratio"],
            tier=kept["tier"],
            price=cost,
            credits=charge,
            paid=cost if cost is not None and paid else Decimal(0),
            refunded=refunded,
            reused=kept["reused"],
            seconds=kept["seconds"],
            generation_id=kept["generation_id"],
            code=kept["code"],
            why=kept["why"],
            sent=status != "not_sent",
        )


def bounded(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a manifest's line: of the right types, and no more than pages show."""
    request = foreign.mapping(line.get("request"))
    columns = list(foreign.mapping(line.get("data")).items())[:_MOST_COLUMNS]
    failed = line.get("error_message") or line.get("error")
    status = STATUSES.get(str(line.get("status")), "not_sent")
    return {
        "row": _row(line),
        "variant": _variant(line),
        "status": status,
        "prompt": foreign.text(request.get("prompt"), SHORT_PROMPT),
        "ratio": foreign.text(request.get("aspect_ratio"), 20),
        "tier": foreign.text(request.get("resolution"), 20),
        "columns": {foreign.shown(name, _LONGEST_NAME): foreign.shown(value) for name, value in columns},
        "images": [_image(image) for image in foreign.items(line.get("images"), _MOST_IMAGES)],
        "generation_id": foreign.text(line.get("generation_id"), 200),
        "code": foreign.text(line.get("error_code"), 200),
        "why": foreign.text(failed, 500) or (NO_IMAGE_YET if status == "in_flight" else None),
        "credits": foreign.text(line.get("credits"), 30),
        "seconds": foreign.seconds(line.get("seconds")),
        "reused": line.get("reused") is True,
    }


def shortened(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line without what no page shows of it, in a manifest's form."""
    kept, request = bounded(line), foreign.mapping(line.get("request"))
    return {
        **{
            name: kept[name]
            for name in ("row", "variant", "images", "generation_id", "credits", "seconds", "reused")
        },
        "status": foreign.text(line.get("status"), 20),
        "request": {name: foreign.text(request.get(name), SHORT_PROMPT) for name in _SHOWN},
        "data": kept["columns"],
        "error_code": kept["code"],
        "error_message": kept["why"],
    }


def _row(line: Mapping[str, Any]) -> int:
    return foreign.count(line.get("row")) or 0


def _variant(line: Mapping[str, Any]) -> int:
    return foreign.count(line.get("variant")) or 1


def _names(given: Mapping[str, Any]) -> list[str]:
    return [foreign.shown(name, _LONGEST_NAME) for name in islice(given, _MOST_COLUMNS)]


def _image(given: object) -> dict[str, Any]:
    image = StoredImage.parse(given)
    facts = {"width": image.width, "height": image.height, "bytes": image.bytes, "sha256": image.version}
    return {"path": image.path, "url": None, **facts}
