"""The plan: every row of a data set in canonical form, with its slots, written before anything is paid for.

A file of JSON lines at the destination: a head, then one line for each row. Whoever works reads only it; it
is copied to an unnamed file on this machine's disk, so that ten thousand prompts don't stay in memory.

An image is told by its request's fingerprint and its slot: the variant, the how many-th row with the same
request it comes from, and the map index if the task is mapped. So rows may be reordered and added, and each
finds its image again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, BinaryIO, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import DEFAULT_PRICES, Prices
from airflow_gpt_image.api.sizes import Resolution
from airflow_gpt_image.batch import MOST_VARIANTS
from airflow_gpt_image.batch.filenames import FileNames, UniqueNames
from airflow_gpt_image.batch.redaction import has_secrets, redacted_row
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.errors import GptImageError, PlanError
from airflow_gpt_image.ledger.destination import ANY
from airflow_gpt_image.ledger.payer import Slot
from airflow_gpt_image.ledger.record import Hex64, fingerprint, redacted_request
from airflow_gpt_image.polling.schedule import kind_of
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.images import FileName

NAME: Final = "plan.jsonl"
ITEMS: Final = "items"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One image of the plan.

    :param index: its position in the plan, from 0 on.
    :param row: its row's number in the data set, from 1 on.
    :param name: of its record at the destination, without the ending: what the image is.
    :param file: the name that its image shall have there, without the ending.
    :param credits: what it costs.
    :param kind: whose waits are as long as its own, as :func:`~airflow_gpt_image.polling.schedule.kind_of`
        has it.
    :param span: where its row's line begins in the plan, and how long that is, in bytes.
    """

    index: int
    row: int
    slot: Slot
    fingerprint: str
    name: str
    resolution: Resolution
    credits: Decimal
    kind: str
    span: tuple[int, int]
    file: str = ""


EachRow = Callable[[Sequence[Item], ImageRequest, Mapping[str, Any]], None]


class _Head(BaseModel):
    """
    The plan's first line.

    :param scope: who may find its records: the task whose digest it is, or any.
    :param map_index: of the task instance, if that tells its images from others; else -1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    scope: Annotated[str, Field(pattern=rf"^([0-9a-f]{{12}}|{ANY})$")]
    map_index: int = Field(default=-1, ge=-1, le=999_999_999)
    variants: int = Field(ge=1, le=MOST_VARIANTS)


class _Line(BaseModel):
    """
    A row's line.

    :param given: the row as the data set gave it.
    :param files: names for its images, by variant; None: they are called as their records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(ge=1)
    copy_: int = Field(ge=1, alias="copy")
    fingerprint: Hex64
    request: ImageRequest
    given: dict[str, Any]
    files: tuple[FileName, ...] | None = None


