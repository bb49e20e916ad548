"""Pages of many task instances: mapped tasks, runs, Dags, assets, and all Dags together."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.airflow_database import NOW

RECORDED = "2026-11-26T18:11:53+00:00"


def result(number, path, **changes):
    """As a task of one image returns it."""
    image = {"url": "https://files.example.com/x", "path": path, "width": 1024, "height": 1024, "bytes": 5}
    given = {
        "generation_id": f"g{number}",
        "status": "completed",
        "images": [{**image, "sha256": f"{number:064x}"}],
        "path": path,
        "aspect_ratio": "1:1",
        "resolution": "1k",
        "credits": "4.7",
        "usd": "0.0235",
        "created_at": "2026-11-26T18:11:53+00:00",
        "completed_at": "2026-11-26T18:12:09.5+00:00",
        "reused": False,
        "spent": {"charged": "4.7", "refunded": "0", "usd": "0.0235"},
    }
    return given | changes


def state(status, number=0, **changes):
    """As a task of one image keeps it in Airflow's task state store."""
    record = {
        "state": status,
        "fingerprint": f"{number:064x}",
        "request": {"prompt": f"poster {number}", "resolution": "1k"},
        "payer": {"dag_id": "shop", "run_id": "r1", "task_id": "image", "clear_epoch": 3, "attempt": 1},
        "credits": "4.7",
        "usd": "0.0235",
        "intended_at": RECORDED,
        "answer_by": RECORDED,
        **changes,
    }
    return {"gpt_image": {"version": 1, "clear_epoch": 3, "records": [record]}}


FAILED = state(
    "failed",
    generation_id="gx",
    submitted_at=RECORDED,
    settled_at=RECORDED,
    refunds=1,
    failure={"error": "GenerationFailedError", "code": "upstream_error", "message": "Generation failed."},
)


@pytest.fixture
def image(airflow, tmp_path):
    """Writes down a task instance that made an image."""

    def image(number=0, run_id="r1", task_id="image", dag_id="shop", changes=(), **fields):
        made = result(number, str(tmp_path / f"{number}.png"), **dict(changes))
        rendered = {"prompt": f"poster {number}", "gpt_image_conn_id": "gpt_image_default"}
        airflow.task(dag_id, run_id, task_id, **{"result": made, "rendered": rendered, **fields})

    return image


@pytest.fixture
def mapped(airflow, image):
    """A mapped task of five: three images, one that failed, one under way."""
    airflow.run("shop", "r1")
    for index in range(3):
        image(index, map_index=index)
    spent = {"charged": "4.7", "refunded": "4.7", "usd": "0"}
    airflow.task("shop", "r1", "image", map_index=3, state="failed", kept=FAILED, spent=spent)
    under_way = state("submitted", 4, generation_id="g4", submitted_at=RECORDED)
    airflow.task("shop", "r1", "image", map_index=4, state="deferred", kept=under_way, ended=None)


def values(document):
    return {figure["label"]: figure["value"] for figure in document["figures"]}


def test_a_mapped_tasks_sheet_has_all_indexes_and_says_why_one_failed(mapped, show):
    document = show("mapped/shop/r1/image")

    tiles = document["tiles"]
    assert (document["kind"], document["live"], document["total"]) == ("sheet", True, 5)
    assert [tile["status"] for tile in tiles] == ["done", "done", "done", "failed", "in_flight"]
    assert [tile["caption"] for tile in tiles[:3]] == ["poster 0", "poster 1", "poster 2"]
    assert tiles[0]["sub"] == "#0 · $0.0235 · 16.5 s"
    assert tiles[3]["reason"] == (
        "upstream_error: Generation failed. Refunded. Clear this map index to try again."
    )
    assert tiles[4]["reason"] == "16 s so far. No worker slot is held."
    assert tiles[4]["sub"] == "#4 · $0.0235 charged"
    assert values(document) == {"Done": "3", "Paid": "$0.0940", "Refunded": "$0.0235"}
    assert tiles[3]["place"] == "task/shop/r1/image/3"


def test_a_status_filters_a_sheet_and_its_counts_stay(mapped, show):
    document = show("mapped/shop/r1/image", status="failed")

    assert [tile["key"] for tile in document["tiles"]] == ["3"]
    assert (document["counts"]["all"], document["total"]) == (5, 1)


def test_each_index_leads_to_all_of_them_and_back(mapped, show):
    single = show("task/shop/r1/image/1")
    sheet = show("mapped/shop/r1/image")

    assert single["switch"] == {
        "this": "task/shop/r1/image/1",
        "all": "mapped/shop/r1/image",
        "count": 5,
        "current": "this",
    }
    assert sheet["switch"]["current"] == "all"


def test_a_sheets_tile_opens_as_a_picture(mapped, show):
    assert show("mapped/shop/r1/image/tile/1")["generation_id"] == "g1"
    assert show("mapped/shop/r1/image/tile/77") is None


