"""What all pages are made of: amounts, pages of a sheet, what is kept, values that somebody else wrote."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from airflow_gpt_image.plugins.images.documents import foreign
from airflow_gpt_image.plugins.images.documents.amounts import amount, dollars, price, totals
from airflow_gpt_image.plugins.images.documents.caches import Cache
from airflow_gpt_image.plugins.images.documents.places import Query
from airflow_gpt_image.plugins.images.documents.sheets import Entry, page_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.0235", "0.0235"),
        ("0.047", "0.0470"),
        ("1", "1.0000"),
        ("0.00235125", "0.00235125"),
        ("0", "0.0000"),
    ],
)
def test_one_images_price_has_four_decimals_and_is_never_cut(value, shown):
    assert price(Decimal(value)) == shown


def test_sums_side_by_side_have_the_same_number_of_decimals():
    assert totals([Decimal("231.2634"), Decimal("0.0235")]) == ["231.26", "0.02"]
    assert totals([Decimal("0.517"), Decimal("0.0235")]) == ["0.5170", "0.0235"]


def test_thousands_of_dollars_are_easy_to_read():
    assert dollars("1234567.50") == "$1,234,567.50"


@pytest.mark.parametrize(
    "value", [1.5, 1, True, None, "-1", "1e9", "NaN", "Infinity", "9" * 40, " 1", "1_0", "١"]
)
def test_what_is_no_amount_is_none(value):
    assert amount(value) is None


def sheet(count):
    statuses = ("done", "failed", "unknown")
    return [Entry(statuses[n % 3], Decimal(n % 5), float(n % 7), f"poster {n}", n) for n in range(count)]


def shown(**query):
    return [entry.source for entry in page_of(sheet(20), Query(**query)).entries]


def test_a_sheet_is_sorted_by_what_was_asked_for_and_else_by_row():
    assert shown() == list(range(20))
    assert [n % 5 for n in shown(sort="price")] == sorted((n % 5 for n in range(20)), reverse=True)
    assert [n % 7 for n in shown(sort="seconds")] == sorted((n % 7 for n in range(20)), reverse=True)
    assert [n % 3 for n in shown(sort="status")] == [2] * 6 + [1] * 7 + [0] * 7


def test_pages_have_two_hundred_and_the_last_one_what_is_left():
    pages = [page_of(sheet(450), Query(page=number)).fields() for number in (1, 3, 99)]

    assert [(page["first"], page["last"], page["page"]) for page in pages] == [
        (1, 200, 1),
        (401, 450, 3),
        (401, 450, 3),
    ]


def test_a_sheet_where_nothing_matches_has_one_empty_page():
    page = page_of(sheet(20), Query(text="teapto")).fields()

    assert page == {"page": 1, "pages": 1, "first": 0, "last": -1, "total": 0}


def test_what_is_kept_stays_within_its_weight_and_the_newest_is_kept():
    cache = Cache(10)
    made = []

    def get(key, weight):
        return cache.get(key, lambda: made.append(key) or key, lambda value: weight)

    for key in ("a", "b", "a", "c", "a", "b", "heavy", "heavy"):
        get(key, 99 if key == "heavy" else 4)

    assert made == ["a", "b", "c", "b", "heavy"]


def test_what_many_ask_for_at_the_same_time_is_made_once():
    cache, made, go = Cache(10), [], threading.Event()

    def make():
        go.wait(30)
        made.append(1)
        return "value"

    found = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("key", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)

    assert (found, made) == (["value"] * 8, [1])


def test_what_could_not_be_made_is_tried_again():
    cache = Cache(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)

    assert cache.get("key", lambda: 7) == 7


def test_texts_are_cut_and_storable():
    assert foreign.text("x" * 50, 10) == "x" * 9 + "…"
    assert foreign.text("\ud800\0") == "��"
    assert foreign.text(7) is None


@pytest.mark.parametrize(
    "value", ["2026-11-26", "yesterday", 5, "2026-11-26T00:00:00", "9999-12-31T23:59:59-23:59"]
)
def test_times_without_a_zone_and_other_texts_are_none(value):
    assert foreign.moment(value) is None


def test_times_are_told_in_utc():
    assert foreign.iso(foreign.moment("2026-11-26T20:12:09.5+02:00")) == "2026-11-26T18:12:09+00:00"
    assert foreign.moment("2026-11-26T18:12:09Z") == datetime(2026, 11, 26, 18, 12, 9, tzinfo=UTC)
