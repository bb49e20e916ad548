"""Pictures are for those who have logged in: in the tabs, and in the form that asks which to publish."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ScratchAirflow
from stack.rest import ApiError
from tests.browser import Page, browse, needs_browser
from tests.e2e import airflow_3_4
from tests.e2e.conftest import EXAMPLES

# With `make browser`.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600), needs_browser]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab"
PASSWORDS = {"anna": "annas-password", "vera": "veras-password", "visitor": "visitors-password"}

# Airflow may leave out the tab's frame: it knows neither the Dag nor the task for who may not read them.
NO_FRAME_OR_A_REFUSAL = """(() => {
    const frame = document.querySelector('iframe');
    return !frame || !!frame.contentDocument?.body?.innerText.includes('You may not see this Dag');
})()"""


class AirflowWithLogins(ScratchAirflow):
    """
    An Airflow that asks who is there, and knows who may read which Dag.

    Anna is its administrator, Vera may look at one Dag, and a visitor at none.
    """

    @property
    def token(self) -> str:
        if self._token is None:
            who = {"username": "anna", "password": PASSWORDS["anna"]}
            answer = self.client.post("/auth/token", json=who)
            if answer.is_error:
                raise ApiError(answer)
            self._token = str(answer.json()["access_token"])
        return self._token


@pytest.fixture(
    scope="module",
    params=["pinned", pytest.param("airflow_3_4", marks=airflow_3_4.needs_airflow_3_4)],
)
def airflow(request: pytest.FixtureRequest, emulator: EmulatorServer) -> Iterator[AirflowWithLogins]:
    home = Path(tempfile.mkdtemp(prefix="gpt-image-login-"))
    is_3_4 = request.param == "airflow_3_4"
    modules = home / "modules"
    modules.mkdir()
    shutil.copy(PROJECT / "tests" / "dag_permissions.py", modules)
    if is_3_4:
        airflow_3_4.with_our_package(modules)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    env = {
        "PYTHONPATH": str(modules),
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(home / "images"),
        "AIRFLOW__CORE__AUTH_MANAGER": "dag_permissions.DagPermissions",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "anna:admin,vera:viewer,visitor:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    python = airflow_3_4.python() if is_3_4 else None
    try:
        with AirflowWithLogins(home / "airflow", dags_folder=EXAMPLES, env=env, python=python) as airflow:
            yield airflow
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def run_id(airflow: AirflowWithLogins) -> str:
    """Of ``choose_picture``, whose form waits."""
    airflow.wait_for_dag("choose_picture")
    airflow.unpause("choose_picture")
    run_id = airflow.trigger("choose_picture")
    airflow.wait_for_task("choose_picture", run_id, "first.choose", "awaiting_input", timeout=180)
    return run_id


def log_in(page: Page, who: str) -> None:
    page.type("input[name=username]", who)
    page.type("input[name=password]", PASSWORDS[who])
    page.press("button[type=submit]")
    page.until("!document.querySelector('input[name=password]')")
    page.until_text("Browse")


def addresses(run_id: str) -> list[str]:
    task = f"choose_picture/{run_id}/first.picture"
    return [
        f"/gpt-image/result/{task}/0/0",
        f"/gpt-image/task/{task}/0",
        f"/gpt-image/data/task/{task}/0",
        f"/gpt-image/mapped/{task}",
        f"/gpt-image/run/choose_picture/{run_id}",
        "/gpt-image/dag/choose_picture",
        "/gpt-image/all",
        "/gpt-image/data/all",
    ]


def test_nothing_is_shown_without_a_login_and_everything_with_one(airflow, run_id):
    seen = {}
    for path in addresses(run_id):
        token = {"Authorization": f"Bearer {airflow.token}"}
        without, wrong, with_one = (
            airflow.client.get(path, headers=headers).status_code
            for headers in ({}, {"Authorization": "Bearer nonsense"}, token)
        )
        seen[path] = (without, wrong, with_one)

    assert {path: codes for path, codes in seen.items() if codes != (401, 403, 200)} == {}


@pytest.mark.parametrize("who", ["vera", "anna"])
def test_who_has_logged_in_sees_the_pictures_in_the_form_and_in_the_tabs(airflow, run_id, who):
    run = f"/dags/choose_picture/runs/{run_id}/tasks"
    with browse(f"{airflow.url}{run}/first.choose/required_actions", width=1500, height=1080) as page:
        log_in(page, who)
        page.call("Page.navigate", url=f"{airflow.url}{run}/first.choose/required_actions")
        form = images_of(page, "document", "td img", 3)
        page.until("document.fonts.status === 'loaded'")
        page.screenshot(KEPT / f"form-{who}.png")
        page.call(
            "Page.navigate", url=f"{airflow.url}{run}/first.picture/mapped/1/plugin/gpt-images-task-instance"
        )
        tab = images_of(page, "document.querySelector('iframe').contentDocument", "main img", 1)
        page.call("Page.navigate", url=f"{airflow.url}/plugin/gpt-images-nav")
        overview = images_of(page, "document.querySelector('iframe').contentDocument", "main img", 3)
        page.screenshot(KEPT / f"overview-{who}.png")

    assert [form, tab, overview] == [3, 1, 3]


def test_who_may_not_read_a_dag_sees_none_of_its_pictures_wherever_they_look(airflow, run_id):
    run = f"/dags/choose_picture/runs/{run_id}"
    token = {"Authorization": f"Bearer {airflow.token}"}
    place = f"/gpt-image/data/task/choose_picture/{run_id}/first.picture/0"
    picture = airflow.client.get(place, headers=token).json()["picture"]["images"][0]["stage"]
    seen = {}
    with browse(airflow.url, width=1500, height=950) as page:
        log_in(page, "visitor")
        for path in [*addresses(run_id), picture]:
            page.visit(f"{airflow.url}{path}")
            text = page.text()
            refused = any(words in text for words in ("You may not see this Dag", "No images yet"))
            seen[path] = refused and page.run("document.images.length") == 0
        for path in (
            f"{run}/tasks/first.picture/mapped/0/plugin/gpt-images-task-instance",
            f"{run}/plugin/gpt-images-dag-run",
            "/dags/choose_picture/plugin/gpt-images-dag",
        ):
            page.visit(f"{airflow.url}{path}")
            page.until_text("Details")
            seen[path] = page.until(NO_FRAME_OR_A_REFUSAL)
        page.screenshot(KEPT / "visitor.png")

    assert {path: refused for path, refused in seen.items() if not refused} == {}


def images_of(page: Page, document: str, selector: str, count: int) -> Any:
    """Wait until a document has so many images, and all of them are loaded."""
    return page.until(
        f"""(() => {{ try {{
            const images = [...{document}.querySelectorAll({json.dumps(selector)})];
            const whole = images.filter(e => e.complete && e.naturalWidth);
            return images.length === {count} && whole.length === {count} ? {count} : 0;
        }} catch {{ return 0; }} }})()"""
    )
