"""A batch's errors are counted by code, with an example of each, and stay small whatever happened."""

from __future__ import annotations

import json

from airflow_gpt_image.batch.error_counts import MOST_CODES, OTHERS, count_errors
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.errors import DownloadError, GenerationFailedError
from tests.batches import failed, intent, late, plan_of, stored, submitted


def counted(plan, records):
    entries = list(ItemTable(plan.items))
    for entry, record in zip(entries, records, strict=False):
        entry.record = record
    return count_errors(entries)


def test_the_most_frequent_code_comes_first_with_its_first_row_and_what_was_said():
    plan = plan_of(list("abcdef"))
    a, b, c, d, e, _ = plan.items

    errors = counted(plan, [stored(a), failed(b), late(c), late(d), intent(e)])

    assert errors == [
        {"code": "upstream_error", "count": 2, "row": 3, "message": "The service is down."},
        {"code": "invalid_request", "count": 1, "row": 2, "message": "The prompt was refused."},
    ]


def test_an_error_without_a_code_is_counted_by_its_class():
    plan = plan_of(["a"])

    [error] = counted(plan, [submitted(plan.items[0]).without_image(DownloadError("It was cut off."))])

    assert (error["code"], error["message"]) == ("DownloadError", "It was cut off.")


def test_a_stored_image_has_no_error_whatever_befell_it_before():
    plan = plan_of(["a"])
    [item] = plan.items

    assert counted(plan, [stored(item).model_copy(update={"failure": late(item).failure})]) == []
    assert counted(plan, [None]) == []


def test_ten_codes_are_told_apart_and_the_rest_is_counted_together():
    plan = plan_of([f"poster {number}" for number in range(300)])
    records = [failed(item, code=f"code {item.index % 20 if item.index > 99 else 0}") for item in plan.items]

    errors = counted(plan, records)

    assert len(errors) == MOST_CODES + 1
    assert errors[0]["code"] == "code 0"
    assert errors[0]["count"] == 110
    assert errors[-1] == {"code": OTHERS, "count": 100, "row": None, "message": None}
    assert sum(error["count"] for error in errors) == 300


def test_codes_and_messages_are_cut_storable_and_without_signatures():
    plan = plan_of([f"poster {number}" for number in range(500)])
    records = []
    for item in plan.items:
        text = f"{item.index} https://h/x?Signature=secret \0 \ud800 {'€' * 5_000}"
        error = GenerationFailedError(text, code=text[:900], generation_id="g")
        record = failed(item)
        failure = record.failure.model_copy(update={"message": error.message[:1_000], "code": error.code})
        records.append(record.model_copy(update={"failure": failure}))

    errors = counted(plan, records)

    text = json.dumps(errors, ensure_ascii=False)
    assert len(text.encode()) < 12_000
    assert "secret" not in text
    assert "\\u0000" not in text
    assert all(len(error["code"]) <= 80 for error in errors)
