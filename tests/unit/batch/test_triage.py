"""What is on record decides what is paid for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_gpt_image.batch.records import Payer, intended
from airflow_gpt_image.batch.triage import Triage, verdict
from tests.batches import ANOTHER, ME, failed, late, plan_of, stored, submitted

PLAN = plan_of(["a", "b", "c", "d", "e", "f"])
ITEM = PLAN.items[0]
LATER = Payer(ME.by, 2)


def triage_of(plan, records=None, *, resubmit=False, **known):
    return Triage.of(plan.items, (records or {}).get, by=ME.by, resubmit=resubmit, **known)


@pytest.mark.parametrize(
    ("record", "resubmit", "expected"),
    [
        (None, False, "pay"),
        (None, True, "pay"),
        (stored(ITEM), False, "stored"),
        (stored(ITEM, ANOTHER), True, "stored"),
        (submitted(ITEM), False, "attach"),
        (submitted(ITEM, ANOTHER), True, "attach"),
        (late(ITEM), False, "attach"),
        (late(ITEM), True, "attach"),
        (intended(ITEM, None, ME), False, "unknown"),
        (intended(ITEM, None, ANOTHER), False, "unknown"),
        (intended(ITEM, None, ME), True, "pay"),
        (failed(ITEM), False, "failed"),
        (failed(ITEM, LATER), False, "failed"),
        (failed(ITEM), True, "failed"),
        (failed(ITEM, ANOTHER), False, "pay"),
        (failed(ITEM, code="upstream_error"), False, "pay"),
        (failed(ITEM).model_copy(update={"error": None}), False, "pay"),
    ],
    ids=[
        "nothing",
        "nothing, resubmit",
        "stored",
        "stored by another",
        "submitted",
        "submitted by another",
        "without an image",
        "without an image, resubmit",
        "intent",
        "another's intent",
        "intent, resubmit",
        "failed for good",
        "failed for good in another try",
        "failed for good, resubmit",
        "failed for another",
        "failed and may pass",
        "failed for no reason",
    ],
)
def test_the_table(record, resubmit, expected):
    assert verdict(record, by=ME.by, resubmit=resubmit) == expected


def test_items_are_sorted_by_their_records_in_the_plans_order():
    a, b, c, d, e, f = PLAN.items
    records = {b: stored(b), c: submitted(c), d: failed(d), e: intended(e, None, ME)}

    triage = triage_of(PLAN, records)

    assert (triage.stored, triage.attach, triage.pay) == ([b], [c], [a, f])
    assert (triage.failed, triage.unknown) == ([d], [e])


def test_what_an_earlier_wave_knows_is_not_asked_for_again():
    a, b, c, *_ = PLAN.items
    asked = []

    triage = Triage.of(
        PLAN.items[:3],
        lambda item: asked.append(item),
        by=ME.by,
        resubmit=True,
        stored={a.index},
        failed={b.index},
    )

    assert (triage.stored, triage.failed, triage.pay) == ([a], [b], [c])
    assert asked == [c]


def test_the_cost_is_that_of_what_is_paid_for_and_exact():
    tiers = ["1k", "1k", "1k", "2k", "4k", "4k"]
    plan = plan_of(
        {"prompt": f"{number}", "aspect_ratio": "16:9", "resolution": tier}
        for number, tier in enumerate(tiers)
    )

    triage = triage_of(plan, {plan.items[5]: stored(plan.items[5])})

    assert triage.credits == Decimal("37.6")
    assert triage.tiers() == {
        "1k": {"images": 3, "credits": "14.1", "usd": "0.0705"},
        "2k": {"images": 1, "credits": "9.4", "usd": "0.047"},
        "4k": {"images": 1, "credits": "14.1", "usd": "0.0705"},
    }


def test_when_all_is_there_nothing_is_to_pay():
    triage = triage_of(PLAN, {item: stored(item) for item in PLAN.items})

    assert triage.credits == 0
    assert {tier["credits"] for tier in triage.tiers().values()} == {"0"}


def test_the_table_of_a_dry_run_says_what_is_there_and_what_the_rest_costs():
    plan = plan_of(
        [{"prompt": f"{number}", "aspect_ratio": "16:9", "resolution": "2k"} for number in range(1_100)]
        + [f"{number}" for number in range(100)]
    )
    a, b, c, d, *_ = plan.items
    records = {a: stored(a), b: submitted(b), c: failed(c), d: intended(d, None, ME)}

    table = triage_of(plan, records).table(rows=1_200)

    assert table == (
        "1,200 rows, 1,200 images: 2 paid for already, 1,196 to pay for, 1 failed before, 1 unknown.\n"
        "tier     images       credits    US dollars\n"
        "1k          100           470          2.35\n"
        "2k         1096       10302.4        51.512\n"
        "4k            0             0             0\n"
        "all        1196       10772.4        53.862"
    )


def test_rows_that_were_left_out_and_variants_are_seen_in_the_table():
    plan = plan_of(["a", "b"], variants=3)

    table = triage_of(plan).table(rows=2)

    assert table.startswith("2 rows, 6 images: 0 paid for already, 6 to pay for,")
    assert table.endswith("\nall           6          28.2         0.141")
