"""Images of a batch that aren't there yet: they hold up nothing, and are not paid for again."""

from __future__ import annotations

import time

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.api.downloads import Patience
from airflow_gpt_image.errors import UnsettledImagesError
from tests.batches import TEN, images, logged, statuses


@pytest.mark.parametrize("fault", ["404", "403", "410", "500", "html", "empty", "truncated", "close"])
def test_images_that_come_late_are_stored_by_the_same_try_and_are_no_failures(batch, api, fault):
    batch.retimed(patience=Patience(lasts=600.0, first_pause=0.05))
    api.fault(f"file:{fault}*30")

    with structlog.testing.capture_logs() as lines:
        result = batch.run(requests=TEN, item_retries=0, max_failures=0)

    assert (result["stored"], batch.try_number, api.books()["submits"]) == (10, 1, 10)
    assert api.faults()[0]["met"] == 30
    # Said once, and not for each image.
    assert (
        sum("Images that are late are asked for again for 10 minutes." in line for line in logged(lines)) == 1
    )


def test_images_that_are_late_do_not_hold_up_the_others(batch, api):
    batch.retimed(patience=Patience(lasts=1.5, first_pause=0.05))
    for number in range(9):
        api.fault(f"file:404;match=poster {number}")

    with pytest.raises(UnsettledImagesError):
        batch.run(requests=TEN, item_retries=0)

    # More are late than are stored at a time.
    assert statuses({"manifest": batch.folder})["poster 9"] == "stored"
    assert images(batch) == 1


def test_a_batch_that_only_waits_for_late_images_gives_its_worker_back_until_they_are_asked_for(
    deferring, api
):
    api.settings(duration=0.05)
    deferring.retimed(patience=Patience(lasts=600.0, first_pause=60.0))
    api.fault("file:404*1;match=vase")

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    trigger = deferred.value.trigger
    result = deferring.wake(deferred.value)

    [vase] = [c["task_id"] for c in api.books()["charges"] if c["request"]["prompt"] == "a vase"]
    assert (trigger.generation_ids, trigger.enough) == ([vase], 1)
    assert 30 < trigger.first_poll_at - time.time() <= 60
    assert trigger.deadline >= trigger.first_poll_at
    assert (result["stored"], api.books()["submits"]) == (3, 3)


def test_a_late_image_does_not_wake_a_batch_whose_other_generations_go_on(deferring, api):
    api.settings(duration=900)
    deferring.retimed(patience=Patience(lasts=600.0, first_pause=60.0))
    api.fault("generation:takes=0.05;match=vase")
    api.fault("file:404*1;match=vase")

    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()

    trigger = deferred.value.trigger
    assert (len(trigger.generation_ids), trigger.enough) == (3, 3)
    assert trigger.first_poll_at - time.time() < 20


def test_images_that_stay_away_are_unsettled_and_fetched_by_the_next_try_for_nothing(batch, api):
    api.fault("file:404")
    with pytest.raises(UnsettledImagesError) as caught:
        batch.run(requests=TEN, item_retries=0)
    api.clear_faults()

    result = batch.run(requests=TEN)

    assert caught.value.retryable
    assert "fetches them for nothing; so does a clear" in caught.value.message
    assert (result["stored"], api.books()["submits"]) == (10, 10)
