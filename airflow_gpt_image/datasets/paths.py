"""Which files a path means, and what is in them, by their names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
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
# In a folder, as Spark, BigQuery and Snowflake write it: an object in each line.
_PART_KINDS: Final[dict[str, Kind]] = {**_KINDS, ".json": "jsonl"}

_REMEDIES: Final = {
    **dict.fromkeys(
        (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"),
        "is a spreadsheet; save the sheet as CSV (UTF-8), or read it in a task before (pandas.read_excel) "
        "and hand over the table.",
    ),
    ".txt": "doesn't say by its name what is in it; call it .csv, .tsv or .jsonl. For a prompt in each line, "
    "give a list: [line for line in file].",
    ".json": "is a single JSON document; write one object in each line, as .jsonl: "
    "jq -c '.[]' x.json > x.jsonl.",
    **dict.fromkeys(
        (".zip", ".bz2", ".xz", ".7z", ".tar", ".tgz", ".lz4", ".snappy"),
        "is packed in a way that isn't read here; unpack it, or compress it with gzip (.csv.gz, .jsonl.gz).",
    ),
    **dict.fromkeys(
        (".arrow", ".feather", ".orc", ".avro", ".xml", ".html", ".pkl", ".yaml", ".yml", ".db", ".sqlite"),
        "is none of the files that are read here; write it as .parquet, .csv or .jsonl.",
    ),
}
_WEB: Final = ("http", "https", "ftp", "ftps", "sftp")
_MAGIC: Final = re.compile(r"[*?\[]")
_TAKEN: Final = (
    "give a list of prompts (['…']) or of mappings, or the path of a .csv, .jsonl (.ndjson) or .parquet file"
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
            f"{quote_path(path)} is on the web, where nothing is fetched from; download it in a task "
            f"before, to a "
            "disk or a store, and give that path."
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
    return refusal(f"{safely_quote(requests)} {what}; {_TAKEN}{_MORE}")


def parts_of(path: str, find: Find, read_begin: Callable[[str], bytes]) -> list[Part]:
    """
    Return the files that a path means, by their names.

    :param find: as :data:`Find`.
    :param read_begin: returns a file's first bytes.
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
        raise refusal(f"{quote_path(path)} is {len(found):,} files; at most {_MOST_PARTS:,} are taken.")
    root = _root(path)
    parts = list(_parts(path, root, found, read_begin))
    kinds = {part.kind: part for part in parts}
    if len(kinds) > 1:
        names = " and ".join(quote(part.name) for part in kinds.values())
        raise refusal(
            f"{quote_path(path)} holds files of several kinds, {names}; give a pattern that means one of "
            f"them, "
            "such as …/*.parquet."
        )
    return parts


def _parts(path: str, root: str, found: Sequence[str], read_begin: Callable[[str], bytes]) -> Iterator[Part]:
    of_folder = _kind(root.rstrip("/"), _KINDS)
    for file in sorted(found):
        name = file.removeprefix(root).lstrip("/")
        if any(step.startswith((".", "_")) for step in name.split("/")) or name.lower().endswith(_LEFT_OUT):
            continue
        kind = _kind(name, _PART_KINDS)
        if kind is None and not _ending(name):
            kind = of_folder or ("parquet" if read_begin(file) == b"PAR1" else None)
        if kind is None:
            raise refusal(
                f"{quote_path(path)} holds {quote(name)}, whose name doesn't say that it is CSV, JSON lines "
                f"or "
                "Parquet; give a pattern that leaves it out, such as …/*.parquet."
            )
        yield Part(file, kind, name, dict(_partitions(name)))


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
            return "is compressed twice over; Parquet compresses by itself: write it as .parquet."
        return _REMEDIES.get(inner) or "doesn't say by its name what is packed; call it .csv.gz or .jsonl.gz."
    return _REMEDIES.get(ending)
