from __future__ import annotations

import json
import pickle
from decimal import Decimal

import pytest

from airflow_gpt_image.api import pricing
from airflow_gpt_image.api.pricing import DEFAULT_PRICES, Prices
from airflow_gpt_image.errors import InvalidSettingsError

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


# --- prices of an account's own -----------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "credits", "dollars"), PRICES)
def test_the_default_prices_are_the_documents(resolution, credits, dollars):
    assert str(DEFAULT_PRICES.credits(resolution)) == credits
    assert str(DEFAULT_PRICES.usd(Decimal(credits))) == dollars
    assert Prices.read({}) == DEFAULT_PRICES == Prices()


OWN = {"1k": "5", "2k": 10, "4k": 14.1, "usd_per_credit": "0.0045"}


@pytest.mark.parametrize(
    "extra", [OWN, json.dumps(OWN), f" {json.dumps(OWN)}\n"], ids=["object", "text", "padded"]
)
def test_prices_are_read_from_an_object_or_its_text_as_numbers_or_as_decimal_strings(extra):
    prices = Prices.read(extra)

    assert [str(prices.credits(tier)) for tier in ("1k", "2k", "4k")] == ["5", "10", "14.1"]
    assert str(prices.usd(Decimal("14.1"))) == "0.06345"


def test_what_is_left_out_has_its_default():
    prices = Prices.read({"4k": "20"})

    assert prices == Prices(credits_4k=Decimal(20))
    assert str(prices.credits("1k")) == "4.7"
    assert str(prices.usd(Decimal(1))) == "0.005"


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        ("4.70", "4.7"),
        (" 4.7 ", "4.7"),
        (4.7, "4.7"),
        (5, "5"),
        (5.0, "5"),
        (1e-6, "0.000001"),
        ("0.000001", "0.000001"),
        ("0.0000010000", "0.000001"),
        ("999999.999999", "999999.999999"),
        (Decimal("9.40"), "9.4"),
        ("100", "100"),
    ],
)
def test_a_price_is_kept_exactly_and_plainly(given, exact):
    assert str(Prices.read({"1k": given}).credits("1k")) == exact


@pytest.mark.parametrize("name", ["1k", "2k", "4k", "usd_per_credit"])
@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        "0",
        "0.000",
        -1,
        "-4.7",
        1_000_000,
        "1000000",
        1e308,
        float("nan"),
        float("inf"),
        "NaN",
        "Infinity",
        "0.0000001",
        0.1 + 0.2,
        "",
        "free",
        "4,7",
        "$4.7",
        "4.7 credits",
        "1_0",
        "1e2",
        "٤",
        ".5",
        "5.",
        True,
        None,
        [4.7],
        {"credits": 4.7},
    ],
    ids=repr,
)
def test_what_can_be_no_price_is_refused_with_value_rule_and_remedy(name, value):
    with pytest.raises(InvalidSettingsError) as caught:
        Prices.read({name: value})

    fault, rule, remedy = caught.value.message.splitlines()
    assert fault == f"prices: {name}={value!r} must be a number above 0 and below 1,000,000."
    assert rule == "It has at most 6 decimals."
    assert remedy.startswith("Give one such as {")


@pytest.mark.parametrize("value", [5, None, True, [], "", "4.7", "null", "[4.7]", "{", "[" * 10_000, b"{}"])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(
        InvalidSettingsError, match=r"must be a JSON object\.\n.*\nGive one such as"
    ) as caught:
        Prices.read(value)

    assert len(caught.value.message) < 500


def test_unknown_names_are_refused_with_those_that_are_known():
    with pytest.raises(InvalidSettingsError) as caught:
        Prices.read({"1k": "4.7", "8k": "28.2", "usd": "0.005"})

    assert "'8k', 'usd'" in caught.value.message
    assert "1k, 2k, 4k, usd_per_credit" in caught.value.message


def test_prices_are_a_value():
    prices = Prices.read({"1k": "4.70"})

    assert prices == Prices.read('{"1k": 4.7}') == pickle.loads(pickle.dumps(prices))
    assert hash(prices) == hash(Prices.read({"1k": "4.7"}))
    with pytest.raises(AttributeError):
        prices.credits_1k = Decimal(1)
