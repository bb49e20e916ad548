"""The connection form, in a real browser: what a person types is saved, and *Test* says what it found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.browser import PROGRAM, browse
from tests.e2e.conftest import KEY

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(params=["pinned", "3.4"])
def airflow(request: pytest.FixtureRequest) -> Iterator[ScratchAirflow]:
    python = os.environ.get("GPT_IMAGE_AIRFLOW_34") if request.param == "3.4" else sys.executable
    if not python:
        pytest.skip("GPT_IMAGE_AIRFLOW_34 names no python")
    home = Path(tempfile.mkdtemp(prefix="gpt-image-form-"))
    env = {}
    if request.param == "3.4":
        root = Path(__file__).parents[2]
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*install, "--target", str(home / "provider"), str(root)], check=True)
        env = {"PYTHONPATH": str(home / "provider")}
    (home / "dags").mkdir()
    try:
        with ScratchAirflow(
            home / "airflow", dags_folder=home / "dags", env=env, python=Path(python)
        ) as started:
            yield started
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_connection_that_is_saved_in_the_form_is_tested_and_works(
    airflow: ScratchAirflow, emulator: EmulatorServer
) -> None:
    with browse(f"{airflow.url}/connections") as page:
        page.press_text("button", "Add Connection")
        page.type("input[name=connection_id]", "from_the_form")
        page.type("[role=dialog] input[role=combobox]", "GPT Image")
        page.press("[role=option]")
        host, _, port = emulator.url.rpartition(":")
        page.type("input[name=host]", host)
        page.type("input[name=port]", port)
        page.type("input[name=password]", KEY)
        page.press_text("[role=dialog] button", "Save")
        page.until("!document.querySelector('[role=dialog]')")
        page.until_text("from_the_form")
        page.press("td button[aria-label*='Test']")
        page.until_text("Works. The balance is", timeout=40)
