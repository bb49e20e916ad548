"""Find the files that a folder or a pattern means: on this machine's disk, or on a store Airflow knows."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.storage.folders import failed, object_path

MOST_FILES: Final = 100_000
"""Files that are listed of a disk's folder; more are nobody's data set."""

_MAGIC: Final = re.compile(r"[*?\[]")


def find_files(path: str) -> list[str] | None:
    """
    Return the files in a folder and all its folders, or those that a pattern means, as they can be opened.

    :return: None when it is neither: a file, or nothing.
    :raises FileNotFoundError: when a pattern means nothing.
    :raises InvalidRequestError: when Airflow has no such store installed.
    :raises DestinationError: when the store doesn't answer.
    """
    found = _on_store(path) if "://" in path else _on_disk(path)
    if found == [] and _MAGIC.search(path):
        raise FileNotFoundError(2, "No file is called so")
    return found


def _on_disk(path: str) -> list[str] | None:
    place = Path(path)
    if place.is_dir():
        return _first(place.rglob("*"))
    if place.exists() or not _MAGIC.search(path):
        return None
    found = [Path(name) for name in islice(glob.iglob(path, recursive=True), MOST_FILES)]  # noqa: PTH207  # a pattern from the root on
    return _first(found) or _first(file for folder in found for file in folder.rglob("*"))


def _first(paths: Iterable[Path]) -> list[str]:
    return [str(file) for file in islice((path for path in paths if path.is_file()), MOST_FILES)]


def _on_store(address: str) -> list[str] | None:
    root = object_path(address)
    store: Any = root.fs
    try:
        store.invalidate_cache()
        if not address.endswith("/") and store.isfile(root.path):
            return None
        if not _MAGIC.search(address):
            found = _files(store.find(root.path, detail=True))
            return _addresses(found, root.path.rstrip("/"), address.rstrip("/")) if found else None
        # What the pattern begins with is the same in the address, which names a connection, and in the path.
        begin = _MAGIC.search(root.path)
        stem = root.path[: begin.start()].rpartition("/")[0] if begin else root.path
        given = address[: _MAGIC.search(address).start()].rpartition("/")[0]  # type: ignore[union-attr]
        entries: dict[str, Any] = store.glob(root.path, detail=True)
        found = _files(entries)
        for name, entry in entries.items():
            if entry.get("type") == "directory" and not found:
                found += _files(store.find(name, detail=True))
        return _addresses(found, stem, given)
    except (GptImageError, OSError):
        raise
    except Exception as error:
        raise failed(address, error) from error


def _files(entries: dict[str, Any]) -> list[str]:
    # A console makes an object of no bytes for a folder.
    return [name for name, entry in entries.items() if entry.get("type") == "file" and not name.endswith("/")]


def _addresses(names: list[str], stem: str, given: str) -> list[str]:
    return [f"{given}{name.removeprefix(stem)}" for name in names]
