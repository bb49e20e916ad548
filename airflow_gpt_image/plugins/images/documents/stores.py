"""Look at what lies at destinations: only under the roots, and only what is needed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.folder_under_roots import (
    FolderUnderRoots,
    locate,
    open_under_roots,
)
from airflow_gpt_image.plugins.images.roots import OutsideRootsError

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
        if folder.size(name) is None:
            return {**nothing, "problem": _GONE if "://" in path else absent_here(path, folder)}
    except (GptImageError, OutsideRootsError):
        return {**nothing, "problem": cant_read(path)}
    return {}


def folder_of(path: str, context: Context) -> tuple[FolderUnderRoots, str]:
    """
    Return the folder of a file, and the file's name in it.

    :raises OutsideRootsError: when it may not be opened.
    :raises GptImageError: when the store can't be reached.
    """
    location = locate(path, context.roots)
    where, name = posixpath.split(location.address)
    return open_under_roots(where, context.roots), name


def absent_here(path: str, folder: FolderUnderRoots) -> str:
    """Return what is said of a file that isn't on this machine's disk: is its folder there at all?"""
    if folder.is_there():
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


def version_of(path: str, context: Context) -> Version | None:
    """
    Return what changes when a file is written anew; None when there is none.

    :raises OutsideRootsError: when it may not be opened.
    :raises GptImageError: when the disk or the store doesn't tell, or Airflow knows no such store.
    """
    folder, name = folder_of(path, context)
    told = folder.told(name)
    return None if told is None else Version(*told)
