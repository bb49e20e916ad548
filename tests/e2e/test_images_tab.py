"""Each place of the Images tab, opened in a running Airflow by a person with a browser.

A picture of each is kept in ``test-artefacts/images-tab``, or where ``GPT_IMAGE_ARTEFACTS`` says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser import browse, needs_browser
from tests.e2e.conftest import House
from tests.e2e.tab import LOADED, Tab

# With `make browser`.
pytestmark = [pytest.mark.one_database, pytest.mark.soak, pytest.mark.timeout(600), needs_browser]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab"
HOSTILE = "A tent <img src=x onerror=window.top.hacked=1></script><script>window.top.hacked=1</script>"


class Runs(NamedTuple):
    """The ids of the runs that are looked at, all of them at their end but for one task that waits."""

    single: str
    mapped: str
    batch: str


@pytest.fixture(scope="module")
def runs(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    for fault in (
        "generation:failed=invalid_request;match=Failed.",
        "submit:lost;match=Lost.",
        "generation:takes=600;match=Slow.",
        "generation:failed=invalid_request;match=Number 7.",
        "generation:failed=invalid_request;match=teapot 7.",
    ):
        house.emulator.fault(fault)
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"sku": f"T-{number:03}", "prompt": f"A teapot {number}."} for number in range(230)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    started = Runs(
        house.start("gallery", HOSTILE),
        house.start("gallery_mapped", HOSTILE),
        house.start("gallery_batch", "", file=str(file)),
    )
    house.finish("gallery_mapped", started.mapped, 300)
    house.finish("gallery_batch", started.batch, 300)
    for task_id, state in (("poster", "success"), ("not_kept", "success"), ("unknown", "failed")):
        house.airflow.wait_for_task("gallery", started.single, task_id, state, timeout=180)
    KEPT.mkdir(parents=True, exist_ok=True)
    yield started
    house.airflow.request("PATCH", f"/api/v2/dags/gallery/dagRuns/{started.single}", json={"state": "failed"})


@pytest.fixture(autouse=True)
def no_faults_left() -> None:
    """They are this module's, and hold for all of it."""


