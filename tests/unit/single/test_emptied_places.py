"""A record of money lies in two places; either may be emptied, by whomever, at any moment."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import (
    DestinationError,
    InvalidRequestError,
    InvalidSettingsError,
    RecordMissingError,
    SubmissionUnknownError,
)
from tests.task_instance import DiedError
from tests.unit.single.conftest import charges

STEPS = ["die after 1", "die before 2", "die after 2", "die before 3", "die after 3", ""]


def die_at(task, step, **options):
    """Run a try to a step, where its worker dies; with none it runs to its end."""
    task.store.at = step
    with suppress(DiedError):
        task.run(**options)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["retry", "clear"])
def test_a_task_state_store_that_is_emptied_at_any_step_costs_nothing_where_there_is_a_destination(
    task, api, step, then, tmp_path
):
    die_at(task, step)
    before = len(charges(api))

    task.store.empty()
    if then == "clear":
        task.clear(airflow="3.4")
    for _ in range(2):
        with suppress(SubmissionUnknownError):
            task.run()

    stored = len(list((tmp_path / "images").glob("*.png")))
    assert len(charges(api)) == before
    assert stored == (0 if step == "die after 1" else 1)


@pytest.mark.parametrize("step", ["die after 2", "die before 3", "die after 3", ""])
def test_a_destination_that_is_emptied_at_any_step_costs_nothing_and_gets_its_record_back(
    task, api, step, tmp_path
):
    die_at(task, step)

    shutil.rmtree(tmp_path / "images")
    result = task.run()

    assert charges(api) == [result["generation_id"]]
    assert Path(result["images"][0]["path"]).exists()
    assert task.run()["reused"]
    assert len(list((tmp_path / "images" / "records").rglob("*.json"))) == 1


@pytest.mark.parametrize("step", ["die after 2", ""])
def test_an_emptied_destination_is_an_error_before_another_image_is_paid(task, api, tmp_path, step):
    die_at(task, step)
    (tmp_path / "images").rename(tmp_path / "elsewhere")

    with pytest.raises(DestinationError, match="is empty now"):
        task.run(prompt="another one")
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    task.run(prompt="another one")

    assert len(charges(api)) == 2


def test_a_destination_that_is_emptied_and_a_clear_that_empties_the_store_are_refused(task, api, tmp_path):
    task.run()
    shutil.rmtree(tmp_path / "images")
    task.clear(airflow="3.4")

    with pytest.raises(RecordMissingError):
        task.run()

    assert len(charges(api)) == 1


def test_a_store_that_is_emptied_while_the_task_is_deferred_pays_nothing_without_a_destination(make, api):
    # Anybody may do it in the UI.
    task = make(destination=None)
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()

    task.store.empty()
    with pytest.raises(RecordMissingError, match="was waiting for an image"):
        task.wake(deferred.value)

    assert len(charges(api)) == 1


def test_a_store_that_is_emptied_while_the_task_is_deferred_is_made_up_for_by_the_destination(make, api):
    task = make()
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()

    task.store.empty()
    result = task.wake(deferred.value)

    assert charges(api) == [result["generation_id"]]


@pytest.mark.parametrize("wrong", ["prompt", "connection"])
def test_a_try_that_fails_before_it_reads_the_records_takes_none_away(bare_task, api, connect, wrong):
    first = bare_task.run()

    if wrong == "prompt":
        with pytest.raises(InvalidRequestError):
            bare_task.run(aspect_ratio="{{ nothing renders this }}")
    else:
        connect("ftp://nowhere", api.key)
        with pytest.raises(InvalidSettingsError):
            bare_task.run()
        connect(api.url, api.key)

    assert bare_task.run()["generation_id"] == first["generation_id"]
    assert len(charges(api)) == 1


def test_a_connection_that_is_broken_when_a_deferred_task_goes_on_takes_no_record_away(make, api, connect):
    task = make(destination=None)
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()

    connect("ftp://nowhere", api.key)
    with pytest.raises(InvalidSettingsError):
        task.wake(deferred.value)
    connect(api.url, api.key)

    result = task.run()
    assert charges(api) == [result["generation_id"]]


def test_what_only_the_store_knows_survives_a_try_that_could_not_read_it(task, api):
    # An id that the destination did not take, of a prompt that has been changed meanwhile.
    other = task.run(prompt="a blue teapot")
    first = task.run()
    for path in Path(first["images"][0]["path"]).parent.rglob("*.json"):
        if first["generation_id"] in path.read_text():
            path.unlink()

    reads = iter([True])
    task.store.unreadable = lambda: next(reads, False)
    second = task.run(prompt="a blue teapot")
    third = task.run()

    assert second["generation_id"] == other["generation_id"]
    assert third["generation_id"] == first["generation_id"]
    assert len(charges(api)) == 2
