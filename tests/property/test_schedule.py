"""Whatever the durations: no more polls than polling every poll_interval makes, and nobody is forgotten."""

from __future__ import annotations

import heapq
import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.polling.schedule import Schedule

START = datetime(2026, 4, 5, tzinfo=UTC)

seconds = st.floats(0, 200, allow_nan=False)
waits = st.lists(
    st.tuples(
        st.floats(0, 300),  # submitted at
        st.floats(0, 120),  # first polled so long after
        seconds,  # takes
        st.sampled_from([0.3, 1.0, 5.0, 30.0]),  # poll_interval
    ),
    min_size=1,
    max_size=60,
)


def moment(now):
    return START + timedelta(seconds=now)


class Waited:
    def __init__(self, submitted, later, takes, poll_interval):
        self.submitted, self.first = submitted, submitted + later
        self.ends, self.poll_interval = submitted + takes, poll_interval
        self.polls = []

    def generation(self, now, *, times):
        finished = now >= self.ends
        given = {"id": "g", "status": "completed" if finished else "pending"}
        if times:
            given |= {"created_at": moment(self.submitted), "told_at": moment(now)}
            given |= {"completed_at": moment(self.ends)} if finished else {}
        return Generation(**given)

    @property
    def fixed_polls(self):
        """How many polls it takes every poll_interval."""
        if self.ends <= self.first:
            return 1
        return 1 + max(1, math.ceil((self.ends - self.first) / self.poll_interval - 1e-6))


def simulate(given, *, times, jitter, delay=0.0):
    schedule = Schedule(jitter=lambda: jitter)
    waited = [Waited(*each) for each in given]
    heap = [(each.first, number) for number, each in enumerate(waited)]
    heapq.heapify(heap)
    paces = [schedule.begin(each.poll_interval) for each in waited]
    while heap:
        now, number = heapq.heappop(heap)
        each, pace = waited[number], paces[number]
        each.polls.append(now)
        generation = each.generation(now, times=times)
        if generation.finished:
            pace.finish(generation, now)
            continue
        pause = pace.pause(generation, now)
        assert 0 < pause < math.inf
        assert pause <= max(60.0, each.poll_interval) + each.poll_interval
        heapq.heappush(heap, (now + pause + delay, number))
    return waited


@given(waits, st.booleans(), st.floats(0, 0.999), st.floats(0, 3))
def test_all_polls_are_no_more_than_at_every_poll_interval_and_each_wait_ends(given, times, jitter, delay):
    waited = simulate(given, times=times, jitter=jitter, delay=delay)

    assert sum(len(each.polls) for each in waited) <= sum(each.fixed_polls for each in waited)
    assert all(each.polls[-1] >= each.ends for each in waited)


@given(waits, st.floats(0, 0.999))
def test_a_clock_that_jumps_keeps_every_pause_a_number_of_seconds(given, jitter):
    schedule = Schedule(jitter=lambda: jitter)
    for submitted, later, takes, poll_interval in given:
        pace, each = schedule.begin(poll_interval), Waited(submitted, later, 1e9, poll_interval)
        for now in (submitted + later, submitted - 1000 * takes, submitted + later + takes):
            pause = pace.pause(each.generation(max(0.0, now), times=takes > 100), now)
            assert 0 < pause <= max(60.0, poll_interval) + poll_interval


def test_known_durations_find_the_end_sooner_with_no_more_polls():
    # Jobs of 10 to 30 s, polled every 5 s from their submit on, one after the other.
    given = [(number * 0.4, 0.0, 10 + 20 * (number * 0.618034 % 1), 5.0) for number in range(2_000)]
    given[50] = (20.0, 0.0, 1.0, 5.0)  # one that was quick is no reason to poll all others early
    given[1_000] = (400.0, 0.0, 1.0, 5.0)

    waited = simulate(given, times=True, jitter=0.5)

    later = waited[1_000:]
    lags = sorted(each.polls[-1] - each.ends for each in later)
    assert sum(len(each.polls) for each in later) <= sum(each.fixed_polls for each in later)
    assert lags[len(lags) // 2] <= 1.3
    assert lags[int(len(lags) * 0.95)] <= 3.6
