"""What people read in the log: the plan before a batch begins, and the progress while it is at work."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_gpt_image.api.pricing import DEFAULT_PRICES
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.batch.report import Progress, plan_table, preview_of
from airflow_gpt_image.ledger.budget import Budget
from tests.batches import plan_of

NOTHING = Budget(None, prices=DEFAULT_PRICES)


class Batch:
    """A table of so many items, and its progress; time goes on when a test says so."""

    def __init__(self, items, **phases):
        self.table = ItemTable(plan_of(["a"] * -(-items // 100), variants=100).items[:items])
        for phase, indexes in phases.items():
            self.table.place(indexes, phase)
        self.now = 1_000.0
        self.progress = Progress(self.table, DEFAULT_PRICES, now=self.now)

    def line(self, budget=NOTHING):
        return str(self.progress.at(budget, now=self.now))


def test_the_line_says_how_far_it_is_how_fast_what_it_cost_and_how_long_it_takes():
    batch = Batch(12_000, stored=range(1_000))
    batch.now += 10
    batch.table.place(range(1_180), "stored")
    batch.table.place(range(1_180, 1_195), "failed")
    batch.table.place(range(1_195, 1_200), "unknown")
    batch.table.place(range(1_200, 1_700), "waiting")

    line = batch.line(Budget(None, Decimal(1_130), Decimal(2), prices=DEFAULT_PRICES))

    assert line == ("1,200 of 12,000 done (20 failed), 500 in flight, 20.0/s, $5.64, about 9 min 0 s left.")


def test_before_anything_is_done_nobody_knows_how_long_it_takes():
    batch = Batch(10)

    assert batch.line() == ("0 of 10 done (0 failed), 0 in flight, 0.0/s, $0, time left unknown.")


def test_what_was_done_before_is_not_counted_into_the_rate():
    batch = Batch(1_000, stored=range(900), failed=range(900, 950))
    batch.now += 10

    assert "0.0/s" in batch.line()


def test_the_rate_is_that_of_the_last_minute():
    batch = Batch(10_000)
    for turn in range(30):
        batch.now += 10
        batch.table.place(range(turn * 100, turn * 100 + 100), "stored")
        batch.line()
    for turn in range(7):
        batch.now += 10
        batch.table.place(range(3_000 + turn * 10, 3_010 + turn * 10), "stored")
        line = batch.line()

    assert "1.0/s" in line


def test_a_rate_that_fell_to_nothing_has_no_time_left():
    batch = Batch(100)
    batch.now += 10
    batch.table.place(range(50), "stored")
    batch.line()
    for _ in range(7):
        batch.now += 10
        line = batch.line()

    assert "time left unknown" in line


@pytest.mark.parametrize(
    ("left", "told"),
    [(0, "about 0 s"), (59, "about 59 s"), (60, "about 1 min 0 s"), (3_600, "about 1 h 0 min")],
)
def test_the_time_left_is_told_in_words_for_people(left, told):
    batch = Batch(10 + left)
    batch.now += 10
    batch.table.place(range(10), "stored")

    assert batch.line().endswith(f"{told} left.")


def test_two_lines_at_the_same_moment_are_no_error():
    batch = Batch(10)
    batch.line()
    batch.table.place(range(5), "stored")

    assert batch.line().startswith("5 of 10 done")


# The plan's table


def test_the_table_of_a_plan_says_what_is_there_and_what_the_rest_costs():
    plan = plan_of(
        [{"prompt": f"{number}", "aspect_ratio": "16:9", "resolution": "2k"} for number in range(1_100)]
        + [f"{number}" for number in range(100)]
    )
    table = ItemTable(plan.items)
    table.place(range(1_200), "to_submit")
    for index, phase in enumerate(("stored", "to_attach", "failed", "unknown")):
        table.place([index], phase)

    text = plan_table(table, DEFAULT_PRICES, rows=1_200)

    assert text == (
        "1,200 rows, 1,200 images: 2 paid for already, 1,196 to pay for, 1 failed before, 1 unknown.\n"
        "tier     images       credits    US dollars\n"
        "1k          100           470          2.35\n"
        "2k         1096       10302.4        51.512\n"
        "4k            0             0             0\n"
        "all        1196       10772.4        53.862"
    )


def test_when_all_is_there_nothing_is_to_pay():
    table = ItemTable(plan_of(["a", "b"]).items)
    table.place(range(2), "stored")

    told = preview_of(table, DEFAULT_PRICES)

    assert (told["reused"], told["to_pay"], told["credits"]) == (2, 0, "0")
    assert {tier["credits"] for tier in told["tiers"].values()} == {"0"}
