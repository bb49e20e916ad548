"""Every row is a request, or it is said which cell isn't and why; nothing in between is paid for."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets import BadCell, invalid_rows, read
from airflow_gpt_image.errors import InvalidRequestError

URL = "https://example.com/room.jpg"


def opened(path):
    return Path(path).open("rb")


def never_opened(path):
    raise AssertionError(f"{path} was opened")


def rows_of(requests, **defaults):
    rows, bad = read(requests, defaults=defaults, open=never_opened)
    assert bad == []
    return rows


def bad_of(requests, **defaults):
    _, bad = read(requests, defaults=defaults, open=never_opened)
    return bad


def refusal(requests, defaults=None, open=never_opened):
    with pytest.raises(InvalidRequestError) as caught:
        read(requests, defaults=defaults, open=open)
    return caught.value


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


# A list


def test_a_list_may_hold_prompts_and_mappings():
    rows = rows_of(["a red teapot", {"prompt": "a blue teapot", "aspect_ratio": "3:2", "sku": 7}])

    assert [row.number for row in rows] == [1, 2]
    assert rows[0].request == ImageRequest(prompt="a red teapot")
    assert rows[1].request == ImageRequest(prompt="a blue teapot", aspect_ratio="3:2")
    assert [row.metadata for row in rows] == [{}, {"sku": 7}]


def test_all_six_fields_are_columns():
    everything = {
        "prompt": "a room",
        "image_urls": [URL],
        "aspect_ratio": "16:9",
        "resolution": "2k",
        "nsfw_checker": False,
        "callback_url": "https://example.com/done",
    }

    (row,) = rows_of([everything])

    assert row.request == ImageRequest(**everything)
    assert row.metadata == {}
    assert row.given == everything


def test_a_prompt_is_data_and_stays_as_it_is():
    prompt = "  {{ ds }} {% raw %} =HYPERLINK('x')\r\n\tü \0 "

    (row,) = rows_of([prompt])

    assert row.request.prompt == prompt


def test_none_means_not_given():
    (row,) = rows_of([{"prompt": "x", "resolution": None, "image_urls": None, "sku": None}], resolution="2k")

    assert row.request.resolution == "2k"
    assert row.given == {"prompt": "x"}
    assert row.metadata == {}


def test_metadata_keeps_its_order():
    (row,) = rows_of([{"z": 1, "prompt": "x", "a": 2, "m": 3}])

    assert list(row.metadata) == ["z", "a", "m"]
    assert list(row.given) == ["z", "prompt", "a", "m"]


def test_white_space_around_a_columns_name_does_not_count():
    (row,) = rows_of([{" prompt ": "x", "sku\t": 1}])

    assert row.given == {"prompt": "x", "sku": 1}


def test_any_mapping_and_any_sequence_will_do():
    class Lazy(Sequence):
        """As XCom's of a mapped task: a sequence that fetches."""

        def __len__(self):
            raise AssertionError("asked for its length")

        def __getitem__(self, index):
            return [OrderedDict(prompt="x"), "y"][index]

    rows = rows_of(Lazy())

    assert [row.request.prompt for row in rows] == ["x", "y"]
    assert len(rows_of(("x", "y"))) == 2


@pytest.mark.parametrize("item", [5, None, b"a prompt", ["a prompt"], {"a prompt"}, object], ids=repr)
def test_an_item_that_is_neither_a_prompt_nor_a_mapping_is_a_bad_row(item):
    (cell,) = bad_of(["x", item])

    assert (cell.row, cell.column) == (2, None)
    assert "neither a prompt (a string) nor a mapping" in cell.rule


@pytest.mark.parametrize("columns", [{5: "x"}, {b"prompt": "x"}, {"\ud800": "x"}, {"a\0b": "x"}], ids=repr)
def test_a_column_whose_name_is_no_text_makes_its_row_bad(columns):
    (cell,) = bad_of([columns])

    assert cell.column is None
    assert "is no name of a column" in cell.rule
    assert str(cell).encode()


def test_a_column_given_twice_makes_its_row_bad():
    (cell,) = bad_of([{"prompt": "x", "prompt ": "y"}])

    assert "'prompt' is there twice" in cell.rule


@pytest.mark.parametrize("row", [{}, {"prompt": None}])
def test_a_row_that_gives_nothing_is_never_paid_for_not_even_with_a_default_prompt(row):
    (cell,) = bad_of([row], prompt="a teapot")

    assert (cell.row, cell.column, cell.value) == (1, None, "")
    assert "gives nothing; remove it" in cell.rule


