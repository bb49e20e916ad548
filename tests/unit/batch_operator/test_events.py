"""What a batch tells of itself: each thing once, over deferrals, retries and clears."""

from __future__ import annotations

import pytest

PROMPTS = [f"vase {number}" for number in range(6)]


def counts(metrics, *names):
    return tuple(metrics.total(name) for name in names)


def test_each_image_is_told_once_also_over_deferrals(deferring, metrics):
    deferring.run(requests=PROMPTS)

    assert deferring.deferrals
    assert counts(metrics, "submitted", "stored", "reused", "failed") == (6, 6, 0, 0)
    assert counts(metrics, "charged", "refunded") == (pytest.approx(28.2), 0)
    assert len(metrics.lines("wait")) == 6
    assert metrics.total("polls") > 0
    assert metrics.lines("in_flight")[-1].value == 0


def test_on_the_worker_each_lag_is_told_once(batch, metrics):
    batch.run(requests=PROMPTS)

    assert len(metrics.lines("detection_lag")) == 6


def test_what_was_paid_for_before_a_clear_is_reused_in_the_end(batch, metrics):
    batch.run(requests=PROMPTS)
    batch.clear()
    batch.run(requests=[*PROMPTS, "a tenth vase"])

    assert counts(metrics, "submitted", "stored", "reused") == (7, 7, 6)


def test_a_failure_is_told_by_its_code_and_with_what_came_back(batch, api, metrics):
    api.fault("generation:failed=invalid_request;match=vase 3")

    result = batch.run(requests=PROMPTS)

    assert result["failed"] == 1
    assert counts(metrics, "failed", "refunded", "stored") == (1, 4.7, 5)
    assert metrics.lines("failed")[0].tags["code"] == "invalid_request"


def test_refusals_for_the_rate_are_told(batch, api, metrics):
    api.fault("submit:rate_limit_exceeded*2;retry_after=0.01")

    batch.run(requests=PROMPTS)

    assert metrics.total("rate_limited") >= 2
    assert counts(metrics, "submitted") == (6,)
