"""DuckDB, pandas and Arrow read a batch's manifests as they are, and find the same in each."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from decimal import Decimal

import duckdb
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.manifest_csv import COLUMNS
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.batch.redaction import secret_query
from tests.batches import failed, intent, late, manifest_of, plan_of, stored

ROWS = [
    {"prompt": "A red teapot", "sku": "T-1", "weight": 2, "new": True, "sizes": [1, 2], "note": "=1+1"},
    {
        "prompt": 'A "blue"\nvase, 青',
        "sku": 7,
        "weight": 2.5,
        "image_urls": ["https://h/a.png", "https://h/b.png"],
    },
    {"prompt": "A chair", "sku": "C-3", "new": False},
    {"prompt": "A lamp", "weight": -1},
    {"prompt": "Never sent", "resolution": "4k", "nsfw_checker": False},
]
STATUSES = ["stored", "failed", "submitted", "unknown", "not_submitted"]


@pytest.fixture
def plan():
    return plan_of(ROWS)


@pytest.fixture
def written(plan, on_disk):
    """The addresses of manifests with each status once."""
    entries = list(ItemTable(plan.items))
    a, b, c, d, _ = plan.items
    for entry, record in zip(entries, [stored(a), failed(b), late(c), intent(d)], strict=False):
        entry.record = record
    return manifest_of(on_disk, plan, entries)


@pytest.mark.parametrize("name", ["manifest", "manifest_csv", "manifest_parquet"])
def test_duckdb_reads_each_of_them_by_its_name_alone(written, name):
    counts = duckdb.sql(
        f"SELECT status, count(*), sum(credits::DECIMAL(24, 12)) FROM '{written[name]}' GROUP BY ALL"
    )

    assert sorted(counts.fetchall()) == sorted(
        (status, 1, Decimal("4.7") if status in ("stored", "submitted", "unknown") else 0)
        for status in STATUSES
    )


def test_duckdb_finds_the_same_rows_in_the_lines_and_in_the_table(written):
    lines = duckdb.sql(
        f"SELECT row, request.prompt, paths, data.sku FROM '{written['manifest']}' ORDER BY row"
    )
    typed = duckdb.sql(
        f"SELECT row, prompt, paths, \"data.sku\" FROM '{written['manifest_parquet']}' ORDER BY row"
    )

    assert [row[:3] for row in lines.fetchall()] == [row[:3] for row in typed.fetchall()]


def test_pandas_reads_each_of_them(written):
    lines = pandas.read_json(written["manifest"], lines=True)
    table = pandas.read_csv(written["manifest_csv"])
    typed = pandas.read_parquet(written["manifest_parquet"])

    assert lines["status"].tolist() == table["status"].tolist() == typed["status"].tolist() == STATUSES
    assert typed["prompt"].tolist() == [row["prompt"] for row in ROWS]
    assert table["prompt"].tolist() == typed["prompt"].tolist()
    assert [request["prompt"] for request in lines["request"]] == typed["prompt"].tolist()
    assert table["row"].sum() == typed["row"].sum() == 15


def test_the_parquet_table_has_the_columns_of_the_csv_each_of_one_type(written, on_disk):
    table = parquet.read_table(written["manifest_parquet"])

    types = dict(zip(table.schema.names, map(str, table.schema.types), strict=True))
    assert list(types) == [*COLUMNS, "data.sku", "data.weight", "data.new", "data.sizes", "data.note"]
    others = {
        "row": "int32",
        "variant": "int32",
        "image_urls": "list<element: string>",
        "nsfw_checker": "bool",
        "paths": "list<element: string>",
        "credits": "decimal128(24, 12)",
        "seconds": "double",
        "reused": "bool",
        "data.weight": "double",
        "data.new": "bool",
    }
    assert types == {name: others.get(name, "string") for name in types}


def test_the_parquet_table_says_what_the_lines_say(written, plan):
    table = parquet.read_table(written["manifest_parquet"]).to_pylist()

    for row, line in zip(table, manifest.read_manifest(written["manifest"]), strict=True):
        request = line["request"]
        for name in COLUMNS:
            said = line[name] if name in line else request[name]
            assert row[name] == (Decimal(said) if name == "credits" else said)
    assert table[0]["data.note"] == "=1+1"  # no spreadsheet reads it, so it stays as it was given
    assert [row["data.sku"] for row in table] == ["T-1", "7", "C-3", None, None]
    assert [row["data.weight"] for row in table] == [2.0, 2.5, None, -1.0, None]
    assert [row["data.new"] for row in table] == [True, None, False, None, None]
    assert table[0]["data.sizes"] == "[1, 2]"


def test_text_that_looks_like_a_time_or_a_number_stays_text(on_disk):
    rows = [{"prompt": "a", "day": "2026-11-26", "zip": "01234", "data.day": "x", "": "nameless"}]
    plan = plan_of(rows)

    written = manifest_of(on_disk, plan, list(ItemTable(plan.items)))

    [row] = parquet.read_table(written["manifest_parquet"]).to_pylist()
    assert (row["data.day"], row["data.zip"], row["data.data.day"]) == ("2026-11-26", "01234", "x")


def test_a_table_of_long_rows_is_whole(on_disk):
    rows = [{"prompt": f"{number}", "text": "x" * 300_000} for number in range(20)]
    plan = plan_of(rows)

    written = manifest_of(on_disk, plan, list(ItemTable(plan.items)))

    table = parquet.read_table(written["manifest_parquet"])
    assert [len(text) for text in table["data.text"].to_pylist()] == [300_000] * 20
    assert table["row"].to_pylist() == list(range(1, 21))


def test_the_same_is_written_to_a_store(place, folder, plan):
    written = manifest_of(folder, plan, list(ItemTable(plan.items)))

    table = parquet.read_table(pyarrow.BufferReader(place.read("manifest.parquet")))
    assert written["manifest_parquet"] == f"{place.destination}/manifest.parquet"
    assert table["prompt"].to_pylist() == [row["prompt"] for row in ROWS]
    assert pandas.read_json(io.BytesIO(place.read("manifest.jsonl")), lines=True)["row"].tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_no_signature_of_an_address_is_in_any_file(place, folder):
    url = "https://photos.example.com/a.png?X-Amz-Signature=secret"
    assert secret_query(url)
    plan = plan_of([{"prompt": "a", "image_urls": [url], "origin": url}])
    entries = list(ItemTable(plan.items))
    entries[0].record = stored(plan.items[0])

    manifest_of(folder, plan, entries, source=url)

    assert [name for name in place.names() if b"secret" in place.read(name)] == []
    assert {"contact_sheet.html", "metadata.jsonl", "manifest.parquet"} <= set(place.names())


def test_without_pyarrow_there_is_no_table_an_earlier_one_is_gone_and_all_else_is_there(
    written, on_disk, disk, plan, monkeypatch
):
    assert manifest.PARQUET in disk.names()
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    again = manifest_of(on_disk, plan, list(ItemTable(plan.items)))

    assert again["manifest_parquet"] is None
    assert manifest.PARQUET not in disk.names()
    assert again["manifest"] == written["manifest"]


def test_the_worker_itself_loads_no_arrow(tmp_path):
    code = (
        "import sys, io\n"
        "from airflow_gpt_image.batch.manifest_csv import COLUMNS\n"
        "from airflow_gpt_image.batch.manifest_parquet import ParquetManifest\n"
        "table = ParquetManifest(open(sys.argv[1], 'w+b'), {'sku': 'text'})\n"
        "line = dict.fromkeys(COLUMNS) | {'request': {}, 'data': {'sku': 'a'}, 'credits': '1'}\n"
        "table.add(line)\n"
        "with table.table() as made:\n"
        "    made.seek(0)\n"
        "    print(made.read(4), 'pyarrow' in sys.modules)\n"
    )

    run = [sys.executable, "-c", code, str(tmp_path / "rows")]
    told = subprocess.run(run, capture_output=True, text=True, check=True)

    assert told.stdout.split()[-2:] == ["b'PAR1'", "False"]


def test_where_arrow_ends_in_an_error_the_table_is_missing_and_all_else_is_there(
    written, on_disk, disk, plan, monkeypatch, tmp_path
):
    (tmp_path / "pyarrow.py").write_text("raise MemoryError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "pyarrow")  # as in a worker, which has not loaded it

    again = manifest_of(on_disk, plan, list(ItemTable(plan.items)))

    assert again["manifest_parquet"] is None
    assert manifest.PARQUET not in disk.names()
    assert again["contact_sheet"] == written["contact_sheet"]


def test_the_summary_has_the_result_for_those_who_have_no_xcom(place, folder, plan):
    from airflow_gpt_image.batch.contact_sheet import About
    from tests.batches import DEFAULT_PRICES, NOW

    result = {"rows": 5, "errors": [{"code": "x", "count": 1, "row": 2, "message": "é"}]}

    manifest.write_summary(folder, result, About(result, DEFAULT_PRICES, NOW), place="map-3/")

    told = json.loads(place.read("map-3/summary.json"))
    assert told == {"version": 1, "written": "2026-04-05T10:11:48+00:00", **result}
