"""Read a batch's manifest once, and keep what its pages need until it changes."""

from __future__ import annotations

from itertools import islice
from typing import Final

from airflow_gpt_image.batch import MOST_ITEMS
from airflow_gpt_image.batch.manifest import read_lines
from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.plugins.images.documents.batch_rows import BatchRows
from airflow_gpt_image.plugins.images.documents.caches import Cache
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.stores import version_of

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a manifest that is read; one of 100,000 images is half of it."""

_kept: Cache[BatchRows] = Cache(128 * 1024 * 1024)
# Each holds a file open.
_first: Cache[BatchRows] = Cache(64)


def read(path: str, context: Context) -> BatchRows:
    """
    Return the images of a manifest. It is read anew when it has changed.

    :raises OutsideRootsError: when it may not be opened.
    :raises InvalidRequestError: when there is none, or it is none.
    :raises DestinationError: when it can't be read, or is too large.
    """
    address = context.roots.locate(path).address
    version = _version(address)
    return _kept.get((address, version), lambda: _rows(address, MOST_ITEMS), lambda rows: rows.weight)


def read_first(path: str, most: int, context: Context) -> BatchRows:
    """Return the first images of a manifest, of which no more is read; it raises as :func:`read`."""
    address = context.roots.locate(path).address
    return _first.get((address, most, _version(address)), lambda: _rows(address, most))


def _version(address: str) -> object:
    found = version_of(address)
    if found is None:
        raise InvalidRequestError(f"There is no manifest at {address}.")
    if found.size > LARGEST:
        raise DestinationError(f"The manifest is larger than {LARGEST:,} bytes, and isn't read.")
    return found


def _rows(address: str, most: int) -> BatchRows:
    rows = BatchRows()
    for text, line in islice(read_lines(address), most):
        rows.add(line, text)
    rows.done()
    return rows
