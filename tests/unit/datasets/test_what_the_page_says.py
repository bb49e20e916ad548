"""docs/data-sets.md tells what a data set may look like: every row of its tables is tried here."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import pandas
import polars
import pyarrow
import pytest
from pyarrow import parquet

from airflow_gpt_image import datasets
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import EmptyDataSetError, GptImageError, InvalidRequestError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.storage.finding import find_files
from airflow_gpt_image.storage.folders import open_file

PAGE = Path(__file__).parents[3] / "docs" / "data-sets.md"
ROWS = [{"prompt": "a teapot", "sku": "T-1"}, {"prompt": "a vase", "sku": "T-2"}]


class Line(NamedTuple):
    """A line of a table on the page."""

    cells: list[str]

    def __str__(self) -> str:
        return " | ".join(self.cells)


def tables():
    """The tables of the page, by the name of their first column."""
    found, now = {}, None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            now = None
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if now is None:
            now = found.setdefault(cells[0], [])
        elif not set(line) <= set("|-: "):
            now.append(Line(cells))
    return found


TEXTS = tables()["file"]
SHAPES = tables()["data set"]


def read(requests, **given):
    return datasets.read(requests, open=open_file, find=find_files, **given)


def code(cell):
    return re.fullmatch(r"`+ ?(.*?) ?`+", cell)[1]


@pytest.mark.parametrize("line", TEXTS, ids=str)
def test_the_text_is_taken_or_refused_as_the_page_says(line, tmp_path):
    name, content, outcome = code(line.cells[0]), code(line.cells[1]), line.cells[2]
    text = content.replace("⏎", "\n").replace("⇥", "\t").replace("·", "\u200b")
    (tmp_path / name).write_text(text, encoding="utf-8")
    defaults = {} if outcome.startswith("taken") else {"prompt": "a default"}
    how, _, rest = outcome.partition(": ")

    if how == "refused":
        with pytest.raises(InvalidRequestError) as refused:
            read(str(tmp_path / name), defaults=defaults)
        assert rest in str(refused.value)
        assert "\n" in str(refused.value), "what to do stands on a line of its own"
        return
    rows, bad = read(str(tmp_path / name), defaults=defaults)
    if how == "bad cell":
        assert rest in str(bad[0])
        assert bad[0].row not in [row.number for row in rows]
    else:
        assert bad == []
        assert [row.request for row in rows] == [ImageRequest(**json.loads(code(rest)))]


def test_the_page_has_all_the_kinds_of_outcome():
    assert {line.cells[2].partition(":")[0] for line in TEXTS} == {"taken", "refused", "bad cell"}


def as_csv(rows=ROWS, separator=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_jsonl(rows=ROWS):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows=ROWS):
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def assert_both(requests):
    rows, bad = read(requests)
    assert bad == []
    assert [row.given for row in rows] == ROWS
    assert [row.number for row in rows] == [1, 2]


def assert_refused(requests, words, error=InvalidRequestError):
    with pytest.raises(error) as refused:
        read(requests)
    assert words in str(refused.value)
    assert "\n" in str(refused.value), "what to do stands on a line of its own"


def parts(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(folder)


def a_list_of_prompts(tmp_path):
    assert [row.request.prompt for row in read(["a", "b"])[0]] == ["a", "b"]


def a_list_of_mappings(tmp_path):
    rows, _ = read([{"prompt": "a", "x": 1}, {"prompt": "b", "y": 2}])
    assert [row.metadata for row in rows] == [{"x": 1}, {"y": 2}]


def another_tasks_result(tmp_path):
    """In tests/unit/operators/test_rendering_of_rows.py, on Airflow's own code."""


def a_pandas_table(tmp_path):
    frame = pandas.DataFrame(ROWS).assign(
        price=[float("nan"), 2.5], at=[pandas.NaT, pandas.Timestamp("2026-01-01")]
    )
    rows, bad = read(frame.set_index("sku"))
    assert bad == []
    assert [row.metadata for row in rows] == [
        {"sku": "T-1"},
        {"sku": "T-2", "price": 2.5, "at": "2026-01-01T00:00:00"},
    ]


