from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_gpt_image.api import pricing

# "Pricing" of the API document.
PRICES = [("1k", "4.7", "0.0235"), ("2k", "9.4", "0.047"), ("4k", "14.1", "0.0705")]


@pytest.mark.parametrize(("resolution", "credits", "dollars"), PRICES)
def test_a_tier_costs_what_the_document_says(resolution, credits, dollars):
    assert str(pricing.CREDITS[resolution]) == credits
    assert str(pricing.usd(pricing.CREDITS[resolution])) == dollars


def test_no_other_tier_has_a_price():
    assert set(pricing.CREDITS) == {"1k", "2k", "4k"}


def test_one_credit_is_half_a_cent():
    assert Decimal("0.005") == pricing.USD_PER_CREDIT


def test_ten_thousand_images_cost_exactly_what_they_cost():
    assert str(pricing.usd(pricing.CREDITS["1k"] * 10_000)) == "235"


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("94.00", "94"),
        ("9.4E+1", "94"),
        ("0.0235000", "0.0235"),
        ("0", "0"),
        ("0.00", "0"),
        ("-4.70", "-4.7"),
        ("100", "100"),
        ("1E+6", "1000000"),
    ],
)
def test_an_amount_is_written_as_people_write_it(amount, written):
    assert str(pricing.plain(Decimal(amount))) == written


@pytest.mark.parametrize("amount", ["1E+28", "1E+40", "123456789012345678901234567890"])
def test_a_balance_of_more_digits_than_a_decimal_context_keeps_is_no_crash(amount):
    assert pricing.usd(Decimal(amount)) == Decimal(amount) / 200
