"""The Images tab and the review form of an Airflow that is served beneath a path, as behind a gateway."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.browser import browse, needs_browser
from tests.e2e.conftest import EXAMPLES
from tests.e2e.tab import Tab

# With `make browser`.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600), needs_browser]

IN_THE_FORM = "[...document.querySelectorAll('td img')].filter(e => e.naturalWidth >= 256).length"


@pytest.fixture
def airflow(emulator: EmulatorServer) -> Iterator[ScratchAirflow]:
    home = Path(tempfile.mkdtemp(prefix="gpt-image-path-"))
    env = {
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(home / "images"),
    }
    try:
        with ScratchAirflow(home / "airflow", dags_folder=EXAMPLES, env=env, path="/team") as airflow:
            yield airflow
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_pages_pictures_and_links_are_found_beneath_the_path(airflow: ScratchAirflow) -> None:
    airflow.wait_for_dag("choose_picture")
    airflow.unpause("choose_picture")
    run_id = airflow.trigger("choose_picture")
    airflow.wait_for_task("choose_picture", run_id, "first.choose", "awaiting_input", timeout=180)
    run = f"{airflow.url}/dags/choose_picture/runs/{run_id}"
    link = airflow.xcom("choose_picture", run_id, "first.picture", 0, key="_link_GalleryLink")

    with browse(f"{run}/plugin/gpt-images-dag-run", width=1500, height=950) as page:
        tab = Tab(page)
        tab.until_all_images_are_loaded(3)
        tab.press("a.tile")
        page.until(f"location.pathname === {link!r}")
        tab.until_all_images_are_loaded(1)
        tab.press("a, button", "All 3")
        tab.until_all_images_are_loaded(3)
        page.visit(f"{airflow.url}/plugin/gpt-images-nav")
        tab.until_all_images_are_loaded(3)
        page.visit(f"{run}/tasks/first.choose/required_actions")
        page.until(f"{IN_THE_FORM} === 3")
