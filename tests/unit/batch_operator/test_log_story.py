"""What the log of a batch tells at its end, and before it waits."""

from __future__ import annotations

from contextlib import suppress

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.log import NO_RETRIES
from tests.batches import logged


def warnings_of(batch, **options):
    with structlog.testing.capture_logs() as lines, suppress(GptImageError):
        batch.run(**options)
    return [text for line, text in zip(lines, logged(lines), strict=True) if line["log_level"] == "warning"]


def test_a_batch_with_losses_ends_in_a_warning_that_names_what_to_do(batch, api):
    api.fault("generation:failed=invalid_request;match=vase")

    warnings = warnings_of(batch, requests=["a teapot", "a vase", "a chair"], max_failures=2)

    assert warnings[-1].splitlines() == [
        "1 of 3 images are missing: 1 failed.",
        "Mend these rows and run them again:",
        f"{batch.folder / 'failures.jsonl'}",
        "How many may fail is said by max_failures, which is 2 here.",
    ]


def test_images_that_are_paid_for_and_not_there_are_named_too(batch, api):
    api.fault("submit:lost;match=vase")

    warnings = warnings_of(batch, requests=["a teapot", "a vase"])

    (losses,) = [text for text in warnings if "are missing" in text]
    assert losses.splitlines() == [
        "1 of 2 images are missing: 1 paid for or unknown.",
        "A retry or a clear looks for these:",
        f"{batch.folder / 'unsettled.jsonl'}",
        "How many may fail is said by max_failures, which is None here.",
    ]


def test_a_batch_without_losses_ends_without_a_warning(batch):
    assert [text for text in warnings_of(batch) if "missing" in text] == []


def test_a_batch_without_retries_is_told_so_before_money_is_spent(batch):
    batch.retries = 0

    assert NO_RETRIES in warnings_of(batch)


def test_a_batch_that_defers_tells_its_trigger_how_far_it_is(batch, api):
    api.fault("generation:takes=60;match=chair")
    api.fault("generation:failed=invalid_request;match=vase")

    with pytest.raises(TaskDeferred) as deferred:
        batch.begin(requests=["a vase", "a chair", "a teapot"], deferrable=True)

    so_far = deferred.value.trigger.so_far
    assert so_far.pop("since") > 0
    assert so_far == {"total": 3, "done": 2, "failed": 1, "usd": "0.047"}


def lines_of(batch, **options):
    with structlog.testing.capture_logs() as lines, suppress(GptImageError):
        batch.run(**options)
    return logged(lines)


@pytest.mark.parametrize(
    "fault", ["", "generation:failed=invalid_request;match=vase", "submit:lost;match=vase"]
)
def test_a_batchs_log_ends_with_where_its_images_are_shown_however_it_ends(batch, api, fault):
    if fault:
        api.fault(fault)

    told = lines_of(batch, on_item_failure="fail")

    tab = "/dags/shop/runs/manual__2026-01-01T00:00:00+00:00/tasks/posters/plugin/gpt-images-task-instance"
    assert told[-1] == f"Images: {tab}"


def test_a_batch_that_was_refused_before_there_was_a_plan_names_no_images(batch):
    told = lines_of(batch, requests=["a", {"aspect_ratio": "7:5"}])

    assert not [line for line in told if line.startswith("Images:")]
