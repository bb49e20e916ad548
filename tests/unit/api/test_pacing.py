"""Against the emulator's own rate limit, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from dataclasses import dataclass, field
from functools import cache
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.api.pacing import Pacer
from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.error_table import RefusalError
from airflow_gpt_image.emulator.settings import Settings

AT_ONCE = 16


def calm(**rates):
    """A pacer that is never later than it has to be."""
    return Pacer(**{"first_rate": 10.0, **rates}, dice=lambda: 0.0)


@dataclass
class Run:
    """What became of a run: times in seconds since it began."""

    pacer: Pacer
    places: list[tuple[float, float]] = field(default_factory=list)  # when a submit went, at which rate
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def throughput(self, begin=0.0, end=math.inf):
        """Accepted submits per second, from the first submit to the last."""
        end = min(end, self.places[-1][0])
        return sum(begin <= at <= end for at in self.accepted) / (end - begin)

    def rates(self, begin, end):
        return [rate for at, rate in self.places if begin <= at <= end]


def run(
    limit, *, submits=10_000, limits=(), retry_after=lambda seconds: seconds, latency=(0.02, 0.1), told=1.0
):
    """Send as fast as the pacer lets, up to 16 at once.

    :param limits: (when, limit) for each change of the limit.
    :param retry_after: what the server says instead of what the emulator would.
    :param latency: shortest and longest seconds from a submit to its answer; the server counts halfway.
    :param told: share of the accepted submits that the pacer hears of.
    """
    dice, order = random.Random(7), count()
    pacer = Pacer(dice=random.Random(7).random)
    record, clock = Run(pacer), 0.0
    server = Emulator(Settings(rate_limit=limit), (), lambda: clock)
    events = [(at, next(order), server.change, {"rate_limit": new}) for at, new in limits]
    free, waiting = AT_ONCE, False

    def later(seconds, do, what=None):
        heapq.heappush(events, (clock + seconds, next(order), do, what))

    def ask(_):
        nonlocal free, waiting
        waiting = False
        while free and len(record.places) < submits:
            if pause := pacer.pause(clock):
                waiting = True
                later(pause, ask)
                break
            record.places.append((clock, pacer.rate))
            free -= 1
            later((half := dice.uniform(*latency) / 2), arrive, half)

    def arrive(half):
        try:
            server.check_rate()
        except RefusalError as refusal:
            later(half, refuse, retry_after(int(refusal.headers["retry-after"])))
        else:
            later(half, accept)

    def accept(_):
        record.accepted.append(clock)
        if dice.random() < told:
            pacer.accepted(clock)
        answered()

    def refuse(seconds):
        record.refused.append(clock)
        pacer.refused(clock, seconds)
        answered()

    def answered():
        nonlocal free
        free += 1
        if not waiting:
            ask(None)

    heapq.heapify(events)
    later(0, ask)
    while events and (free < AT_ONCE or len(record.places) < submits):
        clock, _, do, what = heapq.heappop(events)
        do(what)
    return record


@cache
def steady(limit):
    """10,000 submits against a limit that stays; read only."""
    return run(limit)


def accept(pacer, now):
    """Have one more submit accepted; when that was."""
    now = take(pacer, 1, now)
    pacer.accepted(now)
    return now


def refuse(pacer, now):
    """Have a submit refused, long after all others were answered."""
    pacer.refused(take(pacer, 1, now + 6.0), 0)


def take(pacer, places, now=0.0):
    """Take so many places, each as soon as it is free; when the last one was."""
    for _ in range(places):
        while pause := pacer.pause(now):
            now += pause
    return now


def use(pacer, seconds, now=0.0):
    """Take every place there is, each submit accepted at once; when it ended."""
    end = now + seconds
    while now < end:
        now = take(pacer, 1, now)
        pacer.accepted(now)
    return now


@pytest.mark.parametrize("limit", [2, 10, 40, 120])
def test_a_run_gets_95_percent_of_a_limit_it_does_not_know_and_is_seldom_refused(limit):
    outcome = steady(limit)

    assert outcome.throughput() >= 0.95 * limit
    assert len(outcome.refused) < (0.05 if limit < 10 else 0.01) * len(outcome.places)


def test_ten_thousand_submits_get_98_percent_of_40_a_second():
    assert steady(40).throughput() >= 0.98 * 40


@pytest.mark.parametrize("limit", [2, 10, 40])
def test_most_of_the_time_the_rate_is_close_to_the_limit(limit):
    outcome = steady(limit)

    rates = statistics.quantiles(outcome.rates(60, math.inf), n=20)

    assert 0.95 * limit < rates[9] < 1.1 * limit
    assert 0.85 * limit < rates[0]
    assert rates[18] < 1.2 * limit


def test_a_limit_below_one_submit_per_second_is_found_as_well():
    outcome = run(0.5, submits=1000)

    assert outcome.throughput() > 0.75 * 0.5
    assert len(outcome.refused) < 0.3 * len(outcome.places)


def test_a_limit_that_falls_to_a_quarter_and_comes_back_is_followed_both_ways():
    outcome = run(40, submits=15_000, limits=[(100, 10), (300, 40)])

    assert outcome.throughput(10, 100) > 0.95 * 40
    assert outcome.throughput(100, 140) > 0.85 * 10
    assert outcome.throughput(140, 300) > 0.9 * 10
    assert max(outcome.rates(140, 300)) < 1.5 * 10
    assert outcome.throughput(500) > 0.95 * 40
    assert len(outcome.refused) < 0.02 * len(outcome.places)


def test_a_server_that_does_not_say_how_long_gets_a_second_of_peace():
    outcome = run(10, submits=3000, retry_after=lambda _: None)

    assert outcome.throughput() > 0.95 * 10
    assert len(outcome.refused) < 0.02 * len(outcome.places)


def test_a_server_that_asks_for_30_seconds_gets_them_and_the_rest_of_the_time_is_used():
    outcome = run(10, submits=3000, retry_after=lambda _: 30)

    gaps = [then - at for (at, _), (then, _) in pairwise(outcome.places)]
    held = [gap for gap in gaps if gap > 1]

    assert len(held) > 2
    assert min(held) > 30
    for at in outcome.refused:
        assert not outcome.rates(math.nextafter(at, math.inf), at + 29.999)
    assert len(outcome.accepted) > 0.8 * 10 * (sum(gaps) - sum(held))


def test_answers_slower_than_the_hold_are_still_of_one_event():
    outcome = run(10, submits=3000, latency=(1.5, 2.0))

    assert outcome.throughput() > 0.7 * 8  # 16 at once and 2 s each
    assert min(outcome.rates(60, math.inf)) > 0.6 * 8


@pytest.mark.parametrize("limit", [None, 2, 40])
def test_no_two_submits_are_closer_than_the_rate_allows_from_the_first_on(limit):
    outcome = run(limit, submits=3000)

    assert outcome.places[0] == (0.0, 2.0)
    assert all(at + 1 / rate <= then + 1e-9 for (at, _), (then, rate) in pairwise(outcome.places))


def test_without_a_limit_the_rate_rises_to_the_most_and_stays_there():
    outcome = run(None, submits=3000)

    assert outcome.pacer.rate == 200
    assert not outcome.refused


def test_before_the_first_refusal_the_rate_doubles_about_every_half_second():
    pacer = calm(first_rate=2, most=1000)

    now, rates = 0.0, []
    for _ in range(4):
        now = use(pacer, 0.5, now)
        rates.append(pacer.rate)

    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(2 * 2**4, rel=0.5)


def test_one_accepted_submit_no_more_than_doubles_a_low_rate():
    pacer = calm(first_rate=0.2)
    now = take(pacer, 3)

    pacer.accepted(now)

    assert pacer.rate == pytest.approx(0.4)


def test_the_refusals_of_one_event_lower_the_rate_once():
    pacer = calm()
    now = take(pacer, 16)

    for number in range(8):
        pacer.refused(now + number / 100, 1)
    lowered = pacer.rate
    now = take(pacer, 1, now + 2)
    for number in range(8):
        pacer.refused(now + number / 100, 1)

    assert lowered == pytest.approx(0.6 * 10)
    assert pacer.rate == lowered


def test_refusals_without_anything_accepted_in_between_lower_the_rate_once():
    pacer = calm()
    now, rates = 0.0, []

    for _ in range(3):
        now = take(pacer, 1, now)
        pacer.refused(now, 1)
        rates.append(pacer.rate)

    assert rates == pytest.approx([6.0] * 3)


def test_a_refusal_of_a_submit_sent_since_the_fall_lowers_the_rate_again():
    pacer = calm()
    refuse(pacer, 0.0)
    fallen = pacer.rate

    refuse(pacer, accept(pacer, 6.5))

    assert pacer.rate == pytest.approx(0.9 * fallen, rel=0.05)


def test_a_refusal_that_arrives_while_all_are_held_lowers_nothing_however_late_it_is():
    pacer = calm()
    now = take(pacer, 16)
    pacer.refused(now, 30)
    lowered = pacer.rate

    pacer.refused(now + 29.9, 30)

    assert pacer.rate == lowered


def test_answers_to_submits_that_took_no_place_excuse_nothing():
    pacer = calm()
    for _ in range(3):
        pacer.accepted(0.0)
    grown = pacer.rate

    pacer.refused(0.0, 0)

    assert pacer.rate == pytest.approx(0.6 * grown)


def test_an_acceptance_of_a_submit_sent_before_the_fall_does_not_raise_the_rate():
    pacer = calm()
    now = take(pacer, 16)
    pacer.refused(now, 0)
    lowered = pacer.rate

    now = take(pacer, 1, now)
    for _ in range(15):
        pacer.accepted(now)
    before = pacer.rate
    pacer.accepted(now)

    assert before == lowered < pacer.rate


def test_submits_that_were_never_answered_excuse_refusals_for_five_seconds_only():
    pacer = calm()
    now = take(pacer, 16)
    pacer.refused(now, 1)
    pacer.accepted(take(pacer, 1, now + 4.8))
    lowered = pacer.rate

    pacer.refused(take(pacer, 1, now + 4.9), 0)
    excused = pacer.rate
    pacer.accepted(take(pacer, 1, now + 5.1))
    pacer.refused(take(pacer, 1, now + 5.2), 0)

    assert excused == lowered
    assert pacer.rate < lowered


def test_the_longer_nothing_is_refused_the_faster_the_rate_grows():
    pacer = calm(first_rate=100)
    now = take(pacer, 1)
    pacer.refused(now, 0)

    rates = [pacer.rate]
    for _ in range(5):
        now = use(pacer, 10.0, now)
        rates.append(pacer.rate)

    steps = [then - rate for rate, then in pairwise(rates)]
    assert steps == sorted(steps)
    assert steps[0] < 0.1 * 60
    assert rates[-1] > 150


def test_a_fast_worker_gains_more_than_a_slow_one_but_not_in_proportion():
    gains = []
    for first_rate in (1.0, 16.0):
        pacer = calm(first_rate=first_rate)
        pacer.refused(take(pacer, 1), 0)
        before = pacer.rate
        use(pacer, 20.0, 1.0)
        gains.append(pacer.rate - before)

    slow, fast = gains
    assert slow < fast < 16 * slow / 2


def test_refusals_at_the_same_rate_every_time_make_falls_smaller():
    pacer = calm()
    refuse(pacer, 0.0)
    falls, now = [], 10.0
    for _ in range(30):
        while pacer.rate < 8.0:
            now = accept(pacer, now)
        before = pacer.rate
        refuse(pacer, now)
        falls.append(1 - pacer.rate / before)
        now += 10.0

    assert falls[0] == pytest.approx(0.1, rel=0.1)
    assert falls[-1] < 0.05


def test_refusals_at_ever_other_rates_make_falls_as_large_as_at_first():
    pacer = calm()
    refuse(pacer, 0.0)
    falls, now = [], 10.0
    for number in range(12):
        for _ in range(1 if number % 2 else 400):
            now = accept(pacer, now)
        before = pacer.rate
        refuse(pacer, now)
        falls.append(1 - pacer.rate / before)
        now += 10.0

    assert falls[-1] > 0.08


def test_a_time_in_which_all_was_refused_lowers_the_rate_by_up_to_a_half():
    pacer = calm()
    pacer.accepted(take(pacer, 1))
    pacer.refused(take(pacer, 1, 1.0), 50)
    fallen = pacer.rate

    pacer.accepted(take(pacer, 1, 51.0))

    assert 0.5 * fallen < pacer.rate < 0.6 * fallen


def test_a_second_in_which_all_was_refused_lowers_the_rate_no_further():
    pacer = calm()
    pacer.accepted(take(pacer, 1))
    pacer.refused(take(pacer, 1, 1.0), 1)
    fallen = pacer.rate

    pacer.accepted(take(pacer, 1, 2.0))

    assert pacer.rate >= fallen


# The bound on what is in flight


def bounded(in_flight):
    """A pacer at its lowest rate that was refused with so many in flight, and when that was."""
    pacer = calm(first_rate=0.2)
    pacer.resumed(in_flight)
    now = take(pacer, 1)
    pacer.refused(now, None)
    return pacer, now


def test_a_refusal_at_the_lowest_rate_is_taken_for_a_bound_on_what_is_in_flight():
    pacer, _ = bounded(3)

    assert (pacer.bound, pacer.rate) == (3, 0.2)


def test_a_refusal_at_a_higher_rate_is_not():
    pacer = calm(first_rate=0.5)
    pacer.resumed(3)
    pacer.refused(take(pacer, 1), None)

    assert pacer.bound is None


def test_at_the_bound_one_more_is_tried_after_ten_seconds():
    pacer, now = bounded(3)

    assert pacer.pause(now + 1) == pytest.approx(9)
    assert pacer.pause(now + 10) == 0


def test_a_generation_that_finishes_is_replaced_at_once():
    pacer, now = bounded(3)

    pacer.finished(now + 0.1)

    assert pacer.pause(now + 0.1) == 0
    assert pacer.pause(now + 0.1) > 0


def test_a_generation_that_finishes_ends_no_hold_that_the_server_asked_for():
    pacer = calm(first_rate=0.2)
    pacer.resumed(3)
    now = take(pacer, 1)
    pacer.refused(now, 4)

    pacer.finished(now + 1)

    assert pacer.pause(now + 1) == pytest.approx(3)
    assert pacer.pause(now + 4) == 0


def test_what_replaces_a_finished_generation_does_not_raise_the_rate():
    pacer, now = bounded(3)

    for number in range(20):
        pacer.finished(now + number)
        assert pacer.pause(now + number) == 0
        pacer.accepted(now + number)

    assert (pacer.bound, pacer.rate) == (3, 0.2)


def test_one_more_that_is_accepted_raises_the_bound_and_the_rate():
    pacer, now = bounded(3)

    assert pacer.pause(now + 10) == 0
    pacer.accepted(now + 10)

    assert pacer.bound == 4
    assert pacer.rate > 0.2


def test_a_bound_lowers_with_what_was_in_flight_at_a_refusal_and_is_never_below_one():
    pacer, now = bounded(3)
    for _ in range(3):
        pacer.finished(now)

    pacer.refused(take(pacer, 1, now + 1), None)

    assert pacer.bound == 1


def test_a_bound_is_forgotten_when_the_rate_has_doubled():
    pacer, now = bounded(1)

    while pacer.bound is not None:
        now = take(pacer, 1, now)
        pacer.accepted(now)

    assert pacer.rate > 0.4


def test_what_is_refused_for_another_reason_is_not_in_flight():
    pacer = calm(first_rate=0.2)
    pacer.passed(take(pacer, 1))
    pacer.resumed(1)
    while pacer.rate > 0.2:
        now = take(pacer, 1, 100.0)
        pacer.refused(now, None)
        pacer.passed(take(pacer, 1, now + 100))
        pacer.refused(take(pacer, 1, now + 200), None)

    pacer.refused(take(pacer, 1, 1e6), None)

    assert pacer.bound == 1


def test_submits_the_pacer_hears_no_more_of_cost_little():
    outcome = run(40, told=0.9)

    assert outcome.throughput() > 0.93 * 40
    assert len(outcome.refused) < 0.01 * len(outcome.places)


def test_a_longer_wish_extends_the_hold_and_a_shorter_one_does_not_end_it():
    pacer = calm()
    take(pacer, 1)

    pacer.refused(1.0, 30)
    pacer.refused(2.0, 1)
    shorter = pacer.pause(2.0)
    pacer.refused(3.0, 3600)
    longer = pacer.pause(3.0)

    assert (shorter, longer) == (29.0, 3600.0)


def test_a_wish_of_any_length_is_kept():
    pacer = calm()

    pacer.refused(0.0, 7 * 24 * 3600)

    assert pacer.pause(7 * 24 * 3600 - 1.0) == 1.0
    assert pacer.pause(7 * 24 * 3600) == 0.0


def test_refusals_that_go_on_hold_longer_and_longer_up_to_six_seconds_and_an_acceptance_ends_that():
    pacer, now, holds = calm(), 0.0, []

    for number in range(10):
        now = take(pacer, 1, now)
        if number == 8:
            pacer.accepted(now)
            now = take(pacer, 1, now)
        pacer.refused(now, None)
        holds.append(pacer.pause(now))
        now += 100

    assert holds == pytest.approx([1, 1.4, 1.96, 2.744, 3.8416, 5.37824, 6, 6, 1, 1.4])


@pytest.mark.parametrize("idle", [1.0, 3600.0])
def test_a_lull_is_not_saved_up(idle):
    pacer = calm()
    now = take(pacer, 1) + idle

    assert pacer.pause(now) == 0
    assert pacer.pause(now) == pytest.approx(0.1)


def test_after_a_hold_the_senders_go_one_by_one():
    pacer = calm()
    take(pacer, 1)
    pacer.refused(0.0, 30)

    assert pacer.pause(30.0) == 0
    assert pacer.pause(30.0) == pytest.approx(1 / pacer.rate)


def test_being_told_to_wait_takes_no_place():
    pacer = calm()
    take(pacer, 1)

    assert [pacer.pause(0.0) for _ in range(3)] == pytest.approx([0.1] * 3)
    assert pacer.pause(0.1) == 0


@pytest.mark.parametrize("before", [lambda pacer: None, lambda pacer: pacer.refused(0.0, 0)])
def test_senders_that_come_more_slowly_than_the_rate_do_not_raise_it(before):
    pacer = calm()
    before(pacer)
    rate = pacer.rate

    for number in range(5000):
        assert pacer.pause(number / 2) == 0
        pacer.accepted(number / 2)

    assert pacer.rate == pytest.approx(rate, rel=0.01)


def test_senders_that_come_at_random_do_not_raise_the_rate_without_bound():
    pacer, dice, now = calm(), random.Random(7), 0.0

    for _ in range(20_000):
        now += dice.expovariate(5)
        while pause := pacer.pause(now):
            now += pause
        pacer.accepted(now)

    assert pacer.rate < 50


def test_the_least_is_not_fallen_below_and_is_climbed_from_again():
    pacer, now, rates = calm(first_rate=1, least=0.5), 0.0, []

    for _ in range(40):
        refuse(pacer, accept(pacer, now))
        now += 20
        rates.append(pacer.rate)
    for _ in range(100):
        now = take(pacer, 1, now)
        pacer.accepted(now)
        rates.append(pacer.rate)

    assert min(rates) == rates[39] == 0.5
    assert rates[-1] > 0.6


@pytest.mark.parametrize(
    "rates",
    [
        {"least": 0},
        {"least": -1},
        {"least": 3},
        {"first_rate": 201},
        {"first_rate": math.nan},
        {"most": 1.9},
        {"most": math.inf},
        {"least": math.nan},
    ],
)
def test_rates_out_of_order_are_refused_with_value_and_rule(rates):
    ((name, value),) = rates.items()

    with pytest.raises(ValueError, match=rf"{name}={value!r}.*must be submits per second, above 0, finite"):
        Pacer(**rates)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("now", lambda pacer, value: pacer.pause(value)),
        ("now", lambda pacer, value: pacer.accepted(value)),
        ("now", lambda pacer, value: pacer.refused(value, 1)),
        ("retry_after", lambda pacer, value: pacer.refused(0.0, value)),
    ],
)
def test_a_time_that_is_none_is_refused_and_changes_nothing(name, call, value):
    pacer = calm()

    with pytest.raises(ValueError, match=rf"^{name}={value!r}: must be a finite number of seconds\.$"):
        call(pacer, value)

    assert (pacer.rate, pacer.pause(0.0)) == (10.0, 0.0)


def test_a_wish_for_the_past_is_refused():
    with pytest.raises(ValueError, match=r"^retry_after=-1: must be seconds, 0 or more, or None\.$"):
        Pacer().refused(0.0, -1)


moments = st.floats(0, 1e6) | st.floats(allow_nan=False, allow_infinity=False)
wishes = st.none() | st.floats(0, 100) | st.floats(0, allow_nan=False, allow_infinity=False)
calls = st.tuples(st.sampled_from(["pause", "accepted", "refused"]), moments, wishes)


@given(st.lists(calls, max_size=60), st.floats(0.1, 200), st.booleans())
def test_whatever_comes_in_whatever_order_pauses_are_numbers_and_the_rate_stays_in_its_bounds(
    steps, first_rate, in_order
):
    pacer = Pacer(first_rate=first_rate, least=0.1)
    times = sorted(now for _, now, _ in steps) if in_order else [now for _, now, _ in steps]

    for (call, _, wish), now in zip(steps, times, strict=True):
        if call == "refused":
            pacer.refused(now, wish)
        elif call == "accepted":
            pacer.accepted(now)
        else:
            assert pacer.pause(now) >= 0

        assert 0.1 <= pacer.rate <= 200


def test_a_sender_that_has_its_place_already_learns_that_all_are_held():
    pacer = calm()

    assert pacer.pause(0.0) == 0.0
    assert pacer.held(0.0) == 0.0
    pacer.refused(0.5, 3.0)

    assert pacer.held(1.0) == pytest.approx(2.5)
    assert pacer.held(3.5) == 0.0
