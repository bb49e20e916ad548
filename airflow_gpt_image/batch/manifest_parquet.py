"""``manifest.parquet``: the manifest with typed columns, for whoever has the extra ``parquet``."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from airflow_gpt_image.batch import parquet_writer
from airflow_gpt_image.batch.columns import Kind, value_of
from airflow_gpt_image.batch.manifest_csv import COLUMNS, cells

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

NAME: Final = "manifest.parquet"

ABSENT: Final = (
    "There is no manifest.parquet, for pyarrow isn't installed.\n"
    "With it: pip install 'airflow-provider-gpt-image[parquet]'"
)
BROKEN: Final = (
    "manifest.parquet could not be written: Arrow failed, with the error above.\n"
    "The other manifests are whole."
)

# 100,000 rows take some seconds.
_LONGEST: Final = 600.0

_TYPES: Final = {
    "row": "small integer",
    "variant": "small integer",
    "image_urls": "texts",
    "nsfw_checker": "boolean",
    "paths": "texts",
    "credits": "amount",
    "seconds": "number",
    "reused": "boolean",
}
"""Types of the columns that aren't text."""


def is_installed() -> bool:
    """Return whether there is a pyarrow."""
    return find_spec("pyarrow") is not None


class ParquetManifest:
    """
    Write the table: the columns of ``manifest.csv``, each of one type.

    ``credits`` is a decimal, ``seconds`` a float, ``image_urls`` and ``paths`` are lists. The data set's own
    columns have the type that all their values are of, else text.

    :param rows: a file that takes the rows until they are a table.
    :param columns: of the data set, with their kinds.
    """

    def __init__(self, rows: BinaryIO, columns: Mapping[str, Kind]) -> None:
        self._file = rows
        self._columns = columns
        self._names = [*COLUMNS, *(f"data.{name}" for name in columns)]
        types = [*(_TYPES.get(name, "text") for name in COLUMNS), *columns.values()]
        self._write(list(zip(self._names, types, strict=True)))

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the manifest."""
        data = line["data"]
        values = cells(line) + [value_of(data.get(name), kind) for name, kind in self._columns.items()]
        self._write(dict(zip(self._names, values, strict=True)))

    @contextmanager
    def table(self) -> Iterator[IO[bytes] | None]:
        """Make the table; None: it could not be made."""
        with tempfile.TemporaryFile() as made:
            self._file.seek(0)
            # Where Arrow is loaded already, as by a data set in Parquet, what a process of its own would
            # spare the worker is spent.
            here = sys.modules.get("pyarrow") is not None
            yield made if (_make_here if here else _make_apart)(self._file, made) else None

    def _write(self, value: Any) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _make_here(rows: BinaryIO, into: IO[bytes]) -> bool:
    from pyarrow import ArrowException

    try:
        parquet_writer.write(rows, into)
    except ArrowException as error:
        _log.warning("%s: %s", type(error).__name__, error)
        return False
    return True


def _make_apart(rows: BinaryIO, into: IO[bytes]) -> bool:
    command = [sys.executable, "-P", "-m", parquet_writer.__name__]
    try:
        subprocess.run(command, stdin=rows, stdout=into, check=True, timeout=_LONGEST)  # noqa: S603
    except (subprocess.SubprocessError, OSError) as error:  # OSError: this machine has no room for it
        _log.warning("%s: %s", type(error).__name__, error)
        return False
    return True
