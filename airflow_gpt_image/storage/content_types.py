"""The type that a store gives a file when a browser asks for it: without one it is saved and not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "html": "text/html; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}

# What fsspec's implementations call it when a file is written; the others have no such argument.
_ARGUMENTS: Final = {
    "s3": "ContentType",
    "s3a": "ContentType",
    "s3n": "ContentType",
    "gs": "content_type",
    "gcs": "content_type",
}


def type_arguments(address: str, name: str) -> Mapping[str, str]:
    """
    Return how a store's file system is told a file's type while it is written.

    :param address: of the destination, with its scheme.
    :param name: of the file: its type follows from the ending.
    :return: nothing for another ending, and for a store that isn't told so.
    """
    argument = _ARGUMENTS.get(address.partition("://")[0])
    kind = _TYPES.get(name.rpartition(".")[2])
    return {} if argument is None or kind is None else {argument: kind}
