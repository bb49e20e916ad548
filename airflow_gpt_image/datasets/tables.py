"""Rows out of tables: Parquet files, and tables of pandas, Polars and Arrow that are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NamedTuple

from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.datasets.cells import is_missing, python_value
from airflow_gpt_image.datasets.given import LONGEST_ROW, MOST_CELLS, MOST_COLUMNS, MOST_TEXT, refusal
from airflow_gpt_image.datasets.lines import Watched
from airflow_gpt_image.errors import InvalidRequestError

_ROWS_AT_ONCE: Final = 1_000
_BUFFER: Final = 1024 * 1024
_MOST_AT_ONCE: Final = 64 * 1024 * 1024
# A dictionary of one long text can stand for any number of rows.
_BOMB_SIZE: Final = 16 * 1024 * 1024
_BOMB_FACTOR: Final = 200


class Table(NamedTuple):
    """
    A table: the names of its columns, and its rows in their order.

    :param names: as the table has them, whatever they are.
    """

    names: Sequence[object]
    rows: Iterable[Sequence[object]]


def read_parquet(stream: BinaryIO, path: str, most_rows: int) -> Table:
    """
    Return the table of a Parquet file; its metadata is looked at before anything is unpacked.

    :param most_rows: how many are taken.
    :raises InvalidRequestError: when it is broken, or unpacks to more than is taken; also while its rows are
        read.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise refusal(
            f"{quote_path(path)} can't be read without pyarrow.\nRun pip install "
            "'airflow-provider-gpt-image[parquet]', or give a .csv or .jsonl file."
        ) from error
    watched = Watched(stream)
    with _broken_is_refused(watched, path):
        texts, rows_at_once = _checked_texts(parquet.ParquetFile(watched).metadata, path, most_rows)
        # Reading ahead would hold most of the file; a text that stands in many rows is held once.
        options = {"pre_buffer": False, "buffer_size": _BUFFER, "read_dictionary": texts}
        file = parquet.ParquetFile(watched, **options)
        return Table(file.schema_arrow.names, _rows_of_file(file, rows_at_once, watched, path))


def _rows_of_file(file: Any, rows_at_once: int, watched: Watched, path: str) -> Iterator[Sequence[object]]:
    with _broken_is_refused(watched, path):
        yield from _arrow_rows(file.iter_batches(rows_at_once), path)


