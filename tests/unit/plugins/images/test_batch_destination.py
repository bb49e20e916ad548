"""A batch at work, where others write to its destination, too: what isn't a record tells nothing."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.batches import BatchTask

PLACE = "task/shop/manual__2026-01-01T00:00:00+00:00/posters/-1"


@pytest.fixture
def waiting(api, airflow, tmp_path):
    """A batch of three that waits in the triggerer: its destination."""
    api.settings(duration=900)
    task = BatchTask(tmp_path / "posters", deferrable=True)
    airflow.run("shop", task.run_id)
    with pytest.raises(TaskDeferred):
        task.begin()
    airflow.keep(task, operator="GptImageBatchOperator", state="deferred", ended=None)
    return task.folder


def records(folder):
    return sorted((folder / "records").rglob("*~*~*.json"))


@pytest.mark.parametrize(
    "text", ["", "<script>", "[" * 100_000, '{"state": "stored"}', "x" * 2_000_000], ids=len
)
def test_a_record_that_is_none_tells_what_its_name_tells(text, waiting, show):
    records(waiting)[0].write_text(text)

    document = show(PLACE)

    assert document["counts"]["in_flight"] == 3
    assert json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a": 1}', "x" * 2_000_000], ids=len)
def test_a_sidecar_that_is_none_shows_no_image(text, waiting, show):
    name = json.loads(records(waiting)[0].read_text())["name"]
    (waiting / "items").mkdir(exist_ok=True)
    (waiting / f"{name}.json").write_text(text)

    document = show(PLACE)

    [done] = [tile for tile in document["tiles"] if tile["status"] == "done"]
    assert done["image"] is None


def test_a_sidecar_that_names_files_elsewhere_shows_no_image(waiting, show, tmp_path):
    record = json.loads(records(waiting)[0].read_text())
    image = {"url": "u", "name": "plan.jsonl", "width": 1, "height": 1, "bytes": 1}
    (waiting / "items").mkdir(exist_ok=True)
    (waiting / f"{record['name']}.json").write_text(
        json.dumps(record | {"state": "stored", "images": [image]})
    )

    [done] = [tile for tile in show(PLACE)["tiles"] if tile["status"] == "done"]

    assert done["image"] is None


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[" * 100_000, '{"version": 1, "scope": "any", "variants": 1}\n'], ids=len
)
def test_a_plan_that_is_none_is_a_problem_and_no_crash(text, waiting, show):
    (waiting / "plan.jsonl").write_text(text)

    assert show(PLACE)["kind"] in ("problem", "empty")


def test_another_batchs_plan_is_not_taken_for_this_ones(waiting, show):
    lines = (waiting / "plan.jsonl").read_text().splitlines()
    (waiting / "plan.jsonl").write_text("\n".join([*lines[:1], *reversed(lines[1:])]) + "\n")

    assert show(PLACE)["kind"] == "empty"


def test_names_that_are_no_records_are_left_out(waiting, show):
    (records(waiting)[0].parent / "..json").write_text("{}")
    (records(waiting)[0].parent / "attempt-<script>.json").write_text("{}")

    assert show(PLACE)["counts"]["in_flight"] == 3