# What is no data set


@pytest.mark.parametrize(
    "text",
    [
        "a red teapot",
        "",
        "['a', 'b']",
        "csv",
        "/",
        "0://",
        "prompts.csv\0",
        "prompts\0.csv",
        "s3://bucket/prompts.csv?versionId=3",
    ],
)
def test_a_single_string_is_not_a_data_set(text):
    error = refusal(text)

    assert f"requests: {quote(text)} is a single string, not a data set" in str(error)
    assert "Give a list of prompts (['…'])" in str(error)
    assert "the path of a .csv, .jsonl (.ndjson) or .parquet file" in str(error)
    assert [problem.field for problem in error.problems] == ["requests"]
    assert not error.retryable


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        10**5000,
        b"prompts.csv",
        bytearray(b"x"),
        memoryview(b"x"),
        {"prompt": "x"},
        {"x"},
        (prompt for prompt in ["x"]),
        Path("prompts"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_else_is_no_data_set_is_refused_in_our_words(value):
    error = refusal(value)

    assert "is not a data set.\nGive a list of prompts" in str(error)


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_data_set_is_refused(empty):
    error = refusal(empty)

    assert f"The {type(empty).__name__} is empty" in str(error)


# Paths


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt\na teapot\n")
    return path


@pytest.mark.parametrize("kind", [str, Path, lambda path: ObjectStoragePath(f"file://{path}")])
def test_a_path_is_opened_by_its_text(path, kind):
    asked = []

    def opens(address):
        asked.append(address)
        return path.open("rb")

    rows, _ = read(kind(path), open=opens)

    assert [row.request.prompt for row in rows] == ["a teapot"]
    assert asked == [str(kind(path))]


def test_object_storages_own_stream_will_do(path):
    rows, _ = read(
        ObjectStoragePath(f"file://{path}"), open=lambda address: ObjectStoragePath(address).open("rb")
    )

    assert [row.request.prompt for row in rows] == ["a teapot"]


@pytest.mark.parametrize("ending", ["csv", "CSV", "jsonl", "NDJSON", "Parquet"])
def test_the_ending_says_what_it_is_in_upper_or_lower_case(ending):
    class Opened(Exception):  # noqa: N818
        pass

    def opens(path):
        raise Opened

    with pytest.raises(Opened):
        read(f"/data/prompts.{ending}", open=opens)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path, ending):
    path = tmp_path / f"none.{ending}"

    error = refusal(path, open=opened)

    assert f"{str(path)!r} can't be read (No such file or directory)" in str(error)


@pytest.mark.parametrize("kind", [FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError])
def test_a_file_that_may_not_be_read_is_named(kind):
    def opens(path):
        raise kind("no")

    error = refusal("/data/prompts.csv", open=opens)

    assert f"'/data/prompts.csv' can't be read ({kind.__name__})" in str(error)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_trouble_on_the_way_to_the_file_stays_what_it_is_and_can_be_tried_again(ending):
    def opens(path):
        raise ConnectionResetError("the store hung up")

    with pytest.raises(ConnectionResetError, match="hung up"):
        read(f"/data/prompts.{ending}", open=opens)


