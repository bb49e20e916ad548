"""The first rows, or some from everywhere: the same ones whenever they are asked for."""

from __future__ import annotations

import random

ROWS = [{"prompt": f"teapot {n}", "sku": n} for n in range(500)]


def test_a_limit_takes_the_first_rows_and_keeps_their_numbers(read):
    rows, _ = read.requests(ROWS, limit=20)

    assert [row.number for row in rows] == list(range(1, 21))
    assert read.log.infos[-1] == "limit=20: the first 20 rows of the data set, no more."


def test_bad_rows_among_the_first_count(read):
    rows, bad = read.requests(["a", "", "b", "c"], limit=3)

    assert ([row.number for row in rows], [cell.row for cell in bad]) == ([1, 3], [2])


def test_a_sample_is_the_same_whatever_the_order(read):
    rows, _ = read.requests(ROWS, sample=20)
    shuffled = random.Random(7).sample(ROWS, len(ROWS))
    again, _ = read.requests(shuffled, sample=20)

    assert len(rows) == 20
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    assert {row.request for row in rows} == {row.request for row in again}
    assert max(row.number for row in rows) > 250 > min(row.number for row in rows)


def test_a_larger_sample_holds_a_smaller_one_and_all_is_all(read):
    few, more, everything = (read.requests(ROWS, sample=size)[0] for size in (5, 50, 5_000))

    assert {row.number for row in few} < {row.number for row in more}
    assert len(everything) == 500


def test_of_rows_that_ask_for_the_same_the_first_ones_are_taken(read):
    rows = [{"prompt": "a", "sku": n} for n in range(9)]

    assert [row.number for row in read.requests(rows, sample=3)[0]] == [1, 2, 3]
