"""The plan: every row of a data set in canonical form, with its slots, written before anything is paid for.

A file of JSON lines at the destination: a head, then one line for each row. Whoever works reads only it; it
is copied to an unnamed file on this machine's disk, so that ten thousand prompts don't stay in memory.

An image's identity is its request's fingerprint and its slot: the variant, and the how many-th row with the
same request it is. So rows may be reordered and added, and each still finds its own image.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import CREDITS
from airflow_gpt_image.api.sizes import Resolution
from airflow_gpt_image.batch import MOST_VARIANTS
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.errors import DestinationError, GptImageError, PlanError
from airflow_gpt_image.ledger import fingerprint
from airflow_gpt_image.storage.folders import Folder

NAME: Final = "plan.jsonl"
ITEMS: Final = "items"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One image of the plan.

    :param index: its position in the plan, from 0 on.
    :param row: its row's number in the data set, from 1 on.
    :param variant: which of the row's images it is, from 1 on; ``copy``: the how many-th row with the same
        request it comes from, from 1 on.
    :param name: where its record is at the destination, without the ending.
    :param span: where its row's line begins in the plan, and how long that is, in bytes.
    """

    index: int
    row: int
    variant: int
    copy: int
    fingerprint: str
    name: str
    resolution: Resolution
    span: tuple[int, int]

    @property
    def credits(self) -> Decimal:
        return CREDITS[self.resolution]


class _Head(BaseModel):
    """
    The plan's first line.

    :param scope: begins the names of records that nobody else shall find; empty when everybody may.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    scope: Annotated[str, Field(pattern=r"^([0-9a-f]{12}-)?$")]
    variants: int = Field(ge=1, le=MOST_VARIANTS)


class _Line(BaseModel):
    """A row's line; ``given`` is the row as the data set gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(ge=1)
    copy_: int = Field(ge=1, alias="copy")
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    request: ImageRequest
    given: dict[str, Any]


class Plan:
    """
    A plan that is read.

    :param file: the whole of it; what is asked for is read from there, by any thread.
    """

    def __init__(self, items: Sequence[Item], file: BinaryIO, sha256: str) -> None:
        self.items = items
        self.sha256 = sha256
        self._file = file
        # Not by whoever made it: a thread that reads it may outlast him.
        weakref.finalize(self, file.close)

    @staticmethod
    def drafted(
        rows: Sequence[Row], *, variants: int, scope: str, conn_id: str, host: str, into: BinaryIO
    ) -> None:
        """Write the plan of these rows."""
        into.write(_json(_Head(scope=scope, variants=variants).model_dump()))
        copies: Counter[str] = Counter()
        for row in rows:
            identity = fingerprint(row.request, conn_id=conn_id, host=host)
            copies[identity] += 1
            line = {"row": row.number, "copy": copies[identity], "fingerprint": identity}
            into.write(_json({**line, "request": row.request.model_dump(), "given": row.given}))

    @classmethod
    def read(cls, file: BinaryIO, *, sha256: str | None = None) -> Self:
        """
        Read a plan, which is kept open; what is none is closed.

        :param sha256: what it has to be, in hex; None: whatever it is.
        :raises PlanError: when it is another one, or none.
        """
        items: list[Item] = []
        digest = hashlib.sha256()
        head: _Head | None = None
        try:
            file.seek(0)
            offset = 0
            for text in file:
                digest.update(text)
                if head is None:
                    head = _Head.model_validate_json(text)
                else:
                    line = _Line.model_validate_json(text)
                    items += _items_of(line, head, len(items), (offset, len(text)))
                offset += len(text)
        except (ValidationError, GptImageError, RecursionError) as error:
            file.close()
            raise PlanError(f"{NAME} is no plan of this release ({type(error).__name__}).") from None
        if not items or sha256 not in (None, digest.hexdigest()):
            file.close()
            raise PlanError(f"{NAME} isn't the plan that this task wrote. Does something else write there?")
        return cls(items, file, digest.hexdigest())

    @classmethod
    def fetched(cls, folder: Folder, *, sha256: str) -> Self:
        """The plan at a destination.

        :raises PlanError: when it isn't the one that was written.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
        try:
            folder.copy(NAME, file)
        except DestinationError:
            file.close()
            raise
        return cls.read(file, sha256=sha256)

    def publish(self, folder: Folder) -> None:
        """Put it at the destination."""
        with folder.draft(NAME) as draft:
            self._file.seek(0)
            while chunk := self._file.read(1024 * 1024):
                draft.write(chunk)
            folder.publish(draft, NAME)

    def request(self, item: Item) -> ImageRequest:
        """What an item asks for."""
        return ImageRequest(**self._line(item)["request"])

    def given(self, item: Item) -> Mapping[str, Any]:
        """An item's row as the data set gave it."""
        given: dict[str, Any] = self._line(item)["given"]
        return given

    def _line(self, item: Item) -> dict[str, Any]:
        offset, length = item.span
        line: dict[str, Any] = json.loads(os.pread(self._file.fileno(), length, offset))
        return line


def _items_of(line: _Line, head: _Head, index: int, span: tuple[int, int]) -> list[Item]:
    return [
        Item(
            index=index + variant - 1,
            row=line.row,
            variant=variant,
            copy=line.copy_,
            fingerprint=line.fingerprint,
            name=f"{ITEMS}/{head.scope}{line.fingerprint}-{variant}-{line.copy_}",
            resolution=line.request.resolution,
            span=span,
        )
        for variant in range(1, head.variants + 1)
    ]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
