"""A file says what its author meant, or it is refused; how it is stored makes no difference."""

from __future__ import annotations

import csv
import datetime
import io
import json
import random
import subprocess
import sys
import textwrap
from decimal import Decimal

import pyarrow
import pytest
from pyarrow import parquet

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.datasets import read
from airflow_gpt_image.errors import InvalidRequestError

URL = "https://example.com/room.jpg"
MEBIBYTE = 1024 * 1024


class Pipe:
    """The least a stream can be: it reads on, never back, and not always as much as asked for."""

    def __init__(self, content, at_once):
        self.stream, self.at_once, self.closed = io.BytesIO(content), at_once, False

    def read(self, size):
        return self.stream.read(min(size, self.at_once))

    def close(self):
        self.closed = True


def read_as(ending, content, at_once=10**9, **defaults):
    content = content.encode() if isinstance(content, str) else content
    return read(f"/data/x.{ending}", defaults=defaults, open=lambda path: Pipe(content, at_once))


def rows_of(ending, content, **given):
    rows, bad = read_as(ending, content, **given)
    assert bad == []
    return rows


def prompts_of(ending, content, **given):
    return [row.request.prompt for row in rows_of(ending, content, **given)]


def bad_of(ending, content, **given):
    return read_as(ending, content, **given)[1]


def refusal(ending, content, **given):
    with pytest.raises(InvalidRequestError) as caught:
        read_as(ending, content, **given)
    assert [problem.field for problem in caught.value.problems] == ["requests"]
    return str(caught.value)


# CSV


def test_a_csv_names_its_columns_in_the_first_line():
    (row,) = rows_of(
        "csv",
        "sku,prompt,image_urls,aspect_ratio,resolution,nsfw_checker,callback_url\n"
        f"7,a room,{URL},16:9,2k,false,https://example.com/done\n",
    )

    assert row.number == 1
    assert row.request == ImageRequest(
        prompt="a room",
        image_urls=[URL],
        aspect_ratio="16:9",
        resolution="2k",
        nsfw_checker=False,
        callback_url="https://example.com/done",
    )
    assert row.metadata == {"sku": "7"}


def test_a_cells_prompt_stays_as_it_is():
    prompt = '  {{ ds }}, "quoted"\r\nand\na second line\r, ü =1+1 '
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["prompt"], [prompt]])

    assert prompts_of("csv", file.getvalue()) == [prompt]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
def test_byte_order_marks_line_ends_and_short_reads_make_no_difference(end, mark, at_once):
    content = mark + end.join(["prompt,sku", "ä teapot,7", '"two', 'lines",8'])

    rows = rows_of("csv", content, at_once=at_once)

    assert [row.given for row in rows] == [
        {"prompt": "ä teapot", "sku": "7"},
        {"prompt": f"two{end}lines", "sku": "8"},
    ]


def test_only_the_file_begins_with_a_byte_order_mark():
    assert prompts_of("csv", "\ufeffprompt\n\ufeffa\n\ufeffb") == ["\ufeffa", "\ufeffb"]


def test_blank_lines_are_no_rows():
    assert prompts_of("csv", "\n\nprompt\n\na\n\r\n\nb\n\n\n") == ["a", "b"]


def test_an_empty_cell_is_not_given():
    (row,) = rows_of("csv", "prompt,aspect_ratio,sku,resolution\nx,,, \n", resolution="2k")

    assert row.request == ImageRequest(prompt="x", resolution="2k")
    assert row.given == {"prompt": "x"}
    assert row.metadata == {}


def test_what_a_spreadsheet_leaves_between_and_behind_its_rows_is_padding():
    rows, bad = read_as("csv", "sku,resolution,,\n7,2k,,\n,,,\n 8 ,4k,,,,,\n,\n , ,\n", prompt="a teapot")

    assert bad == []
    assert [(row.number, row.given) for row in rows] == [
        (1, {"sku": "7", "resolution": "2k"}),
        (2, {"sku": " 8 ", "resolution": "4k"}),
    ]


def test_white_space_around_a_value_counts_in_prompts_and_metadata_only():
    (row,) = rows_of("csv", " prompt , aspect_ratio, nsfw_checker ,sku\n x , 16:9 , No , 7 \n")

    assert row.given == {"prompt": " x ", "aspect_ratio": "16:9", "nsfw_checker": False, "sku": " 7 "}


