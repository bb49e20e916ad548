"""A person decides in Airflow's review form: over its API, and in a real browser."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from stack.airflow import ScratchAirflow
from stack.rest import Region, region_of
from tests.browser import Page, browse, needs_browser
from tests.e2e.conftest import House
from tests.e2e.tab import Tab
from tests.outages import until

# With `make browser`.
pytestmark = [pytest.mark.one_database, pytest.mark.soak, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "review"

# Its pictures as they are drawn: those that didn't load have no width.
WIDTHS = "[...document.querySelectorAll('td img')].map(e => e.complete ? e.naturalWidth : -1)"


class Review:
    """A run of an example whose candidates a person looks at, as that person sees it."""

    def __init__(self, house: House, dag_id: str, about: str) -> None:
        self.house, self.airflow, self.dag_id = house, house.airflow, dag_id
        self.prompt = house.prompt(about)
        self.run_id = house.start(dag_id, self.prompt)

    def form(self, task_id: str) -> dict[str, Any]:
        """Wait until the form is there, and could have been read by a person."""
        task = self.airflow.wait_for_task(self.dag_id, self.run_id, task_id, "awaiting_input", timeout=180)
        until_airflow_knows_that_it_waits(self.airflow, task["id"])
        return self.airflow.request("GET", self._path(task_id)).json()

    def region(self, task_id: str, iteration: int) -> Region:
        """Wait until a loop's iteration asks; its address."""

        def asking() -> tuple[str, Region] | None:
            for task in self.airflow.task_instances(self.dag_id, self.run_id):
                region = region_of(task)
                if task["task_id"] == task_id and task["state"] == "awaiting_input" and region:
                    return (task["id"], region) if region[1] == iteration else None
            return None

        task_instance_id, region = until(asking, f"{task_id} of iteration {iteration} to ask", 180)
        until_airflow_knows_that_it_waits(self.airflow, task_instance_id)
        return region

    def answer(self, task_id: str, option: str, region: Region | None = None, **fields: str) -> None:
        """Press one of the form's buttons."""
        body = {"chosen_options": [option], "params_input": fields}
        self.airflow.request("PATCH", self._path(task_id), json=body, params=_query(region))

    def finish(self) -> str:
        return self.house.finish(self.dag_id, self.run_id)

    def paths(self, task_id: str) -> list[str]:
        """The pictures of a mapped task, in the order of their letters."""
        return [self.airflow.xcom(self.dag_id, self.run_id, task_id, index)["path"] for index in range(3)]

    def letters(self, task_id: str) -> str:
        """The letters of those that have a picture."""
        tasks = self.airflow.task_instances(self.dag_id, self.run_id)
        made = {t["map_index"] for t in tasks if t["task_id"] == task_id and t["state"] == "success"}
        return "".join("ABC"[index] for index in sorted(made))

    def published(self) -> str:
        return self.airflow.xcom(self.dag_id, self.run_id, "publish")

    def page(self, task_id: str, region: Region | None = None) -> str:
        """The address of the form in Airflow's web interface."""
        run = f"{self.airflow.url}/dags/{self.dag_id}/runs/{self.run_id}"
        return f"{run}/tasks/{task_id}/required_actions?{urlencode(_query(region))}"

    def _path(self, task_id: str) -> str:
        run = f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"
        return f"{run}/taskInstances/{task_id}/-1/hitlDetails"


def _query(region: Region | None) -> dict[str, Any]:
    return {} if region is None else {"region_id": region[0], "region_index": region[1]}


def until_airflow_knows_that_it_waits(airflow: ScratchAirflow, task_instance_id: str) -> None:
    """
    Wait until the scheduler has heard that the task's worker has ended; no person is quicker.

    Airflow takes a task that is resumed before that for one whose worker was killed.
    """
    until(lambda: task_instance_id not in {task.task_instance_id for task in airflow.running_tasks()})
    for _ in range(2):
        until(partial(_has_another_heartbeat, airflow, _heartbeat(airflow)))


def _heartbeat(airflow: ScratchAirflow) -> str:
    return airflow.health()["scheduler"]["latest_scheduler_heartbeat"]


def _has_another_heartbeat(airflow: ScratchAirflow, known: str) -> bool:
    return _heartbeat(airflow) != known


def test_the_chosen_candidate_is_published_and_three_are_paid_for(house: House) -> None:
    review = Review(house, "choose_picture", "A tent | under *northern* lights")

    form = review.form("first.choose")
    review.answer("first.choose", "Publish B", prompt=review.prompt)

    assert review.finish() == "success"
    assert form["options"] == ["Publish A", "Publish B", "Publish C", "Draw again"]
    assert form["params"]["prompt"]["value"] == review.prompt
    assert "\n| A | B | C |\n| :--- | :--- | :--- |\n" in form["body"]
    assert form["body"].endswith("These cost $0.0705. Draw again pays $0.0705 for three new ones.")
    assert review.published() == review.paths("first.picture")[1]
    assert Path(review.published()).is_file()
    assert len(house.charges(review.prompt)) == 3


