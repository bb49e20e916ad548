"""Several runs ask for the same image at one destination, one after the other or at the same moment."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airflow_gpt_image.errors import (
    DestinationError,
    GenerationFailedError,
    RecordMissingError,
    SubmissionUnknownError,
    UpstreamError,
)
from tests.task_instance import DiedError
from tests.together import at_once
from tests.unit.single.conftest import charges

SHARED = {"reuse": "destination"}


@pytest.fixture
def runs(make, deferrable):
    """The same task in several runs."""

    def runs(count):
        made = [make(deferrable=deferrable) for _ in range(count)]
        for number, task in enumerate(made):
            task.run_id = f"run {number}"
        return made

    return runs


def is_whole(result):
    [image] = result["images"]
    return hashlib.sha256(Path(image["path"]).read_bytes()).hexdigest() == image["sha256"]


@pytest.mark.parametrize("attempt", range(8))
@pytest.mark.parametrize("seconds", [0, 0.05])
def test_runs_at_the_same_moment_have_an_image_each_or_one_together_and_all_are_whole(
    runs, api, seconds, attempt
):
    # Without a pause one stores its image while the others only begin.
    api.settings(duration=(seconds, seconds))
    made = runs(4)

    results = at_once([lambda task=task: task.run(**SHARED) for task in made])

    assert {result["generation_id"] for result in results} == set(charges(api))
    assert all(is_whole(result) for result in results)
    paths = {(result["images"][0]["path"], result["generation_id"]) for result in results}
    assert len(paths) == len(charges(api))


def test_a_run_that_lost_its_name_to_another_one_keeps_its_image_beside_it(runs, api, clock, tmp_path):
    # Both had looked before either had written: the second one's intent is what the name says.
    first, second = runs(2)
    first.run(**SHARED, wait_for_completion=False)
    for sidecar in (tmp_path / "images").glob("*.json"):
        sidecar.unlink()
    second.run(**SHARED, wait_for_completion=False)
    clock.forward(3600)  # as long as a generation may take

    results = at_once([lambda task=task: task.run(**SHARED) for task in (first, second)])

    assert [result["generation_id"] for result in results] == charges(api)
    assert all(is_whole(result) for result in results)
    assert len({result["images"][0]["path"] for result in results}) == 2


def test_a_later_run_finds_an_image_that_had_to_take_another_name(runs, api, tmp_path):
    first, second, third = runs(3)
    first.run(**SHARED)
    [sidecar] = (tmp_path / "images").glob("*.json")
    sidecar.unlink()
    made = second.run(**SHARED)

    found = third.run(**SHARED)

    assert "~" in Path(made["images"][0]["path"]).name
    assert (found["images"][0]["path"], found["reused"]) == (made["images"][0]["path"], True)
    assert len(charges(api)) == 2


def test_a_run_waits_for_what_another_one_has_just_submitted(runs, api):
    first, second = runs(2)
    one = first.run(**SHARED, wait_for_completion=False)

    other = second.run(**SHARED)

    assert other["generation_id"] == one["generation_id"]
    assert other["spent"]["charged"] == "0"
    assert first.run(**SHARED)["images"] == other["images"]
    assert len(charges(api)) == 1


def test_a_run_waits_for_an_intent_of_another_one_and_takes_its_id(runs, api, clock):
    first, second = runs(2)
    first.store.at = "die after 1"
    with pytest.raises(DiedError):
        first.run(**SHARED)
    # Not dead at all: it answers late.
    clock.after(5, lambda: first.run(**SHARED, on_unknown_submit="resubmit", wait_for_completion=False))

    other = second.run(**SHARED)

    assert charges(api) == [other["generation_id"]]
    assert other["spent"]["charged"] == "0"


def test_a_run_does_not_wait_for_ever_for_a_dead_one(runs, api, clock):
    first, second = runs(2)
    first.store.at = "die after 1"
    with pytest.raises(DiedError):
        first.run(**SHARED)

    result = second.run(**SHARED)

    assert charges(api) == [result["generation_id"]]
    assert clock.ahead < 300


@pytest.mark.parametrize("cleared", [None, "3.3", "3.4"])
def test_a_dead_run_that_chose_to_submit_again_may_do_so(runs, api, cleared):
    [first] = runs(1)
    first.store.at = "die after 1"
    with pytest.raises(DiedError):
        first.run(**SHARED)
    if cleared:
        first.clear(airflow=cleared)

    result = first.run(**SHARED, on_unknown_submit="resubmit")

    assert charges(api) == [result["generation_id"]]


def test_a_run_that_took_anothers_image_may_ask_for_something_else(runs, api):
    first, second = runs(2)
    first.run(**SHARED)
    second.run(**SHARED)

    result = second.run(**SHARED, prompt="a blue teapot")

    assert result["reused"] is False
    assert len(charges(api)) == 2


def test_a_generation_of_another_run_that_failed_is_no_ones_and_the_next_one_pays(runs, api):
    first, second = runs(2)
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError):
        first.run(**SHARED)

    result = second.run(**SHARED)

    assert result["reused"] is False
    assert result["spent"]["charged"] == "4.7"


@pytest.mark.parametrize("whose", ["its own", "another run's"])
@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_a_regenerated_image_that_fails_once_is_not_replaced_by_the_old_one(runs, api, whose, airflow):
    first, second = runs(2)
    options = {**SHARED, "on_clear": "regenerate"}
    old = first.run(**options)
    again = first if whose == "its own" else second
    again.run(**options)
    again.clear(airflow=airflow)
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError):
        again.run(**options)

    new = again.run(**options)

    assert new["generation_id"] != old["generation_id"]
    assert (new["reused"], len(charges(api))) == (False, 3)
    assert is_whole(new)


def test_a_cleared_run_whose_image_is_gone_pays_nothing_silently(runs, api, tmp_path):
    [first] = runs(1)
    first.run(**SHARED)
    for path in (tmp_path / "images").rglob("*.json"):
        path.unlink()
    first.clear(airflow="3.4")

    with pytest.raises((RecordMissingError, DestinationError)):
        first.run(**SHARED)

    assert len(charges(api)) == 1


def test_an_id_that_the_api_gave_to_another_run_already_is_unknown(task, api):
    first = task.run()
    task.new_run()
    api.fault("submit:repeated_id*1")

    with pytest.raises(SubmissionUnknownError, match=first["generation_id"]):
        task.run()
    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert len(api.books()["charges"]) == 2


# One run's place is taken by another one


@pytest.fixture
def dies_after_its_post(api, tmp_path):
    """A run whose POST was accepted, and that died before the id was anywhere."""

    def dies(task):
        known = set(tmp_path.rglob("*~*.json"))
        task.store.at = "die before 2"
        with pytest.raises(DiedError):
            task.run(**SHARED)
        # The folder had it already: as if it had died an instant earlier.
        for outcome in set(tmp_path.rglob("*~*.json")) - known:
            outcome.unlink()

    return dies


def test_a_refusal_before_an_unknown_submit_is_no_word_that_nothing_was_paid(
    runs, api, clock, dies_after_its_post
):
    first, second = runs(2)
    api.fault("submit:503*1")
    with pytest.raises(UpstreamError):
        first.run(**SHARED)
    dies_after_its_post(first)
    clock.forward(3600)
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError):
        second.run(**SHARED)  # its intent has taken the place of the first one's
    first.clear(airflow="3.4")

    with pytest.raises((RecordMissingError, SubmissionUnknownError)):
        first.run(**SHARED)

    assert len(charges(api)) == 2


def test_a_run_whose_submit_is_unknown_does_not_note_that_it_paid_nothing_when_it_takes_anothers_image(
    runs, api, clock, tmp_path, dies_after_its_post
):
    first, second = runs(2)
    dies_after_its_post(first)
    clock.forward(3600)
    second.run(**SHARED)
    assert first.run(**SHARED)["reused"]
    for file in (path for path in (tmp_path / "images").iterdir() if path.is_file()):
        file.unlink()
    first.clear(airflow="3.4")

    with pytest.raises((RecordMissingError, SubmissionUnknownError)):
        first.run(**SHARED)

    assert len(charges(api)) == 2


def test_a_run_that_takes_an_image_at_another_destination_does_not_note_there_that_it_paid_nothing(
    runs, api, tmp_path
):
    first, second = runs(2)
    paid = first.run(**SHARED)
    elsewhere = {**SHARED, "destination": str(tmp_path / "elsewhere")}
    second.run(**elsewhere, prompt="a blue teapot")
    first.run(**elsewhere, prompt="a blue teapot")
    first.clear(airflow="3.4")

    # Its record was in the store and at the first destination; since then it is at the second one, too.
    result = first.run(**elsewhere)

    assert result["generation_id"] == paid["generation_id"]
    assert is_whole(result)
    assert len(charges(api)) == 2


def test_a_regenerated_image_does_not_replace_the_one_that_another_run_was_told_of(runs):
    first, second = runs(2)
    options = {**SHARED, "on_clear": "regenerate"}
    first.run(**options)
    told = second.run(**options)
    first.clear(airflow="3.4")

    first.run(**options)

    assert is_whole(told)


def test_a_run_finds_its_image_after_another_one_regenerated_it_and_the_api_forgot(runs, api):
    first, second = runs(2)
    told = first.run(**SHARED)
    options = {**SHARED, "on_clear": "regenerate"}
    second.run(**options)
    second.clear(airflow="3.4")
    second.run(**options)
    first.clear(airflow="3.4")
    api.fault("get:task_not_found")

    result = first.run(**SHARED)

    assert is_whole(told)
    assert result["generation_id"] in charges(api)
