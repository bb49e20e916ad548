"""Which files a path means, and what is in them, by their names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from airflow_gpt_image.api.text import quote, quote_path
from airflow_gpt_image.datasets.given import refusal, safely_quote
from airflow_gpt_image.datasets.lines import COMPRESSIONS
from airflow_gpt_image.errors import InvalidRequestError

Kind = Literal["csv", "jsonl", "parquet"]

_KINDS: Final[dict[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_TABLE_FORMATS: Final = {
    "a Delta Lake table": re.compile(r"(?:.*/)?_delta_log/"),
    "a Hudi table": re.compile(r"(?:.*/)?\.hoodie/"),
    "an Iceberg table": re.compile(r"(?:.*/)?metadata/.*\.metadata\.json"),
}
# In a folder, as Spark, BigQuery and Snowflake write it: an object in each line.
_PART_KINDS: Final[dict[str, Kind]] = {**_KINDS, ".json": "jsonl"}

_REMEDIES: Final = {
    **dict.fromkeys(
        (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"),
        "is a spreadsheet.\nSave the sheet as CSV (UTF-8), or read it in a task before (pandas.read_excel)\n"
        "and hand over the table.",
    ),
    ".txt": "doesn't say by its name what is in it.\n"
    "Call it .csv, .tsv or .jsonl. For a prompt in each line, "
    "give a list: [line for line in file].",
    ".json": "is a single JSON document.\nWrite one object in each line, as .jsonl: "
    "jq -c '.[]' x.json > x.jsonl.",
    **dict.fromkeys(
        (".zip", ".bz2", ".xz", ".7z", ".tar", ".tgz", ".lz4", ".snappy"),
        "is packed in a way that isn't read here.\nUnpack it, or compress it with gzip (.csv.gz, .jsonl.gz).",
    ),
    **dict.fromkeys(
        (".arrow", ".feather", ".orc", ".avro", ".xml", ".html", ".pkl", ".yaml", ".yml", ".db", ".sqlite"),
        "is none of the files that are read here.\nWrite it as .parquet, .csv or .jsonl.",
    ),
}
_WEB: Final = ("http", "https", "ftp", "ftps", "sftp")
_MAGIC: Final = re.compile(r"[*?\[]")
_TAKEN: Final = (
    "Give a list of prompts (['…']) or of mappings, or the path of a .csv, .jsonl (.ndjson) or .parquet file"
)
_MORE: Final = " (also .tsv, .gz, .zst, a folder of such files, or a pattern such as /data/x/*.csv)."
_MOST_PARTS: Final = 10_000
_LEFT_OUT: Final = (".crc", ".metadata")

Find = Callable[[str], "list[str] | None"]
"""Returns the files in a folder and all its folders, or those that a pattern means; None: it is a file."""


class Part(NamedTuple):
    """
    A file of a data set.

    :param name: what errors call it; None: the data set is this file.
    :param cells: what its folders' names say of its rows, as Spark and Hive write partitions.
    """

    path: str
    kind: Kind
    name: str | None
    cells: dict[str, str]


def path_of(requests: object) -> str | None:
    """Return the text of what is a path; None when it is none. An ObjectStoragePath is no os.PathLike."""
    is_path = isinstance(requests, (str, os.PathLike)) or (
        hasattr(requests, "open") and hasattr(requests, "protocol")
    )
    return str(requests) if is_path else None


def check_path(requests: object) -> str:
    """
    Refuse what can't be the path of a data set, by its text alone.

    :raises InvalidRequestError: saying what to do.
    """
    path = path_of(requests)
    scheme, is_address, rest = (path or "").partition("://")
    if path and is_address and scheme.lower() in _WEB and re.match(r"[^\s/]+", rest):
        raise refusal(
            f"{quote_path(path)} is on the web, where nothing is fetched from.\n"
            "Download it in a task before, to a disk or a store, and give that path."
        )
    # A store's address with a query or a fragment names no object.
    odd = path is None or "\0" in path or (is_address and ("?" in path or "#" in path))
    if path is None or odd or not (_kind(path, _KINDS) or _is_folder(path)):
        remedy = None if odd or path is None else _remedy(path)
        if remedy is not None:
            raise refusal(f"{quote_path(path)} {remedy}")
        raise _no_data_set(requests)
    return path


def _no_data_set(requests: object) -> InvalidRequestError:
    what = "is a single string, not a data set" if isinstance(requests, str) else "is not a data set"
    return refusal(f"{safely_quote(requests)} {what}.\n{_TAKEN}{_MORE}")


def parts_of(
    path: str, find: Find, read_begin: Callable[[str], bytes], say: Callable[[str], object]
) -> list[Part]:
    """
    Return the files that a path means, by their names.

    :param find: as :data:`Find`.
    :param read_begin: returns a file's first bytes, unpacked.
    :param say: is told what is left out.
    :raises InvalidRequestError: when they aren't all of one kind.
    """
    found = find(path)
    if found is None:
        kind = _kind(path, _KINDS)
        if kind is None:
            read_begin(path)  # it may not be there, which is another error
            raise _no_data_set(path)
        return [Part(path, kind, None, {})]
    if len(found) > _MOST_PARTS:
        raise refusal(
            f"{quote_path(path)} is {len(found):,} files.\n"
            f"At most {_MOST_PARTS:,} are taken.\nGive a pattern that means fewer."
        )
    root = _root(path)
    names = {file.removeprefix(root).lstrip("/"): file for file in sorted(found)}
    _refuse_formats(path, names)
    left_out = [name for name in names if _is_left_out(name, path.removeprefix(root))]
    if left_out:
        example = next((name for name in left_out if _kind(name, _PART_KINDS)), left_out[0])
        say(f"{quote_path(path)}: {len(left_out):,} files are left out, such as {quote(example, 200)}.")
    kept = {name: file for name, file in names.items() if name not in set(left_out)}
    parts = list(_parts(path, root, kept, read_begin))
    kinds = {part.kind: part for part in parts}
    if len(kinds) > 1:
        several = " and ".join(quote(part.name) for part in kinds.values())
        raise refusal(
            f"{quote_path(path)} holds files of several kinds, {several}.\n"
            "Give a pattern that means one of them, such as …/*.parquet."
        )
    return parts


def _refuse_formats(path: str, names: Collection[str]) -> None:
    """Refuse a table of which some files no longer count, and a folder that isn't whole."""
    for what, mark in _TABLE_FORMATS.items():
        if any(map(mark.match, names)):
            raise refusal(
                f"{quote_path(path)} is {what}, of which not every file still counts.\nRead it with what "
                "knows it, and hand over the table, or write it as plain Parquet."
            )
    if any(name.startswith("_temporary/") for name in names) and "_SUCCESS" not in names:
        raise refusal(
            f"{quote_path(path)} is being written, or was not written to its end: _temporary is in it and "
            "_SUCCESS isn't.\nWait for the job, or run it again."
        )


