"""What concerns the account stops a batch, and guards refuse it; the API's books judge."""

from __future__ import annotations

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import (
    CreditLimitError,
    GptImageError,
    InsufficientCreditsError,
    InvalidApiKeyError,
    IpNotAllowedError,
    ItemsFailedError,
    ModelNotFoundError,
    SpendLimitError,
)
from tests.batches import TEN, assert_books_agree, images, paid, statuses

# What concerns the account


ACCOUNT = [
    ("401", InvalidApiKeyError),
    ("402", InsufficientCreditsError),
    ("403", IpNotAllowedError),
    ("404", ModelNotFoundError),
    ("spend_limit_exceeded", SpendLimitError),
]


@pytest.mark.parametrize(("kind", "error"), ACCOUNT)
def test_what_concerns_the_account_stops_the_submitting_and_nothing_is_lost(batch, api, kind, error):
    api.fault(f"submit:{kind};after=2")
    with pytest.raises(error) as caught:
        batch.run(requests=TEN, max_in_flight=4)
    books, stored = api.books(), images(batch)
    api.clear_faults()

    result = batch.run(requests=TEN)

    assert not caught.value.retryable
    assert (books["submits"], stored) == (2, 2)
    assert books["requests"]["submit"] <= 6  # those that were in flight, none after
    assert (result["stored"], set(paid(api).values())) == (10, {1})
    assert_books_agree(result, api.books())


def test_a_balance_that_runs_out_is_topped_up_and_the_rest_is_paid_for(batch, api):
    api.settings(credits="10")
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(InsufficientCreditsError, match="top up"),
    ):
        batch.run()
    submits = api.books()["submits"]
    api.settings(credits="100")

    result = batch.run()

    [last] = [line for line in map(str, lines) if "Spent since" in line]
    assert "2 stored (0 reused), 0 failed, 0 unknown, 1 not submitted" in last
    assert "$0.047; credits: 9.4 charged, 0 refunded" in last
    assert (submits, api.books()["submits"], result["stored"]) == (2, 3, 3)
    assert_books_agree(result, api.books())


def test_a_poll_that_concerns_the_account_leaves_what_is_paid_for_to_the_next_try(batch, api):
    api.fault("get:401")
    with pytest.raises(InvalidApiKeyError):
        batch.run()
    told = statuses({"manifest": batch.folder})
    api.clear_faults()

    result = batch.run()

    assert set(told.values()) == {"submitted"}
    assert (result["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(result, api.books())


def test_trouble_that_no_item_can_be_blamed_for_stops_the_submitting(batch, api):
    api.fault("submit:500")

    with pytest.raises(GptImageError) as caught:
        batch.run(requests=[*TEN, *(f"vase {number}" for number in range(10))], max_in_flight=4)

    assert caught.value.retryable
    assert api.books()["requests"]["submit"] < 20


def test_what_stopped_the_submitting_before_a_deferral_still_does_after_it(deferring, api):
    api.fault("submit:402;after=2")
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=TEN[:4])
    api.clear_faults()

    with pytest.raises(InsufficientCreditsError, match="top up") as caught:
        deferring.wake(deferred.value, requests=TEN[:4])

    assert (caught.value.code, caught.value.status) == ("insufficient_credits", 402)
    assert (api.books()["submits"], images(deferring)) == (2, 2)
    api.settings(duration=0.05)
    result = deferring.run(requests=TEN[:4])
    assert (result["stored"], set(paid(api).values())) == (4, {1})
    assert_books_agree(result, api.books())


def test_failures_that_stopped_the_submitting_before_a_deferral_still_do_after_it(deferring, api):
    api.fault("submit:500*1;after=2")
    options = {"item_retries": 0, "on_item_failure": "fail"}
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(**options)

    with pytest.raises(ItemsFailedError, match="1 of 3 images failed") as caught:
        deferring.wake(deferred.value, **options)

    assert caught.value.retryable
    assert images(deferring) == 2


# Guards


def test_max_credits_bounds_exactly_what_is_spent_since_the_last_clear_with_all_that_is_missing(batch, api):
    rows = ["a", "b", {"prompt": "c", "resolution": "2k"}]
    with pytest.raises(CreditLimitError, match=r"3 images .* 18\.8 credits \(\$0\.094\)") as refused:
        batch.run(requests=rows, max_credits="18.79")
    assert api.books()["requests"]["submit"] == 0
    assert not refused.value.retryable

    batch.run(requests=rows, max_credits=18.8)
    with pytest.raises(CreditLimitError, match=r"to 23\.5 credits \(\$0\.1175\) since its last clear"):
        batch.run(requests=[*rows, "d"], max_credits=23.4)
    batch.run(requests=[*rows, "d"], max_credits=23.5)
    assert api.books()["charged"] == "23.5"

    batch.clear()
    assert batch.run(requests=["e", "f"], max_credits=9.4)["stored"] == 2


def test_the_balance_is_checked_for_the_whole_set_exactly_and_for_what_is_missing(batch, api):
    api.settings(credits="14.9")
    with pytest.raises(InsufficientCreditsError, match=r"The balance is 14 credits; 3 images cost 14\.1"):
        batch.run(check_balance=True)
    assert api.books()["requests"]["submit"] == 0
    api.settings(credits="15")

    batch.run(check_balance=True)
    again = batch.run(check_balance=True)

    assert (again["stored"], api.books()["balance"]) == (3, "0.9")


def test_the_balance_is_not_asked_for_unless_it_shall_be(batch, api):
    batch.run()

    assert api.books()["requests"]["credits"] == 0
