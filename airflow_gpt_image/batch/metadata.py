"""``metadata.jsonl``: a batch's images with prompts and columns, as Hugging Face's ImageFolder reads them.

ImageFolder takes the images that its lines name and no other file, wherever else images, records and sidecars
lie beneath the folder. Its rules, as of datasets 5.2, and what follows from them:

1. ``file_name`` is relative to the file's own folder and may not lead out of it. So there is no such file
   for map indexes and loop iterations that share a destination, whose images aren't beneath their manifest.
2. A column has one kind of value, or the file can't be read at all: see
   :mod:`~airflow_gpt_image.batch.columns`.
3. ``image``, ``file_name``, and every name that ends in ``_file_name`` or ``_file_names`` mean files. A
   column called so, or as a field of ours, has ``_`` behind its name.
4. A file whose name holds a word of :data:`~airflow_gpt_image.storage.names.SPLIT_WORDS` makes a split, and
   files without one are left out. So slugs have none of these words; a ``filename`` of the author's may.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Final

from airflow_gpt_image.batch.columns import Kind, value_of

NAME: Final = "metadata.jsonl"

_FIELDS: Final = ("prompt", "row", "variant", "aspect_ratio", "resolution", "generation_id")
_TAKEN: Final = frozenset({"file_name", "file_names", "image", "images", "label", *_FIELDS})
_FILES: Final = ("_file_name", "_file_names")


class Metadata:
    """
    Write the lines of stored images.

    :param columns: of the data set, with their kinds.
    """

    def __init__(self, draft: BinaryIO, columns: Mapping[str, Kind]) -> None:
        self._draft = draft
        self._columns = list(zip(columns, _free_names(columns), columns.values(), strict=True))
        self.images = 0

    def add(self, line: Mapping[str, Any], files: Iterable[str]) -> None:
        """
        Write an image's line; several, if the API gave several images.

        :param line: of the manifest.
        :param files: of its images, relative to the destination.
        """
        request, data = line["request"], line["data"]
        about = {name: line[name] if name in line else request[name] for name in _FIELDS}
        for given, name, kind in self._columns:
            about[name] = value_of(data.get(given), kind)
        for file in files:
            told = {"file_name": file, **about}
            self._draft.write(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self.images += 1


def _free_names(columns: Iterable[str]) -> list[str]:
    """Return names for columns that ImageFolder takes for nothing else, each once."""
    given = set(columns)
    names: list[str] = []
    for column in columns:
        name = column
        while name in _TAKEN or name.endswith(_FILES) or name in names or (name != column and name in given):
            name += "_"
        names.append(name)
    return names
