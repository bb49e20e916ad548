"""Files of text as other tools write them: separators, marks, line ends, compression."""

from __future__ import annotations

import gzip
import sys

import pytest
import zstandard

ROW = {"sku": "T-1", "prompt": "ä teapot, 青い壺"}
CSV = 'sku,prompt\nT-1,"ä teapot, 青い壺"\n'
JSONL = '{"sku": "T-1", "prompt": "ä teapot, 青い壺"}\n'
FILES = {"x.csv": CSV, "x.jsonl": JSONL}


# Separators


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("first", ["", "sep={}\n", "SEP={}\r\n", '"sep={}"\n', "\n\nsep={}\n\n"])
def test_the_header_or_a_first_line_says_what_separates_the_columns(read, separator, name, first):
    header = f"{first.format(separator)}sku{separator}image_urls{separator}aspect_ratio\n"

    (row,) = read.rows(name, f"{header}7{separator}https://a.example/1.png{separator}3:2\n")

    assert row.given == {"sku": "7", "image_urls": ["https://a.example/1.png"], "aspect_ratio": "3:2"}
    words = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    assert f"'/data/{name}': {words[separator]} separate the columns." in read.log.infos


def test_a_separator_of_another_kind_within_a_name_or_a_cell_is_text(read):
    (row,) = read.rows("x.csv", 'prompt,"size; colour, or|and"\n"a; b|c, d",x;y\n')

    assert row.given == {"prompt": "a; b|c, d", "size; colour, or|and": "x;y"}


def test_the_columns_that_the_author_names_tell_the_separator_too(read):
    (row,) = read.rows("x.csv", "a,b;c,d\nx;y\n", columns={"prompt": "c,d"})

    assert row.request.prompt == "y"
    (row,) = read.rows(
        "x.csv", "title;background\na teapot;white\n", prompt_template="{title} on {background}"
    )
    assert row.request.prompt == "a teapot on white"


def test_a_header_that_can_be_read_in_two_ways_is_refused(read):
    message = read.refusal("x.csv", "prompt;a,image_urls\nx;y,z\n")

    assert "can be read with commas or semicolons between the columns" in message
    assert "a first line such as 'sep=;'" in message


@pytest.mark.parametrize("said", [":", "", "tab", ",;"])
def test_another_separator_than_those_is_refused(read, said):
    assert "separates its columns.\nOne of" in read.refusal("x.csv", f"sep={said}\nprompt:sku\nx:y\n")


def test_the_lines_are_counted_with_the_first_one(read):
    _, (bad,) = read("x.csv", "\nsep=;\n\nprompt;aspect_ratio\nx;7:5\n")

    assert bad.line == 5


# Encodings and line ends


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_how_text_is_encoded(read, name, encoding):
    (row,) = read.rows(name, FILES[name].encode(encoding))

    assert row.given == ROW


@pytest.mark.parametrize("order", ["le", "be"])
def test_either_order_of_bytes_will_do(read, order):
    for bits in ("16", "32"):
        mark = "\ufeff".encode(f"utf-{bits}-{order}")
        assert read.rows("x.csv", mark + CSV.encode(f"utf-{bits}-{order}"))[0].given == ROW


def test_text_that_breaks_off_in_the_middle_of_a_letter_is_refused(read):
    assert "is broken UTF-16-LE text" in read.refusal("x.csv", CSV.encode("utf-16")[:-1])


def test_half_a_surrogate_pair_is_a_bad_cell_in_utf_16_too(read):
    content = b"\xff\xfe" + "prompt\nx".encode("utf-16-le") + b"\x00\xd8\n\x00"

    _, (bad,) = read("x.csv", content)

    assert "is no UTF-8 text" in bad.rule


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_end_as_they_do(read, end, encoding):
    text = f'sku,prompt{end}{end}1,a{end}2,"two{end}lines"{end}3,c'

    rows = read.rows("x.csv", text.encode(encoding))

    assert [row.given["prompt"] for row in rows] == ["a", f"two{end}lines", "c"]
    assert [
        row.given["prompt"]
        for row in read.rows("x.jsonl", f'{{"prompt": "a"}}{end}"b"{end}'.encode(encoding))[:1]
    ] == ["a"]


def test_line_ends_may_differ_within_a_file(read):
    rows = read.rows("x.csv", b"sku,prompt\r1,a\n2,b\r\n3,c\n\r4,d")

    assert [row.given["sku"] for row in rows] == ["1", "2", "3", "4"]


# Compression


def zipped(data):
    return gzip.compress(data)


def zstd(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS = {".gz": zipped, ".zst": zstd}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", FILES)
def test_text_may_be_compressed_in_one_part_or_in_several(read, name, ending):
    pack, data = PACKERS[ending], FILES[name].encode("utf-16")

    for content in (pack(data), pack(data[:11]) + pack(data[11:])):
        (row,) = read.rows(name + ending, content)
        assert row.given == ROW


@pytest.mark.parametrize("ending", PACKERS)
def test_megabytes_arrive_whole(read, ending):
    text = "sku,prompt\n" + "".join(f"{n},prompt {n} {'x' * (n % 500)}\n" for n in range(20_000))

    rows = read.rows(f"x.csv{ending}", PACKERS[ending](text.encode()))

    assert [row.given["sku"] for row in rows] == [str(n) for n in range(20_000)]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("how", ["cut", "text", "damaged", "empty"])
def test_what_is_not_whole_is_refused(read, ending, how):
    whole = PACKERS[ending](("prompt\n" + "".join(f"a teapot {n}\n" for n in range(5000))).encode())
    content = {
        "cut": whole[:-20],
        "text": b"prompt\na teapot\n",
        "damaged": whole[:200] + b"\xff" * 50 + whole[250:],
        "empty": b"",
    }[how]

    message = read.refusal(f"x.csv{ending}", content)

    assert ("is empty" if how == "empty" else "file, or a broken one") in message


def test_without_a_library_for_zstd_it_is_said_what_to_install(read, monkeypatch):
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)

    assert "Run pip install zstandard, or give a .gz file" in read.refusal("x.csv.zst", b"")


# What isn't the header's or a row's


@pytest.mark.parametrize("again", ["prompt,sku", "Prompt,SKU", "\ufeffprompt,sku", "prompt , sku"])
def test_a_header_that_is_there_again_is_no_row(read, again):
    rows, (bad,) = read("x.csv", f"prompt,sku\na,1\n{again}\nb,2\n")

    assert [row.request.prompt for row in rows] == ["a", "b"]
    assert (bad.row, bad.line) == (2, 3)
    assert "is the header again; remove the line" in bad.rule


@pytest.mark.parametrize("quotes", ["''", "“”", "„“", "«»", "``", "‘’"])
def test_quotes_that_are_not_csvs_are_refused_at_the_header(read, quotes):
    begin, end = quotes

    message = read.refusal("x.csv", f"{begin}prompt{end},{begin}sku{end}\n{begin}a{end},{begin}7{end}\n")

    assert "stands in quotes that aren't CSV's" in message


def test_a_blank_before_a_quote_is_refused_where_it_would_be_paid_for(read):
    rows, (bad,) = read("x.csv", 'sku, prompt\n7, "a teapot"\n')

    assert (rows, bad.column) == ([], "prompt")
    assert "a blank stands before its quote; remove that" in bad.rule