def a_polars_table(tmp_path):
    assert_both(polars.DataFrame(ROWS))
    assert_refused(polars.LazyFrame(ROWS), "such as LazyFrame.collect()")


def an_arrow_table(tmp_path):
    table = pyarrow.Table.from_pylist(ROWS)

    class Offers:
        def __arrow_c_stream__(self, requested_schema=None):
            return table.__arrow_c_stream__(requested_schema)

    for kind in (table, table.to_batches()[0], Offers()):
        assert_both(kind)


def a_column(tmp_path):
    for column in (
        pandas.Series(["a", "b"]),
        polars.Series(["a", "b"]),
        pandas.Series(["a", "b"]).to_numpy(),
    ):
        assert [row.request.prompt for row in read(column)[0]] == ["a", "b"]


def text_with_separators(tmp_path):
    assert_both(parts(tmp_path, {"x.csv": as_csv()}) + "/x.csv")
    assert_both(parts(tmp_path, {"x.tsv": as_csv(separator="\t")}) + "/x.tsv")


def json_lines(tmp_path):
    for ending in ("jsonl", "ndjson"):
        assert_both(parts(tmp_path, {f"x.{ending}": as_jsonl()}) + f"/x.{ending}")


def a_parquet_file(tmp_path):
    assert_both(parts(tmp_path, {"x.parquet": as_parquet()}) + "/x.parquet")


def gzip_files(tmp_path):
    files = {"x.csv.gz": gzip.compress(as_csv()), "y.jsonl.gz": gzip.compress(as_jsonl())}
    for name in files:
        assert_both(parts(tmp_path, files) + f"/{name}")


def zstd_files(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="it is in the dev extra")
    pack = zstandard.ZstdCompressor().compress
    files = {"x.csv.zst": pack(as_csv()), "y.jsonl.zst": pack(as_jsonl())}
    for name in files:
        assert_both(parts(tmp_path, files) + f"/{name}")


SPARK = {
    "_SUCCESS": b"",
    "._SUCCESS.crc": b"crc",
    ".part-00000.snappy.parquet.crc": b"crc",
    "part-00001-ab.c000.snappy.parquet": as_parquet(ROWS[1:]),
    "part-00000-ab.c000.snappy.parquet": as_parquet(ROWS[:1]),
}


def a_folder_of_parts(tmp_path):
    assert_both(parts(tmp_path / "export", SPARK))
    assert_both(
        parts(
            tmp_path / "athena",
            {"20260101_0000_b": as_parquet(ROWS[1:]), "20260101_0000_a": as_parquet(ROWS[:1])},
        )
    )
    bigquery = {"x-000000000000.csv": as_csv(ROWS[:1]), "x-000000000001.csv": as_csv(ROWS[1:])}
    assert_both(parts(tmp_path / "bigquery", bigquery) + "/")
    snowflake = {
        "data_0_0_0.csv.gz": gzip.compress(as_csv(ROWS[:1])),
        "data_0_1_0.csv.gz": gzip.compress(as_csv(ROWS[1:])),
    }
    assert_both(parts(tmp_path / "snowflake", snowflake))


def a_folder_named_parquet(tmp_path):
    assert_both(
        parts(
            tmp_path / "x.parquet",
            {"part-0": as_parquet(ROWS[:1]), "part-1": as_parquet(ROWS[1:]), "_SUCCESS": b""},
        )
    )


def parts_of_json_lines(tmp_path):
    assert_both(
        parts(
            tmp_path / "out",
            {"part-0.json": as_jsonl(ROWS[:1]), "part-1.json.gz": gzip.compress(as_jsonl(ROWS[1:]))},
        )
    )


def partitions(tmp_path):
    rows, bad = read(parts(tmp_path / "out", {"category=tea%20pots/part-0.parquet": as_parquet(ROWS)}))
    assert bad == []
    assert [row.metadata["category"] for row in rows] == ["tea pots", "tea pots"]