@pytest.fixture
def look(house: House, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a page of Airflow's at the tab of a view; a picture of what is seen in the end is kept."""
    opened = []

    def look(path: str, view: str, width: int = 1500) -> Tab:
        page_manager = browse(f"{house.airflow.url}{path}/plugin/gpt-images-{view}", width=width, height=950)
        page = page_manager.__enter__()
        opened.append((page_manager, page))
        return Tab(page)

    yield look
    for number, (page_manager, page) in enumerate(opened):
        page.screenshot(
            KEPT / f"{request.node.originalname}-{request.node.name[-30:]}-{number}.png".replace("/", "_")
        )
        page_manager.__exit__(None, None, None)


def task_page(runs: Runs, task_id: str) -> str:
    return f"/dags/gallery/runs/{runs.single}/tasks/{task_id}"


def test_a_picture_is_seen_large_with_its_prompt_its_price_and_its_file(house, runs, look):
    tab = look(task_page(runs, "poster"), "task-instance")

    tab.until_all_images_are_loaded(1)

    path = house.airflow.xcom("gallery", runs.single, "poster")["path"]
    text = tab.text()
    for said in (HOSTILE, "16:9", "1536", "$0.0235", path):
        assert said in text
    assert tab.run("document.querySelector('main img').naturalWidth") >= 1024
    assert tab.page.run("window.hacked") is None
    tab.press("button", "Full size")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth === 1536")


@pytest.mark.parametrize(
    ("task_id", "says"),
    [
        ("not_kept", "Not kept"),
        ("elsewhere", "gallery_roots"),
        ("failed", "Refunded."),
        ("unknown", "may or may not be paid for"),
        ("waiting", "The API is making this picture"),
        ("foreign", "No images here"),
    ],
)
def test_a_task_without_a_picture_says_what_became_of_it(runs, look, task_id, says):
    tab = look(task_page(runs, task_id), "task-instance")

    tab.until_text(says)

    assert tab.page.run("window.hacked") is None


def test_all_pictures_of_a_mapped_task_are_behind_a_switch_in_the_tab_of_each(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}/tasks/picture/mapped/3", "task-instance")
    tab.until_all_images_are_loaded(1)

    tab.press("a, button", "All 24")

    tab.until_all_images_are_loaded(23)
    tab.press("button", "Failed")
    tab.until("document.querySelectorAll('.sheet li').length === 1")


def test_a_batch_is_paged_and_filtered_and_a_picture_of_it_is_opened(runs, look):
    tab = look(f"/dags/gallery_batch/runs/{runs.batch}/tasks/pictures", "task-instance")

    tab.until_all_images_are_loaded(199)
    tab.press("button[aria-label*=ext]")
    tab.until_all_images_are_loaded(30)
    tab.run(
        "(e => { e.focus(); e.value = 'T-009'; e.dispatchEvent(new frame.Event('input', {bubbles: true})); })"
        "(document.querySelector('input[type=search]'))"
    )
    tab.until_all_images_are_loaded(1)
    tab.press(".sheet button.tile")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth")
    assert "A teapot 9." in tab.run("document.querySelector('dialog[open]').innerText")


def test_a_sheet_can_be_used_with_the_keyboard_alone(runs, look):
    tab = look(f"/dags/gallery_batch/runs/{runs.batch}/tasks/pictures", "task-instance")
    tab.until_all_images_are_loaded(199)

    tab.run("(frame.focus(), document.querySelector('.sheet button.tile[tabindex=\"0\"]').focus())")
    tab.key("ArrowRight")
    tab.key("ArrowRight")
    tab.key("Enter")
    tab.until("document.querySelector('dialog[open] h2')?.innerText.includes('T-002')")
    tab.key("ArrowRight")
    tab.until("document.querySelector('dialog[open] h2')?.innerText.includes('T-003')")
    tab.key("Escape")

    tab.until("!document.querySelector('dialog[open]') && document.activeElement.innerText.includes('T-003')")


@pytest.mark.parametrize(
    ("path", "view", "images"),
    [
        ("/dags/gallery_mapped/runs/{runs.mapped}", "dag-run", 6),
        ("/dags/gallery_mapped/tasks/picture", "task", 7),
        ("/dags/gallery_mapped", "dag", 7),
        ("/dags/gallery_batch", "dag", 7),
        ("", "nav", 16),
    ],
)
def test_runs_dags_tasks_and_the_overview_show_pictures(runs, look, path, view, images):
    tab = look(path.format(runs=runs), view)

    tab.until_all_images_are_loaded(images)

    assert "$" in tab.text()


def test_every_tab_is_there_to_be_pressed(house, runs):
    paths = [
        task_page(runs, "poster"),
        f"/dags/gallery/runs/{runs.single}",
        "/dags/gallery/tasks/poster",
        "/dags/gallery",
    ]
    for path in paths:
        with browse(f"{house.airflow.url}{path}", width=1500, height=950) as page:
            page.until("[...document.querySelectorAll('a[href*=\"/plugin/gpt-images-\"]')].length >= 2")


def test_at_380_pixels_a_sheet_has_two_columns(house, runs):
    place = f"/gpt-image/mapped/gallery_mapped/{runs.mapped}/picture"
    with browse(f"{house.airflow.url}{place}", width=380, height=800) as page:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=380, height=800, deviceScaleFactor=1, mobile=False
        )
        page.until(f"{LOADED} === 23")
        page.screenshot(KEPT / "narrow.png")
        columns = page.run(
            "new Set([...document.querySelectorAll('.sheet li')].map(e => e.getBoundingClientRect().x)).size"
        )
        wide = page.run("document.documentElement.scrollWidth")

    assert (columns, wide) == (2, 380)


def test_a_batch_is_watched_while_its_pictures_come(house, runs, look, tmp_path):
    house.emulator.fault("generation:takes=25;match=kettle")
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"sku": f"K-{n}", "prompt": f"A kettle {n}."}) + "\n" for n in range(3))
    )
    run_id = house.start("gallery_batch", "", file=str(file))
    house.airflow.wait_for_task("gallery_batch", run_id, "pictures", {"running", "deferred"}, timeout=120)
    tab = look(f"/dags/gallery_batch/runs/{run_id}/tasks/pictures", "task-instance")

    tab.until_text("In flight")
    tab.run("frame.theSamePage = true")
    house.finish("gallery_batch", run_id)

    tab.until_all_images_are_loaded(3)
    assert tab.run("frame.theSamePage") is True


def test_a_picture_of_a_run_leads_to_its_own_tab_in_airflow(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}", "dag-run")
    tab.until_all_images_are_loaded(6)

    tab.press("a.tile")

    tab.page.until("location.pathname.includes('/tasks/picture/mapped/0/')")
    tab.page.until("location.pathname.endsWith('/plugin/gpt-images-task-instance')")
    tab.until_all_images_are_loaded(1)


def test_show_all_leads_to_the_sheet_of_the_task_inside_the_frame_or_in_airflow(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}", "dag-run")
    tab.until_all_images_are_loaded(6)

    tab.press("a", "Show all 24")

    tab.until_all_images_are_loaded(23)