def test_the_file_is_closed_also_when_it_is_refused(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("no such column\nx\n")
    streams = []

    def opens(path):
        streams.append(io.BytesIO(Path(path).read_bytes()))
        return streams[-1]

    refusal(path, open=opens)

    assert [stream.closed for stream in streams] == [True]


# Defaults


def test_defaults_are_for_rows_that_do_not_say_it_themselves():
    rows = rows_of(["x", {"prompt": "y", "resolution": "4k"}], resolution="2k", nsfw_checker=False)

    assert [row.request.resolution for row in rows] == ["2k", "4k"]
    assert [row.request.nsfw_checker for row in rows] == [False, False]
    assert [row.given for row in rows] == [{"prompt": "x"}, {"prompt": "y", "resolution": "4k"}]


def test_a_default_prompt_or_default_images_make_up_for_a_missing_prompt():
    rows = rows_of([{"aspect_ratio": "3:2"}], prompt="a teapot")
    assert rows[0].request.prompt == "a teapot"

    rows = rows_of([{"aspect_ratio": "3:2"}], image_urls=(URL,))
    assert rows[0].request == ImageRequest(image_urls=[URL], aspect_ratio="3:2")


def test_a_default_of_none_is_no_default():
    assert rows_of(["x"], resolution=None, prompt=None)[0].request == ImageRequest(prompt="x")


@pytest.mark.parametrize("defaults", [{"size": "4k"}, {"size": None}, {"Prompt": "x"}, {5: "x"}])
def test_a_default_for_what_is_no_field_is_refused_with_the_fields(defaults):
    error = refusal(["x"], defaults)

    assert f"defaults: {list(defaults)!r} can't have a default" in str(error)
    assert "only prompt, image_urls, aspect_ratio" in str(error)
    assert [problem.field for problem in error.problems] == ["defaults"]


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ({"aspect_ratio": "7:5"}, "aspect_ratio: '7:5' is not an aspect ratio"),
        ({"nsfw_checker": "no"}, "nsfw_checker: 'no' must be True or False"),
        ({"prompt": " "}, "prompt: ' ' is blank"),
        ({"prompt": "\ud800"}, "half a surrogate pair"),
        ({"image_urls": URL}, "is not a list"),
        ({"image_urls": nested(5000)}, "nested more than 32 deep"),
        ({"aspect_ratio": "1536x864", "resolution": "4k"}, "contradicts"),
        (["aspect_ratio"], "is no mapping"),
    ],
)
def test_wrong_defaults_are_told_once_and_not_for_each_row(defaults, words):
    error = refusal(["x"] * 1000, defaults)

    assert words in str(error)
    assert len(error.problems) == 1


def test_a_row_that_contradicts_a_default_is_told_where_the_other_half_comes_from():
    (cell,) = bad_of([{"prompt": "x", "aspect_ratio": "1536x864"}], resolution="4k")

    assert (cell.column, cell.value) == ("resolution", "'4k'")
    assert "contradicts aspect_ratio='1536x864'" in cell.rule
    assert cell.rule.endswith("It comes from defaults.")


# Bad cells


def test_a_bad_cell_says_row_column_value_rule_and_remedy_in_a_line():
    (cell,) = bad_of(["x", {"prompt": "y", "aspect_ratio": "7:5"}])

    assert (cell.row, cell.column, cell.value) == (2, "aspect_ratio", "'7:5'")
    assert str(cell).startswith("row 2, column aspect_ratio: '7:5' is not an aspect ratio. One of auto, 1:1")


def test_a_row_tells_all_that_is_wrong_with_it():
    bad = bad_of(
        [
            {
                "prompt": b"x",
                "aspect_ratio": "7:5",
                "image_urls": [URL, "ftp://x", 5],
                "nsfw_checker": "no",
                "sku": b"7",
            }
        ]
    )

    assert sorted(cell.column for cell in bad) == [
        "aspect_ratio",
        "image_urls",
        "nsfw_checker",
        "prompt",
        "sku",
    ]
    (cell,) = [cell for cell in bad if cell.column == "image_urls"]
    assert cell.rule.startswith("item 1: 'ftp://x' is no http(s) address. ")


def test_a_wrong_prompt_is_not_missing_as_well():
    (cell,) = bad_of([{"prompt": b"x"}])

    assert (cell.column, cell.value) == ("prompt", "b'x'")


def test_a_row_with_nothing_to_draw_is_told_so():
    (cell,) = bad_of([{"sku": 7}])

    assert (cell.column, cell.value) == ("prompt", "")
    assert "neither prompt nor image_urls is given" in cell.rule


def test_good_rows_are_there_beside_bad_ones():
    rows, bad = read(["x", "", "y"], open=never_opened)

    assert [(row.number, row.request.prompt) for row in rows] == [(1, "x"), (3, "y")]
    assert [cell.row for cell in bad] == [2]


@pytest.mark.parametrize(
    "value", [datetime(2026, 4, 5, tzinfo=UTC), Decimal(7), 7, float("nan"), b"x", ["x"]]
)
def test_what_is_no_text_is_no_prompt(value):
    (cell,) = bad_of([{"prompt": value}])

    assert cell.column == "prompt"


def test_a_long_value_is_shown_shortened():
    (cell,) = bad_of(["x" * 20_001])

    assert len(cell.value) < 120
    assert len(str(cell)) < 300


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "x" * 5000])
def test_a_column_name_cannot_break_the_line(name):
    (cell,) = bad_of([{"prompt": "x", name: b"7"}])

    assert str(cell).isprintable()
    assert len(str(cell)) < 400


# Metadata


