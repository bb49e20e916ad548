"""Whatever columns a data set has, every tool that a batch's files are for reads all of its rows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pandas
import pytest
from PIL import Image

from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import failed, manifest_of, plan_of, stored

LONG = "x" * 1_000_000

ODD = {
    "called as ours": [
        {
            "file_name": "../x.png",
            "path": "/etc/passwd",
            "status": "failed",
            "row": 7,
            "variant": "b",
            "credits": "free",
            "data": {"row": 1},
            "request": "r",
            "error": "e",
            "paths": ["q"],
            "seconds": 1.5,
            "reused": "no",
            "split": "test",
            "label": "cat",
            "my_file_name": "z.png",
            "__index_level_0__": 3,
        }
    ],
    "texts": [
        {
            "nul": "a\0b",
            "lines": "a\r\nb\u2028c\x85d",
            "rtl": "\u202emoc",
            "emoji": "😀👩\u200d👧",
            "quote": "\"',;\t",
        },
        {"nul": "</script><script>alert(1)</script>", "rtl": "مرحبا"},
    ],
    "names": [{"a\nb": 1, "": 2, "q\"u'o,t;e": 3, "😀": 4, "a.b": 5, "data.x": 6, " x": 7, "{{ ds }}": 8}],
    "kinds": [{"m": 1}, {"m": "x"}, {"m": None}, {"m": [1, "a", {"b": None}]}, {"m": 1.5}, {"m": True}],
    "times and numbers": [
        {
            "day": date(2026, 1, 2),
            "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "price": Decimal("1.10"),
            "nan": float("nan"),
            "infinite": float("-inf"),
            "least": -(2**63),
            "ean": "0012345678905",
        },
        {"day": "soon", "at": None, "price": 3},
    ],
    "nothing": [{"n": None, "empty": "", "blank": " "}, {"n": None, "empty": "", "blank": "x"}],
    "seldom": [{"seldom": "at last" if number == 999 else None} for number in range(1000)],
    "long": [{"long": LONG}, {"long": LONG}, {"long": "short"}],
    "many": [{f"column {number}": number for number in range(900)}],
}

# A name of ours in capitals, and one name in two spellings, which DuckDB takes for one column.
CASES = [{"SKU": "1", "sku": "2", "Status": "x", "FILE_NAME": "y", "Row": 3}, {"Sku": "3"}]


@pytest.fixture
def write(tmp_path):
    """Writes a batch whose last row failed; returns the addresses."""

    def write(rows):
        plan = plan_of([{"prompt": f"poster {number}", **row} for number, row in enumerate([*rows, {}])])
        entries = list(ItemTable(plan.items))
        for entry in entries:
            entry.record = stored(entry.item)
        entries[-1].record = failed(entries[-1].item)
        (tmp_path / "items").mkdir()
        for entry in entries[:-1]:
            Image.new("RGB", (8, 8)).save(tmp_path / f"{entry.item.name}.png")
        return manifest_of(open_folder(tmp_path), plan, entries)

    return write


def counted(address):
    """As DuckDB counts them, with all of their columns read."""
    return len(duckdb.sql(f"SELECT * FROM '{address}'").fetchall())


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
def test_duckdb_and_pandas_find_all_rows(write, rows):
    written = write(rows)

    images, lines = len(rows), len(rows) + 1
    assert [counted(written[name]) for name in ("manifest", "manifest_csv", "manifest_parquet")] == [
        lines
    ] * 3
    assert counted(written["metadata"]) == images
    assert len(pandas.read_json(written["manifest"], lines=True)) == lines
    assert len(pandas.read_csv(written["manifest_csv"])) == lines
    assert len(pandas.read_parquet(written["manifest_parquet"])) == lines


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
def test_image_folder_finds_all_images(write, load_dataset, tmp_path, rows):
    write(rows)

    found = load_dataset(data_dir=str(tmp_path))["train"]

    assert found["prompt"][:] == [f"poster {number}" for number in range(len(rows))]
    assert found[0]["image"].size == (8, 8)


def test_names_that_differ_in_their_capitals_alone_stay_columns_of_their_own(write, tmp_path):
    written = write(CASES)

    table = duckdb.sql(f"SELECT COLUMNS('data.*') FROM '{written['manifest_parquet']}' ORDER BY row LIMIT 2")
    assert [counted(written[name]) for name in ("manifest_csv", "manifest_parquet")] == [3, 3]
    assert table.fetchall() == [("1", "2", "x", "y", 3, None), (None, None, None, None, None, "3")]
    assert json.loads((tmp_path / "metadata.jsonl").read_text().splitlines()[0])["Row"] == 3


def test_image_folder_knows_names_that_differ_in_their_capitals_alone(write, load_dataset, tmp_path):
    write(CASES)

    found = load_dataset(data_dir=str(tmp_path))["train"]

    assert [(row["SKU"], row["sku"], row["Sku"], row["row"], row["Row"]) for row in found] == [
        ("1", "2", None, 1, 3),
        (None, None, "3", 2, None),
    ]


def test_a_column_whose_name_has_two_lines_as_in_a_spreadsheet_has_one_in_the_csv(write):
    written = write([{"Price\r\n(EUR)": 5}])

    assert duckdb.sql(f"SELECT \"data.Price (EUR)\" FROM '{written['manifest_csv']}'").fetchall()[0] == (5,)
    assert "data.Price\r\n(EUR)" in pandas.read_parquet(written["manifest_parquet"]).columns


@pytest.mark.parametrize("name", ["test", "train-batch", "val", "a dev b"])
def test_a_destinations_own_name_makes_no_split(load_dataset, tmp_path, name):
    plan = plan_of(["a", "b"])
    entries = list(ItemTable(plan.items))
    folder = tmp_path / name
    (folder / "items").mkdir(parents=True)
    for entry in entries:
        entry.record = stored(entry.item)
        Image.new("RGB", (8, 8)).save(folder / f"{entry.item.name}.png")
    manifest_of(open_folder(folder), plan, entries)

    found = load_dataset(data_dir=str(folder))

    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 2}
