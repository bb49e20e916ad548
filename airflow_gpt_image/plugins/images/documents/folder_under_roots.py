"""
Read a destination as the API server may: each file under the roots, and no store waited for without end.

Everything else of the package opens folders as the worker may. Here a folder is a Dag author's word: what is
in it may be a link to anywhere, and may become one between two looks at it.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, Final, TypeVar, cast

from airflow_gpt_image.errors import DestinationError, GptImageError
from airflow_gpt_image.ledger.record import LARGEST_RECORD
from airflow_gpt_image.plugins.images.refusals import RefusedError
from airflow_gpt_image.plugins.images.roots import Location, OutsideRootsError, Roots
from airflow_gpt_image.plugins.images.threads import StoreThreads
from airflow_gpt_image.storage.folders import Folder, failed, object_path, open_folder

T = TypeVar("T")

# Records and sidecars are read sixteen at a time.
_THREADS: Final = StoreThreads(16, "gpt-image-stores", seconds=10.0)
_CHUNK: Final = 1024 * 1024
_PART_SUFFIX: Final = ".part"
# What is answered where a link is on the way.
_LINKS: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})

_MOST_READ: Final = 2 * LARGEST_RECORD
"""Bytes of a small file; what is larger than a record is none."""

MOST_SECONDS: Final = 60.0
"""For one file, however many calls it takes."""

MOST_BYTES: Final = 256 * 1024 * 1024
"""Of one file, which may grow while it is read; a manifest of 100,000 images is half of it."""


def open_under_roots(address: str, roots: Roots, *, threads: StoreThreads = _THREADS) -> FolderUnderRoots:
    """
    Return a folder of which only what is under the roots is read.

    :param address: of a folder that has a file under the roots.
    :raises GptImageError: when Airflow knows no such store, or it can't be reached.
    """
    return FolderUnderRoots(address, roots, threads)


class FolderUnderRoots(Folder):
    """
    A destination, for reading alone.

    All methods raise :class:`DestinationError` where the disk or the store doesn't answer in time, and where
    a file is outside the roots.
    """

    def __init__(self, address: str, roots: Roots, threads: StoreThreads) -> None:
        self._address = address.rstrip("/")
        self._roots = roots
        self._threads = threads
        self.is_on_disk = "://" not in address
        self._opened: Folder | None = None
        if not self.is_on_disk:
            self._opened = self._ask("", lambda location: open_folder(location.address))

    def address(self, name: str) -> str:
        return f"{self._address}/{name}"

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._ask(name, lambda location: self._read(location, name))
        return None

    def copy(self, name: str, into: BinaryIO) -> None:
        with self.open(name) as file:
            shutil.copyfileobj(file, into, _CHUNK)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading from its beginning on."""
        try:
            opened = self._ask(name, self._open)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise failed(self.address(name), error) from error
        store = self._roots.store_of(self.address(name))
        file = _Bounded(opened, lambda work: self._threads.call(store, work))
        return cast("BinaryIO", io.BufferedReader(file, _CHUNK))

    def size(self, name: str) -> int | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._ask(name, lambda location: self._size(location, name))
        return None

    def sizes(self, folder: str) -> dict[str, int]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._ask(folder, lambda location: self._sizes(location, folder))
        return {}

    def publish(self, draft: BinaryIO, name: str) -> str:
        raise self._reading_alone()

    def publish_new(self, draft: BinaryIO, name: str) -> bool:
        raise self._reading_alone()

    def remove(self, name: str) -> None:
        raise self._reading_alone()

    def _reading_alone(self) -> DestinationError:
        return DestinationError(f"{self._address} is open for reading alone.")

    def together(self, work: Callable[[], T]) -> T:
        """
        Return what many calls come to, waited for as one: on a disk the waiting takes longer than they do.

        :param work: makes them, and knows what to do with their errors.
        """
        return self._ask("", lambda location: work())

    def is_there(self) -> bool:
        """Return whether this machine's disk has the folder at all."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self._ask("", lambda location: next(location.list_on_disk(), None))
            return True
        return False

    def told(self, name: str) -> tuple[int, str] | None:
        """Return a file's size in bytes and what else changes with it; None when there is none."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._ask(name, self._told)
        return None

    def _ask(self, name: str, work: Callable[[Location], T]) -> T:
        """Return what a call about a file comes to."""
        return _ask(self.address(name) if name else self._address, name, self._roots, self._threads, work)

    def _read(self, location: Location, name: str) -> bytes | None:
        if self._opened is not None:
            return self._opened.read(name)
        with location.open_on_disk() as file:
            return file.read(_MOST_READ)

    def _open(self, location: Location) -> BinaryIO:
        if location.root is not None:
            return location.open_on_disk()
        path = object_path(location.address)
        opened: BinaryIO = path.fs.open(path.path, "rb")
        return opened

    def _size(self, location: Location, name: str) -> int | None:
        if self._opened is not None:
            return self._opened.size(name)
        with location.open_on_disk() as file:
            return os.fstat(file.fileno()).st_size

    def _sizes(self, location: Location, folder: str) -> dict[str, int]:
        if self._opened is not None:
            return self._opened.sizes(folder)
        found: dict[str, int] = {}
        for name, size in location.list_on_disk():
            if name.startswith(".") and name.endswith(_PART_SUFFIX):
                continue
            if size is None:
                size = self._size_of_link(f"{folder}/{name}")
            if size is not None:
                found[f"{folder}/{name}"] = size
        return found

    def _size_of_link(self, name: str) -> int | None:
        where = self._roots.locate
        with suppress(OSError, OutsideRootsError), where(self.address(name)).open_on_disk() as file:
            return os.fstat(file.fileno()).st_size
        return None

    def _told(self, location: Location) -> tuple[int, str]:
        if location.root is not None:
            with location.open_on_disk() as file:
                told = os.fstat(file.fileno())
                return told.st_size, f"{told.st_mtime_ns}-{told.st_ino}"
        path = object_path(location.address)
        info = path.fs.info(path.path)
        return int(info["size"]), " ".join(f"{name}={info[name]}" for name in _TAGS if name in info)


