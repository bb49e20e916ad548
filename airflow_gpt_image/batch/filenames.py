"""Names that people can use for a batch's images, out of the rows' columns: ``{sku}-{variant}``.

What an image *is* doesn't depend on them: that is its request's fingerprint and its slot, and its record lies
under these. So a changed template or another order of rows pays for nothing: an image that is stored stays
where it is, and its record says where. A name is only used where no other image has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from string import Formatter
from threading import RLock
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.datasets.templates import as_text, look_up
from airflow_gpt_image.errors import InvalidRequestError, Problem
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.names import (
    cut_segment,
    ending_of,
    ends_like_a_picture,
    is_reserved,
    is_safe,
    refused_name,
    safe_part,
    slug_of,
)

DEFAULT: Final = "{row:05d}-{slug}-{variant}-{id}"

PARTS: Final = ("row", "variant", "slug", "id", "fingerprint", "dag_id", "run_id", "task_id", "map_index")
"""Parts of ours; every other one is a column of the row."""

_NUMBERS: Final = ("row", "variant", "map_index")
_NUMBER_FORMAT: Final = re.compile(r"0[1-9]d?|d")
_LONGEST_SLUG: Final = 40
_LONGEST_PART: Final = 100
_LONGEST: Final = 700
_ID_DIGITS: Final = 10
_EXAMPLE: Final = "'{sku}-{variant}', or '{category}/{row:05d}-{slug}-{variant}'"


class _Piece(NamedTuple):
    text: str
    name: str | None
    format: str


class FileNames:
    """
    Names of a batch's images.

    :param template: with parts in braces: of :data:`PARTS`, or columns. None: :data:`DEFAULT`.
    :param parts: what is known of the task: ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    :raises InvalidRequestError: when it is no such template.
    """

    def __init__(self, template: object = None, parts: Mapping[str, object] = MappingProxyType({})) -> None:
        self._template = DEFAULT if template is None else template
        self._is_ours = template is None
        self._pieces = self._read()
        self._parts = {
            name: value if name in _NUMBERS else safe_part(str(value), keep_case=True)
            for name, value in parts.items()
        }
        names = [piece.name for piece in self._pieces if piece.name is not None]
        self._used = set(names) & set(PARTS)
        self._last = self._pieces[-1].name
        self.columns = tuple(name for name in dict.fromkeys(names) if name not in PARTS)

    def check_variants(self, variants: int) -> None:
        """
        Refuse a template that gives several images of a row the same name.

        :raises InvalidRequestError: then.
        """
        if variants > 1 and not self._used & {"variant", "id"}:
            raise self._refused(f"gives the {variants} variants of a row one name; add {{variant}}")

    def stems(self, row: Row, fingerprint: str, identities: Sequence[str]) -> list[str]:
        """
        Return the names of a row's images, without their endings.

        :param identities: what tells each from every other image, by variant.
        :raises InvalidRequestError: when a column is called as a part of ours.
        """
        both = [] if self._is_ours else sorted(self._used & row.given.keys())
        if both:
            raise self._refused(
                f"names {{{both[0]}}}, which is a part of ours and a column; rename the column"
            )
        values: dict[str, Any] = {
            **self._parts,
            "row": row.number,
            "fingerprint": fingerprint,
            "slug": slug_of(row.request.prompt, _LONGEST_SLUG),
        }
        for name in self.columns:
            text = as_text(look_up(row.given, row.named, name))
            if name == self._last:
                # The ending follows from the image, and is added: photo.png would be called photo.png.png.
                text = text.removesuffix(ending_of(text)) or text
            values[name] = safe_part(text, keep_case=True)
        return [
            self._fill({**values, "variant": variant, "id": short_id(identity)})
            for variant, identity in enumerate(identities, 1)
        ]

    def _fill(self, values: Mapping[str, Any]) -> str:
        text = "".join(
            piece.text + (format(values[piece.name], piece.format) if piece.name is not None else "")
            for piece in self._pieces
        )
        segments = map(cut_segment, text.split("/"))
        return "/".join(f"~{s}" if is_reserved(s, first=False) else s for s in segments)

    def _read(self) -> list[_Piece]:
        if not isinstance(self._template, str):
            raise self._refused("is no text")
        try:
            parsed = list(Formatter().parse(self._template))
        except ValueError:
            raise self._refused("is no template of names: each part stands in one pair of braces") from None
        pieces = [_Piece(text, name, spec or "") for text, name, spec, _ in parsed]
        if any(conversion for _, _, _, conversion in parsed):
            raise self._refused("may hold no conversion")
        for piece in pieces:
            if not all(character == "/" or is_safe(character) for character in piece.text):
                raise self._refused("may hold letters, digits, '.', '_', '-' and '/' beside its parts")
            if piece.name is not None and (not piece.name.strip() or re.search(r"[.\[\]{}]", piece.name)):
                raise self._refused("may hold in braces names of columns and parts alone")
            if piece.format and not (piece.name in _NUMBERS and _NUMBER_FORMAT.fullmatch(piece.format)):
                raise self._refused("may hold a format for numbers alone, such as {row:05d}")
        if not any(piece.name for piece in pieces):
            raise self._refused("gives every image the same name")
        filled = "".join(piece.text + ("x" * _LONGEST_PART if piece.name else "") for piece in pieces)
        if any(not segment or segment != segment.strip(".") for segment in filled.split("/")):
            raise self._refused("must be a path without an empty folder, or a '.' at either end of one")
        if len(filled) > _LONGEST:
            raise self._refused(f"is too long: with its parts it can reach {len(filled):,} of {_LONGEST}")
        if ending_of(self._template):
            raise ends_like_a_picture(self._template)
        return pieces

    def _refused(self, rule: str) -> InvalidRequestError:
        return refused_name(self._template, rule, f"Give one such as {_EXAMPLE}.")


def short_id(identity: str) -> str:
    """Return a few digits that tell an image from every other one."""
    return hashlib.sha256(identity.encode()).hexdigest()[:_ID_DIGITS]


def is_named_for(record: Record, wanted: str, owner: str) -> bool:
    """
    Return whether a record's images have names that only one image of a batch has.

    :param wanted: its name as it is planned, without the ending.
    :param owner: what its record is called: a few digits of that tell it, wherever its row stands by now.
    """
    for index, image in enumerate(record.images):
        stem = _stem(image.name or "")
        stem = stem.removesuffix(f"~{index}") if index else stem
        if stem != wanted and not stem.endswith(short_id(owner)):
            return False
    return True


class UniqueNames:
    """Refuses a name that two images of a plan would have, on stores that don't tell case apart either."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def add(self, stem: str, row: int) -> None:
        """
        Take a name.

        :raises InvalidRequestError: when another image has it.
        """
        key = stem.casefold()
        if key in self._rows:
            message = (
                f"Rows {self._rows[key]} and {row} would both have the image {quote(stem, 300)}.\n"
                "One would replace the other.\n"
                "Add {row}, {variant}, {id} or a column that tells them apart."
            )
            raise InvalidRequestError(f"filename: {message}", problems=[Problem("filename", message)])
        self._rows[key] = row