def test_a_run_has_its_tasks_each_with_six_tiles_and_what_more_there_is(airflow, image, show):
    airflow.run("shop", "r1")
    for index in range(9):
        image(index, map_index=index)
    image(20, task_id="poster")
    airflow.task("shop", "r1", "other", operator="BashOperator")

    document = show("run/shop/r1")

    many, alone = document["tasks"]
    assert (many["task_id"], many["count"], len(many["tiles"]), many["more"]) == ("image", 9, 6, 3)
    assert (many["place"], alone["place"]) == ("mapped/shop/r1/image", "task/shop/r1/poster/-1")
    assert many["usd"] == "0.2115"
    assert (alone["count"], alone["more"]) == (1, 0)
    assert (many["indexes"], alone["indexes"]) == (9, 0)
    assert len({tile["key"] for task in document["tasks"] for tile in task["tiles"]}) == 7
    assert show(f"run/shop/r1/tile/{alone['tiles'][0]['key']}")["generation_id"] == "g20"


def test_a_run_without_tasks_of_ours_says_so(airflow, show):
    airflow.run("shop", "r1")
    airflow.task("shop", "r1", "other", operator="BashOperator")

    assert show("run/shop/r1")["kind"] == "empty"


@pytest.fixture
def history(airflow, image):
    """Four runs, a day apart, the newest with two images, one that failed."""
    for day in range(4):
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day))
    image(0, "r0", map_index=0)
    image(1, "r0", map_index=1)
    image(2, "r1")
    spent = {"charged": "4.7", "refunded": "4.7", "usd": "0"}
    airflow.task("shop", "r2", "image", state="failed", kept=FAILED, spent=spent)
    image(3, "r3", task_id="poster")


def test_a_dag_shows_its_runs_by_date_newest_first_with_their_dollars(history, show):
    document = show("dag/shop")

    runs = document["runs"]
    assert [(run["run_id"], run["usd"], run["images"], run["share"]) for run in runs] == [
        ("r0", "0.0470", 2, 1.0),
        ("r1", "0.0235", 1, 0.5),
        ("r2", "0.0000", 0, 0.0),
        ("r3", "0.0235", 1, 0.5),
    ]
    assert [run["image"] is not None for run in runs] == [True, True, False, True]
    assert (runs[2]["status"], runs[2]["place"]) == ("failed", "run/shop/r2")
    assert values(document) == {
        "Last 4 runs": "4 images",
        "Spent": "$0.0940",
        "Median run": "$0.0235",
        "Refunded": "$0.0235",
    }
    assert document["chosen"]["run_id"] == "r0"
    assert [task["count"] for task in document["chosen"]["tasks"]] == [2]


@pytest.mark.parametrize(("asked", "shown"), [({}, 14), ({"runs": "30"}, 30), ({"runs": "90"}, 40)])
def test_a_dag_shows_as_many_of_its_newest_runs_as_are_asked_for(airflow, image, show, asked, shown):
    for day in range(40):
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day))
    image(0, "r0")

    document = show("dag/shop", **asked)

    assert len(document["runs"]) == shown
    assert document["ranges"] == [14, 30, 90]
    assert document["query"]["runs"] == int(asked.get("runs", 14))


def test_a_dag_whose_newest_runs_made_nothing_shows_more_of_them(airflow, image, show):
    for day in range(20):
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day))
    image(0, "r17")

    document = show("dag/shop")

    assert (len(document["runs"]), document["chosen"]["run_id"]) == (20, "r17")
    assert document["query"]["runs"] == 90


def test_a_chosen_run_with_one_picture_shows_it_large(history, show):
    chosen = show("dag/shop", run="r1")["chosen"]

    assert (chosen["run_id"], chosen["picture"]["generation_id"]) == ("r1", "g2")


def test_a_tasks_runs_are_its_own_alone(history, show):
    document = show("task-runs/shop/poster")

    assert [run["run_id"] for run in document["runs"] if run["images"]] == ["r3"]


def test_a_dag_without_tasks_of_ours_says_so(airflow, show):
    airflow.run("shop", "r1")

    assert show("dag/shop")["what"] == "No images here"


def test_an_asset_shows_its_newest_picture_and_the_events_of_dags_one_may_see(history, image, airflow, show):
    airflow.run("secret", "r1")
    image(9, dag_id="secret")
    asset = airflow.asset(
        ("shop", "r1", "image", -1), ("shop", "r0", "image", 1), ("secret", "r1", "image", -1)
    )

    document = show(f"asset/{asset}")

    assert document["newest"]["generation_id"] == "g1"
    assert [event["run_id"] for event in document["events"]] == ["r0", "r1"]
    assert document["events"][0]["tiles"][0]["place"] == "task/shop/r0/image/1"
    assert "secret" not in json.dumps(document)


