"""The page of a task that makes a data set's images: while it runs, afterwards, and unreadable."""

from __future__ import annotations

import json
import time

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.emulator import EmulatorServer
from airflow_gpt_image.errors import GptImageError
from tests.batches import BatchTask

PLACE = "task/shop/manual__2026-01-01T00:00:00+00:00/posters/-1"
ROWS = [
    {"prompt": "a red teapot", "sku": "TEA-1", "season": "AW26"},
    {"prompt": "a blue vase", "sku": "VAS-2", "season": "AW26"},
    {"prompt": "a green chair", "sku": "CHR-3", "season": None},
]


@pytest.fixture(scope="session")
def gpt_image_emulator_server():
    with EmulatorServer(duration=(0.05, 0.1)) as emulator:
        yield emulator


@pytest.fixture
def batch(api, airflow, place):
    """A batch on a disk or on S3 that waits on its worker, and its run in Airflow's database."""
    task = BatchTask(place.destination, deferrable=False)
    task.given["requests"] = ROWS
    airflow.run("shop", task.run_id)
    return task


@pytest.fixture
def see(show, place, tmp_path):
    """Makes the document of a place, as a server sees it whose root is where the images land."""

    def see(path=PLACE, **query):
        root = str(tmp_path) if place.destination.startswith("/") else place.destination
        return show(path, **{"roots": [root], **query})

    return see


def keep(airflow, task, **fields):
    airflow.keep(task, operator="GptImageBatchOperator", **fields)


def test_what_a_batch_made_is_a_sheet_captioned_by_its_column(batch, airflow, see):
    result = batch.run()
    keep(airflow, batch, result=result)

    document = see()

    assert (document["kind"], document["live"], document["total"]) == ("batch", False, 3)
    assert document["counts"] == {
        "all": 3,
        "done": 3,
        "in_flight": 0,
        "failed": 0,
        "unknown": 0,
        "not_sent": 0,
    }
    assert (document["captions"], document["caption"]) == (["sku", "season", "prompt"], "sku")
    assert [tile["caption"] for tile in document["tiles"]] == ["TEA-1", "VAS-2", "CHR-3"]
    assert document["tiles"][0]["sub"] == "row 1 · $0.0235"
    assert all(tile["image"]["thumb"] for tile in document["tiles"])
    figures = {figure["label"]: figure["value"] for figure in document["figures"]}
    assert figures == {"Done": "3", "Paid": "$0.0705", "Refunded": "$0.0000", "At stake": "$0.0000"}
    assert [link["label"] for link in document["links"]][:1] == ["manifest.csv"]


def test_a_tile_opens_with_the_rows_columns(batch, airflow, see):
    keep(airflow, batch, result=batch.run())

    picture = see(f"{PLACE}/tile/2-1")

    assert picture["columns"] == {"sku": "VAS-2", "season": "AW26"}
    assert (picture["row"], picture["variant"], picture["price"]) == (2, 1, "0.0235")
    assert picture["images"][0]["full"]
    assert see(f"{PLACE}/tile/9-1") is None


def test_failed_images_are_refunded_tiles_with_the_apis_words(batch, airflow, see, api):
    api.fault("generation:failed=invalid_request*1")
    keep(airflow, batch, result=batch.run())

    document = see(status="failed")

    [tile] = document["tiles"]
    assert (tile["status"], tile["money"], tile["image"]) == ("failed", "Refunded", None)
    assert tile["sub"].endswith("· refunded")
    assert tile["reason"].startswith("invalid_request: ")
    assert (document["total"], document["counts"]["all"]) == (1, 3)


def test_an_image_without_an_answer_is_at_stake(batch, airflow, see, api):
    api.fault("submit:lost*1")
    keep(airflow, batch, result=batch.run())

    document = see(status="unknown")

    [tile] = document["tiles"]
    assert (tile["money"], tile["reason"]) == ("At stake: $0.0235", "Sent, no answer. It may be paid for.")
    assert {"label": "At stake", "value": "$0.0235", "note": None} in document["figures"]


def test_a_filter_looks_in_prompts_and_columns(batch, airflow, see):
    keep(airflow, batch, result=batch.run())

    found = {
        text: [tile["key"] for tile in see(text=text)["tiles"]] for text in ("TEAPOT", "vas-2", "aw26", "no")
    }

    assert found == {"TEAPOT": ["1-1"], "vas-2": ["2-1"], "aw26": ["1-1", "2-1"], "no": []}


