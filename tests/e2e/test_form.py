"""The connection form, in a real browser: what a person types is saved, and *Test* says what it found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.browser import browse, needs_browser
from tests.e2e.conftest import KEY, House

pytestmark = [pytest.mark.one_database, pytest.mark.timeout(600), needs_browser]

PROJECT = Path(__file__).parents[2]


def save_and_test(airflow: ScratchAirflow, emulator: EmulatorServer) -> None:
    """Do what a person does, up to what *Test* says in the end."""
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


def test_a_connection_that_is_saved_in_the_form_is_tested_and_works(
    house: House, emulator: EmulatorServer
) -> None:
    save_and_test(house.airflow, emulator)


@pytest.mark.skipif("GPT_IMAGE_AIRFLOW_34" not in os.environ, reason="GPT_IMAGE_AIRFLOW_34 names no python")
def test_it_works_on_airflow_3_4_too(emulator: EmulatorServer) -> None:
    home = Path(tempfile.mkdtemp(prefix="gpt-image-form-"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(home / "provider"), str(PROJECT)], check=True)
    (home / "dags").mkdir()
    try:
        with ScratchAirflow(
            home / "airflow",
            dags_folder=home / "dags",
            env={"PYTHONPATH": str(home / "provider")},
            python=Path(os.environ["GPT_IMAGE_AIRFLOW_34"]),
        ) as airflow:
            save_and_test(airflow, emulator)
    finally:
        shutil.rmtree(home, ignore_errors=True)
