"""Memory and time stay in proportion to what is accepted; what is too much is refused as soon as it shows.

Attacks are read in a process of its own, whose memory is measured; the bounds are far from what one took.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from airflow_gpt_image import datasets
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError
from airflow_gpt_image.storage.folders import open_file

MEGABYTE = 1024 * 1024


def read_apart(path, **given):
    """What is read of a file in a process of its own, and how many MB of memory that took."""
    script = """
        import json, sys
        from airflow_gpt_image import datasets
        from airflow_gpt_image.errors import InvalidRequestError
        import pyarrow.parquet

        def most():
            # Not ru_maxrss, which begins at what the process that started this one had.
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) / 1024

        before = most()
        try:
            given = json.loads(sys.argv[2])
            rows, bad = datasets.read(sys.argv[1], open=lambda path: open(path, "rb"), **given)
            told = f"{len(rows)} rows, {len(bad)} bad"
        except InvalidRequestError as error:
            told = str(error)
        print(json.dumps([told, most() - before]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def write_parquet(path, table, **options):
    parquet.write_table(pyarrow.table(table), path, compression="zstd", **options)
    return path


# Rows


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_rows_above_the_limit_are_not_kept(tmp_path, name):
    path = tmp_path / name
    line = "a teapot\n" if name == "x.csv" else '{"prompt": "a teapot"}\n'
    path.write_text(("prompt\n" if name == "x.csv" else "") + line * 1_000_000)

    told, megabytes = read_apart(path)

    assert "100,001 rows, and there are more, with 1 variants are 100,001 images.\nA batch takes 1 to" in told
    assert megabytes < 200


def test_variants_count(read):
    with pytest.raises(
        InvalidRequestError, match=r"1,010 rows with 100 variants are 101,000 images\.\nA batch takes"
    ):
        read.requests(["a"] * 1_010, images_per_row=100)


def test_bad_rows_without_end_are_refused_too(read):
    with pytest.raises(InvalidRowsError):
        read("x.csv", "prompt,aspect_ratio\n" + "x,7:5\n" * 300_000)


def test_a_preview_reads_no_further_than_it_goes(read):
    rows = read.rows("x.csv", "prompt\n" + "a teapot\n" * 200_000, limit=3)

    assert len(rows) == 3


@pytest.mark.parametrize("preview", [{"sample": 200_000}, {"sample": 150_000, "images_per_row": 2}])
def test_a_sample_is_bounded_as_all_rows_are(read, preview):
    with pytest.raises(InvalidRequestError, match="A batch takes 1 to"):
        read("x.csv", "prompt\n" + "".join(f"a teapot {n}\n" for n in range(200_000)), **preview)


def test_the_text_of_a_sample_is_bounded_and_that_of_other_rows_is_not(read):
    page = "x" * MEGABYTE
    rows = [{"prompt": f"x{n}", "page": page} for n in range(300)]

    assert len(read.requests(rows, sample=10)[0]) == 10
    with pytest.raises(InvalidRequestError, match="hold more than 268,435,456 characters"):
        read.requests(rows, sample=290)


# Columns


def test_a_header_of_names_without_end_is_refused_at_once(read):
    message = read.refusal("x.csv", "prompt," + ",".join(f"{n:x}" for n in range(150_000)) + "\nx\n")

    assert "It has 150,001 columns; at most 1,000 are taken" in message


@pytest.mark.parametrize("name", ["x.jsonl", "list"])
def test_rows_with_columns_of_their_own_are_refused_before_they_make_a_large_manifest(read, name):
    rows = [{"prompt": "x", f"c{n}": 1} for n in range(10_000)]

    lines = "".join(json.dumps(row) + "\n" for row in rows)

    with pytest.raises(InvalidRequestError, match="more than 1,000 different columns"):
        _ = read.requests(rows) if name == "list" else read(name, lines)


def test_rows_times_columns_are_bounded(read):
    rows = [{"prompt": "x", f"c{n % 900}": 1} for n in range(30_000)]

    with pytest.raises(InvalidRequestError, match=r"make manifest\.csv larger than 20,000,000 cells"):
        read.requests(rows)


def test_text_is_bounded(read):
    text = "x" * MEGABYTE

    with pytest.raises(InvalidRequestError, match="hold more than 268,435,456 characters"):
        read.requests([{"prompt": "x", "page": text}] * 300)


def test_the_names_of_columns_are_text_too(read):
    header = ",".join(["prompt", *(f"{n}{'c' * 9_000}" for n in range(100))])

    with pytest.raises(InvalidRequestError, match="hold more than 268,435,456 characters"):
        read("x.csv", f"{header}\n" + "x,{}\n".format(",".join("1" * 100)) * 1_000)


def test_the_text_of_a_row_counts_for_each_of_its_images(read):
    rows = [{"prompt": f"x{n}", "page": "x" * MEGABYTE} for n in range(30)]

    assert len(read.requests(rows)[0]) == 30
    with pytest.raises(InvalidRequestError, match="with 10 variants hold more than 268,435,456 characters"):
        read.requests(rows, images_per_row=10)


def test_rows_of_columns_without_end_are_bad_ones_before_their_names_are_compared(read):
    row = json.dumps({"prompt": "x", **{f"c{n}": 0 for n in range(60_000)}})

    rows, bad = read("x.jsonl", f"{row}\n" * 30)

    assert (rows, len(bad)) == ([], 30)
    assert "It has 60,001 columns; at most 1,000 are taken." in bad[0].rule


def test_a_quote_that_is_never_closed_is_no_row_of_any_length(read):
    message = read.refusal(
        "x.csv", "prompt,a\nx," + '"' + '",\n"'.join(["y" * 900_000] * 3) + "\n" * 5_000_000
    )

    assert "is broken CSV" in message or "is longer than" in message


# What unpacks to more


def test_a_gzip_bomb_is_refused_while_it_is_unpacked(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(
        gzip.compress(b"\n" * 100 * MEGABYTE) * 11
    )  # members, which a file may have any number of

    told, megabytes = read_apart(path)

    assert path.stat().st_size < 2 * MEGABYTE
    assert "has more than 10,000,000 lines" in told
    assert megabytes < 100


def test_a_gzip_file_may_have_any_number_of_empty_members(read):
    (row,) = read.rows("x.csv.gz", gzip.compress(b"") * 200_000 + gzip.compress(b"prompt\nx\n"))

    assert row.request.prompt == "x"


def test_so_is_one_of_long_lines(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    line = b'"' + b" " * (MEGABYTE - 3) + b'"\n'
    path.write_bytes(gzip.compress(line * 100) * 11)

    told, megabytes = read_apart(path)

    assert path.stat().st_size < 2 * MEGABYTE
    assert "unpacks to more than 1,073,741,824 bytes" in told
    assert megabytes < 100


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_line_without_end_is_refused_though_it_is_compressed(tmp_path, ending):
    path = tmp_path / f"x.csv.{ending}"
    text = b"prompt\n" + b"x" * (500 * MEGABYTE)
    path.write_bytes(gzip.compress(text, 1) if ending == "gz" else zstandard.ZstdCompressor().compress(text))

    told, megabytes = read_apart(path)

    assert "Line 2 of" in told
    assert megabytes < 100


def test_a_small_parquet_file_that_stands_for_gigabytes_is_refused(tmp_path):
    # One text in a dictionary, and a thousand rows that point to it.
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000), ["x" * (2_500_000)])
    path = write_parquet(tmp_path / "x.parquet", {"prompt": text})

    told, megabytes = read_apart(path)

    assert path.stat().st_size < 5_000
    assert told.startswith(("requests: ", "0 rows, 1000 bad"))
    assert megabytes < 150


def test_so_is_one_whose_column_is_not_ours(tmp_path):
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000), ["x" * (2_500_000)])
    path = write_parquet(tmp_path / "x.parquet", {"prompt": ["a teapot"] * 1_000, "page": text})

    told, megabytes = read_apart(path)

    assert "hold more than 268,435,456 characters" in told
    assert megabytes < 150


