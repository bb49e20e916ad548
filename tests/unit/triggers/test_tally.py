"""How much of a wait the log hears: each generation of few, counts of many. Time is an argument."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import GenerationTimeoutError
from airflow_gpt_image.triggers.tally import MAX_LINES, SECONDS_BETWEEN_COUNTS, Tally
from tests.log_lines import Lines

MANY = MAX_LINES + 1
LATE = GenerationTimeoutError("It was not finished in time.", generation_id="b")


@pytest.fixture
def log():
    return Lines()


def test_few_generations_have_a_line_each_and_no_counts(log):
    tally = Tally(log, MAX_LINES, now=0.0)

    tally.finish("a", "completed", 1.0)
    tally.give_up("b", LATE, 100.0)
    tally.end()

    assert log.infos == ["Generation a is completed."]
    assert log.warnings == ["No longer waiting for generation b: It was not finished in time."]


def test_many_generations_are_counted_once_in_some_seconds(log):
    tally = Tally(log, 500, now=0.0)

    for number in range(300):
        tally.finish(f"id-{number}", "completed", number / 10)

    assert log.infos == ["101 of 500 finished.", "201 of 500 finished."]
    assert log.warnings == []


def test_after_a_long_silence_there_is_one_line_and_not_those_that_were_missed(log):
    tally = Tally(log, MANY, now=0.0)

    tally.finish("a", "completed", 10 * SECONDS_BETWEEN_COUNTS)
    tally.finish("b", "completed", 10 * SECONDS_BETWEEN_COUNTS + 1)

    assert log.infos == [f"1 of {MANY} finished."]


def test_the_last_line_of_many_says_what_it_came_to(log):
    tally = Tally(log, MANY, now=0.0)
    for number in range(MANY):
        tally.finish(f"id-{number}", "completed", 0.0)

    tally.end()

    assert log.infos == [f"The wait ends: {MANY} of {MANY} finished."]


def test_the_last_line_of_many_warns_of_those_given_up_and_says_why_once(log):
    tally = Tally(log, MANY, now=0.0)
    tally.finish("a", "failed", 0.0)
    for _ in range(MANY - 1):
        tally.give_up("b", LATE, 0.0)

    tally.end()

    assert log.infos == []
    assert log.warnings == [
        f"The wait ends: 1 of {MANY} finished, {MAX_LINES} given up. The first: It was not finished in time."
    ]


def test_what_is_finished_is_kept_by_status_and_what_is_given_up_is_settled_too(log):
    tally = Tally(log, 3, now=0.0)

    tally.finish("a", "completed", 0.0)
    tally.finish("c", "failed", 0.0)
    tally.give_up("b", LATE, 0.0)

    assert tally.finished == {"completed": ["a"], "failed": ["c"]}
    assert (tally.finished_count, tally.settled, tally.failures) == (2, 3, [LATE])