class StoredFiles:
    """
    The files of images at a destination, and whose they are. May be used by many threads at once.

    An image is owned by what its record is called.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = RLock()
        self._listed: dict[str, dict[str, int]] = {}
        self._owners: dict[str, str | None] = {}

    def refresh(self, folder: str) -> dict[str, int]:
        """List a folder anew, and forget the others; return the sizes of its files by their names."""
        with self._lock:
            self._listed.clear()
            return self._list(folder)

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes; None when there is none."""
        return self._list(name.rpartition("/")[0]).get(name)

    def note_owner(self, record: Record, name: str) -> None:
        """Note whose the images of a record are."""
        with self._lock:
            for image in record.images:
                if image.name is not None:
                    self._owners[_stem(image.name).casefold()] = name

    def stem(self, wanted: str, owner: str) -> str:
        """Return the name for an image: the wanted one, or one of its own where another image has that."""
        with self._lock:
            self._list(wanted.rpartition("/")[0])
            key = wanted.casefold()
            if key in self._owners and self._owners[key] != owner and not self._is_own_orphan(key, owner):
                wanted = f"{wanted}~{short_id(owner)}"
            self._owners[wanted.casefold()] = owner
            return wanted

    def _is_own_orphan(self, key: str, owner: str) -> bool:
        """Return whether a worker stored it that died before it put that on record: its id is in the name."""
        return self._owners[key] is None and key.endswith(short_id(owner))

    def _list(self, folder: str) -> dict[str, int]:
        with self._lock:
            if folder not in self._listed:
                self._listed[folder] = self._folder.sizes(folder)
                for name in self._listed[folder]:
                    if not name.endswith(".json"):
                        self._owners.setdefault(_stem(name).casefold(), None)
            return self._listed[folder]


def _stem(name: str) -> str:
    return name[: name.rfind(".")] if "." in name.rpartition("/")[2] else name
