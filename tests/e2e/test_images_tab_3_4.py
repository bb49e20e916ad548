"""What the Images tab has on Airflow 3.4 only: the page of an asset, iterations, no tab on foreign tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser import browse, needs_browser
from tests.e2e.conftest import House
from tests.e2e.tab import Tab
from tests.outages import until

# With `make browser`.
pytestmark = [pytest.mark.only_3_4, pytest.mark.soak, pytest.mark.timeout(600), needs_browser]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab-3.4"
# The log leads there, too, with the whole address.
TABS = '[...document.querySelectorAll(\'a[href^="/"][href*="/plugin/gpt-images-task-instance"]\')].length'


@pytest.fixture(scope="module")
def run_ids(house: House) -> dict[str, str]:
    run_ids = {dag_id: house.start(dag_id, "A tent") for dag_id in ("hero_image", "product_images")}
    for dag_id, run_id in run_ids.items():
        assert house.finish(dag_id, run_id, 300) == "success"
    return run_ids


def test_an_asset_shows_its_newest_picture_and_those_of_its_events(house, run_ids):
    [asset] = house.airflow.request("GET", "/api/v2/assets", params={"name_pattern": "hero_image"}).json()[
        "assets"
    ]

    with browse(f"{house.airflow.url}/gpt-image/asset/{asset['id']}", width=1112, height=676) as page:
        page.until("[...document.querySelectorAll('main img')].filter(e => e.naturalWidth).length >= 2")
        page.screenshot(KEPT / "asset.png")
        text = page.text()
    with browse(f"{house.airflow.url}/assets/{asset['id']}", width=1500, height=950) as page:
        page.press("[href*=gpt-images-asset]")
        Tab(page).until("[...document.querySelectorAll('main img')].some(e => e.naturalWidth)")
        page.screenshot(KEPT / "asset-page.png")

    assert "hero_image" in text


@pytest.mark.parametrize(
    ("task", "shown"),
    [("image/mapped/0", True), ("summary", False), ("products", False)],
)
def test_only_tasks_of_ours_have_the_tab(house, run_ids, task, shown):
    page_of_task = f"{house.airflow.url}/dags/product_images/runs/{run_ids['product_images']}/tasks/{task}"

    with browse(page_of_task, width=1500, height=950) as page:
        page.until("document.querySelectorAll('a[href*=\"/tasks/\"]').length > 3")
        page.until_text("Details")
        if shown:
            page.until(f"{TABS} === 1")
        tabs = page.run(TABS)

    assert tabs == (1 if shown else 0)


def test_the_sheet_of_a_looped_task_has_the_pictures_of_all_iterations(house, run_ids):
    run_id = house.start("choose_picture_loop", "A tent")
    until(lambda: "awaiting_input" in states(house, run_id), "the form to be there", 180)

    place = f"/gpt-image/mapped/choose_picture_loop/{run_id}/round.picture"
    with browse(f"{house.airflow.url}{place}", width=1112, height=676) as page:
        page.until("[...document.querySelectorAll('main img')].filter(e => e.naturalWidth).length === 3")
        page.screenshot(KEPT / "loop.png")


def states(house: House, run_id: str) -> set[str]:
    return {task["state"] for task in house.airflow.task_instances("choose_picture_loop", run_id)}
