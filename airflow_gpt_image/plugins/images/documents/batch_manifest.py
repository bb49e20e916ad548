"""Read a batch's manifest once, and keep what its pages need until it changes."""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO, Final

from airflow_gpt_image.batch import MOST_ITEMS
from airflow_gpt_image.batch.manifest import read_lines
from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.plugins.images.documents.batch_rows import BatchRows
from airflow_gpt_image.plugins.images.documents.caches import Cache
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.folder_under_roots import MOST_BYTES, locate
from airflow_gpt_image.plugins.images.documents.stores import folder_of, version_of

_kept: Cache[BatchRows] = Cache(128 * 1024 * 1024)
# Each holds a file open, and that file takes room on the disk.
_LEAST: Final = 512 * 1024
# Each holds a file open.
_first: Cache[BatchRows] = Cache(64)


def read(path: str, context: Context) -> BatchRows:
    """
    Return the images of a manifest. It is read anew when it has changed.

    :raises OutsideRootsError: when it may not be opened.
    :raises InvalidRequestError: when there is none, or it is none.
    :raises DestinationError: when it can't be read, or is too large.
    """
    address = locate(path, context.roots).address
    version = _version(address, context)
    return _kept.get((address, version), lambda: _rows(address, MOST_ITEMS, context), _weight)


def read_first(path: str, most: int, context: Context) -> BatchRows:
    """Return the first images of a manifest, of which no more is read; it raises as :func:`read`."""
    address = locate(path, context.roots).address
    key = (address, most, _version(address, context))
    return _first.get(key, lambda: _rows(address, most, context))


def _weight(rows: BatchRows) -> int:
    return max(_LEAST, rows.weight + rows.length // 4)


def _version(address: str, context: Context) -> object:
    found = version_of(address, context)
    if found is None:
        raise InvalidRequestError(f"There is no manifest at {address}.")
    if found.size > MOST_BYTES:
        raise DestinationError(f"The manifest is larger than {MOST_BYTES:,} bytes, and isn't read.")
    return found


def _rows(address: str, most: int, context: Context) -> BatchRows:
    def opened(path: str) -> BinaryIO:
        folder, name = folder_of(path, context)
        return folder.open(name)

    rows = BatchRows()
    for text, line in islice(read_lines(address, opened=opened), most):
        rows.add(line, text)
    rows.done()
    return rows
