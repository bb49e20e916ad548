"""A status that the API document doesn't know is said once, and not awaited in silence."""

from __future__ import annotations

import pytest
import structlog

from airflow_gpt_image.errors import GenerationTimeoutError
from tests.batches import SIXTY, BatchTask, logged


def said(lines):
    return [line for line in logged(lines) if "'on hold'" in line and "doesn't know" in line]


def test_a_worker_that_waits_says_it_once_and_goes_on(make, api):
    api.fault("get:unknown_status=on hold*5")

    with structlog.testing.capture_logs() as lines:
        result = make(deferrable=False).run()

    assert len(said(lines)) == 1
    assert result["status"] == "completed"


def test_what_never_ends_in_another_word_ends_at_the_deadline(make, api):
    api.fault("get:unknown_status=on hold")

    with structlog.testing.capture_logs() as lines, pytest.raises(GenerationTimeoutError, match="'on hold'"):
        make(deferrable=False).run(timeout=0.3)

    assert len(said(lines)) == 1


def test_a_batch_says_it_once_for_all(api, tmp_path):
    api.fault("get:unknown_status=on hold*100")

    with structlog.testing.capture_logs() as lines:
        result = BatchTask(tmp_path / "posters", deferrable=False).run(requests=SIXTY)

    assert len(said(lines)) == 1
    assert result["stored"] == 60