def test_a_batch_is_seen_while_it_waits_before_there_is_a_manifest(batch, airflow, see, api):
    api.settings(duration=900)
    batch.given["deferrable"] = True
    with pytest.raises(TaskDeferred):
        batch.begin()
    keep(airflow, batch, state="deferred", ended=None)

    document = see()

    assert (document["kind"], document["live"]) == ("batch", True)
    assert document["counts"]["in_flight"] == 3
    assert [tile["caption"] for tile in document["tiles"]] == ["TEA-1", "VAS-2", "CHR-3"]
    assert document["tiles"][0]["money"] == "Charged: $0.0235"
    assert {"label": "Paid", "value": "$0.0705", "note": None} in document["figures"]


def test_what_is_stored_shows_before_the_batch_ends(batch, airflow, see, api):
    api.fault("generation:never*1")
    batch.given["deferrable"] = True
    batch.given["timeout"] = 900
    with pytest.raises(TaskDeferred) as deferred:
        batch.begin()
    time.sleep(0.2)  # the API's own time: the other two are made
    with pytest.raises(TaskDeferred):
        batch.operator().execute_complete(batch.context, {"reason": "finished", "generation_ids": {}})
    keep(airflow, batch, state="deferred", ended=None)

    document = see()

    assert deferred
    assert (document["counts"]["done"], document["counts"]["in_flight"]) == (2, 1)
    done = [tile for tile in document["tiles"] if tile["status"] == "done"]
    assert all(tile["image"]["thumb"] and tile["image"]["width"] for tile in done)
    assert {tile["sub"] for tile in done} == {f"row {tile['key'][0]} · $0.0235" for tile in done}


def test_a_batch_that_failed_shows_what_its_records_tell(batch, airflow, see, api):
    api.fault("generation:failed=invalid_request*1")
    batch.given |= {"on_item_failure": "fail", "max_failures": 0}
    with pytest.raises(GptImageError):
        batch.run()
    keep(airflow, batch, state="failed")

    document = see()

    assert document["live"] is False
    assert document["counts"]["failed"] == 1
    assert {"label": "Refunded", "value": "$0.0235", "note": None} in document["figures"]


def test_a_batch_outside_the_roots_is_not_opened(batch, airflow, see, tmp_path):
    keep(airflow, batch, result=batch.run())

    document = see(roots=[str(tmp_path / "elsewhere")])

    assert (document["kind"], document["what"]) == ("problem", "Outside the gallery roots")


def test_a_manifest_that_is_gone_is_told_with_the_destination(batch, airflow, see, place):
    keep(airflow, batch, result=batch.run(), rendered={"destination": place.destination})
    place.delete("manifest.jsonl")

    document = see()

    assert document["kind"] == "problem"
    assert "The pictures are safe" in document["why"]


def test_a_dry_run_says_that_nothing_was_sent(batch, airflow, see):
    batch.given["dry_run"] = True
    keep(airflow, batch, result=batch.run())

    document = see()

    assert document["kind"] == "empty"
    assert "3 images for $0.0705. Nothing was sent." in document["why"]


LINES = {
    "no JSON": b"<script>alert(1)</script>\n",
    "deep": b'{"row":' + b"[" * 100_000 + b"]" * 100_000 + b',"status":1,"paths":[]}\n',
    "empty": b"",
}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_what_is_no_manifest_is_a_problem_and_no_crash(lines, airflow, show, tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(lines)
    airflow.run("shop", "r1")
    result = {"manifest": str(tmp_path / "manifest.jsonl"), "images": 3}
    airflow.task("shop", "r1", "posters", operator="GptImageBatchOperator", result=result)

    assert show("task/shop/r1/posters/-1")["kind"] == "problem"


def test_a_hostile_manifest_is_a_bounded_page(airflow, show, tmp_path):
    line = {
        "row": "<b>",
        "variant": -1,
        "status": "stored",
        "paths": ["/etc/passwd"],
        "images": [{"path": "/etc/passwd", "width": "x"}] * 1_000,
        "request": {"prompt": "<script>" * 1_000_000, "aspect_ratio": {}, "resolution": "\ud800"},
        "data": {f"column {number}": "x" * 10_000 for number in range(1_000)},
        "credits": 4.7,
        "seconds": float("inf"),
        "error_message": ["x"],
    }
    (tmp_path / "manifest.jsonl").write_text(f"{json.dumps(line)}\n" * 3)
    airflow.run("shop", "r1")
    result = {"manifest": str(tmp_path / "manifest.jsonl"), "images": True, "usd": "1e9"}
    airflow.task("shop", "r1", "posters", operator="GptImageBatchOperator", result=result)

    document = show("task/shop/r1/posters/-1", roots=[str(tmp_path)])
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)

    assert document["counts"]["done"] == 3
    assert len(text.encode()) < 100_000
    assert "/gpt-image/image/" not in text
    assert json.dumps(show("task/shop/r1/posters/-1/tile/0-1"), allow_nan=False)


