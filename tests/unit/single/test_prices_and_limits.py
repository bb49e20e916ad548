"""What a task may spend since its last clear, at the prices of its connection, and where it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_gpt_image.errors import (
    CreditLimitError,
    GenerationFailedError,
    InsufficientCreditsError,
    SubmissionUnknownError,
)
from tests.unit.single.conftest import charges

DEARER = {"1k": "5.2", "2k": "10", "4k": "15", "usd_per_credit": "0.01"}


@pytest.fixture
def dearer(api, connect):
    """An account with prices of its own."""
    api.settings(prices={"1k": "5.2", "2k": "10", "4k": "15"})
    connect(api.url, api.key, extra={"verify": False, "prices": DEARER})


def test_the_connections_prices_are_in_the_result_the_record_and_the_sum(task, api, dearer):
    result = task.run()

    assert (result["credits"], result["usd"]) == ("5.2", "0.052")
    assert result["spent"] == {"charged": "5.2", "refunded": "0", "usd": "0.052"}
    sidecar = json.loads(Path(result["images"][0]["path"]).with_suffix(".json").read_text())
    assert (sidecar["credits"], sidecar["usd"]) == ("5.2", "0.052")
    assert api.books()["charged"] == "5.2"


def test_the_guards_count_at_the_connections_prices(task, api, dearer):
    with pytest.raises(CreditLimitError, match=r"5\.2"):
        task.run(max_credits=5.1)
    api.settings(credits="5")
    with pytest.raises(InsufficientCreditsError, match=r"5\.2"):
        task.run(check_balance=True)

    assert charges(api) == []


def test_prices_that_change_later_do_not_change_what_a_record_says(task, api, connect):
    task.run()
    connect(api.url, api.key, extra={"verify": False, "prices": DEARER})

    assert task.run()["credits"] == "4.7"


def test_max_credits_bounds_all_tries_since_the_last_clear_and_a_clear_begins_anew(task, api):
    api.fault("submit:lost")
    options = {"max_credits": 9.4, "on_unknown_submit": "resubmit"}
    for _ in range(2):
        with pytest.raises(SubmissionUnknownError):
            task.run(**options)
    for _ in range(2):
        with pytest.raises(CreditLimitError, match="since its last clear"):
            task.run(**options)
    assert len(charges(api)) == 2

    task.clear(airflow="3.4")
    with pytest.raises(SubmissionUnknownError):
        task.run(**options)
    assert len(charges(api)) == 3


def test_a_refund_gives_its_credits_back_to_the_limit(task, api):
    api.fault("generation:failed*2")
    for _ in range(2):
        with pytest.raises(GenerationFailedError):
            task.run(max_credits=4.7)

    result = task.run(max_credits=4.7)

    assert result["spent"] == {"charged": "14.1", "refunded": "9.4", "usd": "0.0235"}


@pytest.mark.parametrize(
    ("fault", "charged", "refunded"),
    [
        ("generation:failed", "4.7", "4.7"),
        ("submit:lost", "4.7", "0"),
        ("file:404", "4.7", "0"),
        ("submit:401", "0", "0"),
    ],
)
def test_what_a_failed_try_spent_is_in_xcom(task, api, clock, fault, charged, refunded):
    task.while_waiting = clock.forward
    api.fault(fault)

    with pytest.raises(Exception, match=r"."):
        task.run()

    spent = task.pushed["spent"]
    assert (spent["charged"], spent["refunded"]) == (charged, refunded)


def test_a_try_that_fails_before_it_reads_its_records_tells_what_was_spent_all_the_same(task, api):
    task.run()

    with pytest.raises(Exception, match="aspect"):
        task.run(aspect_ratio="{{ nothing renders this }}")

    assert task.pushed["spent"]["charged"] == "4.7"


def test_a_low_price_of_nothing_is_refused_before_anything_is_sent(task, api, connect):
    connect(api.url, api.key, extra={"verify": False, "prices": {"1k": "0"}})

    with pytest.raises(Exception, match="prices"):
        task.run()

    assert charges(api) == []
