"""Turn JSON lines into a Parquet file: ``python -m airflow_gpt_image.batch.parquet_writer < rows > table``.

The first line is a list of columns, each a name and a type of :data:`TYPES`; every other line is a row.

It is a program for the worker's sake: Arrow takes 70 MB that a process never gives back. Where it is ended
for want of memory, or crashes, the table is missing and the batch is not. It imports nothing of ours.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO, Final

TYPES: Final = ("text", "texts", "integer", "small integer", "number", "boolean", "amount")

# Of JSON, for a row group: some 5,000 rows.
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024


def write(lines: BinaryIO, into: IO[bytes]) -> None:
    """Write the table of some lines."""
    import pyarrow
    from pyarrow import json as arrow_json
    from pyarrow import parquet

    text = pyarrow.string()
    types = {
        "text": text,
        "texts": pyarrow.list_(text),
        "integer": pyarrow.int64(),
        "small integer": pyarrow.int32(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
        # The digits that a record's amounts can have.
        "amount": pyarrow.decimal128(24, 12),
    }
    columns: list[tuple[str, str]] = json.loads(lines.readline())
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns])
    parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    with parquet.ParquetWriter(into, schema) as writer:
        for rows in _chunks(lines):
            # One block of all: a row that is longer than a block is an error.
            read = arrow_json.ReadOptions(use_threads=False, block_size=len(rows) + 1)
            # Not from Python's lists: for those Arrow imports pandas, where that is installed.
            table: Any = arrow_json.read_json(io.BytesIO(rows), read_options=read, parse_options=parse)
            writer.write_table(table)


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= _BYTES_AT_ONCE:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


if __name__ == "__main__":
    write(sys.stdin.buffer, sys.stdout.buffer)
