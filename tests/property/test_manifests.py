"""Over all that a data set may hold: no formula to a spreadsheet, no HTML to a browser, and nothing lost."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from airflow_gpt_image import datasets
from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.datasets.cells import refuse_nothing
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import manifest_of, plan_of

FORMULA = re.compile(r" *[=+\-@\t\r\n＝＋－＠]")
OF_A_SPREADSHEET = " =+-@\t\r\n＝＋－＠'\",;\0"

texts = st.text(max_size=20) | st.text(OF_A_SPREADSHEET + "a1", max_size=6)


def is_a_prompt(text):
    try:
        refuse_nothing(text)
    except ValueError:
        return False
    return any(letter.isalnum() for letter in text)


prompts = texts.filter(is_a_prompt)
plain = st.recursive(
    st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
columns = st.text(OF_A_SPREADSHEET.replace("\0", "") + "abc", min_size=1, max_size=5).map(
    lambda text: f"{text.strip()}x"
)


@pytest.fixture(scope="module")
def write():
    """Writes a data set's manifests; the folder they are in."""
    with tempfile.TemporaryDirectory() as place:

        def write(rows):
            plan = plan_of(rows)
            manifest_of(open_folder(place), plan, list(ItemTable(plan.items)))
            return Path(place)

        yield write


def cells_of(folder):
    return list(csv.reader(io.StringIO((folder / manifest.CSV).read_bytes().decode(), newline="")))


@example("'=1+1", " '", {})
@example("  =x", "\t=1", {"=1x": ["=1", "=2"]})
@given(prompts, texts, st.dictionaries(columns, plain, max_size=3))
def test_no_cell_is_a_formula_unless_it_is_a_number_of_the_data(write, prompt, text, data):
    row = {**data, "my text": text, "prompt": prompt}

    for line in cells_of(write([row])):
        for cell in line:
            if FORMULA.match(cell):
                assert float(cell) in [value for value in data.values() if isinstance(value, (int, float))]


@given(prompts, texts)
def test_a_text_reads_back_as_it_was_less_the_apostrophe(write, prompt, text):
    head, line = cells_of(write([{"prompt": prompt, "my text": text}]))
    found = dict(zip(head, line, strict=True))

    for name, given_text in {"prompt": prompt, "data.my text": text}.items():
        harmless = FORMULA.match(given_text) is None
        assert found[name] == (given_text if harmless else f"'{given_text}")


@given(prompts, st.dictionaries(columns, plain, max_size=3))
def test_the_lines_hold_the_data_exactly(write, prompt, data):
    row = {**data, "prompt": prompt}

    [line] = manifest.read_manifest(write([row]))

    assert line["data"] == data
    assert line["request"]["prompt"] == prompt


@example("a", [{"ax": 1}, {"ax": "1"}, {"ax": None}])
@example("a", [{"ax": 2**60}, {"ax": 0.5}])
@given(prompts, st.lists(st.dictionaries(columns, plain, max_size=3), min_size=1, max_size=4))
def test_a_table_has_one_kind_of_value_in_a_column_and_each_of_them_is_told(write, prompt, rows):
    folder = write([{**data, "prompt": prompt} for data in rows])

    table = parquet.read_table(folder / manifest.PARQUET).to_pylist()

    for line, data in zip(table, rows, strict=True):
        assert line["prompt"] == prompt
        for name, value in data.items():
            found = line[f"data.{name}"]
            told = isinstance(found, str) and not isinstance(value, str)
            assert (json.loads(found) if told else found) == value


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}


MARKUP = "<>&\"'/=;! -ascript\0\u202e"


@given(st.text(MARKUP, min_size=1, max_size=20) | texts, st.text(MARKUP, max_size=20) | texts)
def test_a_contact_sheet_has_the_same_elements_whatever_its_texts_are(write, prompt, text):
    harmless = (write([{"prompt": "a", "my text": "b"}]) / manifest.CONTACT_SHEET).read_text()

    sheet = (write([{"prompt": f"a {prompt}", "my text": text}]) / manifest.CONTACT_SHEET).read_text()

    assert Tags(sheet).tags == Tags(harmless).tags
    assert Tags(sheet).attributes == Tags(harmless).attributes


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner),
    max_leaves=5,
)


@given(st.lists(anything, min_size=1, max_size=4))
def test_whatever_is_wrong_with_rows_can_be_written_down(write, requests):
    _, bad = datasets.read(requests, open=open)
    folder = write(["a"])

    manifest.write_invalid(open_folder(folder), bad)

    assert len((folder / manifest.INVALID).read_bytes().splitlines()) == len(bad)