def test_so_is_one_whose_lists_hold_it(tmp_path):
    values = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10_000), ["x" * 250_000])
    lists = pyarrow.ListArray.from_arrays(pyarrow.array(range(0, 10_001, 10), pyarrow.int32()), values)
    path = write_parquet(tmp_path / "x.parquet", {"prompt": ["a teapot"] * 1_000, "pages": lists})
    del values, lists

    told, megabytes = read_apart(path)

    assert path.stat().st_size < 100_000
    assert "holds 2,500" in told
    assert megabytes < 150


def test_a_list_of_millions_of_numbers_is_refused_by_what_the_file_says_of_itself(tmp_path):
    lists = pyarrow.ListArray.from_arrays(
        [0, 30_000_000],
        pyarrow.array([0])
        .take(pyarrow.array([0] * 1))
        .take(pyarrow.nulls(30_000_000, pyarrow.int64()).fill_null(0)),
    )
    path = write_parquet(tmp_path / "x.parquet", {"prompt": ["a teapot"], "vector": lists})
    del lists

    told, megabytes = read_apart(path)

    assert "holds 30,000,001 values, those in lists included.\nAt most 20,000,000 are taken" in told
    assert megabytes < 100


def test_a_parquet_file_of_too_many_rows_is_refused_before_one_is_read(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", {"prompt": ["a teapot"] * 1_000_000})

    told, megabytes = read_apart(path)

    assert "has 1,000,000 rows.\nAt most 100,000 are taken" in told
    assert megabytes < 100
    assert read_apart(path, limit=20)[0] == "20 rows, 0 bad"


def test_a_column_that_unpacks_to_more_than_a_data_set_may_hold_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    table = pyarrow.table({"prompt": ["a teapot"], "page": ["x" * (200 * MEGABYTE)]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    del table

    told, megabytes = read_apart(path)

    assert "Column 'page' of" in told
    assert "unpacks from" in told
    assert megabytes < 100


@pytest.mark.parametrize("place", [2, -1])
def test_a_table_that_points_to_texts_that_are_not_there_is_refused(read, place):
    places = pyarrow.array([0, place], pyarrow.int32())
    prompts = pyarrow.DictionaryArray.from_arrays(places, ["a teapot", "a vase"], safe=False)

    with pytest.raises(InvalidRequestError, match="points to texts that aren't in it"):
        read.requests(pyarrow.table({"prompt": prompts}))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_texts_that_are_told_by_those_before_them_are_read(tmp_path, encoding):
    prompts = [f"a teapot, number {number}" for number in range(3_000)]
    path = tmp_path / "x.parquet"
    options = {"use_dictionary": False, "column_encoding": encoding}
    parquet.write_table(pyarrow.table({"prompt": prompts}), path, **options)

    rows, bad = datasets.read(str(path), open=open_file)

    assert (bad, [row.request.prompt for row in rows]) == ([], prompts)


def test_a_small_file_of_such_texts_that_stands_for_gigabytes_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    table = pyarrow.table({"prompt": ["a teapot"] * 3_000, "page": ["x" * MEGABYTE] * 3_000})
    encodings = {"page": "DELTA_BYTE_ARRAY", "prompt": "PLAIN"}
    parquet.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=encodings)
    del table

    told, megabytes = read_apart(path)

    assert path.stat().st_size < 5_000
    assert "hold more than 268,435,456 characters" in told
    assert megabytes < 600
