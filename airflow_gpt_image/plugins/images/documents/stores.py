"""Look at what lies at destinations: only under the roots, and only what is needed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.storage.folders import Folder, failed, object_path, open_folder

_GONE: Final = (
    "The file is gone. Clear the task: it lands again without a new charge, while the API keeps it."
)


def check_images(images: Iterable[dict[str, Any]], context: Context) -> list[dict[str, Any]]:
    """Return images' documents; of those whose file isn't to be had here, what is the matter."""
    return [image | _matter(image["path"], context) if _is_stored(image) else image for image in images]


def _is_stored(image: dict[str, Any]) -> bool:
    return image["path"] is not None and image["problem"] is None


def _matter(path: str, context: Context) -> dict[str, Any]:
    nothing = dict.fromkeys(("thumb", "thumb2", "stage", "full", "download"))
    try:
        folder, name = folder_of(path, context)
        found = folder.size(name)
    except GptImageError:
        return {**nothing, "problem": cant_read(path)}
    if found is None:
        return {**nothing, "problem": _GONE if "://" in path else absent_here(path, folder)}
    return {}


def folder_of(path: str, context: Context) -> tuple[Folder, str]:
    """
    Return the folder of a file, and the file's name in it.

    :raises OutsideRootsError: when it may not be opened.
    :raises GptImageError: when the store can't be reached.
    """
    location = context.roots.locate(path)
    where, name = posixpath.split(location.address)
    return open_folder(where), name


def absent_here(path: str, folder: Folder) -> str:
    """Return what is said of a file that isn't on this machine's disk: is its folder there at all?"""
    if Path(folder.address("")).is_dir():
        return _GONE
    place = posixpath.dirname(path)
    return (
        f"{place} isn't on this server. The worker stored the picture on its own disk. "
        "Use a store that both can read (S3, GCS, a shared disk), and new pictures show here."
    )


def cant_read(path: str) -> str:
    """Return what is said of a store that this server can't read."""
    scheme, separator, rest = path.partition("://")
    store = f"{scheme}://{rest.partition('/')[0]}" if separator else path
    return f"This server can't read {store}. The pictures are safe: only this page can't show them."


class Version(NamedTuple):
    """
    What tells one state of a file from the next.

    :param size: in bytes.
    :param tag: what else the disk or the store tells of it: times, tags.
    """

    size: int
    tag: str


# What fsspec's stores call what changes with a file's bytes.
_TAGS: Final = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime")


def version_of(address: str) -> Version | None:
    """
    Return what changes when a file is written anew; None when there is none.

    :param address: that may be opened.
    :raises DestinationError: when the disk or the store doesn't tell.
    :raises InvalidRequestError: when Airflow knows no such store.
    """
    try:
        if "://" not in address:
            told = Path(address).stat()
            return Version(told.st_size, f"{told.st_mtime_ns}-{told.st_ino}")
        open_folder(posixpath.dirname(address))  # which makes fsspec forget what it has listed
        path = object_path(address)
        info = path.fs.info(path.path)
        return Version(int(info["size"]), " ".join(f"{name}={info[name]}" for name in _TAGS if name in info))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except GptImageError:
        raise
    except Exception as error:  # each store has errors of its own
        raise failed(address, error) from error