def test_metadata_is_what_json_can_hold():
    (row,) = rows_of(
        [
            {
                "prompt": "x",
                "moment": datetime(2026, 4, 5, 10, 11, tzinfo=UTC),
                "day": date(2026, 4, 5),
                "price": Decimal("9.90"),
                "tags": ("a", {"b": [1, None, float("inf")]}),
                "ok": True,
                "weight": 1.5,
            }
        ]
    )

    assert row.metadata == {
        "moment": "2026-04-05T10:11:00+00:00",
        "day": "2026-04-05",
        "price": "9.90",
        "tags": ["a", {"b": [1, None, None]}],
        "ok": True,
        "weight": 1.5,
    }
    assert json.loads(json.dumps(row.metadata, allow_nan=False)) == row.metadata


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_not_given(value):
    (row,) = rows_of([{"prompt": "x", "weight": value}])

    assert row.metadata == {}
    assert row.given == {"prompt": "x"}


def test_a_number_is_kept_as_long_as_others_can_read_it():
    (row,) = rows_of([{"prompt": "x", "id": 10**308}])
    (cell,) = bad_of([{"prompt": "x", "id": 10**309}])

    assert row.metadata == {"id": 10**308}
    assert cell.column == "id"


def circle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        {1, 2},
        object(),
        10**5000,
        {1: "x"},
        {"\ud800": 1},
        "\udcff",
        ["\ud800"],
        {"a": [b"x"]},
        nested(33),
        nested(100_000),
        circle(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_metadata_that_json_cannot_hold_is_a_bad_cell(value):
    (cell,) = bad_of([{"prompt": "x", "sku": value}])

    assert (cell.row, cell.column) == (1, "sku")
    assert cell.value
    assert len(str(cell)) < 400
    assert str(cell).encode()


@pytest.mark.parametrize(
    "item", [nested(100_000), {"prompt": nested(100_000)}, {"image_urls": nested(100_000)}]
)
def test_however_deep_a_row_is_nested_it_is_a_bad_one(item):
    (cell,) = bad_of([item])

    assert "nested" in str(cell)


# The row as it was given


def test_a_given_row_written_down_as_jsonl_is_the_same_row_again(tmp_path):
    defaults = {"resolution": "2k", "callback_url": "https://example.com/done"}
    rows = rows_of(
        [
            "{{ ds }}\n\0 ü",
            {"prompt": "y", "image_urls": (URL,), "nsfw_checker": False, "tags": ("a", float("nan"))},
            {"image_urls": [URL], "day": date(2026, 4, 5), "price": Decimal("9.90"), "none": float("inf")},
        ],
        **defaults,
    )
    path = tmp_path / "failures.jsonl"
    path.write_text("".join(json.dumps(row.given) + "\n" for row in rows))

    again, bad = read(path, defaults=defaults, open=opened)

    assert bad == []
    assert again == rows


# The error


def test_the_error_counts_rows_tells_the_first_cells_and_says_that_nothing_was_submitted():
    bad = [BadCell(n, "aspect_ratio", "'7:5'", "'7:5' is not an aspect ratio.", n + 1) for n in range(1, 26)]
    bad.append(BadCell(25, None, "", "too short."))

    error = invalid_rows(bad)

    head, *told = str(error).splitlines()
    assert head.startswith("Invalid rows in the data set: 25. Nothing was submitted.")
    assert "on_invalid='skip'" in head
    assert told[0] == "row 1 (line 2), column aspect_ratio: '7:5' is not an aspect ratio."
    assert len(told) == 21
    assert told[-1] == "… and 6 more"
    assert error.bad == tuple(bad)


def test_the_error_is_an_invalid_request_with_a_problem_for_each_cell():
    error = invalid_rows(bad_of(["", {"prompt": "x", "sku": b"7"}]))

    assert isinstance(error, InvalidRequestError)
    assert not error.retryable
    assert [problem.field for problem in error.problems] == ["prompt", "sku"]
    assert "… and" not in str(error)


@pytest.mark.parametrize("version", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_error_can_be_carried_to_another_process(version):
    error = invalid_rows(bad_of(["", 5]))

    again = pickle.loads(pickle.dumps(error, version))

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_reading_lists_csv_and_jsonl_needs_neither_pyarrow_nor_airflow():
    script = (
        "import sys; from airflow_gpt_image.datasets import read; read(['x'], open=open);"
        "print({'pyarrow', 'airflow', 'numpy'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "set()\n"


def test_a_path_like_object_of_others_will_do(path):
    class Place(os.PathLike):
        def __fspath__(self):
            return str(path)

        __str__ = __fspath__

    rows, _ = read(Place(), open=opened)

    assert len(rows) == 1
