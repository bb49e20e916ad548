"""The connection form, in a real browser: what a person types is saved, and *Test* says what it found."""

from __future__ import annotations

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.browser import browse, needs_browser
from tests.e2e.conftest import KEY, House

pytestmark = [pytest.mark.one_database, pytest.mark.on_3_4, pytest.mark.timeout(600), needs_browser]


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
