"""``manifest.parquet``: the manifest with typed columns, for whoever has the extra ``parquet``.

Arrow reads the rows as JSON, since handing it Python's lists makes it import pandas where that is installed:
50 MB and a third of a second in a worker that has no other use for it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, Self

from airflow_gpt_image.batch.columns import Kind, value_of
from airflow_gpt_image.batch.manifest_csv import COLUMNS, cells

NAME: Final = "manifest.parquet"

# Held until they are a row group: some 700 rows.
_BYTES_AT_ONCE: Final = 512 * 1024


class ParquetManifest:
    """
    Write the table: the columns of ``manifest.csv``, each of one type.

    ``credits`` is a decimal, ``seconds`` a float, ``image_urls`` and ``paths`` are lists. The data set's own
    columns have the type that all their values are of, else text.

    :param columns: of the data set, with their kinds.
    """

    def __init__(self, draft: BinaryIO, columns: Mapping[str, Kind]) -> None:
        import pyarrow
        from pyarrow import parquet

        self._columns = columns
        self._names = [*COLUMNS, *(f"data.{name}" for name in columns)]
        types = [*map(_types().__getitem__, COLUMNS), *map(_type_of, columns.values())]
        self._schema = pyarrow.schema(list(zip(self._names, types, strict=True)))
        self._writer = parquet.ParquetWriter(draft, self._schema)
        self._rows = io.BytesIO()

    @classmethod
    def open(cls, draft: BinaryIO, columns: Mapping[str, Kind]) -> Self | None:
        """Begin a table; None where pyarrow isn't installed."""
        try:
            return cls(draft, columns)
        except ImportError:
            return None

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line of the manifest."""
        data = line["data"]
        values = cells(line) + [value_of(data.get(name), kind) for name, kind in self._columns.items()]
        row = dict(zip(self._names, values, strict=True))
        self._rows.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        if self._rows.tell() >= _BYTES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the file's end."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import json as arrow_json

        if size := self._rows.tell():
            self._rows.seek(0)
            table = arrow_json.read_json(
                self._rows,
                # One block of all: a row that is longer than a block is an error.
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=size + 1),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._schema, unexpected_field_behavior="error"
                ),
                # Arrow's own keeps what it once had, some 30 MB, for as long as the process lives.
                memory_pool=pyarrow.system_memory_pool(),
            )
            self._writer.write_table(table)
            self._rows = io.BytesIO()


def _types() -> dict[str, Any]:
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    others = {
        "row": pyarrow.int32(),
        "variant": pyarrow.int32(),
        "image_urls": texts,
        "nsfw_checker": pyarrow.bool_(),
        "paths": texts,
        # The digits that a record's amounts can have.
        "credits": pyarrow.decimal128(24, 12),
        "seconds": pyarrow.float64(),
        "reused": pyarrow.bool_(),
    }
    return {name: others.get(name, text) for name in COLUMNS}


def _type_of(kind: Kind) -> Any:
    import pyarrow

    types = {"integer": pyarrow.int64, "number": pyarrow.float64, "boolean": pyarrow.bool_}
    return types.get(kind, pyarrow.string)()