def _is_left_out(name: str, pattern: str) -> bool:
    """Return whether a file is no part, by the mark before it: unless a pattern names the mark, too."""
    meant = {step[0] for step in pattern.split("/") if step and _MAGIC.search(pattern)}
    marked = any(step.startswith((".", "_")) and step[0] not in meant for step in name.split("/"))
    return marked or name.lower().endswith(_LEFT_OUT)


def _parts(
    path: str, root: str, names: Mapping[str, str], read_begin: Callable[[str], bytes]
) -> Iterator[Part]:
    of_folder = _kind(root.rstrip("/"), _KINDS)
    unpacked: dict[str, str] = {}
    for name, file in names.items():
        stem = name.removesuffix(_ending(name)) if _ending(name) in COMPRESSIONS else name
        if (other := unpacked.setdefault(stem, name)) != name:
            raise refusal(
                f"{quote_path(path)} holds {quote(other)} and {quote(name)}, which are the same but for "
                "their compression.\nRemove one, or give a pattern that means one."
            )
        kind = _kind(name, _PART_KINDS)
        if kind is None and _ending(name) in ("", *COMPRESSIONS) and not _ending(stem):
            kind = _kind_by_begin(read_begin(file)) or (of_folder if stem == name else None)
        if kind is None:
            raise refusal(
                f"{quote_path(path)} holds {quote(name)}, whose name doesn't say that it is CSV, JSON lines "
                "or Parquet.\nGive a pattern that leaves it out, such as …/*.parquet."
            )
        yield Part(file, kind, name, dict(_partitions(name)))


def _kind_by_begin(begin: bytes) -> Kind | None:
    if begin == b"PAR1":
        return "parquet"
    return "jsonl" if begin.startswith(b"{") else None  # a CSV's first line may be a row


def _partitions(name: str) -> Iterator[tuple[str, str]]:
    for step in name.split("/")[:-1]:
        column, equals, value = step.partition("=")
        if equals and column and value != "__HIVE_DEFAULT_PARTITION__":
            yield unquote(column), unquote(value)


def _root(path: str) -> str:
    """Return the folder that names of parts are told from: of a pattern, what comes before it."""
    magic = _MAGIC.search(path)
    return path[: path.rfind("/", 0, magic.start()) + 1] if magic else f"{path.rstrip('/')}/"


def _is_folder(path: str) -> bool:
    if _MAGIC.search(path) and "/" in path:
        return not _ending(path) or _kind(path, _PART_KINDS) is not None or "*" in _ending(path)
    is_absolute = re.match(r"/[^/\s]|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]", path) is not None
    return is_absolute and not _ending(path) and path.isprintable()


def _kind(path: str, kinds: dict[str, Kind]) -> Kind | None:
    packed = path.lower()
    for compression in COMPRESSIONS:
        if packed.endswith(compression):
            kind = kinds.get(_ending(packed.removesuffix(compression)))
            return kind if kind != "parquet" else None
    return kinds.get(_ending(packed))


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def _remedy(path: str) -> str | None:
    ending = _ending(path)
    if ending in COMPRESSIONS:
        inner = _ending(path[: -len(ending)])
        if inner == ".parquet":
            return "is compressed twice over.\nParquet compresses by itself: write it as .parquet."
        return (
            _REMEDIES.get(inner) or "doesn't say by its name what is packed.\nCall it .csv.gz or .jsonl.gz."
        )
    return _REMEDIES.get(ending)
