"""
Decide which files the API server may show: those under the folders that an administrator named.

Records and XComs are written by Dag authors, and the API server may read what they may not. So a path is
served only if it is under one of the roots in Airflow's configuration, by these rules:

1. Without roots nothing is served.
2. A path on a store is compared by its text: the same scheme, connection and bucket as the root's, and the
   root's folders in front, whole. Another connection is another login, so it never matches.
3. A path on disk is compared after all links in it are followed. It is opened folder by folder without
   following links, so that a link put there in between is refused, too.
4. A root's own links are followed once, when it is first seen to be a folder: who may write beside it can't
   make it another one later. The whole disk is no root, by whatever link.
5. Text that a store might read as something else is refused: ``..``, ``.``, empty segments, chained
   addresses (``::``), and what is any of these once it is percent-decoded.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import unquote

from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.plugins.images.refusals import RefusedError
from airflow_gpt_image.plugins.images.threads import StoreThreads
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

NO_ANSWER: Final = "This server's disk doesn't answer in time. The pictures are safe."

ELSEWHERE: Final = "/"
"""The disk of a path that leads to a root, if at all, by a link elsewhere."""

_LOOKS: Final = StoreThreads(2, "gpt-image-roots", seconds=5.0)

# Longer ones are no path on any disk or store.
_LONGEST: Final = 4_096
# A segment is decoded this often: proxies and stores have been seen to do so twice.
_DECODED: Final = 3
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A folder on the way has to be passed, not read; systems without such a flag want both.
_PASS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
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
        self._folders: dict[_Place, Path] = {}

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
        """
        Return why a file may not be served, in people's words; None when it may. It need not be there.

        A disk that hangs isn't waited for long.
        """
        try:
            _LOOKS.call(self.store_of(path), lambda: self.locate(path))
        except OutsideRootsError as error:
            return str(error)
        except RefusedError:
            return NO_ANSWER
        return None

    def store_of(self, path: str) -> str:
        """
        Return what tells the disk or store of a path from those of other roots, by its text alone.

        :raises OutsideRootsError: when it is no path, or on a store without a root.
        """
        if not self._roots:
            raise OutsideRootsError(NO_ROOTS)
        place = _read(path)
        found = [root for root in self._roots if _is_inside(place, root) or self._is_behind(place, root)]
        if place.store and not found:
            raise OutsideRootsError(OUTSIDE)
        return place.store or ("/" + "/".join(found[0].parts) if found else ELSEWHERE)

    def locate(self, path: str) -> Location:
        """
        Return where the file is that a path means.

        :raises OutsideRootsError: when it may not be served.
        """
        store, place = self.store_of(path), _read(path)
        if place.store:
            return Location("/".join([place.store, *place.parts]), store, None, ())
        found = _resolved(place)
        # The disk of another root may hang: it is looked at last.
        for root in sorted(self._roots, key=lambda root: not _is_inside(place, root)):
            if root.store:
                continue
            folder = self._folder(root)
            if folder.name and _begins_with(found.parts, folder.parts):
                return Location(str(found), store, folder, found.parts[len(folder.parts) :])
        raise OutsideRootsError(OUTSIDE)

    def locate_straight(self, path: str) -> Location | None:
        """
        Return where a file on disk is if no link leads there, as its opening tells; None: that isn't known.

        It saves a look at each folder on the way, where thousands of files are opened.
        """
        place = _read(path)
        parts = ("/", *place.parts)
        for folder in () if place.store else tuple(self._folders.values()):
            if folder.name and _begins_with(parts, folder.parts):
                return Location("/" + "/".join(place.parts), str(folder), folder, parts[len(folder.parts) :])
        return None

    def _is_behind(self, place: _Place, root: _Place) -> bool:
        """Return whether a path is where a root's links lead, if that is known."""
        folder = self._folders.get(root)
        return not place.store and folder is not None and _begins_with(place.parts, folder.parts[1:])

    def _folder(self, root: _Place) -> Path:
        """Return the folder that a root is, by its links when it was first seen."""
        known = self._folders.get(root)
        if known is not None:
            return known
        folder = _resolved(root)
        return self._folders.setdefault(root, folder) if folder.is_dir() else folder


@dataclass(frozen=True)
class Location:
    """
    Where a file is that may be served.

    :param address: the absolute path on disk with all links followed, or the store's address.
    :param store: tells the disk or the store from those of other roots.
    :param root: the folder on disk that it is in; None: it is on a store.
    :param parts: the way from there.
    """

    address: str
    store: str
    root: Path | None
    parts: tuple[str, ...]

    def open_on_disk(self) -> BinaryIO:
        """
        Open a file of this machine's disk.

        :raises OSError: when it isn't there, is no file, or one of its folders has become a link.
        """
        with self._opened(self.parts[:-1]) as folder:
            return open_regular(Path(self.parts[-1]), folder=folder)

    def list_on_disk(self) -> Iterator[tuple[str, int | None]]:
        """
        Yield the names of what is in a folder of this machine's disk, and the sizes of files in bytes.

        The size of a link is None: where it leads has to be judged by itself. Folders, pipes and devices are
        left out.

        :raises OSError: when it isn't there, is no folder, or one on the way has become a link.
        """
        with self._opened(self.parts, _LIST) as folder, os.scandir(folder) as entries:
            for entry in entries:
                # Others write and remove meanwhile: what is gone between the two calls isn't there.
                with suppress(FileNotFoundError):
                    if entry.is_symlink():
                        yield entry.name, None
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.name, entry.stat(follow_symlinks=False).st_size

    @contextmanager
    def _opened(self, parts: tuple[str, ...], last: int | None = None) -> Iterator[int]:
        """Open a folder from the top of the disk on, one by one."""
        assert self.root is not None
        names = (*self.root.parts, *parts)
        folder = os.open(names[0], _PASS)
        try:
            for number, name in enumerate(names[1:], 2):
                flags = last if last is not None and number == len(names) else _PASS
                inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
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


@lru_cache(maxsize=1_000)
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
    yield part
    for _ in range(_DECODED - 1 if "%" in part else 0):
        part = unquote(part)
        yield part


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
