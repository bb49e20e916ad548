"""Tasks as real Airflows have them: mapped, in groups, cleared, with odd ids and results elsewhere."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.plugins.images.documents.places import Place
from tests.airflow_database import NOW
from tests.batches import BatchTask
from tests.task_instance import TaskInstance

RUN = "manual__2026-01-01T00:00:00+00:00"
# As Airflow's backend of common.io writes a result that it put on a store.
ELSEWHERE = "s3://xcoms@bucket/shop/run/poster/0c4d.json"


@pytest.fixture
def poster(api, airflow, tmp_path):
    """Runs a task of one image, and writes it down."""
    api.settings(duration=0.05)

    def poster(*, dag_id="shop", run_id=RUN, task_id="poster", **kept):
        given = {"task_id": task_id, "prompt": "a red teapot", "destination": str(tmp_path / "images")}
        given |= {"deferrable": False, "poll_interval": 0.05, "retries": 3}
        task = TaskInstance(
            lambda **more: GptImageGenerateOperator(**given | more), dag_id=dag_id, task_id=task_id
        )
        task.run_id = run_id
        result = task.run()
        airflow.run(dag_id, run_id)
        airflow.keep(task, **{"result": result, **kept})

    return poster


@pytest.mark.parametrize("result", [None, ELSEWHERE], ids=["not pushed", "kept elsewhere"])
def test_a_picture_whose_result_is_not_in_the_database_is_shown_by_its_record(result, poster, show):
    poster(result=result)

    document = show(f"task/shop/{RUN}/poster/-1")

    picture = document["picture"]
    assert (picture["status"], picture["reused"], picture["paid"]) == ("done", False, "0.0235")
    assert picture["images"][0]["problem"] is None
    assert picture["images"][0]["stage"]
    assert [tile["status"] for task in show(f"run/shop/{RUN}")["tasks"] for tile in task["tiles"]] == ["done"]


@pytest.mark.parametrize("result", [None, ELSEWHERE], ids=["not pushed", "kept elsewhere"])
def test_a_batch_whose_result_is_not_in_the_database_is_shown_by_what_it_stored(
    result, api, airflow, show, tmp_path
):
    api.settings(duration=0.05)
    task = BatchTask(tmp_path / "posters", deferrable=False)
    airflow.run("shop", task.run_id)
    task.run()
    airflow.keep(task, operator="GptImageBatchOperator", result=result)

    document = show(f"task/shop/{task.run_id}/posters/-1")

    assert (document["kind"], document["counts"]["done"], document["live"]) == ("batch", 3, False)
    assert {"label": "Paid", "value": "$0.0705", "note": None} in document["figures"]


def test_a_batch_of_which_nothing_is_known_any_more_is_not_called_unsent(airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "posters", operator="GptImageBatchOperator", result=ELSEWHERE)

    document = show("task/shop/r1/posters/-1")

    assert document["kind"] == "empty"
    assert "The task succeeded" in document["why"]
    assert "Clear" not in document["do"]


IDS = {
    "a group": ("shop", RUN, "group.inner.poster"),
    "words of any language": ("läden-日本.v2", "manual__日本", "plakát"),
    "spaces": ("shop", "manual__a b", "poster"),
    "percents": ("shop", "manual__50%25 off", "poster"),
    "signs": ("shop", "manual__a?b#c&d=e;f", "poster"),
    "braces": ("shop", "manual__{MAP_INDEX}", "poster"),
    "the longest": ("d" * 250, f"manual__{'x' * 242}", "t" * 250),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_whatever_ids_are_a_page_leads_to_the_others(ids, poster, show):
    dag_id, run_id, task_id = ids
    poster(dag_id=dag_id, run_id=run_id, task_id=task_id)

    def follow(path):
        return show(unquote(path), readable=(dag_id,))

    run = follow(Place("run", dag_id, run_id).path)
    [tile] = run["tasks"][0]["tiles"]
    picture = follow(tile["place"])["picture"]
    [bar] = follow(Place("dag", dag_id).path)["runs"]

    assert picture["status"] == "done"
    assert bar["place"] == Place("run", dag_id, run_id).path
    assert show("all", readable=(dag_id,))["by_dag"][0]["name"] == dag_id


def test_batches_of_a_mapped_task_in_a_group_are_a_sheet_and_each_has_its_page(api, airflow, show, tmp_path):
    api.settings(duration=0.05)
    airflow.run("shop", RUN)
    for index in range(2):
        task = BatchTask(tmp_path / "posters", deferrable=False, task_id="group.posters")
        task.map_index = index
        task.given["requests"] = [f"poster {index}", f"card {index}"]
        airflow.keep(task, operator="GptImageBatchOperator", result=task.run())

    sheet = show(f"mapped/shop/{RUN}/group.posters")

    assert [tile["sub"] for tile in sheet["tiles"]] == [
        "#0 · 2 of 2 images · $0.0470",
        "#1 · 2 of 2 images · $0.0470",
    ]
    for index, tile in enumerate(sheet["tiles"]):
        batch = show(tile["place"])
        assert (batch["kind"], batch["switch"]["count"]) == ("batch", 2)
        assert batch["tiles"][0]["prompt"] == f"poster {index}"


def test_a_second_try_at_work_is_not_called_failed(airflow, show, api, tmp_path):
    task = BatchTask(tmp_path / "posters", deferrable=True)
    api.settings(duration=900)
    airflow.run("shop", task.run_id)
    with pytest.raises(TaskDeferred):
        task.begin()
    task.next_try()
    airflow.keep(task, operator="GptImageBatchOperator", state="running", ended=None)

    document = show(f"task/shop/{task.run_id}/posters/-1")

    assert (document["live"], document["counts"]["in_flight"], document["counts"]["failed"]) == (True, 3, 0)


@pytest.mark.parametrize(
    ("state", "tries", "kind", "live"),
    [
        (None, (1, 4), "empty", True),  # cleared, and Airflow 3.4 has emptied its state
        ("removed", (0, 3), "empty", False),
        ("failed", (1, 0), "single", False),
        ("upstream_failed", (0, 3), "empty", False),
        ("restarting", (1, 3), "empty", True),
    ],
)
def test_a_task_of_which_nothing_is_on_record_has_a_page(state, tries, kind, live, airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "poster", state=state, tries=tries, ended=None if live else NOW)

    document = show("task/shop/r1/poster/-1")

    assert (document["kind"], document["live"]) == (kind, live)
    assert ("Clear" in (document.get("do") or "")) == (state == "upstream_failed")