def test_new_candidates_are_drawn_of_what_the_reviewer_typed_and_a_clear_pays_nothing(house: House) -> None:
    house.emulator.fault("generation:failed=invalid_request*1;match=braces")
    review = Review(house, "choose_picture", "A tent")
    changed = house.prompt("{{ braces }} | made of brass")

    review.form("first.choose")
    review.answer("first.choose", "Draw again", prompt=changed)
    form = review.form("second.choose")
    drawn = review.letters("second.picture")
    review.answer("second.choose", f"Publish {drawn[0]}")
    states, published = [review.finish()], [review.published()]
    review.airflow.clear(review.dag_id, review.run_id, ["second.choose"], include_downstream=True)
    review.form("second.choose")
    review.answer("second.choose", f"Publish {drawn[1]}")
    states.append(review.finish())
    published.append(review.published())

    assert states == ["success", "success"]
    assert len(drawn) == 2
    assert form["body"].count("No picture: the task failed. It has spent $0.00.") == 1
    assert form["body"].endswith("These cost $0.0470.")
    assert len(set(published)) == 2
    assert len(house.charges(review.prompt)) == len(house.charges(changed)) == 3


def test_who_changes_their_mind_about_drawing_again_publishes_of_the_first_candidates(house: House) -> None:
    review = Review(house, "choose_picture", "A tent")
    changed = house.prompt("A tent made of brass")
    review.form("first.choose")
    review.answer("first.choose", "Draw again", prompt=changed)
    review.form("second.choose")
    review.answer("second.choose", "Publish B")
    review.finish()

    review.airflow.clear(review.dag_id, review.run_id, ["first.choose"], include_downstream=True)
    review.form("first.choose")
    review.answer("first.choose", "Publish A", prompt=changed)

    assert review.finish() == "success"
    assert review.published() == review.paths("first.picture")[0]
    assert len(house.charges(review.prompt)) == len(house.charges(changed)) == 3


@needs_browser
@pytest.mark.on_3_4
def test_a_person_sees_all_pictures_in_the_form_and_publishes_one_with_its_button(house: House) -> None:
    review = Review(house, "choose_picture", "A hero image for an outdoor shop: a tent | <b>bold</b>")
    review.form("first.choose")
    KEPT.mkdir(parents=True, exist_ok=True)

    with browse(review.page("first.choose"), width=1500, height=950) as page:
        page.until_text("Draw again pays $0.0705 for three new ones.")
        page.until_text(f"Prompt: {review.prompt}")
        page.until(f"({WIDTHS}).length === 3 && ({WIDTHS}).every(width => width >= 256)")
        page.screenshot(KEPT / "form.png")
        seen = what_is_seen(page)
        page.press_text("button", "Publish C")
        review.finish()

    assert seen["aligned"] == ["left"] * 3
    assert seen["alts"] == ["Picture A", "Picture B", "Picture C"]
    assert seen["field"] == review.prompt
    assert review.published() == review.paths("first.picture")[2]


def what_is_seen(page: Page) -> dict[str, Any]:
    return page.run(
        """({
            aligned: [...document.querySelectorAll('th')].map(e => getComputedStyle(e).textAlign),
            alts: [...document.querySelectorAll('td a img')].map(e => e.alt),
            field: document.querySelector('#element_prompt')?.value,
        })"""
    )


@needs_browser
@pytest.mark.only_3_4
def test_a_task_loop_draws_until_one_is_published(house: House) -> None:
    review = Review(house, "choose_picture_loop", "A tent")
    changed = house.prompt("{{ braces }} | made of brass")

    first = review.region("round.choose", 0)
    review.answer("round.choose", "Draw again", first, prompt=changed)
    second = review.region("round.choose", 1)
    with browse(review.page("round.choose", second), width=1500, height=950) as page:
        page.until_text(f"Prompt: {changed}")
        page.until(f"({WIDTHS}).length === 3 && ({WIDTHS}).every(width => width >= 256)")
        page.screenshot(KEPT / "form-loop.png")
    review.answer("round.choose", "Publish B", second, prompt=changed)

    assert review.finish() == "success"
    assert_each_link_leads_to_its_own_iteration(review)
    assert Path(review.published()).is_file()
    assert len(house.charges(review.prompt)) == len(house.charges(changed)) == 3


def assert_each_link_leads_to_its_own_iteration(review: Review) -> None:
    """The ids of a looped task are the same in each iteration."""
    airflow, of = review.airflow, (review.dag_id, review.run_id, "round.picture")
    for task in airflow.task_instances(review.dag_id, review.run_id):
        if task["task_id"] != "round.picture" or task["map_index"] != 1:
            continue
        result, image, tab = (
            airflow.xcom(*of, 1, key=key, region=region_of(task))
            for key in ("return_value", "_link_ImageLink", "_link_GalleryLink")
        )
        assert airflow.request("GET", image).content == Path(result["path"]).read_bytes()
        with browse(f"{airflow.url}{tab}", width=1500, height=950) as page:
            Tab(page).until_all_images_are_loaded(1)
            page.until_text("round.picture [B]")
            Tab(page).until_text(result["generation_id"])
