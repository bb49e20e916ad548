"""A person decides in Airflow's review form: over its API, and in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stack.rest import Region
from tests.e2e.conftest import House

pytestmark = [pytest.mark.one_database, pytest.mark.timeout(600)]


class Review:
    """A run of an example whose candidates a person looks at, as that person sees it."""

    def __init__(self, house: House, dag_id: str, about: str) -> None:
        self.house, self.airflow, self.dag_id = house, house.airflow, dag_id
        self.prompt = house.prompt(about)
        self.run_id = house.start(dag_id, self.prompt)

    def form(self, task_id: str) -> dict[str, Any]:
        """Wait until the form is there."""
        self.airflow.wait_for_task(self.dag_id, self.run_id, task_id, "awaiting_input", timeout=180)
        return self.airflow.request("GET", self._path(task_id)).json()

    def answer(self, task_id: str, option: str, region: Region | None = None, **fields: str) -> None:
        """Press one of the form's buttons."""
        body = {"chosen_options": [option], "params_input": fields}
        self.airflow.request("PATCH", self._path(task_id), json=body)

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

    def _path(self, task_id: str) -> str:
        run = f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"
        return f"{run}/taskInstances/{task_id}/-1/hitlDetails"


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
    states = [review.finish()]
    published = [review.published()]
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