@pytest.mark.parametrize(
    ("cell", "urls"),
    [
        (URL, [URL]),
        (f"{URL} {URL}?b", [URL, f"{URL}?b"]),
        (f" {URL}\n\t{URL}?b\n", [URL, f"{URL}?b"]),
        (json.dumps([URL, f"{URL}?b,c"]), [URL, f"{URL}?b,c"]),
        ("[]", []),
    ],
)
def test_addresses_in_a_cell_stand_in_a_json_array_or_between_white_space(cell, urls):
    file = io.StringIO()
    csv.writer(file).writerows([["prompt", "image_urls"], ["x", cell]])

    (row,) = rows_of("csv", file.getvalue())

    assert list(row.request.image_urls) == urls
    assert row.given["image_urls"] == urls


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("[", "can't be read as JSON"),
        ('["a" "b"]', "Expecting ',' delimiter at character 6"),
        ("[NaN]", "nan must be a string"),
        ("[" * 30_000, "nested too deep"),
        ("[" * 200 + "]" * 200, "nested more than 32 deep"),
        ("[5]", "item 0: 5 must be a string"),
        ('["a b"]', "item 0: 'a b' contains white space"),
        ('["\\ud800"]', "surrogate"),
        (f"{URL},{URL}", "is no http"),
        ("room.jpg", "'room.jpg' is a file of this machine"),
        (" ".join([URL] * 17), "at most 16"),
    ],
)
def test_addresses_that_cannot_be_read_are_a_bad_cell(cell, words):
    file = io.StringIO()
    csv.writer(file).writerows(
        [["prompt", "image_urls"], ["x", cell.replace(f"{URL},{URL}", f"a{URL},{URL}")]]
    )

    (bad,) = bad_of("csv", file.getvalue())

    assert (bad.row, bad.column, bad.line) == (1, "image_urls", 2)
    assert words in bad.rule


@pytest.mark.parametrize(
    ("cell", "checked"),
    [
        ("true", True),
        ("TRUE", True),
        ("Yes", True),
        ("1", True),
        ("False", False),
        ("no", False),
        ("0", False),
    ],
)
def test_a_cell_says_true_or_false_as_people_do(cell, checked):
    (row,) = rows_of("csv", f"prompt,nsfw_checker\nx,{cell}\n")

    assert row.request.nsfw_checker is checked


@pytest.mark.parametrize("cell", ["off", "wahr", "2", "None", "t", "-"])
def test_what_is_neither_true_nor_false_is_not_guessed(cell):
    (bad,) = bad_of("csv", f"prompt,nsfw_checker\nx,{cell}\n")

    assert (bad.column, bad.value) == ("nsfw_checker", repr(cell))
    assert "neither true nor false" in bad.rule


@pytest.mark.parametrize("record", ["a red, shiny teapot,3:2", "a red teapot"])
def test_a_row_that_does_not_fit_the_header_is_a_bad_one(record):
    # An unquoted comma, an unquoted line break: what is left would be half a prompt.
    rows, bad = read_as("csv", f"prompt,aspect_ratio\nx,1:1\n{record}\ny,1:1\n")

    assert [row.number for row in rows] == [1, 3]
    assert [(cell.row, cell.column, cell.line) for cell in bad] == [(2, None, 3)]
    assert "the header has 2" in bad[0].rule


def test_a_bad_row_is_told_by_the_line_it_begins_in():
    (cell,) = bad_of("csv", '\nprompt,aspect_ratio\n"three\nlines\n",1:1\n\n"two\nlines",7:5\n')

    assert (cell.row, cell.line) == (2, 7)
    assert str(cell).startswith("row 2 (line 7), column aspect_ratio: '7:5' is not")


@pytest.mark.parametrize("header", ["title,sku", "a red teapot", "7,8"])
def test_a_csv_without_anything_to_draw_is_refused_once_with_the_columns_found(header):
    message = refusal("csv", header + "\n" + "x,y\n" * 10_000)

    assert "'/data/x.csv' has neither a column prompt nor image_urls" in message
    assert f"found {header.split(',')!r}" in message


