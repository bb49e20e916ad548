"""What follows from a failure is a table, and what many failures in a row follow from, too."""

from __future__ import annotations

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.batch.outcomes import CircuitBreaker, outcome_of
from airflow_gpt_image.batch.phases import LOST, PHASES, ItemTable
from airflow_gpt_image.batch.stop import StoppedError
from airflow_gpt_image.errors import GenerationFailedError
from tests.batches import plan_of

STOPS = True
PASSING = GenerationFailedError("failed", code="upstream_error")
FOR_GOOD = GenerationFailedError("failed", code="invalid_request")


def error_of(name):
    return name if isinstance(name, errors.GptImageError) else getattr(errors, name)("why")


@pytest.mark.parametrize(
    ("error", "during", "with_tries_left", "without", "stops"),
    [
        (StoppedError("stopped"), "submit", "not_submitted", "not_submitted", False),
        ("LedgerError", "submit", "raise", "raise", False),
        ("ReplacedError", "wait", "raise", "raise", False),
        ("InsufficientCreditsError", "submit", "not_submitted", "not_submitted", STOPS),
        ("CreditLimitError", "submit", "not_submitted", "not_submitted", STOPS),
        ("SpendLimitError", "submit", "not_submitted", "not_submitted", STOPS),
        ("InvalidApiKeyError", "wait", "unsettled", "unsettled", STOPS),
        ("InvalidApiKeyError", "store", "unsettled", "unsettled", STOPS),
        ("SubmissionUnknownError", "submit", "unknown", "unknown", False),
        ("DestinationError", "submit", "again", "not_submitted", STOPS),
        ("DestinationError", "store", "again", "unsettled", STOPS),
        ("ConnectionFailedError", "submit", "again", "failed", False),
        ("InternalServerError", "submit", "failed", "failed", False),
        ("UpstreamError", "submit", "failed", "failed", False),
        ("InvalidRequestError", "submit", "failed", "failed", False),
        (PASSING, "wait", "again", "failed", False),
        (FOR_GOOD, "wait", "failed", "failed", False),
        ("GenerationTimeoutError", "wait", "unsettled", "unsettled", False),
        ("GenerationNotFoundError", "wait", "unsettled", "unsettled", False),
        ("UnreadableResponseError", "wait", "again", "unsettled", False),
        ("DownloadError", "store", "again", "unsettled", False),
        ("ImageRefusedError", "store", "unsettled", "unsettled", False),
    ],
    ids=str,
)
def test_the_table(error, during, with_tries_left, without, stops):
    first = outcome_of(error_of(error), during, tries_left=True, resubmit=False)
    last = outcome_of(error_of(error), during, tries_left=False, resubmit=False)

    assert (first.then, last.then) == (with_tries_left, without)
    assert last.stops is stops
    assert first.stops is (stops and first.then != "again")


def test_a_submit_nobody_knows_about_is_sent_again_where_the_author_wants_it_and_tries_are_left():
    lost = error_of("SubmissionUnknownError")

    assert outcome_of(lost, "submit", tries_left=True, resubmit=True).then == "again"
    assert outcome_of(lost, "submit", tries_left=False, resubmit=True).then == "unknown"


# Too many in a row


@pytest.fixture
def breaker():
    return CircuitBreaker(longest_refusal=600.0, longest_hold=60.0)


@pytest.mark.parametrize(("name", "most"), [("UpstreamError", 12), ("InternalServerError", 8)])
def test_failures_for_a_passing_reason_stop_when_they_are_many_in_a_row(breaker, name, most):
    stops = [breaker.failed(index, error_of(name)) for index in range(most)]

    assert stops == [False] * (most - 1) + [True]


def test_one_item_that_the_provider_never_takes_stops_nothing(breaker):
    assert not any(breaker.failed(1, error_of("UpstreamError")) for _ in range(50))


def test_refusals_for_good_are_the_items_own_and_stop_nothing(breaker):
    assert not any(breaker.failed(index, error_of("InvalidRequestError")) for index in range(50))


def test_lost_responses_stop_soonest(breaker):
    assert [breaker.lost() for _ in range(5)] == [False] * 4 + [True]


def test_one_that_was_accepted_makes_all_well_again(breaker):
    for index in range(7):
        breaker.failed(index, error_of("InternalServerError"))
    for _ in range(4):
        breaker.lost()
    breaker.refused(0.0, 0.0)

    breaker.accepted()

    assert not breaker.failed(8, error_of("InternalServerError"))
    assert not breaker.lost()
    assert not breaker.refused(700.0, 0.0)


def test_the_rate_limit_stops_when_it_refuses_for_long_or_asks_for_a_long_wait(breaker):
    assert not breaker.refused(0.0, 60.0)
    assert not breaker.refused(600.0, 0.0)
    assert breaker.refused(600.1, 0.0)
    assert CircuitBreaker(longest_refusal=600.0, longest_hold=60.0).refused(0.0, 60.1)


# Phases


def test_an_item_is_in_one_phase_and_every_count_follows_from_that():
    table = ItemTable(plan_of(["a", "b", "c", "d"]).items)
    a, b, c, d = table
    for entry in (d, b, a):
        table.move(entry, "waiting")
    table.move(c, "failed")
    table.move(b, "stored")

    assert table.entries("waiting") == [d, a]
    assert (table.first("waiting"), table.first("unknown")) == (d, None)
    assert (table.done, table.lost, table.count("waiting", "stored")) == (2, 1, 3)
    assert table.indexes("waiting", "stored") == {0, 1, 3}
    assert sum(table.count(phase) for phase in PHASES) == len(table) == 4
    assert set(LOST) < set(PHASES)
