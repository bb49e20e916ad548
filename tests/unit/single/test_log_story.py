"""What the log of a task that makes one image tells: what it pays, how it waits, what it came to."""

from __future__ import annotations

import re

import pytest
import structlog

from airflow_gpt_image.errors import GenerationFailedError
from airflow_gpt_image.log import NO_RETRIES, span
from airflow_gpt_image.triggers.gpt_image import STUCK

VISIBLE = 95


def story(task, **options):
    """The lines of a run, as a reader sees them, and what it returned or raised."""
    with structlog.testing.capture_logs() as lines:
        try:
            ended = task.run(**options)
        except GenerationFailedError as error:
            ended = error
    # Airflow's own remark, for a test calls execute() itself.
    told = [
        (line["log_level"], line["event"] % line.get("positional_args", ()))
        for line in lines
        if "outside of the Task Runner" not in line["event"]
    ]
    return told, ended


def test_a_finished_image_has_a_log_that_tells_it_all(make, deferrable):
    told, result = story(make(deferrable=deferrable))

    texts = [text for _, text in told]
    (submitted,) = [text for text in texts if text.startswith("Submitted")]
    assert submitted == f"Submitted: 1:1, 1k, $0.0235 (generation {result['generation_id']})."
    done = texts[-3].splitlines()
    assert re.fullmatch(r"Done: 1 image, 1024 x 1024, \$0\.0235, \d+ s\.", done[0])
    assert done[1:] == [result["images"][0]["path"]]
    assert texts[-2] == (
        "Spent since the last clear: $0.0235; credits: 4.7 charged, 0 refunded. This try submitted."
    )
    tab = "/dags/posters/runs/manual__2026-01-01T00:00:00+00:00/tasks/poster/plugin/gpt-images-task-instance"
    assert texts[-1] == f"Images: {tab}"
    assert {level for level, _ in told} == {"info"}


def test_no_line_of_ours_is_longer_than_what_can_be_seen(make, deferrable, tmp_path):
    told, _ = story(make(deferrable=deferrable, destination=None), retries=0)

    lines = [line for _, text in told for line in text.splitlines()]
    assert [line for line in lines if len(line) > VISIBLE and not line.startswith(("http", "Images: "))] == []
    assert [line for line in lines if "Event(" in line or "{'" in line] == []


def test_an_image_that_is_not_stored_is_warned_of_with_its_address_and_for_how_long(make, deferrable):
    told, result = story(make(deferrable=deferrable, destination=None))

    (warning,) = [text for level, text in told if level == "warning"]
    assert warning.splitlines() == [
        "It isn't stored: without a destination it is where the API put it, for a day or so.",
        "Fetch it before that, by the whole address in the result (XCom); or give a destination.",
        result["images"][0]["url"],
    ]


def test_an_image_that_was_paid_for_before_is_said_to_cost_nothing_now(make, deferrable):
    task = make(deferrable=deferrable)
    task.run(wait_for_completion=False)

    told, _ = story(task)

    assert any("1 image, 1024 x 1024, nothing paid by this try, " in text for _, text in told)


def test_before_it_defers_it_says_what_if_no_triggerer_runs(make):
    told, _ = story(make(deferrable=True))

    assert ("info", STUCK) in told
    assert "no triggerer runs" in STUCK


def test_a_task_without_retries_is_told_so_before_money_is_spent(make, deferrable):
    told, _ = story(make(deferrable=deferrable), retries=0)

    texts = [text for _, text in told]
    assert ("warning", NO_RETRIES) in told
    assert texts.index(NO_RETRIES) < [text.startswith("Submitted") for text in texts].index(True)


def test_a_task_without_retries_that_pays_nothing_is_not_told_so(make):
    task = make()
    task.run()

    told, _ = story(task, retries=0)

    assert NO_RETRIES not in [text for _, text in told]


def test_a_failure_is_told_on_three_lines_what_the_rule_what_to_do(make, api, deferrable):
    api.fault("generation:failed=invalid_request")

    _, error = story(make(deferrable=deferrable))

    # First what happened: of that line, the error's name stands before it, and its end is cut off.
    assert error.message.splitlines() == [
        "Missing or invalid parameters (invalid_request).",
        f"Generation {error.generation_id} failed, and was refunded.",
        "The same would fail again: change the prompt or the reference images.",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (21.4, "21 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_a_span_of_time_is_told_as_people_say_it(seconds, words):
    assert span(seconds) == words
