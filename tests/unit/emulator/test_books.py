"""The books are the judge of "nobody pays twice", so they are exact."""

from __future__ import annotations

from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.emulator.books import Books
from airflow_gpt_image.emulator.error_table import RefusalError
from airflow_gpt_image.emulator.generations import Fate, Generation

RESOLUTIONS = st.sampled_from(["1k", "2k", "4k"])
STEPS = st.lists(
    st.tuples(RESOLUTIONS, st.booleans(), st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=40
)


PRICES = {"1k": Decimal("4.7"), "2k": Decimal("9.4"), "4k": Decimal("14.1")}


def generation(number, resolution, *, at, fails, takes):
    request = ImageRequest(prompt="x", resolution=resolution)
    fate = Fate(processing=0, finished=takes, failure="upstream_error" if fails else None)
    return Generation(f"id-{number}", number, "sk-x", {"prompt": "x"}, request, at, fate, PRICES[resolution])


@given(steps=STEPS, granted=st.decimals(0, 300, places=1))
def test_the_books_always_balance(steps, granted):
    books, now, accepted = Books(granted), 0.0, []
    for number, (resolution, fails, takes, passes) in enumerate(steps):
        one = generation(number, resolution, at=now, fails=fails, takes=takes)
        before = books.balance(now)
        try:
            books.accept(one)
        except RefusalError:
            assert before < one.credits
        else:
            accepted.append(one)
        now += passes

    report = books.report(now)
    failed = [one for one in accepted if one.status(now) == "failed"]

    assert Decimal(report["charged"]) == sum((one.credits for one in accepted), Decimal(0))
    assert Decimal(report["refunded"]) == sum((one.credits for one in failed), Decimal(0))
    assert Decimal(report["balance"]) == granted - Decimal(report["charged"]) + Decimal(report["refunded"])
    assert Decimal(report["balance"]) >= 0
    assert [charge["refunded"] for charge in report["charges"]] == [one in failed for one in accepted]
    told = books.in_whole_credits(now)
    assert told["balance"] <= Decimal(report["balance"]) < told["balance"] + 1
    assert told["total_purchased"] - told["total_consumed"] == told["balance"]
    consumed = Decimal(report["charged"]) - Decimal(report["refunded"])
    assert abs(told["total_consumed"] - consumed) < 1
    assert told["total_consumed"] >= 0


def test_a_failed_generation_is_refunded_when_it_fails_and_not_before(submitted, emulator, clock):
    emulator.fault("generation:failed*1")
    submitted("fails")
    submitted("completes")
    before = emulator.books()
    clock.advance(10)

    after = emulator.books()

    assert (before["balance"], before["refunded"]) == ("90.6", "0")
    assert (after["balance"], after["charged"], after["refunded"]) == ("95.3", "9.4", "4.7")
    assert [(charge["status"], charge["refunded"]) for charge in after["charges"]] == [
        ("failed", True),
        ("completed", False),
    ]


def test_another_price_list_is_what_the_books_charge(submit, emulator, clock):
    submit("a cat")
    emulator.settings(prices={"1k": "5.25", "4k": 20})
    emulator.fault("generation:failed*1;match=dog")
    submit("a dog")
    submit("a fox", resolution="2k")
    submit("an owl", resolution="4k")

    charges = emulator.books()["charges"]
    clock.advance(10)

    assert [charge["credits"] for charge in charges] == ["4.7", "5.25", "9.4", "20"]
    assert emulator.books()["refunded"] == "5.25"
    assert emulator.books()["balance"] == "65.9"


def test_who_has_less_than_the_price_is_refused(submit, emulator):
    emulator.settings(credits="4.7", prices={"1k": "4.8"})

    assert submit().status_code == 402


def test_a_refund_can_be_spent_again(submit, emulator, clock):
    emulator.settings(credits="4.7")
    emulator.fault("generation:failed*1")
    submit()
    without = submit().status_code
    clock.advance(10)

    again = submit().status_code

    assert (without, again) == (402, 200)


def test_what_never_ends_is_never_refunded():
    books = Books(Decimal(10))
    books.accept(generation(1, "1k", at=0, fails=True, takes=inf))

    balance = books.balance(1e12)

    assert balance == Decimal("5.3")


def test_a_submit_that_cannot_be_paid_leaves_no_trace():
    books = Books(Decimal("4.69"))

    with pytest.raises(RefusalError, match="too low"):
        books.accept(generation(1, "1k", at=0, fails=False, takes=1))

    assert books.report(0)["submits"] == 0
    assert books.report(0)["balance"] == "4.69"


def test_every_request_is_counted_by_endpoint(submitted, get, api, emulator, clock):
    generation_id = submitted()
    clock.advance(10)
    url = get(generation_id).json()["output"]["urls"][0]
    api.get(url)
    api.get("/v1/credits")
    get("unknown")

    books = emulator.books()

    assert books["requests"] == {
        "submit": 1,
        "poll": 2,
        "credits": 1,
        "download": 1,
        "most_at_once": 1,
        "rejected": {"task_not_found": 1},
    }
    assert (books["charges"][0]["polls"], books["charges"][0]["downloads"]) == (1, 1)


def test_a_top_up_is_granted_and_not_refunded(submitted, emulator):
    submitted()
    emulator.settings(credits=200)

    books = emulator.books()

    assert (books["balance"], books["granted"], books["refunded"]) == ("200", "204.7", "0")


def test_the_charges_name_the_generation_its_request_and_its_time(submitted, emulator, clock):
    generation_id = submitted("a cat", aspect_ratio="16:9", callback_url="https://example.com/hook")

    charge = emulator.books()["charges"][0]

    assert charge == {
        "task_id": generation_id,
        "request": {"prompt": "a cat", "aspect_ratio": "16:9"},
        "callback_url": "https://example.com/hook",
        "resolution": "1k",
        "credits": "4.7",
        "refunded": False,
        "status": "pending",
        "submitted_at": clock.time,
        "finished_at": clock.time + 10,
        "polls": 0,
        "downloads": 0,
    }