def test_a_default_makes_up_for_a_missing_column():
    assert prompts_of("csv", "resolution\n2k\n", prompt="a teapot") == ["a teapot"]


@pytest.mark.parametrize("header", ["prompt,prompt", "prompt,a, a"])
def test_a_column_that_is_there_twice_is_refused(header):
    assert "is there twice" in refusal("csv", f"{header}\nx,y,z\n")


def test_a_column_that_is_almost_a_field_is_refused():
    message = refusal("csv", "prompt,Resolution (px)\nx,4k\n")

    assert "'Resolution (px)' looks like resolution" in message


@pytest.mark.parametrize("content", ["", "\n\n", "prompt\n", "\ufeff", "\ufeffprompt"])
@pytest.mark.parametrize("ending", ["csv"])
def test_a_csv_without_rows_is_refused(ending, content):
    assert "is empty" in refusal(ending, content)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('prompt\nx\n"y', 3),
        ('prompt\nx\n"y" z\nb\n', 3),
        ('prompt\n"x\ny"\n\n"never\nclosed\n', 5),
        ('"prompt\nx\n', 1),
        ('prompt\n"' + "x\n" * MEBIBYTE, 2),
    ],
)
def test_a_csv_with_a_stray_quote_is_refused_as_a_whole_for_its_rows_cannot_be_told_apart(content, line):
    message = refusal("csv", content)

    assert f"broken CSV from line {line} on" in message
    assert "Quote cells" in message


def test_a_byte_that_is_no_text_makes_its_cell_bad_and_no_other():
    rows, bad = read_as("csv", b"prompt,sku\nx,1\nM\xfcnchen,\xff\ny,3\n")

    assert [row.request.prompt for row in rows] == ["x", "y"]
    assert [(cell.row, cell.column, cell.line) for cell in bad] == [(2, "prompt", 3), (2, "sku", 3)]
    assert "save the file as UTF-8" in str(bad[0])
    assert str(bad[0]).encode()


def test_a_nul_byte_makes_its_cell_bad():
    (cell,) = bad_of("csv", b"prompt,sku\na\0b,1\n")

    assert cell.column == "prompt"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_another_encoding_is_refused_at_the_header(encoding):
    message = refusal("csv", "prompt\nx\n".encode(encoding))

    assert "give UTF-8 text" in message


def test_the_longest_row_there_can_be_fits_and_the_limit_of_the_csv_module_is_as_before():
    before = csv.field_size_limit()
    urls = [f"{URL}?{n:02}".ljust(8192, "x") for n in range(16)]

    (row,) = rows_of("csv", f"prompt,image_urls\n{'ü' * 20_000},{' '.join(urls)}\n")

    assert list(row.request.image_urls) == urls
    assert len(" ".join(urls)) > before
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("content", ["promt\nx\n", 'prompt\n"'])
def test_a_refused_csv_leaves_the_limit_of_the_csv_module_as_before(content):
    before = csv.field_size_limit()

    refusal("csv", content)

    assert csv.field_size_limit() == before


def test_a_line_without_end_is_refused():
    assert "Line 2 of '/data/x.csv' is longer than 1,048,576 bytes" in refusal(
        "csv", "prompt\n" + "x" * (3 * MEBIBYTE)
    )


# JSONL


@pytest.mark.parametrize("ending", ["jsonl", "ndjson"])
def test_a_line_of_jsonl_is_a_prompt_or_an_object(ending):
    rows = rows_of(
        ending,
        f'"a red teapot"\n{{"prompt": "a cat", "image_urls": ["{URL}"], "sku": {{"b": 1, "a": [null]}}}}',
    )

    assert [row.number for row in rows] == [1, 2]
    assert rows[0].request == ImageRequest(prompt="a red teapot")
    assert rows[1].request == ImageRequest(prompt="a cat", image_urls=[URL])
    assert rows[1].metadata == {"sku": {"b": 1, "a": [None]}}


