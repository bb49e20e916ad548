"""Folders of parts and patterns, on this machine and on a store."""

from __future__ import annotations

import io
import json

import pyarrow
import pytest
from pyarrow import parquet

from airflow_gpt_image import datasets
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.finding import find_files
from airflow_gpt_image.storage.folders import open_file
from tests.log_lines import Lines


def table(*prompts):
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"prompt": list(prompts)}), file)
    return file.getvalue()


def lines(*prompts):
    return b"".join(json.dumps({"prompt": prompt}).encode() + b"\n" for prompt in prompts)


def read(requests, **given):
    return datasets.read(requests, open=open_file, find=find_files, **given)


def prompts(requests, **given):
    rows, bad = read(requests, **given)
    assert bad == []
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.request.prompt for row in rows]


SPARK = {
    "out.parquet/_SUCCESS": b"",
    "out.parquet/_committed_1": b"{}",
    "out.parquet/.part-00000.crc": b"crc",
    "out.parquet/part-00001-x.parquet": table("c", "d"),
    "out.parquet/part-00000-x.parquet": table("a", "b"),
    "out.parquet/_temporary/part-00009-x.parquet": table("never"),
}
LINES = {
    "2026/a.jsonl": lines("a", "b"),
    "2026/b.jsonl": lines("c"),
    "2025/a.jsonl": lines("d"),
    "2026/notes.txt": b"",
}


@pytest.fixture
def put(place):
    """Puts files into a folder; where that is."""

    def put(files):
        for name, content in files.items():
            place.write(name, content)
        return place.destination

    return put


def test_a_folder_as_spark_writes_it_is_its_parts_by_name(put):
    root = put(SPARK)

    assert prompts(f"{root}/out.parquet") == ["a", "b", "c", "d"]
    assert prompts(f"{root}/out.parquet/") == ["a", "b", "c", "d"]


def test_a_pattern_is_the_files_that_it_means(put):
    root = put(LINES)

    assert prompts(f"{root}/2026/*.jsonl") == ["a", "b", "c"]
    assert prompts(f"{root}/*/a.jsonl") == ["d", "a", "b"]
    assert prompts(f"{root}/202[6]/b.jsonl") == ["c"]
    assert prompts(f"{root}/**/*.jsonl") == ["d", "a", "b", "c"]


def test_a_plain_file_stays_one(put):
    root = put(LINES)

    assert prompts(f"{root}/2026/b.jsonl") == ["c"]


def test_partitions_are_columns(put):
    root = put(
        {
            "out/kind=tea%20pot/day=2026-01-01/part-0.parquet": table("a"),
            "out/kind=__HIVE_DEFAULT_PARTITION__/day=2026-01-02/part-0.parquet": table("b"),
        }
    )

    rows, bad = read(f"{root}/out")

    assert bad == []
    assert [row.metadata for row in rows] == [
        {"day": "2026-01-02"},
        {"kind": "tea pot", "day": "2026-01-01"},
    ]


def test_a_partition_cannot_be_a_field(put):
    root = put({"out/resolution=4k/part-0.parquet": table("a")})

    _, (bad,) = read(f"{root}/out")

    assert "A folder's name can't be a field" in bad.rule


@pytest.mark.parametrize("path", ["2027", "2027/", "2027/*.jsonl", "2027/a.jsonl"])
def test_what_is_not_there_is_named(put, path):
    root = put(LINES)

    with pytest.raises(InvalidRequestError, match=r"can't be read \("):
        read(f"{root}/{path}")


def test_a_file_of_another_kind_is_told(put):
    root = put(LINES)

    with pytest.raises(
        InvalidRequestError, match=r"holds 'notes\.txt', whose name doesn't say that it is CSV"
    ):
        read(f"{root}/2026")


def test_a_bad_row_is_told_with_its_part_and_its_line(put):
    root = put({"x/a.jsonl": lines("a", "b"), "x/b.jsonl": lines("c") + b'\n{"prompt": ""}\n'})

    _, (bad,) = read(f"{root}/x")

    assert (bad.row, bad.file, bad.line) == (4, "b.jsonl", 3)
    assert str(bad).startswith("row 4 ('b.jsonl', line 3), column prompt: '' is blank")


def test_a_limit_opens_no_part_that_it_does_not_need(put):
    root = put({"x/a.jsonl": lines("a", "b"), "x/b.jsonl": b"broken"})

    assert prompts(f"{root}/x", limit=2) == ["a", "b"]


def test_the_log_says_how_many_parts_there_are(put):
    root, log = put(SPARK), Lines()

    read(f"{root}/out.parquet", log=log)

    assert any("2 files of parquet, in the order of their names." in line for line in log.infos)


def test_a_file_with_the_marks_of_a_pattern_in_its_name_is_that_file(tmp_path):
    (tmp_path / "a[1].jsonl").write_bytes(lines("a"))
    (tmp_path / "a1.jsonl").write_bytes(lines("b"))

    assert prompts(f"{tmp_path}/a[1].jsonl") == ["a"]