# What fsspec's stores call what changes with a file's bytes.
_TAGS: Final = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime")


class _Bounded(io.RawIOBase):
    """
    A file whose every read is asked for in time, and all of them together, too.

    :param ask: has a call made.
    """

    def __init__(self, file: BinaryIO, ask: Callable[[Callable[[], Any]], Any]) -> None:
        self._file = file
        self._ask = ask
        self._until = time.monotonic() + MOST_SECONDS
        self._left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() > self._until:
            raise TimeoutError("it takes too long")
        try:
            data: bytes = self._ask(lambda: self._file.read(len(buffer)))
        except RefusedError:
            raise TimeoutError("it doesn't answer in time") from None
        self._left -= len(data)
        if self._left < 0:
            raise DestinationError(f"It is larger than {MOST_BYTES:,} bytes, and isn't read.")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with suppress(RefusedError):
                self._ask(self._file.close)
        super().close()


def locate(path: str, roots: Roots, *, threads: StoreThreads = _THREADS) -> Location:
    """
    Return where the file is that a path means.

    :raises OutsideRootsError: when it may not be opened.
    :raises DestinationError: when the disk doesn't answer in time.
    """
    try:
        return threads.call(roots.store_of(path), lambda: roots.locate(path))
    except RefusedError as error:
        raise DestinationError(f"{path} doesn't answer in time.") from error


def _ask(
    address: str,
    name: str,
    roots: Roots,
    threads: StoreThreads,
    work: Callable[[Location], T],
) -> T:
    """Return what a call about a file or, without a name, about the folder comes to."""
    path = address if name else f"{address}/-"

    def located() -> T:
        straight = roots.locate_straight(path)
        if straight is not None:
            try:
                return work(straight if name else _folder_of(straight))
            except OSError as error:
                if error.errno not in _LINKS:
                    raise
        location = roots.locate(path)
        return work(location if name else _folder_of(location))

    try:
        return threads.call(roots.store_of(path), located)
    except (FileNotFoundError, NotADirectoryError, GptImageError):
        raise
    except OutsideRootsError as error:
        raise DestinationError(f"{address} is not shown: {error}") from None
    except RefusedError as error:
        raise DestinationError(f"{address} doesn't answer in time.") from error
    except Exception as error:  # each store has errors of its own kind
        raise failed(address, error) from error


def _folder_of(location: Location) -> Location:
    return Location(posixpath.dirname(location.address), location.store, location.root, location.parts[:-1])
