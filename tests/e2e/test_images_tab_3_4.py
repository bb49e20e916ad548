"""What the Images tab has on Airflow 3.4 only: the page of an asset, iterations, no tab on foreign tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.browser import browse, needs_browser
from tests.e2e.airflow_3_4 import airflow_3_4, needs_airflow_3_4
from tests.e2e.tab import Tab
from tests.outages import until

pytestmark = [
    pytest.mark.one_database,
    pytest.mark.timeout(600),
    needs_browser,
    needs_airflow_3_4,
]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab-3.4"
# The log leads there, too, with the whole address.
TABS = '[...document.querySelectorAll(\'a[href^="/"][href*="/plugin/gpt-images-task-instance"]\')].length'


@pytest.fixture(scope="module")
def airflow(emulator: EmulatorServer) -> Iterator[ScratchAirflow]:
    KEPT.mkdir(parents=True, exist_ok=True)
    with airflow_3_4(emulator) as airflow:
        for dag_id in ("hero_image", "publish_hero_image", "product_images", "choose_picture_loop"):
            airflow.wait_for_dag(dag_id)
            airflow.unpause(dag_id)
        yield airflow


@pytest.fixture(scope="module")
def run_ids(airflow: ScratchAirflow) -> dict[str, str]:
    run_ids = {dag_id: airflow.trigger(dag_id) for dag_id in ("hero_image", "product_images")}
    for dag_id, run_id in run_ids.items():
        assert airflow.wait_for_run(dag_id, run_id, timeout=300) == "success"
    return run_ids


def test_an_asset_shows_its_newest_picture_and_those_of_its_events(airflow, run_ids):
    [asset] = airflow.request("GET", "/api/v2/assets", params={"name_pattern": "hero_image"}).json()["assets"]

    with browse(f"{airflow.url}/gpt-image/asset/{asset['id']}", width=1112, height=676) as page:
        page.until("[...document.querySelectorAll('main img')].filter(e => e.naturalWidth).length >= 2")
        page.screenshot(KEPT / "asset.png")
        text = page.text()
    with browse(f"{airflow.url}/assets/{asset['id']}", width=1500, height=950) as page:
        page.press("[href*=gpt-images-asset]")
        Tab(page).until("[...document.querySelectorAll('main img')].some(e => e.naturalWidth)")
        page.screenshot(KEPT / "asset-page.png")

    assert "hero_image" in text


@pytest.mark.parametrize(
    ("task", "shown"),
    [("image/mapped/0", True), ("summary", False), ("products", False)],
)
def test_only_tasks_of_ours_have_the_tab(airflow, run_ids, task, shown):
    page_of_task = f"{airflow.url}/dags/product_images/runs/{run_ids['product_images']}/tasks/{task}"

    with browse(page_of_task, width=1500, height=950) as page:
        page.until("document.querySelectorAll('a[href*=\"/tasks/\"]').length > 3")
        page.until_text("Details")
        if shown:
            page.until(f"{TABS} === 1")
        tabs = page.run(TABS)

    assert tabs == (1 if shown else 0)


@pytest.mark.parametrize(
    ("path", "view", "images"),
    [
        ("/dags/product_images/runs/{product_images}/tasks/image/mapped/0", "task-instance", 1),
        ("/dags/product_images/runs/{product_images}", "dag-run", 6),
        ("/dags/product_images/tasks/image", "task", 7),
        ("/dags/product_images", "dag", 7),
        ("", "nav", 7),
    ],
)
def test_the_other_places_show_their_pictures_as_on_3_3(airflow, run_ids, path, view, images):
    address = f"{airflow.url}{path.format(**run_ids)}/plugin/gpt-images-{view}"

    with browse(address, width=1500, height=950) as page:
        Tab(page).until_all_images_are_loaded(images)
        page.screenshot(KEPT / f"{view}.png")


def test_the_sheet_of_a_looped_task_has_the_pictures_of_all_iterations(airflow, run_ids):
    run_id = airflow.trigger("choose_picture_loop")
    until(lambda: "awaiting_input" in states(airflow, run_id), "the form to be there", 180)

    place = f"/gpt-image/mapped/choose_picture_loop/{run_id}/round.picture"
    with browse(f"{airflow.url}{place}", width=1112, height=676) as page:
        page.until("[...document.querySelectorAll('main img')].filter(e => e.naturalWidth).length === 3")
        page.screenshot(KEPT / "loop.png")


def states(airflow: ScratchAirflow, run_id: str) -> set[str]:
    return {task["state"] for task in airflow.task_instances("choose_picture_loop", run_id)}
