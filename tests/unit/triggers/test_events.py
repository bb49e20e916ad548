"""What the triggerer tells of its polls: counts now and then, and not a line for each poll."""

from __future__ import annotations

import socket


def test_polls_are_counted_and_each_generation_that_ends_has_a_lag(
    emulator, submit, trigger, event_of, metrics
):
    ids = [submit(), submit("another")]

    event_of(trigger(*ids))

    assert metrics.total("polls") >= 2
    assert len(metrics.lines("polls")) == 1
    assert len(metrics.lines("detection_lag")) == 2
    assert metrics.lines("in_flight")[-1].value == 0
    where = {"conn_id": "gpt_image_default", "hostname": socket.gethostname()}
    assert metrics.lines("polls")[0].tags == where


def test_polls_that_are_refused_for_the_rate_are_counted(emulator, submit, trigger, event_of, metrics):
    generation_id = submit()
    emulator.fault("get:rate_limit_exceeded*2;retry_after=0.01")

    event_of(trigger(generation_id))

    assert metrics.total("rate_limited") == 2
    assert metrics.lines("rate_limited")[0].tags["call"] == "poll"
