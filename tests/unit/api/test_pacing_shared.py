"""Several workers on one account's limit: each hears only what becomes of its own submits."""

from __future__ import annotations

import statistics
from functools import cache

import pytest

from tests.shared_limits import (
    FixedWindow,
    InFlight,
    SlidingWindow,
    TokenBucket,
    always,
    exact,
    none,
    share,
)

LIMITS = {
    "20 in each 10 s": lambda: FixedWindow(20, 10),
    "20 in any 10 s": lambda: SlidingWindow(20, 10),
    "2 a second, 20 at once": lambda: TokenBucket(2, 20),
    "10 a second, 10 at once": lambda: TokenBucket(10, 10),
    "40 a second, 40 at once": lambda: TokenBucket(40, 40),
    "20 in flight": lambda: InFlight(20, (10, 30)),
    "100 in flight": lambda: InFlight(100, (10, 30)),
}
ANSWERS = {"Retry-After": exact, "none": none}
SEEDS = [1, 2]


@cache
def five_workers(limit, answer, seed):
    """A quarter of an hour; read only."""
    return share(LIMITS[limit](), ANSWERS[answer], seed=seed)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("limit", LIMITS)
def test_five_workers_use_95_percent_of_a_limit_and_none_gets_less_than_half_its_share(limit, answer):
    outcomes = [five_workers(limit, answer, seed) for seed in SEEDS]

    uses = [outcome.use for outcome in outcomes]
    assert statistics.fmean(uses) >= 0.95
    assert min(uses) >= 0.94
    assert min(outcome.least_share for outcome in outcomes) >= 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("limit", LIMITS)
def test_nothing_is_sent_before_a_retry_after_is_over(limit, seed):
    outcome = five_workers(limit, "Retry-After", seed)

    assert [worker.early for worker in outcome.workers] == [[]] * 5


@pytest.mark.parametrize("answer", ANSWERS)
def test_workers_that_come_to_one_that_had_all_get_their_share_within_minutes(answer):
    outcome = share(TokenBucket(40, 40), ANSWERS[answer], starts=(0, 200, 200, 200, 200), counted_from=320)

    assert outcome.use >= 0.95
    assert outcome.least_share >= 0.5


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_limit_by_the_minute_is_shared_once_the_workers_have_met_it_some_times(answer):
    outcome = share(FixedWindow(60, 60), ANSWERS[answer], seconds=1800, counted_from=300)

    assert outcome.use >= 0.95
    assert outcome.least_share >= 0.5


def test_a_retry_after_that_is_always_the_same_is_kept_and_costs_little():
    outcome = share(TokenBucket(10, 10), always(5))

    assert outcome.use >= 0.9
    assert outcome.least_share >= 0.5
    assert [worker.early for worker in outcome.workers] == [[]] * 5


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_worker_that_is_alone_uses_nine_tenths(limit, answer):
    outcome = share(LIMITS[limit](), ANSWERS[answer], starts=(0,), counted_from=0)

    assert outcome.use >= 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_few_generations_of_minutes_are_replaced_as_they_finish(seed):
    outcome = share(InFlight(10, (60, 180)), none, starts=(0,), seconds=3600, duration=(60, 180), seed=seed)

    assert outcome.use >= 0.93
    assert outcome.workers[0].pacer.bound is None or outcome.workers[0].pacer.bound <= 12


@pytest.mark.parametrize("most", [0.5, 4, 40])
def test_a_limit_of_ones_own_is_kept_to_from_the_first_second_on(most):
    limit = TokenBucket(100, 100)
    first = min(2.0, most)

    [worker] = share(limit, exact, starts=(0,), seconds=300, first_rate=first, most=most).workers

    per_second = [sum(second <= at < second + 1 for at in worker.accepted) for second in range(300)]
    assert max(per_second) <= most + 2  # so many more arrive in a second, for a submit takes its time
    assert len(worker.accepted) <= most * 300 + 1
    assert len(worker.accepted) > 0.9 * most * 295
