"""What a task that makes one image tells of itself: each thing once, whatever befalls the task."""

from __future__ import annotations

import pytest
from airflow.sdk.observability import stats
from structlog.testing import capture_logs

from airflow_gpt_image.errors import GenerationFailedError, SubmissionUnknownError


def counts(metrics, *names):
    return tuple(metrics.total(name) for name in names)


def test_an_image_is_told_once_also_after_a_deferral(task, api, metrics):
    task.run()

    assert counts(metrics, "submitted", "stored", "reused", "unknown", "refused", "failed") == (
        1,
        1,
        0,
        0,
        0,
        0,
    )
    assert counts(metrics, "charged", "refunded") == (4.7, 0)
    assert len(metrics.lines("wait")) == 1
    (line,) = metrics.lines("submitted")
    where = {"conn_id": "gpt_image_default", "dag_id": "posters", "task_id": "poster"}
    assert line.tags == where | {"resolution": "1k"}


def test_neither_prompt_nor_id_nor_key_is_sent(task, api, metrics):
    result = task.run()

    sent = str(metrics.lines())
    assert "teapot" not in sent
    assert result["generation_id"] not in sent
    assert api.key not in sent


def test_a_retry_that_finds_its_own_image_tells_nothing_again(task, bare_task, api, metrics):
    for each in (task, bare_task):
        each.run()
        each.run()

    assert counts(metrics, "submitted", "stored", "reused") == (2, 2, 0)


def test_an_image_that_was_paid_for_before_a_clear_is_reused(task, api, metrics):
    task.run()
    task.clear()
    task.run()

    assert counts(metrics, "submitted", "stored", "reused") == (1, 1, 1)


def test_a_refusal_for_the_rate_is_told_each_time_and_the_image_once(task, api, metrics):
    api.fault("submit:rate_limit_exceeded*2;retry_after=0.01")

    task.run()

    assert counts(metrics, "rate_limited", "submitted", "refused") == (2, 1, 0)
    assert {line.tags["call"] for line in metrics.lines("rate_limited")} == {"submit"}


def test_a_generation_that_failed_is_told_by_its_code_and_with_what_came_back(task, api, metrics):
    api.fault("generation:failed=upstream_error*1")

    with pytest.raises(GenerationFailedError):
        task.run()
    task.run()

    assert counts(metrics, "failed", "refunded", "submitted", "stored") == (1, 4.7, 2, 1)
    assert metrics.lines("failed")[0].tags["code"] == "upstream_error"


def test_an_unknown_submit_counts_as_charged_and_is_told_once(task, api, metrics):
    api.fault("submit:lost*1")

    with pytest.raises(SubmissionUnknownError):
        task.run()
    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert counts(metrics, "unknown", "charged", "submitted") == (1, 4.7, 0)


def test_a_refused_submit_is_told_by_its_code_and_costs_nothing(task, api, metrics):
    api.fault("submit:insufficient_credits*1")

    with pytest.raises(Exception, match="credit"):
        task.run()

    assert counts(metrics, "refused", "charged") == (1, 0)
    assert metrics.lines("refused")[0].tags["code"] == "insufficient_credits"


def test_no_image_is_lost_where_metrics_cannot_be_sent(make, api, metrics):
    def no_backend():
        raise RuntimeError("no such host")

    stats.initialize(factory=no_backend, export_legacy_names=False)

    with capture_logs() as lines:
        result = make(deferrable=False).run()

    assert result["images"]
    assert len([line for line in lines if "no such host" in str(line)]) == 1