def test_a_manifest_elsewhere_is_not_read(airflow, show, tmp_path):
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "manifest.jsonl").symlink_to("/etc/hostname")
    airflow.run("shop", "r1")
    result = {"manifest": str(tmp_path / "roots" / "manifest.jsonl")}
    airflow.task("shop", "r1", "posters", operator="GptImageBatchOperator", result=result)

    document = show("task/shop/r1/posters/-1", roots=[str(tmp_path / "roots")])

    assert document["what"] == "Outside the gallery roots"


def test_the_first_page_of_ten_thousand_opens_no_image(airflow, show, tmp_path):
    # No image is there: a page that opened one would say so.
    manifest = tmp_path / "manifest.jsonl"
    with manifest.open("w") as file:
        for row in range(1, 10_001):
            path = str(tmp_path / "items" / f"{row}.png")
            image = {"path": path, "url": "u", "width": 1024, "height": 1024, "bytes": 5, "sha256": "a" * 64}
            request = {"prompt": f"poster {row}", "aspect_ratio": "1:1", "resolution": "1k"}
            line = {"row": row, "variant": 1, "status": "stored", "paths": [path], "images": [image]}
            file.write(
                json.dumps({**line, "request": request, "data": {"sku": f"S-{row}"}, "credits": "4.7"}) + "\n"
            )
    airflow.run("shop", "r1")
    result = {"manifest": str(manifest), "images": 10_000, "stored": 10_000, "usd": "235", "credits": "47000"}
    airflow.task("shop", "r1", "posters", operator="GptImageBatchOperator", result=result)

    first = show("task/shop/r1/posters/-1", roots=[str(tmp_path)])
    last = show("task/shop/r1/posters/-1", roots=[str(tmp_path)], page="50", text="poster")

    assert (first["first"], first["last"], first["total"], first["pages"]) == (1, 200, 10_000, 50)
    assert [tile["caption"] for tile in first["tiles"]] == [f"S-{row}" for row in range(1, 201)]
    assert all(tile["image"]["problem"] is None for tile in first["tiles"])
    assert (last["tiles"][-1]["caption"], last["last"]) == ("S-10000", 10_000)
    assert {"label": "Paid", "value": "$235.00", "note": None} in first["figures"]


def test_a_runs_batch_shows_its_first_images_and_counts(batch, airflow, see):
    keep(airflow, batch, result=batch.run())

    [task] = see("run/shop/manual__2026-01-01T00:00:00+00:00")["tasks"]

    assert (task["count"], task["usd"], task["more"]) == (3, "0.0705", 0)
    assert [tile["caption"] for tile in task["tiles"]] == ["TEA-1", "VAS-2", "CHR-3"]
    assert {tile["place"] for tile in task["tiles"]} == {PLACE}


def test_all_dags_together_count_a_batchs_images(batch, airflow, see):
    keep(airflow, batch, result=batch.run(), rendered={"gpt_image_conn_id": "agency"})

    document = see("all")

    assert [(dag["name"], dag["images"], dag["usd"]) for dag in document["by_dag"]] == [("shop", 3, "0.0705")]
    assert [tile["sub"].partition(" · ")[2] for tile in document["latest"]] == ["3 images"]
    assert document["latest"][0]["image"]["thumb"]


def test_batches_of_a_mapped_task_are_a_tile_each(batch, airflow, see):
    batch.map_index = 0
    result = batch.run()
    keep(airflow, batch, result=result)
    airflow.task(
        "shop",
        batch.run_id,
        "posters",
        map_index=1,
        state="queued",
        operator="GptImageBatchOperator",
        ended=None,
    )

    document = see(f"mapped/shop/{batch.run_id}/posters")

    assert [(tile["key"], tile["status"]) for tile in document["tiles"]] == [("0", "done"), ("1", "not_sent")]
    assert document["tiles"][0]["sub"] == "#0 · 3 of 3 images · $0.0705"
    assert document["tiles"][0]["place"].endswith("/posters/0")
