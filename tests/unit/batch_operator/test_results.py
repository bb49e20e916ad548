"""What a batch previews, returns and leaves at its destination."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

import pytest
import structlog
from airflow.sdk import Asset

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import InvalidRowsError, ItemsFailedError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from tests.batches import logged

BAD = ["a teapot", {"prompt": "b", "aspect_ratio": "7:5"}, {"prompt": " "}, {"sku": "T-4"}, "a vase"]

# Previews


def test_a_dry_run_tells_the_plan_by_tier_pays_nothing_and_leaves_a_note_of_that(batch, api, tmp_path):
    rows = ["a", {"prompt": "b", "resolution": "2k"}, {"prompt": "c", "resolution": "4k"}]

    with structlog.testing.capture_logs() as lines:
        result = batch.run(requests=rows, variants=2, dry_run=True)

    assert result == {
        "dry_run": True,
        "rows": 3,
        "images": 6,
        "invalid": 0,
        "reused": 0,
        "to_pay": 6,
        "failed": 0,
        "unknown": 0,
        "tiers": {
            "1k": {"images": 2, "credits": "9.4", "usd": "0.047"},
            "2k": {"images": 2, "credits": "18.8", "usd": "0.094"},
            "4k": {"images": 2, "credits": "28.2", "usd": "0.141"},
        },
        "credits": "56.4",
        "usd": "0.282",
    }
    [table] = [line for line in logged(lines) if "dry_run" in line]
    assert re.search(r"4k +2 +28.2 +0.141", table)
    assert re.search(r"all +6 +56.4 +0.282", table)
    [note] = [path for path in (tmp_path / "posters").rglob("*") if path.is_file()]
    assert note.name.startswith("attempt-")
    assert api.books()["requests"] == {**api.books()["requests"], "submit": 0, "poll": 0, "credits": 0}


@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
def test_a_dry_run_writes_nothing_about_bad_rows_either(batch, tmp_path, on_invalid):
    try:
        result = batch.run(requests=BAD, dry_run=True, on_invalid=on_invalid)
    except InvalidRowsError:
        assert on_invalid == "fail"
    else:
        assert (result["invalid"], result["to_pay"]) == (3, 2)

    assert not (tmp_path / "posters" / "invalid.jsonl").exists()


def test_a_dry_run_counts_only_what_is_missing(batch, api):
    batch.run(requests=["a", "b"])

    result = batch.run(requests=["c", "b", "a", "b"], dry_run=True)

    assert (result["reused"], result["to_pay"], result["credits"]) == (2, 2, "9.4")
    assert api.books()["submits"] == 2


# What is returned and left


def test_what_is_returned_is_exactly_what_the_docstring_says_and_plain_json(batch):
    text = re.search(r"\(XCom\)::(.*?)\n\n\s*Counts", inspect.getdoc(GptImageBatchOperator), re.DOTALL)[1]

    result = batch.run()

    assert set(result) == set(re.findall(r'"(\w+)"', text))
    assert json.loads(json.dumps(result)) == result


def test_the_result_counts_and_names_what_is_there(batch, tmp_path):
    result = batch.run(requests=["a", {"prompt": "b", "resolution": "4k"}], variants=2)

    assert result["seconds"] < 20
    assert {name: value for name, value in result.items() if name != "seconds"} == {
        "rows": 2,
        "images": 4,
        "invalid": 0,
        "stored": 4,
        "failed": 0,
        "unknown": 0,
        "submitted": 0,
        "not_submitted": 0,
        "reused": 0,
        "credits": "37.6",
        "usd": "0.188",
        "charged": "37.6",
        "refunded": "0",
        "manifest": f"{tmp_path}/posters/manifest.jsonl",
        "errors": [],
        "manifest_csv": f"{tmp_path}/posters/manifest.csv",
        "manifest_parquet": f"{tmp_path}/posters/manifest.parquet",
        "metadata": f"{tmp_path}/posters/metadata.jsonl",
        "contact_sheet": f"{tmp_path}/posters/contact_sheet.html",
        "failures": None,
        "unsettled": None,
    }


def test_the_manifest_has_what_its_reader_promises(batch, api, tmp_path):
    text = inspect.getdoc(read_manifest).partition(":return:")[2].partition(":raises")[0]

    result = batch.run(requests=[{"prompt": "a", "sku": 5}])

    [row] = read_manifest(tmp_path / "posters")
    assert [row] == list(read_manifest(result["manifest"]))
    assert set(row) | {"stored", "submitted", "not_submitted", "failed", "unknown"} == set(
        re.findall(r"``(\w+)``", text)
    )
    assert row["generation_id"] == api.books()["charges"][0]["task_id"]
    assert (row["status"], row["data"], row["credits"], row["reused"]) == ("stored", {"sku": 5}, "4.7", False)
    assert row["images"][0]["path"] == row["paths"][0]


def test_asset_events_say_what_is_new(batch, api):
    api.fault("generation:failed=invalid_request*1")
    asset, other = Asset("posters"), Asset("more")

    result = batch.run(requests=["a", "b"], outlets=[asset, other])

    told = {name: result[name] for name in ("manifest", "stored", "failed", "credits", "usd")}
    assert batch.events[asset].extra == batch.events[other].extra == told
    assert (told["stored"], told["failed"], told["credits"]) == (1, 1, "4.7")


def test_the_log_tells_the_plan_and_the_end_but_neither_prompts_nor_the_key(batch, api):
    with structlog.testing.capture_logs() as lines:
        result = batch.run()

    told = "\n".join(logged(lines))
    assert "3 rows, 3 images: 0 paid for already, 3 to pay for" in told
    assert "Done: 3 stored (0 reused), 0 failed, 0 unknown, 0 not submitted; " in told
    assert "$0.0705; credits: 14.1 charged, 0 refunded." in told
    kept = repr(lines) + repr(result) + repr(batch.store.texts)
    assert not re.search("teapot|vase|chair", kept)
    assert api.key not in kept


def test_a_batch_that_fails_leaves_its_counts_its_money_and_its_errors_beside_the_manifest(batch, api):
    api.fault("generation:failed=invalid_request;match=vase")

    with pytest.raises(ItemsFailedError):
        batch.run(on_item_failure="fail")

    told = json.loads((batch.folder / "summary.json").read_text())
    assert (told["version"], told["rows"], told["failed"]) == (1, 3, 1)
    assert (told["charged"], told["refunded"]) == tuple(api.books()[name] for name in ("charged", "refunded"))
    [error] = told["errors"]
    assert (error["code"], error["count"], error["row"]) == ("invalid_request", 1, 2)
    assert Path(told["contact_sheet"]).is_file()


def test_the_errors_of_a_batch_are_in_its_result(batch, api):
    api.fault("generation:failed=invalid_request;match=poster 1")

    result = batch.run(requests=[f"poster {number}" for number in range(3)])

    assert [(e["code"], e["count"], e["row"]) for e in result["errors"]] == [("invalid_request", 1, 2)]
    assert len(result["errors"][0]["message"]) <= 200


def test_what_is_left_without_pyarrow_says_so_once(batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with structlog.testing.capture_logs() as lines:
        result = batch.run()

    assert result["manifest_parquet"] is None
    assert [line["log_level"] for line in lines if "There is no manifest.parquet" in str(line)] == ["info"]
