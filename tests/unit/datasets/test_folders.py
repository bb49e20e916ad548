"""Folders of parts and patterns, on this machine and on a store."""

from __future__ import annotations

import gzip
import io
import json
import os

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
    "out.parquet/_temporary/part-00009-x.parquet": table("left behind"),
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


@pytest.mark.parametrize("name", ["ratio", "negative_prompt", "photo"])
def test_a_partition_that_resembles_a_field_is_not_left_out(put, name):
    root = put({f"out/{name}=x/part-0.parquet": table("a")})

    _, (bad,) = read(f"{root}/out")

    assert "looks like" in bad.rule


def test_a_partition_that_the_author_calls_a_field_is_none_either(put):
    root = put({"out/shape=3%3A2/part-0.parquet": table("a")})

    _, (bad,) = read(f"{root}/out", columns={"aspect_ratio": "shape"})

    assert (bad.column, "A folder's name can't be a field" in bad.rule) == ("aspect_ratio", True)


def test_prompts_and_names_can_be_made_of_partitions(put):
    files = {"out/kind=pot/p.csv": b"sku\n7\n", "out/kind=__HIVE_DEFAULT_PARTITION__/p.csv": b"sku\n8\n"}
    root = put(files)

    (row,), bad = read(f"{root}/out", prompt_template="{kind} {sku}", needs=["kind"])

    assert (row.request.prompt, {cell.column for cell in bad}) == ("pot 7", {"kind"})


def test_the_columns_of_partitions_are_bounded_too(put):
    # A store needs an hour for as many files as one folder for each column would be.
    columns = ["/".join(f"c{n}=1" for n in range(begin, begin + 91)) for begin in range(0, 1_001, 91)]
    root = put({f"out/{folders}/p.csv": b"prompt\na\n" for folders in columns})

    with pytest.raises(InvalidRequestError, match="more than 1,000 different columns"):
        read(f"{root}/out")


def test_a_partition_that_is_no_text_is_a_bad_cell(put):
    root = put({"out/c=%FF%00/p.csv": b"prompt\na\n"})

    _, (bad,) = read(f"{root}/out")

    assert "is no text" in bad.rule


# Folders that are more than their files


@pytest.mark.parametrize(
    ("mark", "what"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta Lake table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
    ],
)
def test_a_table_of_which_some_files_no_longer_count_is_refused(put, mark, what):
    root = put({f"t/{mark}": b"{}", "t/part-0.parquet": table("a"), "t/part-1.parquet": table("deleted")})

    with pytest.raises(InvalidRequestError, match=what):
        read(f"{root}/t")


def test_a_folder_that_is_still_written_to_is_refused(put):
    root = put({"x/_temporary/0/part-1.parquet": table("b"), "x/part-0.parquet": table("a")})

    with pytest.raises(InvalidRequestError, match="is being written, or was not written to its end"):
        read(f"{root}/x")


@pytest.mark.parametrize("other", ["x.jsonl.gz", "x.jsonl.zst"])
def test_the_same_file_twice_is_not_paid_for_twice(put, other):
    root = put({"d/x.jsonl": lines("a"), f"d/{other}": b""})

    with pytest.raises(InvalidRequestError, match="are the same but for their compression"):
        read(f"{root}/d")


def test_what_is_left_out_is_said_and_what_a_pattern_names_is_not(put):
    root, log = put({"d/_a.jsonl": lines("a"), "d/b.jsonl": lines("b"), "d/_SUCCESS": b""}), Lines()

    assert prompts(f"{root}/d", log=log) == ["b"]
    assert prompts(f"{root}/d/_*.jsonl") == ["a"]
    assert any("2 files are left out" in line and "'_a.jsonl'" in line for line in log.infos)


@pytest.mark.parametrize(("name", "pack"), [("2026_x_1", bytes), ("2026_x_1.gz", gzip.compress)])
def test_parts_without_an_ending_are_known_by_how_they_begin(put, name, pack):
    root = put({f"athena/{name}": pack(lines("a"))})

    assert prompts(f"{root}/athena") == ["a"]


def test_a_folder_of_more_files_than_anybody_means_is_refused_early(tmp_path):
    for number in range(10_001):
        (tmp_path / f"{number}.csv").touch()

    with pytest.raises(InvalidRequestError, match=r"10,001 files\.\nAt most 10,000 are taken"):
        read(str(tmp_path))


def test_a_pipe_is_refused_also_where_its_path_is_an_address(tmp_path):
    os.mkfifo(tmp_path / "x.csv")

    for path in (f"{tmp_path}/x.csv", f"file://{tmp_path}/x.csv", f"local://{tmp_path}/x.csv"):
        with pytest.raises(InvalidRequestError, match="is a pipe or a device"):
            read(path)


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
