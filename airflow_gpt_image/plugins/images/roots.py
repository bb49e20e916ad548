"""
Decide which files the API server may show: those under the folders that an administrator named.

Records and XComs are written by Dag authors, and the API server may read what they may not. So a path is
served only if it is under one of the roots in Airflow's configuration, by these rules:

1. Without roots nothing is served.
2. A path on a store is compared by its text: the same scheme, connection and bucket as the root's, and the
   root's folders in front, whole. Another connection is another login, so it never matches.
3. A path on disk is compared after all links in it and in the root are followed. It is opened folder by
   folder without following links, so that a link put there in between is refused, too.
4. Text that a store might read as something else is refused: ``..``, ``.``, empty segments, chained
   addresses (``::``), and what is any of these once it is percent-decoded.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import unquote

from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.destinations import check_destination
from airflow_gpt_image.storage.disk_files import open_regular

_log = logging.getLogger(__name__)

NO_ROOTS: Final = (
    "This server shows no pictures: [gpt_image] gallery_roots is empty. "
    "Ask an administrator to name this folder."
)
OUTSIDE: Final = (
    "This server shows only what is under [gpt_image] gallery_roots. Ask an administrator to add this folder."
)
NO_PATH: Final = "This isn't the path of a file that this server could show."

# Longer ones are no path on any disk or store.
_LONGEST: Final = 4_096
# A segment is decoded this often: proxies and stores have been seen to do so twice.
_DECODED: Final = 3
_SEPARATORS: Final = re.compile(r"[/\\\0]|::")


class OutsideRootsError(Exception):
    """A path may not be served; the message says why, in people's words."""


@dataclass(frozen=True)
class _Place:
    """
    Where a path leads, taken apart.

    :param store: scheme, connection and bucket as they are written, such as ``s3://conn@bucket``; empty: this
        machine's disk.
    :param parts: the folders, and the file's name.
    """

    store: str
    parts: tuple[str, ...]


class Roots:
    """
    The folders whose files may be shown.

    :param roots: absolute paths of this machine, or addresses of folders on stores that Airflow knows,
        written as tasks name them in ``destination``.
    :raises ValueError: when one is neither, or is the whole disk.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = tuple(_read_root(root) for root in roots)

    @classmethod
    def from_config(cls) -> Self:
        """
        Return the roots of ``[gpt_image] gallery_roots``, which are separated by commas or lines.

        A root that makes no sense is logged and left out: a mistake shows less, never more.
        """
        from airflow.configuration import conf

        read = conf.get("gpt_image", "gallery_roots", fallback="") or ""
        good = []
        for root in filter(None, (part.strip() for part in re.split(r"[,\n]", read))):
            try:
                _read_root(root)
            except ValueError as error:
                _log.warning("[gpt_image] gallery_roots: this root is left out.\n%s", error)
            else:
                good.append(root)
        return cls(good)

    def __bool__(self) -> bool:
        """Return whether anything may be served at all."""
        return bool(self._roots)

    def check(self, path: str) -> str | None:
        """Return why a file may not be served, in people's words; None when it may. It need not be there."""
        try:
            self.locate(path)
        except OutsideRootsError as error:
            return str(error)
        return None

    def locate(self, path: str) -> Location:
        """
        Return where the file is that a path means.

        :raises OutsideRootsError: when it may not be served.
        """
        if not self._roots:
            raise OutsideRootsError(NO_ROOTS)
        place = _read(path)
        if place.store:
            if any(_is_inside(place, root) for root in self._roots):
                return Location("/".join([place.store, *place.parts]), None, ())
            raise OutsideRootsError(OUTSIDE)
        for root in self._roots:
            if root.store:
                continue
            folder = _resolved(root)
            found = _resolved(place)
            if _begins_with(found.parts, folder.parts):
                return Location(str(found), folder, found.parts[len(folder.parts) :])
        raise OutsideRootsError(OUTSIDE)


@dataclass(frozen=True)
class Location:
    """
    Where a file is that may be served.

    :param address: the absolute path on disk with all links followed, or the store's address.
    :param root: the folder on disk that it is in; None: it is on a store.
    :param parts: the way from there.
    """

    address: str
    root: Path | None
    parts: tuple[str, ...]

    def open_on_disk(self) -> BinaryIO:
        """
        Open a file of this machine's disk.

        :raises OSError: when it isn't there, is no file, or one of its folders has become a link.
        """
        assert self.root is not None
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in self.parts[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(part, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            return open_regular(Path(self.parts[-1]), folder=folder)
        finally:
            os.close(folder)


def _read_root(root: str) -> _Place:
    try:
        place = _read(root.rstrip("/") or root)
    except OutsideRootsError:
        raise ValueError(
            f"{root!r} is not a folder.\nA root is an absolute path, or a store's address with a bucket.\n"
            "Name it as your tasks do in destination: /data/images or s3://my_conn_id@bucket/images."
        ) from None
    if not place.store and not place.parts:
        raise ValueError("'/' is the whole disk.\nName the folder that images are stored in.")
    return place


def _read(path: str) -> _Place:
    if not isinstance(path, str) or not 0 < len(path) <= _LONGEST or not path.isprintable():
        raise OutsideRootsError(NO_PATH)
    try:
        address = check_destination(path)
    except (InvalidRequestError, ValueError):
        raise OutsideRootsError(NO_PATH) from None
    scheme, separator, rest = address.partition("://")
    if not separator:
        parts = address.removeprefix("/").split("/") if address != "/" else []
        store = ""
    else:
        bucket, *parts = rest.split("/")
        store = f"{scheme}://{bucket}"
        if not bucket.rpartition("@")[2]:
            raise OutsideRootsError(NO_PATH)
    if any(_is_ambiguous(part) for part in parts) or "::" in store:
        raise OutsideRootsError(NO_PATH)
    return _Place(store, tuple(parts))


def _is_ambiguous(part: str) -> bool:
    return any(text in ("", ".", "..") or _SEPARATORS.search(text) for text in _decodings(part))


def _decodings(part: str) -> Iterator[str]:
    for _ in range(_DECODED):
        yield part
        part = unquote(part)


def _is_inside(place: _Place, root: _Place) -> bool:
    return place.store == root.store and _begins_with(place.parts, root.parts)


def _begins_with(parts: tuple[str, ...], root: tuple[str, ...]) -> bool:
    """Return whether something is in a folder; the folder itself is no file."""
    return len(parts) > len(root) and parts[: len(root)] == root


def _resolved(place: _Place) -> Path:
    try:
        return Path(os.path.realpath("/" + "/".join(place.parts)))
    except (OSError, ValueError):
        raise OutsideRootsError(NO_PATH) from None