def test_a_prompt_in_jsonl_stays_as_it_is():
    prompt = "  {{ ds }}\r\n\0 ü \u2028"

    assert prompts_of("jsonl", json.dumps(prompt) + "\n") == [prompt]
    assert prompts_of("jsonl", json.dumps(prompt, ensure_ascii=False)) == [prompt]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_blank_lines_byte_order_marks_line_ends_and_short_reads_do_not_matter_in_jsonl(at_once):
    rows = rows_of("jsonl", '\ufeff"a"\r\n\n  \t\n"ü"\n\n', at_once=at_once)

    assert [(row.number, row.request.prompt) for row in rows] == [(1, "a"), (2, "ü")]


def test_null_means_not_given():
    (row,) = rows_of("jsonl", '{"prompt": "x", "resolution": null, "sku": null}', resolution="2k")

    assert row.request.resolution == "2k"
    assert row.given == {"prompt": "x"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "x"', "Expecting ',' delimiter at character 15"),
        ("a red teapot", "Expecting value at character 1"),
        ('{"prompt": "x"} {"prompt": "y"}', "Extra data"),
        ("{'prompt': 'x'}", "Expecting property name"),
        ('{"prompt": "x", "prompt": "y"}', "'prompt' is there twice"),
        ('{"prompt": "x", "a": {"b": 1, "b": 2}}', "'b' is there twice"),
        ('{"prompt": "x", "prompt ": "y"}', "'prompt' is there twice"),
        ('{"prompt": "x", "Resolution px": "4k"}', "looks like resolution"),
        ('["x"]', "neither a prompt (a string) nor a mapping"),
        ("5", "neither a prompt (a string) nor a mapping"),
        ("null", "neither a prompt (a string) nor a mapping"),
        ('{"prompt": "x", "n": %s}' % ("9" * 5000), "more than 309 digits"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('"x\ty"', "Invalid control character"),
    ],
)
def test_a_broken_line_of_jsonl_is_a_bad_row_and_no_other(line, words):
    rows, bad = read_as("jsonl", f'"a"\n\n{line}\n"b"\n')

    assert [row.number for row in rows] == [1, 3]
    assert [(cell.row, cell.column, cell.line) for cell in bad] == [(2, None, 3)]
    assert words in bad[0].rule
    assert len(str(bad[0])) < 400


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ('{"prompt": "\\ud800"}', "prompt", "half a surrogate pair"),
        ('{"prompt": "x", "sku": "\\ud800"}', "sku", "half a surrogate pair"),
        ('{"prompt": "x", "sku": {"\\ud800": 1}}', "sku", "can't be written down as JSON"),
        (f'{{"prompt": "x", "image_urls": "{URL}"}}', "image_urls", "is not a list"),
        ('{"prompt": "x", "nsfw_checker": "true"}', "nsfw_checker", "must be True or False"),
        ('{"prompt": 7}', "prompt", "7 must be a string"),
        ('{"prompt": ""}', "prompt", "is blank"),
        ('{"prompt": NaN}', "prompt", "nan must be a string"),
        ('{"prompt": "x", "image_urls": [NaN]}', "image_urls", "nan must be a string"),
        ('{"prompt": "x", "sku": %s}' % ("[" * 50 + "]" * 50), "sku", "nested more than 32 deep"),
    ],
)
def test_a_bad_cell_of_jsonl_says_row_line_and_column(line, column, words):
    (cell,) = bad_of("jsonl", f"\n{line}")

    assert (cell.row, cell.column, cell.line) == (1, column, 2)
    assert words in cell.rule


@pytest.mark.parametrize("value", ["1e999", "NaN", "-Infinity"])
def test_what_is_no_number_is_not_given_in_a_column_that_is_not_ours(value):
    (row,) = rows_of("jsonl", f'{{"prompt": "x", "weight": {value}}}')

    assert row.given == {"prompt": "x"}


def test_a_line_of_jsonl_that_is_no_text_is_a_bad_row():
    (cell,) = bad_of("jsonl", b'"M\xfcnchen"\n"x"\n')

    assert (cell.row, cell.line) == (1, 1)
    assert "is not UTF-8 text" in cell.rule
    assert str(cell).encode()


