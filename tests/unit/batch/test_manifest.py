"""Manifests tell what became of each row, to people, spreadsheets and the next task."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_gpt_image import datasets
from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.batch.manifest_csv import COLUMNS
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DestinationError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    SpendLimitError,
    StoppedError,
    UpstreamError,
)
from airflow_gpt_image.storage.folders import open_file
from tests.batches import ANOTHER, ME, NOW, failed, intent, late, manifest_of, plan_of, stored, submitted

ROWS = [
    {"prompt": "stored", "sku": "T-1"},
    {"prompt": "by another", "shelf": {"row": [1, 2]}},
    {"prompt": "failed", "aspect_ratio": "16:9", "resolution": "2k", "sku": "T-3"},
    {"prompt": "late", "image_urls": ["https://example.com/a.png?Signature=secret", "https://h/b.png?v=3"]},
    {"prompt": "unknown", "weight": -2.5},
    {"prompt": "in flight"},
    "never begun",
]


def entries_of(plan, records=()):
    """Every item with the record that counts; those behind the records have none."""
    table = ItemTable(plan.items)
    for entry, record in zip(table, records, strict=False):
        entry.record = record
    return list(table)


def recorded(plan):
    """Each state once, in the order of the rows."""
    mine, others, refused, waiting, lost, going, _ = plan.items
    began = datetime(2026, 4, 5, tzinfo=UTC)
    times = {"submitted_at": began, "settled_at": began + timedelta(seconds=12.5)}
    return entries_of(
        plan,
        [
            stored(mine).model_copy(update=times),
            stored(others, ANOTHER, count=2),
            failed(refused),
            late(waiting),
            intent(lost),
            submitted(going),
        ],
    )


def write(folder, plan, records=()):
    return manifest_of(folder, plan, entries_of(plan, records), ME)


@pytest.fixture
def batch():
    return plan_of(ROWS)


@pytest.fixture
def written(batch, on_disk):
    """The addresses of what is written on this disk."""
    return manifest_of(on_disk, batch, recorded(batch), ME)


def table(place):
    """``manifest.csv`` as a spreadsheet reads it."""
    return list(csv.DictReader(io.StringIO(place.read(manifest.CSV).decode(), newline="")))


def rows_in(place, name):
    return [json.loads(line) for line in place.read(name).splitlines()]


# manifest.jsonl


def test_each_image_has_a_line_in_the_data_sets_order(written, disk):
    lines = list(read_manifest(disk.destination))

    assert [line["row"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    statuses = ["stored", "stored", "failed", "submitted", "unknown", "submitted", "not_submitted"]
    assert [line["status"] for line in lines] == statuses


def test_a_stored_image_is_told_in_full(written, disk, batch):
    line = next(read_manifest(disk.destination))

    assert line == {
        "row": 1,
        "variant": 1,
        "status": "stored",
        "request": {
            "prompt": "stored",
            "image_urls": [],
            "aspect_ratio": "auto",
            "resolution": "1k",
            "nsfw_checker": True,
        },
        "data": {"sku": "T-1"},
        "generation_id": "g0",
        "paths": [f"{disk.destination}/{batch.items[0].name}.png"],
        "images": [
            {
                "url": "https://files.example.com/0-0.png",
                "path": f"{disk.destination}/{batch.items[0].name}.png",
                "width": 1024,
                "height": 1024,
                "sha256": "0" * 64,
                "bytes": line["images"][0]["bytes"],
            }
        ],
        "error": None,
        "error_code": None,
        "error_message": None,
        "credits": "4.7",
        "seconds": 12.5,
        "reused": False,
        "fingerprint": batch.items[0].fingerprint,
    }


def test_a_line_says_why_there_is_no_image_and_what_it_cost_nevertheless(written, disk):
    _, _, refused, waiting, lost, going, never = read_manifest(disk.destination)

    assert (refused["error"], refused["error_code"]) == ("GenerationFailedError", "invalid_request")
    assert refused["error_message"] == "The prompt was refused."
    assert (waiting["error"], waiting["error_code"]) == ("UpstreamError", "upstream_error")
    # Refunded; paid for; nobody knows, so it counts; paid for; never asked for.
    lines = (refused, waiting, lost, going, never)
    assert [line["credits"] for line in lines] == ["0", "4.7", "4.7", "4.7", "0"]
    assert [line["generation_id"] for line in lines] == ["g2", "g3", None, "g5", None]


def test_what_another_task_paid_for_is_reused(written, disk, batch):
    lines = list(read_manifest(disk.destination))

    assert [line["reused"] for line in lines] == [False, True, False, False, False, False, False]
    name = batch.items[1].name
    assert lines[1]["paths"] == [f"{disk.destination}/{name}{part}.png" for part in ("", "~1")]


def test_no_signature_of_an_address_is_in_any_of_them(written, disk):
    for name in (manifest.JSONL, manifest.CSV, manifest.FAILURES, manifest.UNSETTLED):
        assert b"secret" not in disk.read(name)


def test_an_image_that_arrived_after_all_has_no_error(batch, on_disk, disk):
    records = [stored(item).model_copy(update={"failure": late(item).failure}) for item in batch.items]

    assert write(on_disk, batch, records)["failures"] is None
    assert {(line["status"], line["error"]) for line in read_manifest(disk.destination)} == {("stored", None)}


NOT_SENT = [
    (InsufficientCreditsError("402"), "not_submitted"),
    (SpendLimitError("429"), "not_submitted"),
    (StoppedError("stopped"), "not_submitted"),
    (RateLimitError("429"), "not_submitted"),
    (LedgerError("replaced"), "not_submitted"),
    (DestinationError("full"), "not_submitted"),
    (UpstreamError("503"), "failed"),
    (InternalServerError("500"), "failed"),
    (InvalidRequestError("400"), "failed"),
    (ConnectionFailedError("no route"), "failed"),
]


@pytest.mark.parametrize(("error", "status"), NOT_SENT, ids=lambda value: type(value).__name__)
def test_a_submit_that_was_not_accepted_is_a_failure_only_if_it_was_the_items_own(batch, error, status):
    record = intent(batch.items[0]).not_accepted(error, NOW)

    assert manifest.status(record) == status


# manifest.csv


def test_the_table_has_its_columns_and_behind_them_those_of_the_data(written, disk):
    first = table(disk)[0]

    assert list(first) == [*COLUMNS, "data.sku", "data.shelf", "data.weight"]


def test_the_table_says_the_same_as_the_lines(written, disk):
    for row, line in zip(table(disk), read_manifest(disk.destination), strict=True):
        assert row["status"] == line["status"]
        assert row["prompt"] == line["request"]["prompt"]
        assert row["resolution"] == line["request"]["resolution"]
        assert row["image_urls"] == " ".join(line["request"]["image_urls"])
        assert row["paths"] == " ".join(line["paths"])
        assert row["generation_id"] == (line["generation_id"] or "")
        assert row["error_message"] == (line["error_message"] or "")
        assert row["credits"] == line["credits"]
        assert row["reused"] == str(line["reused"])
        assert row["data.sku"] == line["data"].get("sku", "")


def test_data_of_other_kinds_is_written_as_json_and_numbers_as_numbers(written, disk):
    rows = table(disk)

    assert rows[1]["data.shelf"] == '{"row": [1, 2]}'
    assert rows[4]["data.weight"] == "-2.5"


def test_a_prompt_with_line_ends_commas_and_quotes_comes_back_whole(on_disk, disk):
    prompt = 'a "red" teapot,\r\nwith a lid;\n青い壺\t\U0001f3fa'
    plan = plan_of([prompt])

    write(on_disk, plan)

    assert [row["prompt"] for row in table(disk)] == [prompt]


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://example.com","x")',
        "+1+1",
        "-1+1",
        "@SUM(1)",
        "   =1+1",
        "\t=1+1",
        "\r=1+1",
        "＝1+1",
        "＋1",
        "－1",
        "＠a",
    ],
)
def test_no_text_of_a_data_set_is_a_formula_to_a_spreadsheet(on_disk, disk, text):
    plan = plan_of([{"prompt": "x", "data": text, text.strip() + "x": "a column"}])

    write(on_disk, plan)

    [row] = table(disk)
    assert row["data.data"] == f"'{text}"
    assert not [name for name in row if name[0] in "=+-@\t\r＝＋－＠"]


@pytest.mark.parametrize(
    "prompt", ["+1+1", "-1+1", "@SUM(1)", "  = a", "\t= a", "\r= a", "＝ a", "＋1", "＠a"]
)
def test_no_prompt_is_a_formula_to_a_spreadsheet_either(on_disk, disk, prompt):
    write(on_disk, plan_of([prompt]))

    assert [row["prompt"] for row in table(disk)] == [f"'{prompt}"]


# failures.jsonl


def test_the_rows_to_run_again_are_the_rows_as_given(written, disk):
    assert written["failures"] == f"{disk.destination}/{manifest.FAILURES}"
    assert rows_in(disk, manifest.FAILURES) == [ROWS[2]]


def test_what_is_or_may_be_paid_for_is_not_among_the_rows_to_run_again(written, disk):
    assert written["unsettled"] == f"{disk.destination}/{manifest.UNSETTLED}"
    unsigned = ["https://example.com/a.png?***", "https://h/b.png?v=3"]
    assert rows_in(disk, manifest.UNSETTLED) == [{**ROWS[3], "image_urls": unsigned}, ROWS[4], ROWS[5]]


def test_the_rows_are_a_data_set_again_but_for_signatures_which_have_to_be_made_anew(written, disk):
    failed, bad = datasets.read(written["failures"], open=open_file)
    unsettled, worse = datasets.read(written["unsettled"], open=open_file)

    assert bad == []
    assert [row.request.prompt for row in failed + unsettled] == ["failed", "unknown", "in flight"]
    [cell] = worse
    assert (cell.row, cell.column) == (1, "image_urls")
    assert "sign it anew" in cell.rule


def test_defaults_are_not_written_into_the_rows_to_run_again(on_disk, disk):
    plan = plan_of([{"prompt": "a"}])
    write(on_disk, plan, map(failed, plan.items))

    assert rows_in(disk, manifest.FAILURES) == [{"prompt": "a"}]


def test_a_row_of_which_several_variants_failed_is_run_again_once(on_disk, disk):
    plan = plan_of(["a", "b"], variants=3)
    good = [item.row == 1 and item.slot.variant != 3 for item in plan.items]

    write(
        on_disk, plan, [(stored if ok else failed)(item) for item, ok in zip(plan.items, good, strict=True)]
    )

    assert rows_in(disk, manifest.FAILURES) == [{"prompt": "a"}, {"prompt": "b"}]


def test_rows_that_are_the_same_are_run_again_as_often_as_they_failed(on_disk, disk):
    plan = plan_of(["a", "a", "a"])
    write(on_disk, plan, [None, *map(failed, plan.items[1:])])

    assert rows_in(disk, manifest.FAILURES) == [{"prompt": "a"}, {"prompt": "a"}]


def test_when_nothing_failed_any_more_the_old_rows_are_gone(place, folder):
    plan = plan_of(["a"])
    first = write(folder, plan, map(failed, plan.items))

    second = write(folder, plan, map(stored, plan.items))

    assert first["failures"] == f"{place.destination}/{manifest.FAILURES}"
    assert second["failures"] is None
    assert manifest.FAILURES not in place.names()


# How they are written


def test_they_can_be_written_anew_at_any_time_and_nothing_else_is_left(place, folder, batch):
    manifest_of(folder, batch, recorded(batch), ME)
    before = {name: place.read(name) for name in place.names()}

    manifest_of(folder, batch, recorded(batch), ME)

    assert {name: place.read(name) for name in place.names()} == before
    assert {name for name in before if "/" not in name} == {
        manifest.JSONL,
        manifest.CSV,
        manifest.PARQUET,
        manifest.METADATA,
        manifest.CONTACT_SHEET,
        manifest.FAILURES,
        manifest.UNSETTLED,
    }


@pytest.mark.parametrize("name", [manifest.JSONL, manifest.CSV, manifest.FAILURES])
def test_a_reader_at_work_keeps_the_whole_old_one(written, disk, on_disk, batch, name):
    old = disk.read(name)
    with Path(disk.destination, name).open("rb") as reader:
        begun = reader.read(10)

        write(on_disk, batch, [failed(item, ANOTHER) for item in batch.items])

        assert begun + reader.read() == old
    assert disk.read(name) != old


def test_a_destination_that_takes_nothing_keeps_the_old_ones_and_is_an_error(written, disk, on_disk, batch):
    before = disk.read(manifest.JSONL)
    Path(disk.destination, manifest.CSV).unlink()
    Path(disk.destination, manifest.CSV).mkdir()

    with pytest.raises(DestinationError, match=r"manifest\.csv could not be read or written"):
        manifest_of(on_disk, batch, recorded(batch), ME)

    assert disk.read(manifest.JSONL) == before
    assert not [name for name in disk.names() if name.endswith(".part")]


def test_what_is_wrong_with_rows_is_written_down(place, folder):
    rows, bad = datasets.read(["a", {"aspect_ratio": "17:9"}, 5, "\ud800"], open=open)

    address = manifest.write_invalid(folder, bad)

    assert len(rows) == 1
    assert address == f"{place.destination}/{manifest.INVALID}"
    told = rows_in(place, manifest.INVALID)
    assert {line["row"] for line in told} == {2, 3, 4}
    assert [line["message"] for line in told] == [str(cell) for cell in bad]
    assert {"row", "column", "value", "rule", "line"} <= told[0].keys()
