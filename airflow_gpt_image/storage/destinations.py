"""Read the address of a destination, by its text alone; nothing is opened."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from airflow_gpt_image.errors import InvalidRequestError

DISK_SCHEMES: Final = ("file", "local")
"""What Airflow and fsspec call this machine's disk."""

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\\]+(/[^?#\\]*)?")


def check_destination(destination: object) -> str:
    """
    Read a destination, by its text alone: an absolute path, a ``file://`` address, or a folder on a store
    such as ``s3://conn_id@bucket/folder``. Nothing is opened.

    :return: an absolute path of this machine, or the store's address without a trailing slash.
    :raises InvalidRequestError: when it is none of these.
    """
    given = str(destination) if _is_address(destination) else ""
    scheme, separator, rest = given.partition("://")
    path = given
    if separator and scheme in DISK_SCHEMES:
        parts = urlsplit(given)
        plain = parts.netloc in ("", "localhost") and not (parts.query or parts.fragment)
        path = url2pathname(parts.path) if plain else ""
    elif ":" in rest.partition("/")[0].rpartition("@")[0]:
        # Not shown: what stands there is a password.
        raise _refused(
            f"The {scheme} address contains a password.",
            "It would stand in messages and records, where others read it.",
            "Name a connection instead: s3://my_conn_id@bucket/images.",
        )
    elif separator and _is_store(scheme, rest, given):
        return given.rstrip("/")
    # A destination is a template: what it is rendered from may not lead out of its folder.
    plain = bool(path.strip()) and "\0" not in path and ".." not in path.split("/")
    if not plain or not Path(path).is_absolute():
        from airflow_gpt_image.api.text import quote_path

        raise _refused(
            f"{quote_path(destination)} is not a folder images can be stored in.",
            "It has to be absolute, and may hold no '..'.",
            "Give an absolute path such as /data/images, or a store's: s3://my_conn_id@bucket/images.",
        )
    return path


def _refused(*lines: str) -> InvalidRequestError:
    from airflow_gpt_image.errors import InvalidRequestError, Problem

    message = "\n".join(lines)
    return InvalidRequestError(f"destination: {message}", problems=[Problem("destination", message)])


def _is_address(value: object) -> bool:
    # An ObjectStoragePath of a store is no os.PathLike, for it is no path of this machine.
    return isinstance(value, (str, os.PathLike)) or hasattr(value, "protocol")


def _is_store(scheme: str, rest: str, whole: str) -> bool:
    printable = not any(character.isspace() or not character.isprintable() for character in whole)
    return (
        printable
        and scheme not in ("http", "https", "ftp")
        and _ADDRESS.fullmatch(whole) is not None
        and ".." not in rest.split("/")
    )
