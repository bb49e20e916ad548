"""How much of a wait the log hears: each generation of few, counts of many. Time is an argument."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import GenerationTimeoutError
from airflow_gpt_image.triggers.tally import MAX_LINES, SoFar, Tally
from tests.log_lines import Lines

MANY = MAX_LINES + 1
LATE = GenerationTimeoutError("It was not finished in time.", generation_id="b")


@pytest.fixture
def log():
    return Lines()


def test_few_generations_have_a_line_each_and_no_counts(log):
    tally = Tally(log, MAX_LINES, now=0.0)

    tally.finish("a", "completed")
    tally.give_up("b", LATE)
    tally.end()

    assert log.infos == ["Generation a is completed."]
    assert log.warnings == ["No longer waiting for generation b: It was not finished in time."]


def test_many_generations_have_no_line_of_their_own(log):
    tally = Tally(log, 500, now=0.0)

    for number in range(300):
        tally.finish(f"id-{number}", "completed")

    assert (log.infos, log.warnings) == ([], [])


def test_of_one_generation_the_line_says_its_status_and_its_age(log):
    tally = Tally(log, 1, now=1_010.0, so_far=lambda: SoFar(since=1_000.0))
    before = tally.line(1_070.0)

    tally.see("its status is 'processing'")

    assert before == "Waiting for 1 min 10 s since the submit: it was not polled yet."
    assert tally.line(1_200.0) == "Waiting for 3 min 20 s since the submit: its status is 'processing'."


def test_of_a_batch_the_line_says_what_was_done_before_and_what_is_finished_since(log):
    so_far = SoFar(since=0.0, total=10_000, done=4_000, failed=10, usd="94.235")
    tally = Tally(log, 500, now=1_000.0, so_far=lambda: so_far)
    for number in range(300):
        tally.finish(f"id-{number}", "failed" if number < 2 else "completed")

    line = tally.line(1_100.0)

    assert line == (
        "4,300 of 10,000 done (12 failed), 200 in flight, 3.0/s, $94.235, about 31 min 40 s left."
    )
    assert len(line) <= 95


def test_of_several_generations_that_nothing_is_known_of_they_are_the_whole(log):
    tally = Tally(log, 3, now=0.0)
    tally.finish("a", "completed")

    assert tally.line(10.0) == "1 of 3 done (0 failed), 2 in flight, 0.1/s, $0, about 20 s left."


def test_the_last_line_of_many_says_what_it_came_to(log):
    tally = Tally(log, MANY, now=0.0)
    for number in range(MANY):
        tally.finish(f"id-{number}", "completed")

    tally.end()

    assert log.infos == [f"The wait ends: {MANY} of {MANY} finished."]


def test_the_last_line_of_many_warns_of_those_given_up_and_says_why_once(log):
    tally = Tally(log, MANY, now=0.0)
    tally.finish("a", "failed")
    for _ in range(MANY - 1):
        tally.give_up("b", LATE)

    tally.end()

    assert log.infos == []
    assert log.warnings == [
        f"The wait ends: 1 of {MANY} finished, {MAX_LINES} given up. The first: It was not finished in time."
    ]


def test_what_is_finished_is_kept_by_status_and_what_is_given_up_is_settled_too(log):
    tally = Tally(log, 3, now=0.0)

    tally.finish("a", "completed")
    tally.finish("c", "failed")
    tally.give_up("b", LATE)

    assert tally.finished == {"completed": ["a"], "failed": ["c"]}
    assert (tally.finished_count, tally.settled, tally.failures) == (2, 3, [LATE])
