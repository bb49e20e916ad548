"""What may be spent since the last clear, for one image and for many."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from airflow_gpt_image.api.pricing import DEFAULT_PRICES, Prices
from airflow_gpt_image.errors import CreditLimitError, InsufficientCreditsError
from airflow_gpt_image.ledger.budget import Budget

PRICE = Decimal("4.7")


def budget(limit=None, spent=0, prices=DEFAULT_PRICES):
    bound = None if limit is None else Decimal(limit)
    return Budget(bound, Decimal(spent), prices=prices)


@pytest.mark.parametrize("limit", ["4.69", "0"])
def test_more_than_max_credits_is_refused_with_what_it_would_come_to(limit):
    with pytest.raises(CreditLimitError) as caught:
        budget(limit).check(PRICE)

    message = str(caught.value)
    assert "1 image for 4.7 credits ($0.0235) would bring this task to 4.7 credits" in message
    assert f"since its last clear.\nmax_credits is {limit}. Nothing was submitted for that." in message
    assert not caught.value.retryable


@pytest.mark.parametrize("limit", [None, "4.7", "5"])
def test_max_credits_may_be_reached(limit):
    budget(limit).check(PRICE)


def test_what_was_spent_before_counts():
    with pytest.raises(CreditLimitError, match=r"to 9\.4 credits"):
        budget("9.3", spent="4.7").check(PRICE)


def test_what_is_reserved_for_one_image_is_not_there_for_the_next():
    own = budget("9.4")
    own.reserve("a", PRICE)
    own.reserve("b", PRICE)

    with pytest.raises(CreditLimitError):
        own.reserve("c", PRICE)


def test_the_same_image_is_reserved_for_once():
    own = budget("4.7")

    own.reserve("a", PRICE)
    own.reserve("a", PRICE)

    assert own.spent == 0


class Yielding(Decimal):
    """An amount that lets other threads go first in the middle of a sum."""

    def __radd__(self, other):
        time.sleep(0.0001)
        return Decimal.__radd__(self, other)


def test_many_threads_together_reserve_and_charge_no_more_than_max_credits():
    own, price = budget(PRICE * 100), Yielding(PRICE)

    def buy(thread):
        bought = 0
        for number in range(20):
            try:
                own.reserve((thread, number), price)
            except CreditLimitError:
                continue
            own.charge((thread, number), price)
            bought += 1
        return bought

    with ThreadPoolExecutor(32) as threads:
        bought = sum(threads.map(buy, range(32)))

    assert (bought, own.charged) == (100, PRICE * 100)
    with pytest.raises(CreditLimitError):
        own.check(PRICE)


def test_what_was_refused_reserves_nothing():
    own = budget("4.7")
    with pytest.raises(CreditLimitError):
        own.reserve("a", Decimal("9.4"))

    own.reserve("a", PRICE)


def test_what_was_not_charged_is_there_for_the_next():
    own = budget("4.7")
    own.reserve("a", PRICE)

    own.release("a")
    own.release("never reserved")

    own.reserve("b", PRICE)


def test_what_was_charged_is_spent_and_no_longer_reserved():
    own = budget("9.4")
    own.reserve("a", PRICE)

    own.charge("a", PRICE)

    assert own.spent == PRICE
    own.reserve("b", PRICE)
    with pytest.raises(CreditLimitError):
        own.check(PRICE)


def test_a_refund_is_there_for_the_next():
    own = budget("4.7")
    own.charge("a", PRICE)

    own.refund(PRICE)

    own.check(PRICE)


def test_a_sum_of_many_says_how_many():
    with pytest.raises(CreditLimitError, match=r"1,200 images for 5,640 credits \(\$28\.2\)"):
        budget("100").check(PRICE * 1200, images=1200)


def test_prices_are_the_connections():
    dearer = Prices(credits_1k=Decimal(5), usd_per_credit=Decimal("0.01"))

    with pytest.raises(CreditLimitError, match=r"5 credits \(\$0\.05\)"):
        budget("4.7", prices=dearer).check(dearer.credits("1k"))


def test_too_low_a_balance_is_refused_with_what_to_do():
    with pytest.raises(InsufficientCreditsError) as caught:
        budget().check_balance(Decimal("4.6"), PRICE)

    message = str(caught.value)
    assert (
        "The balance is 4.6 credits; 1 image cost 4.7 credits ($0.0235).\nNothing was submitted." in message
    )
    assert "top up" in message
    assert caught.value.code == "insufficient_credits"


def test_a_balance_that_just_suffices_suffices():
    budget().check_balance(PRICE, PRICE)
