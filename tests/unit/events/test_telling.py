"""Events are told to every listener; one that fails harms nobody."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from airflow_gpt_image import events
from airflow_gpt_image.errors import ERROR_REFERENCE, GenerationFailedError, RateLimitError
from airflow_gpt_image.events.metrics import METRICS, Metrics
from airflow_gpt_image.events.telling import Lines, Teller, code_of
from tests.snippets import PROJECT

SUBMITTED = events.Submitted("g1", "1:1", "2k", Decimal("9.4"), Decimal("0.047"))
PROGRESS = events.Progressed(done=3, total=10, failed=1, in_flight=4, rate=0.5, usd="0.07")


def broken(event):
    raise OSError("nobody listens")


def test_a_listener_that_fails_is_warned_of_once_and_keeps_nothing_from_the_others(log):
    heard = []
    tell = Teller([broken, heard.append], log)

    tell(SUBMITTED)
    tell(PROGRESS)

    assert heard == [SUBMITTED, PROGRESS]
    assert len(log.warnings) == 1
    assert "nobody listens" in log.warnings[0]


def test_an_event_cannot_be_changed_by_who_hears_it():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SUBMITTED.credits = Decimal(0)


@pytest.mark.parametrize("each", [True, False])
def test_a_submit_has_a_line_where_each_image_has_one(log, each):
    Lines(log, each=each)(SUBMITTED)

    assert log.infos == (["Submitted: 1:1, 2k, $0.047 (generation g1)."] if each else [])


def test_the_progress_of_a_batch_is_logged(log):
    Lines(log, each=False)(PROGRESS)

    assert log.infos == ["3 of 10 done (1 failed), 4 in flight, 0.5/s, $0.07, about 14 s left."]


@pytest.mark.parametrize("code", [code for _, code in ERROR_REFERENCE])
def test_a_code_of_the_document_is_told_as_it_is(code):
    assert code_of(RateLimitError("no", code=code)) == code


@pytest.mark.parametrize("code", [None, "a word of the vendor's, " + "x" * 500])
def test_no_other_word_of_the_api_becomes_a_tag(code):
    assert code_of(GenerationFailedError("no", code=code)) == "GenerationFailedError"


def test_a_metric_is_sent_with_where_it_happened_and_its_own_tags(metrics):
    Metrics({"conn_id": "c", "dag_id": "d", "task_id": "t"})(SUBMITTED)

    where = {"conn_id": "c", "dag_id": "d", "task_id": "t", "resolution": "2k"}
    assert metrics.lines() == [
        ("gpt_image.submitted", 1, "c", where),
        ("gpt_image.charged", 9.4, "c", where),
    ]


def test_polls_are_one_count_and_each_lag_a_time_in_milliseconds(metrics):
    Metrics({"conn_id": "c"})(events.Polled(polls=30, in_flight=7, lags=(0.5, 2.0)))

    sent = [(line.name.removeprefix("gpt_image."), line.value, line.kind) for line in metrics.lines()]
    assert sent == [
        ("detection_lag", 500, "ms"),
        ("detection_lag", 2000, "ms"),
        ("polls", 30, "c"),
        ("in_flight", 7, "g"),
    ]


def test_what_has_no_number_is_not_sent(metrics):
    tell = Metrics({})

    tell(events.Stored(images=0, seconds=None))
    tell(events.Failed("upstream_error"))
    tell(PROGRESS)

    assert [line.name for line in metrics.lines()] == ["gpt_image.failed"]


def test_the_page_has_the_table_of_the_code():
    page = (PROJECT / "docs" / "metrics.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `gpt_image.")]
    rows = {tuple(cell.strip() for cell in line.split("|")[1:5]) for line in lines}

    assert rows == {
        (f"`{metric.name}`", metric.kind, metric.unit, ", ".join(f"`{tag}`" for tag in metric.tags) or "–")
        for metric in METRICS
    }


def test_metrics_of_one_name_are_of_one_kind():
    names = {metric.name for metric in METRICS}

    assert len({(metric.name, metric.kind, metric.unit, metric.tags) for metric in METRICS}) == len(names)
