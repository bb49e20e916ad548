"""Open what is to be served, on this machine's disk or on a store, and tell when it has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Final

from airflow_gpt_image.api.text import single_line
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.plugins.images.refusals import GONE, RefusedError, unreadable
from airflow_gpt_image.plugins.images.roots import Location
from airflow_gpt_image.storage.folders import object_path

CHUNK: Final = 256 * 1024
# A store is asked for so much at once: for most pictures in one request.
_BLOCK: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class Facts:
    """
    What is known of a file before it is read.

    :param length: in bytes.
    :param tag: changes when its bytes do, as far as the disk or the store tells.
    """

    length: int
    tag: str


@dataclass(frozen=True)
class Source:
    """
    An open file.

    :param length: in bytes.
    """

    file: BinaryIO
    length: int

    def read(self) -> bytes:
        """Return all of the file, as many bytes as it had when it was looked at, and close it."""
        with self.file:
            self.file.seek(0)
            return self.file.read(self.length)

    def chunks(self) -> Iterator[bytes]:
        """Yield what :meth:`read` returns, in parts."""
        left = self.length
        with self.file:
            self.file.seek(0)
            while left > 0 and (chunk := self.file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk


def look_at(location: Location) -> Facts:
    """
    Return what the disk or the store says of a file that may be served.

    :raises RefusedError: when it is gone, or the disk or the store doesn't answer.
    """
    with _as_refusals(location):
        if location.root is not None:
            with location.open_on_disk() as file:
                told = os.fstat(file.fileno())
                return Facts(told.st_size, _tag(told.st_ino, told.st_size, told.st_mtime_ns))
        store, path = _on_store(location)
        info = store.info(path)
        if info.get("type") != "file":
            raise FileNotFoundError(path)
        return Facts(int(info["size"]), _tag(*sorted((key, str(info[key])) for key in info)))


def open_source(location: Location, facts: Facts) -> Source:
    """
    Open a file that may be served.

    :param facts: what it was when it was looked at.
    :raises RefusedError: when it is gone, or the disk or the store doesn't answer.
    """
    with _as_refusals(location):
        if location.root is not None:
            return Source(location.open_on_disk(), facts.length)
        store, path = _on_store(location)
        if facts.length <= _BLOCK:
            data: bytes = store.cat_file(path, start=0, end=facts.length) if facts.length else b""
            return Source(BytesIO(data), len(data))
        return Source(store.open(path, "rb", block_size=_BLOCK), facts.length)


def _on_store(location: Location) -> tuple[Any, str]:
    path = object_path(location.address)
    # What a listing said a while ago may be another file's size by now.
    path.fs.dircache.use_listings_cache = False
    return path.fs, path.path


@contextmanager
def _as_refusals(location: Location) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(GONE) from None
    except GptImageError as error:
        raise RefusedError(unreadable(location.address, str(error))) from error
    except Exception as error:  # each store has errors of its own kind
        missing = _missing_connection(location.address)
        if missing:
            why = f"The API server has no connection {missing}."
        else:
            why = f"It answered: {type(error).__name__}: {single_line(str(error)) or 'no details'}."
        raise RefusedError(unreadable(location.address, why)) from error


def _missing_connection(address: str) -> str | None:
    """Return the connection that an address names, if there is none: a store's own error seldom says that."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    conn_id, _, _ = address.partition("://")[2].partition("/")[0].rpartition("@")
    if "://" not in address or not conn_id:
        return None
    with suppress(Exception):  # then that isn't known, and the store's own error is told
        try:
            BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            return conn_id
    return None


def _tag(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
