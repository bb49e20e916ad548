"""When a generation is polled next: by its age, and by what is known of others of its kind."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.polling.schedule import Schedule, kind_of

START = 1_775_384_000.0
INTERVAL = 5.0


def at(seconds):
    return datetime.fromtimestamp(START + seconds, UTC)


def under_way(*, created=0.0, now=0.0, told=True):
    """What the API says of a generation; without its own times when it isn't ``told``."""
    times = {"created_at": at(created), "told_at": at(now)} if told else {}
    return Generation(id="g", status="processing", **times)


def finished(*, created=0.0, takes, now):
    return Generation(
        id="g",
        status="completed",
        created_at=at(created),
        completed_at=at(created + takes),
        told_at=at(now),
    )


def learn(schedule, durations, *, kind="", now=0.0):
    """Others of a kind have taken so long, each found at its first poll."""
    for takes in durations:
        pace = schedule.begin(INTERVAL, kind=kind)
        pace.finish(finished(created=now - takes, takes=takes, now=now), START + now)


def first_pause(schedule, *, age, kind="", told=True, since=None):
    """The pause of one that is polled for the first time at an age, with many polls saved."""
    schedule.save(100)
    pace = schedule.begin(INTERVAL, kind=kind, since=since)
    return pace.pause(under_way(created=-age, told=told), START)


def first_pause_without_savings(schedule):
    return schedule.begin(INTERVAL, kind="new").pause(under_way(), START)


@pytest.fixture
def schedule():
    return Schedule(jitter=lambda: 0.5)


@pytest.mark.parametrize(("age", "pause"), [(0, 0.5), (8, 1), (24, 3), (40, 5), (4_000, 5)])
def test_while_nothing_is_known_pauses_grow_with_the_age_up_to_the_interval(schedule, age, pause):
    assert first_pause(schedule, age=age) == pause


def test_without_saved_polls_the_interval_is_kept(schedule):
    pace = schedule.begin(INTERVAL)

    assert pace.pause(under_way(), START) == INTERVAL


def test_while_hardly_any_ends_polls_are_left_out(schedule):
    learn(schedule, [100.0 + number for number in range(100)])

    assert first_pause(schedule, age=40.0) == pytest.approx(40.0)


def test_no_poll_is_left_out_for_longer_than_the_age_or_three_intervals(schedule):
    learn(schedule, [1_000.0 + number for number in range(100)])

    assert first_pause(schedule, age=1.0) == pytest.approx(3 * INTERVAL)
    assert first_pause(schedule, age=30.0) == pytest.approx(30.0)
    assert first_pause(schedule, age=500.0) == pytest.approx(60.0)


def test_where_most_end_polls_are_close_together(schedule):
    learn(schedule, [20.0 + number / 100 for number in range(200)])

    assert first_pause(schedule, age=20.5) < 1.0


@pytest.mark.parametrize("other", ["4k", "1k from images", ""])
def test_what_is_known_of_one_kind_says_nothing_of_another(schedule, other):
    learn(schedule, [100.0 + number for number in range(100)], kind="1k")

    assert first_pause(schedule, age=40.0, kind="1k") > INTERVAL
    assert first_pause(schedule, age=40.0, kind=other) == INTERVAL


def test_a_kind_is_the_tier_and_whether_there_are_reference_images():
    text = ImageRequest(prompt="x", resolution="2k")
    images = ImageRequest(prompt="x", image_urls=("https://host/1.png",))

    assert [kind_of(text), kind_of(images), kind_of(None)] == ["2k", "1k from images", ""]


def test_the_age_is_by_the_time_of_the_submit_where_the_api_does_not_tell_it(schedule):
    learn(schedule, [100.0 + number for number in range(100)])

    told = first_pause(schedule, age=40.0)
    assert first_pause(schedule, age=40.0, told=False, since=START - 40) == told
    # By neither it counts as just begun.
    assert first_pause(schedule, age=40.0, told=False) == 3 * INTERVAL


def test_the_times_of_the_api_go_before_that_of_the_submit(schedule):
    learn(schedule, [100.0 + number for number in range(100)])

    assert first_pause(schedule, age=40.0, since=START - 4_000) == pytest.approx(40.0)


def test_those_that_are_still_under_way_count(schedule):
    # Of a hundred that were submitted together the quickest 30 have ended; none of the others for a while.
    paces = [schedule.begin(INTERVAL) for _ in range(70)]
    for pace in paces:
        pace.pause(under_way(), START)
        pace.pause(under_way(now=20), START + 20)
    durations = [10.0 + number / 10 for number in range(40)]
    learn(schedule, durations)

    others_count = first_pause(schedule, age=15.0)
    for pace in paces:
        pace.leave()
    learn(schedule, durations)

    assert others_count > INTERVAL
    assert first_pause(schedule, age=15.0) < INTERVAL


def test_the_durations_of_a_slower_time_are_forgotten(schedule):
    learn(schedule, [100.0 + number for number in range(100)])
    assert first_pause(schedule, age=40.0) > INTERVAL

    for minutes in (20, 40, 60):
        learn(schedule, [42.0 + number / 100 for number in range(100)], now=60.0 * minutes)

    assert first_pause(schedule, age=42.5) < INTERVAL


