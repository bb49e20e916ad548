"""A try lands where only other runs have been: on the disk of another worker, at the same path."""

from __future__ import annotations

from contextlib import suppress

import pytest

from airflow_gpt_image.errors import DestinationError, GptImageError, RecordMissingError, UnsettledImagesError
from tests.batches import BatchTask, paid


@pytest.fixture
def on_another_disk(batch, api):
    """Let a batch pay for three images of which none arrives, and then find yesterday's run in its place."""

    def moved(reuse):
        away, here = batch.folder.with_name("worker 1"), batch.folder
        api.fault("file:404")
        with pytest.raises(UnsettledImagesError):
            batch.run(reuse=reuse)
        api.clear_faults()
        here.rename(away)
        yesterday = BatchTask(here, deferrable=False)
        yesterday.run_id = "yesterday"
        yesterday.run(requests=["a sofa"], reuse=reuse)
        return batch

    return moved


def test_a_retry_does_not_take_other_runs_records_for_its_own(on_another_disk, api):
    task = on_another_disk("destination")

    with suppress(GptImageError):
        task.run(reuse="destination")

    assert set(paid(api).values()) == {1}


@pytest.mark.parametrize("reuse", ["run", "destination"])
def test_a_clear_that_empties_the_store_does_not_take_another_runs_plan_for_a_trace_of_this_task(
    on_another_disk, api, reuse
):
    task = on_another_disk(reuse)
    task.clear(airflow="3.4")

    with pytest.raises((RecordMissingError, DestinationError)):
        task.run(reuse=reuse)

    assert set(paid(api).values()) == {1}


@pytest.mark.parametrize("happened", ["store away", "killed while it began"])
def test_a_retry_is_not_refused_because_something_else_in_the_run_was_cleared_before(batch, happened):
    batch.clears = 1  # before this task's first try
    if happened == "store away":
        batch.store.unreachable = True
        with pytest.raises(GptImageError):
            batch.run()
        batch.store.unreachable = False
    else:
        batch.try_number = 1

    assert batch.run()["stored"] == 3
