from __future__ import annotations

import time

import pytest

from airflow_gpt_image.api.retrying import Retrying, parse_retry_after
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    SpendLimitError,
    SubmissionUnknownError,
    UpstreamError,
)

NOON = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
WEEK = 7 * 24 * 3600


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def time_zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("120", 120), (" 7 ", 7), ("1.5", 1.5), ("007", 7), ("86400", 86400)]
)
def test_a_number_is_seconds(value, seconds):
    assert parse_retry_after(value, now=NOON) == seconds


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
@pytest.mark.usefixtures("time_zone")
def test_a_date_in_any_form_of_http_is_relative_to_the_answer_wherever_the_machine_stands(date):
    assert parse_retry_after(date, now=NOON - 90) == 90


def test_a_date_in_the_past_is_now():
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=NOON + 5) == 0


@pytest.mark.parametrize("value", ["999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wish_beyond_a_week_is_a_week(value):
    assert parse_retry_after(value, now=NOON) == WEEK


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "1e3",
        "nan",
        "inf",
        "Infinity",
        "0x10",
        "١٢",
        "5, 10",
        "5s",
        "1_0",
        ".5",
        "9" * 5000,
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "\x00",
        "\ud800",
        "GMT",
    ],
)
def test_junk_means_none(value):
    assert parse_retry_after(value, now=NOON) is None


def test_the_pause_doubles_up_to_a_cap_and_its_upper_half_is_random():
    shortest = Retrying(first_pause=0.5, longest_pause=8, jitter=lambda: 0.0)
    longest = Retrying(first_pause=0.5, longest_pause=8, jitter=lambda: 1.0)

    assert [shortest.backoff(n) for n in range(1, 8)] == [0.25, 0.5, 1, 2, 4, 4, 4]
    assert [longest.backoff(n) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]


def test_a_million_failures_in_a_row_pause_no_longer_than_the_cap():
    assert Retrying(jitter=lambda: 1.0).backoff(1_000_000) == 8


@pytest.mark.parametrize("error", [InternalServerError("x"), RateLimitError("x"), ConnectionFailedError("x")])
def test_a_passing_error_is_sent_again_until_the_most_sends(error):
    retrying = Retrying(most_sends=3, first_pause=1, jitter=lambda: 1.0)

    assert [retrying.pause_after(error, sends=sends) for sends in (1, 2, 3, 4)] == [1, 2, None, None]


def test_an_upstream_error_is_sent_again_fewer_times_for_it_may_be_the_prompt():
    retrying = Retrying(first_pause=1, jitter=lambda: 1.0)

    assert [retrying.pause_after(UpstreamError("x"), sends=sends) for sends in (1, 2)] == [1, None]


@pytest.mark.parametrize("error", [InvalidRequestError, SpendLimitError, SubmissionUnknownError])
def test_what_is_not_retryable_is_not_sent_again_even_if_the_server_names_a_time(error):
    assert Retrying().pause_after(error("x", retry_after=1), sends=1) is None


def test_a_wish_of_the_server_is_kept_and_never_undercut():
    retrying = Retrying(first_pause=0.5, jitter=lambda: 0.0)

    assert retrying.pause_after(RateLimitError("x", retry_after=7), sends=1) == 7
    assert retrying.pause_after(RateLimitError("x", retry_after=0), sends=1) == 0


def test_callers_asked_to_come_back_at_once_do_not_all_come_at_once():
    retrying = Retrying(first_pause=0.5, jitter=lambda: 0.5)

    assert retrying.pause_after(RateLimitError("x", retry_after=7), sends=1) == 7.25


def test_a_wish_up_to_20_seconds_is_waited_for_and_a_longer_one_is_airflows_business():
    assert Retrying().pause_after(RateLimitError("x", retry_after=20), sends=1) >= 20
    assert Retrying().pause_after(RateLimitError("x", retry_after=20.001), sends=1) is None


def test_the_dice_are_real_unless_told_otherwise():
    pauses = {Retrying(first_pause=1).backoff(1) for _ in range(50)}

    assert len(pauses) > 1
    assert all(0.5 <= pause < 1 for pause in pauses)
