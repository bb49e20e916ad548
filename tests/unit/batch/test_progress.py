"""The line that people read in the log while a batch is at work."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_gpt_image.batch import progress as module
from airflow_gpt_image.batch.progress import Progress

NOTHING = Decimal(0)


class Clock:
    """The module's clock, which goes on when a test says so."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_the_line_says_how_far_it_is_how_fast_what_it_cost_and_how_long_it_takes(clock):
    progress = Progress(12_000, stored=range(1_000))
    clock.now += 10
    progress.stored.update(range(1_180))
    progress.failed.update(range(1_180, 1_195))
    progress.unknown.update(range(1_195, 1_200))
    progress.in_flight.update(dict.fromkeys(range(1_200, 1_700)))

    line = progress.line(Decimal(1_128))

    assert line == (
        "1,200 of 12,000 done (20 failed), 500 in flight, 20.0/s, 1,128 credits ($5.64), "
        "about 9 min 0 s left."
    )


def test_before_anything_is_done_nobody_knows_how_long_it_takes(clock):
    progress = Progress(10)

    assert progress.line(NOTHING) == (
        "0 of 10 done (0 failed), 0 in flight, 0.0/s, 0 credits ($0), time left unknown."
    )


def test_what_was_done_before_is_not_counted_into_the_rate(clock):
    progress = Progress(1_000, stored=range(900), failed=range(900, 950))
    clock.now += 10

    assert "0.0/s" in progress.line(NOTHING)


def test_the_rate_is_that_of_the_last_minute(clock):
    progress = Progress(10_000)
    for turn in range(30):
        clock.now += 10
        progress.stored.update(range(turn * 100, turn * 100 + 100))
        progress.line(NOTHING)
    for turn in range(7):
        clock.now += 10
        progress.stored.update(range(3_000 + turn * 10, 3_010 + turn * 10))
        line = progress.line(NOTHING)

    assert "1.0/s" in line


def test_a_rate_that_fell_to_nothing_has_no_time_left(clock):
    progress = Progress(100)
    clock.now += 10
    progress.stored.update(range(50))
    progress.line(NOTHING)
    for _ in range(7):
        clock.now += 10
        line = progress.line(NOTHING)

    assert "time left unknown" in line


@pytest.mark.parametrize(
    ("left", "told"),
    [(0, "about 0 s"), (59, "about 59 s"), (60, "about 1 min 0 s"), (3_600, "about 1 h 0 min")],
)
def test_the_time_left_is_told_in_words_for_people(clock, left, told):
    progress = Progress(10 + left)
    clock.now += 10
    progress.stored.update(range(10))

    assert progress.line(NOTHING).endswith(f"{told} left.")


def test_two_lines_at_the_same_moment_are_no_error(clock):
    progress = Progress(10)
    progress.line(NOTHING)
    progress.stored.update(range(5))

    assert progress.line(NOTHING).startswith("5 of 10 done")