def a_pattern(tmp_path):
    parts(
        tmp_path,
        {"a-1.csv": as_csv(ROWS[:1]), "a-2.csv": as_csv(ROWS[1:]), "b-1.csv": as_csv(ROWS), "c.txt": b""},
    )
    assert_both(f"{tmp_path}/a-*.csv")
    assert_refused(f"{tmp_path}/d-*.csv", "can't be read (No file is called so)")


def on_a_store(tmp_path):
    """In tests/unit/datasets/test_folders.py, on S3."""


def in_the_tests_of_folders(tmp_path):
    """In tests/unit/datasets/test_folders.py, with every kind of them."""


def files_of_several_kinds(tmp_path):
    assert_refused(
        parts(tmp_path / "x", {"a.csv": as_csv(), "b.jsonl": as_jsonl()}), "files of several kinds"
    )


def refused_while_parsing(*names):
    def check(tmp_path):
        for name, words in names:
            with pytest.raises(InvalidRequestError, match=re.escape(words)):
                GptImageBatchOperator(task_id="images", requests=name, destination="/data")

    return check


def an_empty_data_set(tmp_path):
    """That the task is skipped then, in tests/unit/batch_operator/test_names_and_previews.py."""
    for empty in ([], pandas.DataFrame({"prompt": []}), parts(tmp_path / "x", {"_SUCCESS": b""})):
        assert_refused(empty, "is empty", EmptyDataSetError)


def more_rows_than_taken(tmp_path):
    assert_refused(["x"] * 100_001, "A batch takes 1 to 100,000")


def more_columns_than_taken(tmp_path):
    with pytest.raises(GptImageError, match="1,000 different columns"):
        read([{"prompt": "x", f"c{n}": 1} for n in range(1_001)])


def small_files_that_unpack_to_large_ones(tmp_path):
    """In tests/unit/datasets/test_bounds.py, with the memory that they take."""


CASES = {
    "a list of prompts": a_list_of_prompts,
    "a list of mappings": a_list_of_mappings,
    "another task's result": another_tasks_result,
    "a pandas table": a_pandas_table,
    "a Polars table": a_polars_table,
    "an Arrow table": an_arrow_table,
    "a column of pandas or Polars": a_column,
    ".csv, .tsv": text_with_separators,
    ".jsonl, .ndjson": json_lines,
    ".parquet": a_parquet_file,
    ".csv.gz, .jsonl.gz": gzip_files,
    ".csv.zst, .jsonl.zst": zstd_files,
    "a folder of parts": a_folder_of_parts,
    "a folder named x.parquet": a_folder_named_parquet,
    "parts of JSON lines": parts_of_json_lines,
    "partitions": partitions,
    "a pattern": a_pattern,
    "a folder or a pattern on a store": on_a_store,
    "a table of Delta Lake, Hudi or Iceberg": in_the_tests_of_folders,
    "a folder that is being written": in_the_tests_of_folders,
    "one file twice": in_the_tests_of_folders,
    "files of several kinds": files_of_several_kinds,
    ".xlsx, .ods": refused_while_parsing(
        ("/x/a.xlsx", "Save the sheet as CSV"), ("s3://b/a.ods", "Save the sheet")
    ),
    ".txt": refused_while_parsing(("/x/a.txt", "doesn't say by its name")),
    ".json": refused_while_parsing(
        ("/x/a.json", "one object in each line"), ("/x/a.json.gz", "one object in each line")
    ),
    ".zip, .bz2": refused_while_parsing(("/x/a.csv.zip", "Unpack it"), ("/x/a.jsonl.bz2", "Unpack it")),
    "https://": refused_while_parsing(("https://a.example/x.csv", "Download it in a task before")),
    "an empty data set": an_empty_data_set,
    "more than 100,000 rows": more_rows_than_taken,
    "more than 1,000 columns": more_columns_than_taken,
    "a small file that unpacks to a large one": small_files_that_unpack_to_large_ones,
}


@pytest.mark.parametrize("line", SHAPES, ids=str)
def test_a_data_set_of_this_shape_is_what_the_page_says(line, tmp_path):
    CASES[code(line.cells[0])](tmp_path)


def test_every_shape_that_is_tried_is_on_the_page():
    assert [code(line.cells[0]) for line in SHAPES] == list(CASES)