def test_a_night_without_work_is_no_reason_to_forget(schedule):
    learn(schedule, [100.0 + number for number in range(100)])
    learn(schedule, [150.0], now=36_000.0)

    assert first_pause(schedule, age=40.0) > INTERVAL


def test_durations_that_cannot_be_are_not_learned(schedule):
    for _ in range(100):
        pace = schedule.begin(INTERVAL)
        pace.finish(finished(takes=-50.0, now=0.0), START)
        schedule.begin(INTERVAL).finish(Generation(id="g", status="failed"), START)

    assert first_pause(schedule, age=40.0) == INTERVAL


def test_polls_that_were_left_out_while_it_went_on_are_saved_for_others(schedule):
    learn(schedule, [100.0 + number for number in range(100)])
    pace = schedule.begin(INTERVAL)
    pace.pause(under_way(created=-40), START)
    # Seven moments have passed, and one poll was made.
    pace.pause(under_way(created=-40, now=36), START + 36)

    sooner = [schedule.begin(INTERVAL, kind="new") for _ in range(10)]
    pauses = [each.pause(under_way(), START) for each in sooner]

    assert pauses == [0.5] * 6 + [INTERVAL] * 4


def polls_of_one(schedule, *, lasts, early=0.0, at_once=True):
    """
    How often one is polled until it ends.

    :param early: each poll comes so many seconds before it is due.
    :param at_once: the first one comes right after the submit, and not as the schedule has it.
    """
    pace, polls = schedule.begin(INTERVAL, since=START), 0
    now = 0.0 if at_once else pace.first(START)
    while True:
        polls += 1
        if now >= lasts:
            pace.finish(finished(takes=lasts, now=now), START + now)
            return polls
        now += pace.pause(under_way(now=now), START + now) - (early if now else 0.0)


@pytest.mark.parametrize("early", [0.0, 0.1, 0.25])
def test_polls_that_come_a_little_early_are_no_more_than_polling_every_interval_makes(schedule, early):
    lasts = [10.0 + number % 20 + 0.4 for number in range(15)]

    polls = sum(polls_of_one(schedule, lasts=each, early=early) for each in lasts)

    assert polls <= sum(1 + math.ceil(each / INTERVAL) for each in lasts)


def first(schedule, *, age):
    return schedule.begin(INTERVAL, since=START - age).first(START)


def test_the_first_poll_of_one_that_was_just_submitted_comes_an_interval_later(schedule):
    assert first(schedule, age=0.0) == INTERVAL
    assert first(schedule, age=2.0) == INTERVAL - 2.0
    assert first(schedule, age=60.0) == 0.0


def test_the_first_poll_comes_later_when_others_of_its_kind_took_longer(schedule):
    learn(schedule, [12.0 + number / 100 for number in range(100)])

    assert 12.0 <= first(schedule, age=0.0) <= 13.0
    assert 2.0 <= first(schedule, age=10.0) <= 3.0


def test_the_first_poll_is_never_sooner_than_an_interval_after_the_submit(schedule):
    learn(schedule, [1.0 + number / 100 for number in range(100)])

    assert first(schedule, age=0.0) >= INTERVAL


@pytest.fixture
def late_first(schedule):
    """One that is first polled when two moments have passed; the next would have found it at 15."""
    learn(schedule, [14.0 + number / 200 for number in range(100)])
    pace = schedule.begin(INTERVAL, since=START)
    now = pace.first(START)
    assert 14.0 <= now <= 14.6
    return pace, now


def test_polls_that_a_late_first_one_left_out_are_saved_for_others(schedule, late_first):
    pace, now = late_first
    pace.finish(finished(takes=13.2, now=now), START + now)

    sooner = [schedule.begin(INTERVAL, kind="new") for _ in range(10)]
    pauses = [each.pause(under_way(), START) for each in sooner]

    assert pauses == [0.5] * 2 + [INTERVAL] * 8


def test_one_that_a_late_first_poll_left_out_may_be_used_for_the_next(schedule, late_first):
    pace, now = late_first

    assert pace.pause(under_way(now=now), START + now) == 0.5
    assert first_pause_without_savings(schedule) == INTERVAL


@pytest.mark.parametrize("lasts", [lambda n: 10.0 + n % 20 + 0.4, lambda n: 4.0 + n % 3, lambda n: 61.0])
def test_with_a_late_first_poll_they_are_no_more_than_polling_every_interval_makes(schedule, lasts):
    durations = [lasts(number) for number in range(300)]

    polls = sum(polls_of_one(schedule, lasts=each, at_once=False) for each in durations)

    assert polls <= sum(math.ceil(each / INTERVAL) for each in durations)


def test_with_a_late_first_poll_as_many_polls_find_an_end_in_half_the_time(schedule):
    lags = []
    for number in range(600):
        lasts = 10.0 + number * 7 % 200 / 10
        pace = schedule.begin(INTERVAL * 2, since=START)
        now = pace.first(START)
        while now < lasts:
            now += pace.pause(under_way(now=now), START + now)
        pace.finish(finished(takes=lasts, now=now), START + now)
        lags.append(now - lasts)

    # Every ten seconds it would be five, on average.
    assert sum(lags[200:]) / len(lags[200:]) < 2.75
