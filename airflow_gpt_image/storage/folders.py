"""A destination is a folder on this machine's disk or on a store that Airflow knows; both act alike.

A file is drafted in memory, or where nobody looks, and published in one step: a reader sees a whole file or
none. On a disk that step is a rename, on a store it is the upload's end. What a killed worker leaves behind
is at most a hidden part on a disk; on a store it is an unfinished upload, which nobody sees and a lifecycle
rule removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, cast
from uuid import uuid4

from airflow_gpt_image.api.text import quote_path, single_line
from airflow_gpt_image.errors import DestinationError, GptImageError, InvalidRequestError
from airflow_gpt_image.storage.content_types import type_arguments
from airflow_gpt_image.storage.destinations import DISK_SCHEMES, check_destination
from airflow_gpt_image.storage.disk_files import NotRegularError, open_regular, write_new

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

# The smallest part an S3 upload may have but for its last; what is smaller goes up in one request.
_PART: Final = 5 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
# Larger than most images, and small enough for eight at a time.
_IN_MEMORY: Final = 4 * 1024 * 1024

_PART_SUFFIX: Final = ".part"

# What a file system without hard links answers to one.
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
)


class Folder(Protocol):
    """
    What a destination can do. Names are relative to it, with ``/`` between folders.

    Every method raises :class:`DestinationError` when the disk or the store does not do as it is told, and
    may be called from many threads at once.
    """

    def address(self, name: str) -> str:
        """Return where a file of this name is, as the next task can open it."""

    @contextmanager
    def draft(self, name: str) -> Iterator[BinaryIO]:
        """
        Open a file to write and read that nobody sees, and that is gone unless it is published.

        It is in memory while it is small: then nothing but its publishing is a call to the system.
        """
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
                yield cast("BinaryIO", file)
        except OSError as error:
            raise failed(f"A draft of {self.address(name)}", error) from error

    def publish(self, draft: BinaryIO, name: str) -> str:
        """Put a draft in its place, in one step; what was there is replaced. Return its address."""

    def publish_new(self, draft: BinaryIO, name: str) -> bool:
        """
        Put a draft in its place, in one step, unless a file of this name is there; return whether it was put.

        Of several who do so at the same moment one puts it there: on a disk with hard links, and on a store
        whose fsspec implementation can create files exclusively, as S3's does. Elsewhere who looks at the
        same instant may replace the other's.
        """

    def write(self, name: str, data: bytes) -> str:
        """Draft and publish a few bytes; return their address."""
        with self.draft(name) as draft:
            draft.write(data)
            return self.publish(draft, name)

    def read(self, name: str) -> bytes | None:
        """Return a small file whole; None when there is none."""

    def copy(self, name: str, into: BinaryIO) -> None:
        """Write a large file's bytes to another file; there has to be one of this name."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes; None when there is none."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all files right in a sub-folder, by their names, without drafts."""

    def remove(self, name: str) -> None:
        """Take a file away; nothing to do when there is none."""


def open_folder(destination: object) -> Folder:
    """
    Return the folder at a destination. It is made when something is written to it.

    :raises InvalidRequestError: when it isn't a destination, or Airflow knows no such store.
    """
    address = check_destination(destination)
    return StoreFolder(address) if "://" in address else DiskFolder(address)