def test_an_asset_of_others_is_empty(airflow, show):
    assert show("asset/12345")["kind"] == "empty"


def test_the_overview_has_the_latest_pictures_and_the_spending_of_dags_one_may_see(airflow, image, show):
    for day in range(3):
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day))
        image(day, f"r{day}", ended=NOW - timedelta(days=day))
    airflow.run("posters", "r1")
    image(7, dag_id="posters", ended=NOW - timedelta(minutes=2), rendered={"gpt_image_conn_id": "agency"})
    airflow.run("secret", "r1")
    image(9, dag_id="secret")

    document = show("all", readable=("shop", "posters"), days="7")

    assert [tile["caption"] for tile in document["latest"]] == ["shop", "posters", "shop", "shop"]
    assert document["latest"][1]["sub"] == "2 min ago · $0.0235"
    assert [(day["date"], day["usd"]) for day in document["days"][-3:]] == [
        ("2026-11-24", "0.0235"),
        ("2026-11-25", "0.0235"),
        ("2026-11-26", "0.0470"),
    ]
    assert len(document["days"]) == 7
    assert [(dag["name"], dag["images"], dag["usd"]) for dag in document["by_dag"]] == [
        ("shop", 3, "0.0705"),
        ("posters", 1, "0.0235"),
    ]
    assert [each["name"] for each in document["by_connection"]] == ["gpt_image_default", "agency"]
    assert values(document) == {
        "Images": "4",
        "Spent today": "$0.0470",
        "Spent in 7 days": "$0.0940",
        "Refunded": "$0.0000",
    }
    assert "secret" not in json.dumps(document)


def test_what_is_older_than_the_days_is_not_counted(airflow, image, show):
    airflow.run("shop", "r1", due=NOW - timedelta(days=20))
    image(1, ended=NOW - timedelta(days=20))

    assert show("all", days="7")["kind"] == "empty"
    assert values(show("all", days="30"))["Images"] == "1"


@pytest.mark.parametrize("operator", ["GptImageGenerateOperator", "OurOwnSubclass"])
def test_a_dag_that_had_the_task_only_in_the_middle_of_the_days_is_counted(operator, airflow, image, show):
    versions = [airflow.version("shop", number) for number in (1, 2, 3)]
    for day in range(25):
        version = versions[0 if day > 12 else 1 if day > 8 else 2]
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day), version=version)
        airflow.task("shop", f"r{day}", "other", operator="BashOperator", ended=NOW - timedelta(days=day))
    kept = state("stored", generation_id="g1", submitted_at=RECORDED, settled_at=RECORDED)
    for day in (9, 10, 11, 12):
        image(day, f"r{day}", ended=NOW - timedelta(days=day), operator=operator, kept=kept)

    document = show("all", days="30")

    assert [(dag["name"], dag["images"]) for dag in document["by_dag"]] == [("shop", 4)]


def test_a_dag_whose_versions_airflow_has_forgotten_is_found_by_its_oldest_and_newest_run(
    airflow, image, show
):
    for day in range(3):
        airflow.run("shop", f"r{day}", due=NOW - timedelta(days=day))
    image(1, "r2", ended=NOW - timedelta(days=2))

    assert [dag["images"] for dag in show("all")["by_dag"]] == [1]


def test_spending_of_a_run_that_failed_counts(airflow, show):
    airflow.run("shop", "r1")
    spent = {"charged": "9.4", "refunded": "4.7", "usd": "0.0235"}
    airflow.task("shop", "r1", "image", state="failed", kept=FAILED, spent=spent)

    assert values(show("all"))["Refunded"] == "$0.0235"
    assert values(show("all"))["Spent today"] == "$0.0235"


def test_a_page_of_many_leaves_out_results_that_are_far_larger_than_any_of_ours(airflow, image, show):
    airflow.run("shop", "r1")
    for index in range(40):
        image(index, map_index=index, changes={"metadata": "x" * (900_000 if index == 7 else 10)})

    statuses = [tile["status"] for tile in show("mapped/shop/r1/image")["tiles"]]

    assert [index for index, status in enumerate(statuses) if status != "done"] == [7]
    assert show("task/shop/r1/image/7")["picture"]["status"] == "done"


def test_whatever_results_say_every_page_is_a_document(airflow, show):
    airflow.run("shop", "r1")
    hostile = [
        "<script>",
        7,
        {"images": {}, "spent": []},
        {"images": [None], "usd": "-1", "spent": {"usd": 1.5}},
    ]
    for index, told in enumerate(hostile):
        airflow.task("shop", "r1", "image", map_index=index, result=told, rendered={"prompt": {"a": 1}})

    for place in ("mapped/shop/r1/image", "run/shop/r1", "dag/shop", "task-runs/shop/image", "all"):
        assert json.dumps(show(place), allow_nan=False)
