"""Over all data sets there are, well-meant and hostile."""

from __future__ import annotations

import csv
import io
import json
import pickle

import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.datasets import FIELDS, BadCell, Row, as_line, invalid_rows, read
from airflow_gpt_image.datasets.cells import refuse_nothing
from airflow_gpt_image.errors import InvalidRequestError

URL = "https://example.com/room.jpg"

texts = st.text(max_size=30)


def says_something(text):
    try:
        refuse_nothing(text)
    except ValueError:
        return False
    return bool(text.strip())


prompts = st.text(min_size=1, max_size=60).filter(says_something)
names = st.text("abcxyzäö _", min_size=1, max_size=8).map(lambda text: f"my {text}".strip())
looks = st.sampled_from(["auto", "1:1", "16:9", "1536x864"])
plain = st.recursive(
    st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def rows_with(metadata):
    """Valid rows, each with columns of its own."""
    return st.builds(
        lambda fields, more: {**more, **fields},
        st.fixed_dictionaries(
            {"prompt": prompts},
            optional={
                "image_urls": st.lists(st.sampled_from([URL, f"{URL}?a=b,c"]), max_size=3),
                "aspect_ratio": looks,
                "nsfw_checker": st.booleans(),
                "callback_url": st.just("https://example.com/done"),
            },
        ),
        st.dictionaries(names, metadata, max_size=3),
    )


def stream_of(content):
    return lambda path: io.BytesIO(content)


def read_rows(requests, content=b"", **defaults):
    rows, bad = read(requests, defaults=defaults, open=stream_of(content))
    assert bad == []
    return rows


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows):
    """As spreadsheets write it: a cell for every column of every row."""
    columns = list({name: None for row in rows for name in row})
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(name, "") for name in columns]
        writer.writerow([json.dumps(cell) if isinstance(cell, (list, bool)) else cell for cell in cells])
    return file.getvalue().encode()


def as_parquet(rows):
    columns = list({name: None for row in rows for name in row})
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in columns}), file)
    return file.getvalue()


@given(st.lists(rows_with(plain), min_size=1, max_size=4))
def test_a_list_and_its_lines_of_jsonl_are_the_same_rows(rows):
    from_list = read_rows(rows)

    assert read_rows("x.jsonl", as_jsonl(rows)) == from_list
    assert [row.given for row in from_list] == rows
    assert [row.request for row in from_list] == [
        ImageRequest(**{name: value for name, value in row.items() if name in FIELDS}) for row in rows
    ]


# A CSV has text only, in which NUL is no text and an empty one isn't given.
cells = st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text)


@given(st.lists(rows_with(cells).filter(lambda row: "\0" not in row["prompt"]), min_size=1, max_size=4))
def test_csv_and_parquet_say_what_the_list_says(rows):
    from_list = [(row.request, row.given) for row in read_rows(rows)]

    assert [(row.request, row.given) for row in read_rows("x.csv", as_csv(rows))] == from_list
    assert [(row.request, row.given) for row in read_rows("x.parquet", as_parquet(rows))] == from_list


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=9),
        st.datetimes(),
        st.dates(),
        st.decimals(),
        st.sampled_from(["\ud800", "\0", 10**4000, URL, [URL], "1:1", object()]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=5,
)
columns = st.sampled_from([*FIELDS, "Prompt", " prompt", "sku", "", "\ud800", "a\nb", 5])


def check_error(error):
    assert error.problems
    assert str(error).encode()
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def check(requests, content=b"", **defaults):
    """What holds for every data set: rows that can be written down, bad cells in a line, or our error."""
    try:
        rows, bad = read(requests, defaults=defaults, open=stream_of(content))
        for cell in bad:
            assert isinstance(cell, BadCell)
            assert str(cell).isprintable()
            assert len(str(cell)) < 2000
        if bad:
            raise invalid_rows(bad)
    except InvalidRequestError as error:
        check_error(error)
        return
    assert rows
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert isinstance(row, Row)
        assert set(row.metadata) == set(row.given) - set(FIELDS)
    written = "".join(json.dumps(as_line(row.given), allow_nan=False) + "\n" for row in rows).encode()
    assert read_rows("failures.jsonl", written, **defaults) == rows


@given(st.lists(anything | st.dictionaries(columns, anything, max_size=4), max_size=4), st.booleans())
def test_any_list_is_rows_that_can_be_written_down_or_bad_cells_that_can_be_read(requests, with_default):
    check(requests, **({"prompt": "a teapot"} if with_default else {}))


@given(anything, anything)
def test_any_data_set_and_any_defaults_are_taken_or_refused_in_our_words(requests, defaults):
    check(requests)
    try:
        read(["x"], defaults=defaults, open=stream_of(b""))
    except InvalidRequestError as error:
        check_error(error)


pieces = st.lists(
    st.sampled_from(
        [
            b"prompt",
            b"image_urls",
            b"nsfw_checker",
            b"sku",
            b",",
            b'"',
            b'""',
            b"\n",
            b"\r\n",
            b"\r",
            b" ",
            b"\0",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"[",
            b"]",
            b"{",
            b"}",
            b":",
            b"NaN",
            b"1e999",
            b"null",
            b"true",
            b'"prompt"',
            b'"\\ud800"',
            "ü".encode(),
            URL.encode(),
        ]
    )
    | st.binary(max_size=5),
    max_size=40,
).map(b"".join)


@given(st.sampled_from(["x.csv", "x.jsonl"]), st.sampled_from([b"", b"prompt,sku\n", b'{"prompt": ']), pieces)
@example("x.csv", b"prompt\n", b'"' + b"x\n" * 600_000)
@example("x.jsonl", b"", b"[" * 500_000)
@example("x.jsonl", b'{"prompt": "x", "sku": ', b'{"":' * 900 + b"1" + b"}" * 901)
def test_no_file_of_text_ends_in_an_error_that_is_not_ours(path, begin, content):
    check(path, begin + content)
    check(path, begin + content, prompt="a teapot")


WHOLE = as_parquet([{"prompt": f"teapot {n % 7}", "sku": n, "image_urls": [URL]} for n in range(200)])


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4)), max_size=3))
def test_no_file_of_parquet_ends_in_an_error_that_is_not_ours(damages):
    content = bytearray(WHOLE)
    for place, damage in damages:
        content[place : place + len(damage)] = damage

    check("x.parquet", bytes(content))


@given(st.text(max_size=20).filter(lambda text: "." not in text))
def test_no_text_is_taken_for_a_list_of_its_characters(text):
    with pytest.raises(InvalidRequestError, match="is a single string, not a data set"):
        read(text, open=stream_of(b""))