class DiskFolder(Folder):
    """A folder on this machine's disk."""

    def __init__(self, path: str) -> None:
        self._root = Path(path)

    def address(self, name: str) -> str:
        return str(self._root / name)

    def write(self, name: str, data: bytes) -> str:
        return self._replace(name, [data])

    def publish(self, draft: BinaryIO, name: str) -> str:
        return self._replace(name, _chunks(draft))

    def _replace(self, name: str, chunks: Iterable[bytes]) -> str:
        final = self._root / name
        with self._trouble(final):
            part = self._write_part(final, chunks)
            try:
                part.replace(final)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return str(final)

    def publish_new(self, draft: BinaryIO, name: str) -> bool:
        final = self._root / name
        with self._trouble(final):
            part = self._write_part(final, _chunks(draft))
            try:
                os.link(part, final)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if final.exists():
                    return False
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
        return True

    def _write_part(self, final: Path, chunks: Iterable[bytes]) -> Path:
        # In the same folder, so that the last step is a rename; hidden, so that nobody's glob picks it up.
        part = final.with_name(f".{uuid4().hex}{_PART_SUFFIX}")
        try:
            write_new(part, chunks)
        except FileNotFoundError:
            part.parent.mkdir(parents=True, exist_ok=True)
            write_new(part, chunks)
        return part

    def read(self, name: str) -> bytes | None:
        path = self._root / name
        with self._trouble(path), contextlib.suppress(FileNotFoundError), open_regular(path) as file:
            return file.read()
        return None

    def copy(self, name: str, into: BinaryIO) -> None:
        with self._trouble(self._root / name), open_regular(self._root / name) as file:
            shutil.copyfileobj(file, into, _CHUNK)

    def size(self, name: str) -> int | None:
        path = self._root / name
        with self._trouble(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return path.stat().st_size
        return None

    def sizes(self, folder: str) -> dict[str, int]:
        path = self._root / folder
        found: dict[str, int] = {}
        absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with self._trouble(path), absent, os.scandir(path) as entries:
            for entry in entries:
                # Others write and remove meanwhile: what is gone between the two calls isn't there.
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file() and not _is_part(entry.name):
                        found[f"{folder}/{entry.name}"] = entry.stat().st_size
        return found

    def remove(self, name: str) -> None:
        path = self._root / name
        with self._trouble(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()

    @staticmethod
    @contextmanager
    def _trouble(path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise failed(str(path), error) from error


class StoreFolder(Folder):
    """A folder on an object store, through Airflow's ``ObjectStoragePath`` and fsspec."""

    def __init__(self, address: str) -> None:
        self._given = address
        # Now, and not when an image is there to be stored: then it is paid for.
        self._root = object_path(address)
        # fsspec remembers listings, also of what others have changed since. Told to forget them by one thread
        # while another looks, it ends in a KeyError: so it doesn't remember any, in this process and for this
        # connection.
        listings = self._fs.dircache
        listings.use_listings_cache = False
        listings.clear()

    def address(self, name: str) -> str:
        return f"{self._given}/{name}"

    def publish(self, draft: BinaryIO, name: str) -> str:
        with self._trouble(name):
            self._put(draft, name)
        return self.address(name)

    def publish_new(self, draft: BinaryIO, name: str) -> bool:
        with self._trouble(name):
            if self._fs.exists(self._path(name)):
                return False
            try:
                self._put(draft, name, new=True)
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError, ValueError):  # it knows no such mode
                self._put(draft, name)
        return True

    def _put(self, draft: BinaryIO, name: str, *, new: bool = False) -> None:
        length = draft.seek(0, os.SEEK_END)
        draft.seek(0)
        told = type_arguments(self._given, name)
        if length <= _PART:
            mode = {"mode": "create"} if new else {}
            self._fs.pipe_file(self._path(name), draft.read(), **mode, **told)
        else:
            self._upload(draft, name, "xb" if new else "wb", told)

    def _upload(self, draft: BinaryIO, name: str, mode: str, told: Mapping[str, str]) -> None:
        # Committed by hand: leaving the file's own context publishes whatever was written, also after an
        # error.
        file = self._fs.open(self._path(name), mode, block_size=_PART, autocommit=False, **told)
        try:
            while chunk := draft.read(_CHUNK):
                file.write(chunk)
            file.close()
        except BaseException:
            with contextlib.suppress(Exception):
                file.discard()
            file.closed = True  # or the garbage collector closes it, which uploads
            raise
        try:
            file.commit()
        except FileExistsError:  # its parts would be paid for until somebody removes them
            file.discard()
            raise

    def read(self, name: str) -> bytes | None:
        with self._trouble(name), contextlib.suppress(FileNotFoundError):
            data: bytes = self._fs.cat_file(self._path(name))
            return data
        return None

    def copy(self, name: str, into: BinaryIO) -> None:
        with self._trouble(name), self._fs.open(self._path(name), "rb") as file:
            shutil.copyfileobj(file, into, _CHUNK)

    def size(self, name: str) -> int | None:
        with self._trouble(name), contextlib.suppress(FileNotFoundError):
            return int(self._fs.size(self._path(name)))
        return None

    def sizes(self, folder: str) -> dict[str, int]:
        path = self._path(folder)
        found: dict[str, int] = {}
        with self._trouble(folder), contextlib.suppress(FileNotFoundError):
            for entry in self._fs.ls(path, detail=True):
                # The folder itself may be an object: a file of that name, or what a console makes for it.
                is_folder = entry["type"] != "file" or entry["name"].strip("/") == path.strip("/")
                name = entry["name"].rpartition("/")[2]
                if not is_folder and not _is_part(name):
                    found[f"{folder}/{name}"] = int(entry["size"])
        return found

    def remove(self, name: str) -> None:
        with self._trouble(name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @property
    def _fs(self) -> Any:
        return self._root.fs

    def _path(self, name: str) -> str:
        return f"{self._root.path.rstrip('/')}/{name}"

    @contextmanager
    def _trouble(self, name: str) -> Iterator[None]:
        # Each store has errors of its own kind: botocore's, aiohttp's, Google's, Azure's.
        try:
            yield
        except GptImageError:
            raise
        except Exception as error:
            raise failed(self.address(name), error) from error


def object_path(address: str) -> ObjectStoragePath:
    """
    Return Airflow's path for a store's address.

    :raises InvalidRequestError: when Airflow has no such store installed.
    :raises DestinationError: when its connection can't be read, which may pass.
    """
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import has_fs

    scheme = address.partition("://")[0]
    if not has_fs(scheme):
        raise InvalidRequestError(
            f"{quote_path(address)}: Airflow here knows no store {scheme!r}.\n"
            "The provider that has it isn't installed.\n"
            "Install it: apache-airflow-providers-amazon[s3fs] for s3, -google for gs, "
            "-microsoft-azure for abfs."
        )
    path = ObjectStoragePath(address)
    try:
        _ = path.fs
    except ImportError as error:
        raise InvalidRequestError(f"{quote_path(address)}: {error}") from error
    except Exception as error:
        raise failed(address, error) from error
    return path


def open_file(path: str) -> BinaryIO:
    """
    Open a file for reading: on this machine, or on a store that Airflow knows.

    :raises FileNotFoundError: or another OSError, when there is none, or it can't be opened.
    :raises InvalidRequestError: when it is a pipe or a device, or Airflow has no such store installed.
    :raises DestinationError: when the store doesn't answer.
    """
    scheme, _, rest = path.partition("://")
    on_disk = rest if scheme in DISK_SCHEMES and rest.startswith("/") else path
    if "://" not in on_disk:
        try:
            return open_regular(Path(on_disk))
        except NotRegularError as error:
            raise InvalidRequestError(
                f"{quote_path(path)} is a pipe or a device.\n"
                "What is read has to be a file, for it is read again by every try.\n"
                "Give the path of a file that this worker may read."
            ) from error
    opened = object_path(path)
    try:
        file: BinaryIO = opened.open("rb")  # type: ignore[no-untyped-call]
    except OSError:
        raise
    except Exception as error:
        raise failed(path, error) from error
    return file


def _chunks(draft: BinaryIO) -> Iterator[bytes]:
    draft.seek(0)
    while chunk := draft.read(_CHUNK):
        yield chunk


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PART_SUFFIX)


def failed(where: str, error: Exception) -> DestinationError:
    """Return the error about a disk or a store that doesn't do as it is told."""
    why = single_line(str(error)) or "no details"
    return DestinationError(f"{where} could not be read or written: {type(error).__name__}: {why}.")
