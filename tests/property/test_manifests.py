"""Over all texts that a data set may hold: a spreadsheet takes none for a formula, and loses nothing."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_gpt_image import datasets
from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.datasets.cells import refuse_nothing
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import ME, manifest_of, plan_of

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
            manifest_of(open_folder(place), plan, list(ItemTable(plan.items)), ME)
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