@contextmanager
def _broken_is_refused(watched: Watched, path: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except InvalidRequestError:
        raise
    except (OSError, ValueError, ArithmeticError, pyarrow.ArrowException) as error:
        if watched.trouble is not None:
            raise watched.trouble from None
        raise refusal(
            f"{quote_path(path)} is no Parquet file, or a broken one ({quote(str(error))}).\nWrite it again."
        ) from error


def _checked_texts(metadata: Any, path: str, most_rows: int) -> tuple[list[str], int]:
    """
    Refuse what unpacks to more than is taken, by what the file says of itself.

    :return: its columns of text that can be read as dictionaries, and how many rows may be read at once.

    :raises InvalidRequestError: then.
    """
    if metadata.num_rows > most_rows:
        raise refusal(
            f"{quote_path(path)} has {metadata.num_rows:,} rows.\nAt most {most_rows:,} are taken.\n"
            "Give several data sets."
        )
    if metadata.num_columns > MOST_COLUMNS:
        raise refusal(
            f"{quote_path(path)} has {metadata.num_columns:,} columns.\nAt most {MOST_COLUMNS:,} are taken.\n"
            "Leave columns out."
        )
    texts: set[str] = set()
    deltas: set[str] = set()
    values = longest = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            values += column.num_values
            size, packed = column.total_uncompressed_size, max(1, column.total_compressed_size)
            if size > MOST_TEXT or (size > _BOMB_SIZE and size > packed * _BOMB_FACTOR):
                raise refusal(
                    f"Column {quote(column.path_in_schema)} of {quote_path(path)} unpacks from {packed:,} to "
                    f"{size:,} bytes, which is more than a data set may hold.\nLeave it out."
                )
            if column.physical_type == "BYTE_ARRAY":
                texts.add(column.path_in_schema)
            if any(encoding.startswith("DELTA") and "BYTE" in encoding for encoding in column.encodings):
                # A text is told by what it shares with the one before: each may be as long as all together.
                deltas.add(column.path_in_schema)
                longest = max(longest, size)
    if values > MOST_CELLS:
        raise refusal(
            f"{quote_path(path)} holds {values:,} values, those in lists included.\nAt most {MOST_CELLS:,} "
            "are taken.\nLeave columns out."
        )
    return sorted(texts - deltas), max(1, min(_ROWS_AT_ONCE, _MOST_AT_ONCE // max(1, longest)))


def table_of(value: Any) -> Table | None:
    """
    Return a table that is handed over in memory as its rows; None when it is none.

    Known by what it can do: nothing is imported for it but Arrow, for what offers Arrow's interface alone.
    """
    if isinstance(value, type):
        return None
    if hasattr(value, "collect") and not hasattr(value, "iter_rows"):
        kind = type(value).__name__
        way = f"{kind}.{'toPandas' if hasattr(value, 'toPandas') else 'collect'}()"
        raise refusal(f"A {kind} has no rows yet.\nHand over a table in memory, such as {way}.")
    names = getattr(value, "columns", None)
    if names is not None and hasattr(value, "itertuples") and hasattr(value, "index"):
        value = _with_index(value)
        return Table(list(value.columns), value.itertuples(index=False, name=None))
    if names is not None and hasattr(value, "iter_rows"):
        return Table(list(names), value.iter_rows())
    if hasattr(value, "to_batches") and hasattr(value, "schema"):
        return Table(list(value.schema.names), _arrow_rows(value.to_batches(max_chunksize=_ROWS_AT_ONCE)))
    if hasattr(value, "schema") and hasattr(value, "to_pylist") and hasattr(value, "num_columns"):
        return Table(list(value.schema.names), _arrow_rows([value]))
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return _over_arrow(value)
    return None


def _with_index(frame: Any) -> Any:
    """Return a table of pandas with its index as columns, unless that is the numbers that pandas adds."""
    names = list(getattr(frame.index, "names", (None,)))
    if not len(frame.index) or (names == [None] and frame.index.dtype.kind in "iu"):
        return frame
    columns = list(frame.columns)
    both = [name for name in names if name is not None and name in columns]
    for name in both:
        if columns.count(name) > 1 or list(frame[name]) != list(frame.index.get_level_values(name)):
            raise refusal(f"The table's index {quote(name)} is called as one of its columns.\nRename it.")
    levels = [level for level, name in enumerate(names) if name not in both]
    return frame.reset_index(levels) if levels else frame


def items_of(value: Any) -> Sequence[object] | None:
    """Return what a column or an array in memory holds: prompts, or rows; None when it is none."""
    if isinstance(value, type):
        return None
    for name in ("to_dicts", "to_pylist", "to_list", "tolist"):
        found = getattr(value, name, None)
        if callable(found):
            items = found()
            return items if isinstance(items, list) else None
    return None


def _over_arrow(value: Any) -> Table | None:
    try:
        import pyarrow
    except ImportError as error:
        raise refusal(
            f"A {type(value).__name__} can't be read without pyarrow.\nRun pip install "
            "'airflow-provider-gpt-image[parquet]', or give a list of mappings."
        ) from error
    try:
        table = pyarrow.table(value)
    except (TypeError, ValueError, pyarrow.ArrowException):
        return None
    return Table(list(table.schema.names), _arrow_rows(table.to_batches(max_chunksize=_ROWS_AT_ONCE)))


# --- Arrow


def _arrow_rows(batches: Iterable[Any], path: str = "The table") -> Iterator[Sequence[object]]:
    for batch in batches:
        _check_size(batch, path)
        columns = [_values(column) for column in batch.columns]
        if columns:
            yield from zip(*columns, strict=True)


def _check_size(batch: Any, path: str) -> None:
    """Refuse rows whose texts are longer than a row may be, before Python has them."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        size = _decoded_size(column, shared=True)
        if size > max(_MOST_AT_ONCE, LONGEST_ROW * len(batch)) or size > 4 * _MOST_AT_ONCE:
            raise refusal(
                f"Column {quote(name)} of {quote_path(path)} holds {size:,} bytes in {len(batch):,} rows.\n"
                "Leave it out."
            )


def _decoded_size(array: Any, *, shared: bool) -> int:
    """
    Return the bytes of an array's texts once Python has them.

    :param shared: that rows with the same text share it, as those of a dictionary do.
    """
    import pyarrow
    from pyarrow import compute, types

    kind = array.type
    if types.is_dictionary(kind):
        words = array.dictionary
        if not _is_text(words.type):
            return _decoded_size(words, shared=True)
        if shared:
            return int(compute.sum(compute.binary_length(words)).as_py() or 0)
        taken = compute.take(compute.binary_length(words), array.indices)
        return int(compute.sum(taken).as_py() or 0)
    if (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_map(kind)
    ):
        return 8 * len(array.flatten()) + _decoded_size(array.flatten(), shared=False)
    if types.is_struct(kind):
        return sum(_decoded_size(array.field(index), shared=False) for index in range(kind.num_fields))
    if isinstance(array, pyarrow.ExtensionArray):
        return _decoded_size(array.storage, shared=shared)
    return int(array.nbytes)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return any(
        test(kind)
        for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _values(column: Any) -> Sequence[object]:
    """Return a column's values as Python has them; each text of a dictionary once."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        words, places = _values(column.dictionary), column.indices.to_pylist()
        # Arrow doesn't look; and below 0 another row's text would be read.
        if any(place is not None and not 0 <= place < len(words) for place in places):
            raise refusal("The table points to texts that aren't in it, so it is broken.\nWrite it again.")
        return [None if place is None else words[place] for place in places]
    try:
        values: Sequence[object] = column.to_pylist()
    except _cannot():
        values = [_value(scalar) for scalar in column]  # the fault of one cell, not of the column
    return values


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except _cannot():
        return _Unreadable(scalar.type)


def _cannot() -> tuple[type[Exception], ...]:
    import pyarrow

    return ValueError, ArithmeticError, LookupError, TypeError, ImportError, pyarrow.ArrowException


class _Unreadable:
    """What Arrow can hold and Python can't: the year 30000, broken UTF-8, an unknown time zone."""

    def __init__(self, type: object) -> None:
        self.type = type

    def __repr__(self) -> str:
        return f"<a {self.type} that Python can't hold>"


def cells_of(names: Iterable[Any], row: Iterable[object]) -> dict[Any, Any]:
    """Return what a table's row gives: what is missing isn't there."""
    return {
        name: python_value(value) for name, value in zip(names, row, strict=True) if not is_missing(value)
    }