@pytest.mark.parametrize("at_once", [MEBIBYTE // 7, 10**9])
def test_a_line_above_a_mebibyte_is_refused_and_the_next_one_is_not(at_once):
    line = json.dumps({"prompt": "x", "sku": ""})
    fits = json.dumps({"prompt": "x", "sku": "y" * (MEBIBYTE - len(line) - 1)})

    rows, bad = read_as("jsonl", f"{fits}\n{fits} \n{'x' * 5 * MEBIBYTE}\n{line}", at_once=at_once)

    assert [row.number for row in rows] == [1, 4]
    assert [(cell.row, cell.line) for cell in bad] == [(2, 2), (3, 3)]
    assert "longer than 1,048,576 bytes; shorten it" in bad[0].rule


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_jsonl_file_without_rows_is_refused(content):
    assert "is empty" in refusal("jsonl", content)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_trouble_while_reading_stays_what_it_is_and_can_be_tried_again(ending):
    class Cut(Pipe):
        def read(self, size):
            raise ConnectionResetError("the store hung up")

    with pytest.raises(ConnectionResetError):
        read(f"/data/x.{ending}", open=lambda path: Cut(b"", 1))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_memory_stays_flat_however_long_a_line_is(ending):
    script = """
        import sys, tracemalloc
        from airflow_gpt_image.errors import InvalidRequestError
        from airflow_gpt_image.datasets import read

        class Endless:
            left = 200
            def read(self, size):
                self.left -= 1
                return b"x" * size if self.left > 0 else b""
            def close(self):
                pass

        tracemalloc.start()
        try:
            read(f"/data/x.{sys.argv[1]}", open=lambda path: Endless())
        except InvalidRequestError:
            pass
        print(tracemalloc.get_traced_memory()[1])
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), ending],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert int(done.stdout) < 40_000_000


# Parquet


def stored(table, **options):
    file = io.BytesIO()
    parquet.write_table(table if isinstance(table, pyarrow.Table) else pyarrow.table(table), file, **options)
    return file.getvalue()


def read_parquet(content, **defaults):
    return read("/data/x.parquet", defaults=defaults, open=lambda path: io.BytesIO(content))


def refused_parquet(content, **defaults):
    with pytest.raises(InvalidRequestError) as caught:
        read_parquet(content, **defaults)
    return str(caught.value)


def test_a_row_of_parquet_is_a_row_as_any_other():
    table = {
        "prompt": ["a room", None, " {{ x }}\n"],
        "image_urls": [None, [URL, f"{URL}?b"], []],
        "nsfw_checker": [False, None, True],
        "sku": [7, 8, None],
        " tags ": [["a"], None, []],
    }

    rows, bad = read_parquet(stored(table))

    assert bad == []
    assert [row.given for row in rows] == [
        {"prompt": "a room", "nsfw_checker": False, "sku": 7, "tags": ["a"]},
        {"image_urls": [URL, f"{URL}?b"], "sku": 8},
        {"prompt": " {{ x }}\n", "image_urls": [], "nsfw_checker": True, "tags": []},
    ]
    assert rows[1].request == ImageRequest(image_urls=[URL, f"{URL}?b"])


def test_parquets_own_types_become_what_json_can_hold():
    moment = datetime.datetime(2026, 4, 5, 10, 11, 12, 345678, tzinfo=datetime.UTC)
    table = {
        "prompt": ["x"],
        "moment": pyarrow.array([moment], pyarrow.timestamp("us", "UTC")),
        "nanos": pyarrow.array([1_775_383_908_000_001_000], pyarrow.timestamp("ns")),
        "day": [datetime.date(2026, 4, 5)],
        "price": [Decimal("9.90")],
        "weight": [float("nan")],
        "box": [{"w": 1, "h": None}],
        "colour": pyarrow.array(["red"]).dictionary_encode(),
    }

    rows, bad = read_parquet(stored(table))

    assert bad == []
    assert rows[0].metadata == {
        "moment": "2026-04-05T10:11:12.345678+00:00",
        "nanos": "2026-04-05T10:11:48.000001",
        "day": "2026-04-05",
        "price": "9.90",
        "box": {"w": 1, "h": None},
        "colour": "red",
    }


def test_a_value_that_python_cannot_hold_is_a_bad_cell_and_no_other():
    table = {
        "prompt": ["x", "y", "z"],
        "moment": pyarrow.array([0, 10**15, 0], pyarrow.timestamp("ms")),
        "raw": [b"ok", None, None],
    }

    rows, bad = read_parquet(stored(table))

    assert [row.number for row in rows] == [3]
    assert [(cell.row, cell.column) for cell in bad] == [(1, "raw"), (2, "moment")]
    assert "<a timestamp[ms] that Python can't hold> can't be written down as JSON" in bad[1].rule


def test_broken_text_in_parquet_is_a_bad_cell():
    array = pyarrow.array([b"x", b"M\xfcnchen"]).view(pyarrow.string())

    rows, bad = read_parquet(stored({"prompt": array}))

    assert [row.request.prompt for row in rows] == ["x"]
    assert [(cell.row, cell.column) for cell in bad] == [(2, "prompt")]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pyarrow.array([datetime.date(2026, 4, 5)]), "must be a string"),
        (pyarrow.array([Decimal(7)]), "must be a string"),
        (pyarrow.array([7]), "must be a string"),
        (pyarrow.array([b"x"]), "can't be written down as JSON"),
    ],
)
def test_what_is_no_text_in_parquet_is_no_prompt(column, words):
    _, bad = read_parquet(stored({"prompt": column}))

    assert [(cell.row, cell.column) for cell in bad] == [(1, "prompt")]
    assert words in bad[0].rule


def test_parquet_is_read_in_order_over_row_groups_and_batches():
    content = stored({"prompt": [f"teapot {n}" for n in range(2500)]}, row_group_size=700)

    rows, _ = read_parquet(content)

    assert [row.request.prompt for row in rows] == [f"teapot {n}" for n in range(2500)]
    assert [row.number for row in rows] == list(range(1, 2501))


def test_a_parquet_file_without_anything_to_draw_is_refused_with_the_columns_found():
    content = stored({"resolution": ["2k"], "sku": [7]})

    assert "has neither a column prompt nor image_urls; found ['resolution', 'sku']" in refused_parquet(
        content
    )
    assert len(read_parquet(content, prompt="a teapot")[0]) == 1


@pytest.mark.parametrize("names", [["prompt", "prompt"], ["prompt", "prompt "], ["prompt", "resolution px"]])
def test_a_parquet_files_columns_are_checked_as_any_others(names):
    table = pyarrow.table([["x"], ["y"]], names=names)

    assert "The header of '/data/x.parquet' can't be used" in refused_parquet(stored(table))


@pytest.mark.parametrize("table", [{"prompt": pyarrow.array([], pyarrow.string())}])
def test_a_parquet_file_without_rows_is_refused(table):
    assert "is empty" in refused_parquet(stored(table))


def broken_parquet():
    whole = stored({"prompt": [f"teapot {n}" for n in range(3000)]})
    return {
        "nothing": b"",
        "text": b"prompt\nx\n",
        "head": whole[:100],
        "half": whole[: len(whole) // 2],
        "footer": whole[:-40] + b"\xff" * 32 + whole[-8:],
        "data": whole[:200] + b"\xff" * 2000 + whole[2200:],
    }


@pytest.mark.parametrize("how", broken_parquet())
def test_what_is_no_whole_parquet_file_is_refused(how):
    message = refused_parquet(broken_parquet()[how])

    assert "'/data/x.parquet' is no Parquet file, or a broken one" in message


@pytest.mark.parametrize("reads", range(6))
@pytest.mark.parametrize(
    "trouble", [OSError("hung up"), TimeoutError("hung up"), ValueError("hung up")], ids=repr
)
def test_trouble_while_reading_parquet_does_not_claim_that_the_file_is_broken(reads, trouble):
    class Cut(io.BytesIO):
        left = reads

        def read(self, *size):
            self.left -= 1
            if self.left < 0:
                raise trouble
            return super().read(*size)

    content = stored({"prompt": [random.randbytes(100).hex() for n in range(3000)]}, row_group_size=500)

    with pytest.raises(type(trouble)) as caught:
        read("/data/x.parquet", open=lambda path: Cut(content))

    assert caught.value is trouble


def test_a_parquet_file_that_vanishes_while_it_is_read_is_named():
    class Gone(io.BytesIO):
        def read(self, *size):
            raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(InvalidRequestError, match="can't be read"):
        read("/data/x.parquet", open=lambda path: Gone(stored({"prompt": ["x"]})))


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    message = refused_parquet(b"")

    assert "pip install 'airflow-provider-gpt-image[parquet]'" in message