class Plan:
    """
    A plan that is read.

    :param file: the whole of it; what is asked for is read from there, by any thread.
    :param has_secrets: that it has signatures or callbacks, which mustn't outlast the batch.
    """

    def __init__(self, items: Sequence[Item], file: BinaryIO, sha256: str, *, has_secrets: bool) -> None:
        self.items = items
        self._has_secrets = has_secrets
        self.sha256 = sha256
        self._file = file
        # Not by whoever made it: a thread that reads it may outlast him.
        weakref.finalize(self, file.close)

    @staticmethod
    def draft(
        rows: Sequence[Row],
        *,
        variants: int,
        scope: str,
        conn_id: str,
        host: str,
        into: BinaryIO,
        map_index: int = -1,
        names: FileNames | None = None,
    ) -> None:
        """
        Write the plan of these rows.

        :param names: of the images; None: those that they have by default.
        :raises InvalidRequestError: when two images would have the same name.
        """
        names, unique = names or FileNames(), UniqueNames()
        head = _Head(scope=scope, map_index=map_index, variants=variants)
        into.write(_json(head.model_dump()))
        copies: Counter[str] = Counter()
        for row in rows:
            identity = fingerprint(row.request, conn_id=conn_id, host=host)
            copies[identity] += 1
            about = [_name(head, identity, variant, copies[identity]) for variant in range(1, variants + 1)]
            files = names.stems(row, identity, about)
            for file in files:
                unique.add(file, row.number)
            line = {"row": row.number, "copy": copies[identity], "fingerprint": identity, "files": files}
            into.write(_json({**line, "request": row.request.model_dump(), "given": row.given}))

    @classmethod
    def read(
        cls,
        file: BinaryIO,
        *,
        sha256: str | None = None,
        prices: Prices = DEFAULT_PRICES,
        each: EachRow = lambda items, request, given: None,
    ) -> Self:
        """
        Read a plan, whose file is kept open; one that holds no plan is closed.

        :param sha256: what it has to be, in hex; None: whatever it is.
        :param each: is called with each row's items, its request, and the row as :meth:`given` returns it.
        :raises PlanError: when it is another one, or none.
        """
        items: list[Item] = []
        digest = hashlib.sha256()
        head: _Head | None = None
        secrets = False
        try:
            file.seek(0)
            offset = 0
            for text in file:
                digest.update(text)
                if head is None:
                    head = _Head.model_validate_json(text)
                else:
                    line = _Line.model_validate_json(text)
                    secret = has_secrets(line.request)
                    secrets = secrets or secret
                    of_row = _items_of(line, head, len(items), (offset, len(text)), prices)
                    each(
                        of_row, line.request, redacted_row(line.given, line.request) if secret else line.given
                    )
                    items += of_row
                offset += len(text)
        except (ValidationError, GptImageError, RecursionError) as error:
            file.close()
            raise PlanError(
                f"{NAME} is no plan of this release ({type(error).__name__}).\n{_REMEDY}"
            ) from None
        if not items or sha256 not in (None, digest.hexdigest()):
            file.close()
            raise PlanError(
                f"{NAME} isn't the plan that this task wrote. Does something else write there?\n{_REMEDY}"
            )
        return cls(items, file, digest.hexdigest(), has_secrets=secrets)

    @classmethod
    def fetch(cls, folder: Folder, *, sha256: str, prices: Prices = DEFAULT_PRICES) -> Self:
        """
        Read the plan at a destination.

        :raises PlanError: when it isn't the one that was written.
        :raises DestinationError: when there is none.
        """
        return cls.read(copy_plan(folder), sha256=sha256, prices=prices)

    def publish(self, folder: Folder) -> None:
        """Put the plan at the destination."""
        with folder.draft(NAME) as draft:
            self._file.seek(0)
            while chunk := self._file.read(1024 * 1024):
                draft.write(chunk)
            folder.publish(draft, NAME)

    def redact(self, folder: Folder) -> None:
        """Put it there without its secrets, if it has any: no more work is done by it."""
        if not self._has_secrets:
            return
        with folder.draft(NAME) as draft:
            self._file.seek(0)
            draft.write(self._file.readline())
            for text in self._file:
                line = json.loads(text)
                request = ImageRequest(**line["request"])
                line |= {
                    "request": redacted_request(request).model_dump(),
                    "given": redacted_row(line["given"], request),
                }
                draft.write(_json(line))
            folder.publish(draft, NAME)

    def row(self, item: Item) -> tuple[ImageRequest, Mapping[str, Any]]:
        """Return what :meth:`request` and :meth:`given` do, for one reading of the plan."""
        line = self._line(item)
        request = ImageRequest(**line["request"])
        given: dict[str, Any] = line["given"]
        return request, redacted_row(given, request) if self._has_secrets else given

    def request(self, item: Item) -> ImageRequest:
        """Return what an item asks for."""
        return ImageRequest(**self._line(item)["request"])

    def given(self, item: Item) -> Mapping[str, Any]:
        """Return an item's row as the data set gave it, but for what mustn't outlast the batch."""
        line = self._line(item)
        given: dict[str, Any] = line["given"]
        return redacted_row(given, ImageRequest(**line["request"])) if self._has_secrets else given

    def _line(self, item: Item) -> dict[str, Any]:
        offset, length = item.span
        line: dict[str, Any] = json.loads(os.pread(self._file.fileno(), length, offset))
        return line


def _name(head: _Head, fingerprint: str, variant: int, copy: int) -> str:
    """Return what an image is called by what it is."""
    begin = "" if head.scope == ANY else f"{head.scope}-"
    mapped = f"-{head.map_index}" if head.map_index >= 0 else ""
    return f"{ITEMS}/{begin}{fingerprint}-{variant}-{copy}{mapped}"


def copy_plan(folder: Folder) -> BinaryIO:
    """
    Return a copy of the plan at a destination, which is gone when it is closed.

    :raises DestinationError: when there is none, or it can't be read.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
    try:
        folder.copy(NAME, file)
    except BaseException:
        file.close()
        raise
    return file


def _items_of(line: _Line, head: _Head, index: int, span: tuple[int, int], prices: Prices) -> list[Item]:
    resolution, kind = line.request.resolution, kind_of(line.request)
    if line.files is not None and len(line.files) != head.variants:
        raise PlanError("a row has another number of names than of images")
    items = []
    for variant in range(1, head.variants + 1):
        name = _name(head, line.fingerprint, variant, line.copy_)
        items.append(
            Item(
                index=index + variant - 1,
                row=line.row,
                slot=_slot(variant, line.copy_, head.map_index),
                fingerprint=line.fingerprint,
                name=name,
                resolution=resolution,
                credits=prices.credits(resolution),
                kind=kind,
                span=span,
                file=f"{ITEMS}/{line.files[variant - 1]}" if line.files is not None else name,
            )
        )
    return items


# Most images of a plan have the same: ten thousand of them stay in memory.
_slot = lru_cache(1_000)(Slot)

_REMEDY: Final = "Nothing is lost: the next try plans anew, and finds what is paid for."


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
