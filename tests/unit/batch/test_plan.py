"""A plan says once and for all what is made, and each row finds its own image again."""

from __future__ import annotations

import gc
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from airflow_gpt_image.batch.plan import NAME, Plan
from airflow_gpt_image.errors import DestinationError, PlanError
from airflow_gpt_image.ledger.record import fingerprint
from tests.batches import plan_of, rows_of

ROWS = [
    {"prompt": "a red teapot", "sku": "T-1"},
    "a blue teapot\nwith a lid, 青い壺 \U0001f3fa \u2028",
    {
        "prompt": "a green teapot",
        "aspect_ratio": "16:9",
        "resolution": "2k",
        "shelf": {"row": [1, 2.5, None]},
    },
]


def names(plan):
    return [item.name for item in plan.items]


# What is planned


def test_each_row_has_an_image_for_each_variant_in_the_data_sets_order():
    plan = plan_of(ROWS, variants=2)

    assert [(item.index, item.row, item.slot.variant) for item in plan.items] == [
        (0, 1, 1),
        (1, 1, 2),
        (2, 2, 1),
        (3, 2, 2),
        (4, 3, 1),
        (5, 3, 2),
    ]


def test_an_item_costs_what_its_tier_costs():
    plan = plan_of(["a", {"prompt": "a", "resolution": "4k", "aspect_ratio": "16:9"}])

    assert [item.credits for item in plan.items] == [Decimal("4.7"), Decimal("14.1")]


def test_a_request_comes_back_as_it_was_given_and_so_does_the_row():
    rows, plan = rows_of(ROWS), plan_of(ROWS)

    assert [plan.request(item) for item in plan.items] == [row.request for row in rows]
    assert [plan.given(item) for item in plan.items] == [row.given for row in rows]


def test_a_plan_is_read_from_by_many_threads_at_once():
    prompts = [f"teapot {number} {'x' * (number % 97)}" for number in range(500)]
    plan = plan_of(prompts)

    with ThreadPoolExecutor(16) as threads:
        read = list(threads.map(lambda item: plan.request(item).prompt, plan.items * 4))

    assert read == prompts * 4


def test_an_image_is_named_by_its_fingerprint_its_variant_and_its_copy():
    row = rows_of(["a red teapot"])[0]
    identity = fingerprint(row.request, conn_id="gpt_image_default", host="api.aivideoapi.ai")

    plan = plan_of(["a red teapot", "a red teapot"], variants=2)

    assert names(plan) == [
        f"items/{identity}-1-1",
        f"items/{identity}-2-1",
        f"items/{identity}-1-2",
        f"items/{identity}-2-2",
    ]


def test_four_rows_that_are_the_same_are_four_images():
    assert len(set(names(plan_of(["a red teapot"] * 4)))) == 4


def test_rows_that_differ_in_their_data_only_are_copies_of_one_request():
    one, two = plan_of([{"prompt": "a", "sku": 1}, {"prompt": "a", "sku": 2}]).items

    assert one.fingerprint == two.fingerprint
    assert (one.slot.copy, two.slot.copy) == (1, 2)


def test_a_scope_keeps_others_from_finding_the_images():
    scoped, free = plan_of(["a"], scope="0123456789ab"), plan_of(["a"])

    assert names(scoped) == [names(free)[0].replace("items/", "items/0123456789ab-")]


def test_the_map_index_tells_the_images_of_mapped_tasks_apart():
    scope = "0123456789ab"
    first, second = (plan_of(["a"], scope=scope, map_index=index) for index in range(2))

    assert [name.endswith("-1-1-0") for name in names(first)] == [True]
    assert names(second) == [names(first)[0][:-1] + "1"]


@pytest.mark.parametrize("account", [{"conn_id": "studio"}, {"host": "127.0.0.1:8765"}], ids=str)
def test_another_accounts_images_are_others(account):
    assert names(plan_of(["a"], **account)) != names(plan_of(["a"]))


# At the destination


def test_what_was_published_is_fetched_by_the_next_worker(place, folder):
    written = plan_of(ROWS, variants=2, scope="0123456789ab")

    written.publish(folder)

    fetched = Plan.fetch(folder, sha256=written.sha256)
    assert place.names() == [NAME]
    assert hashlib.sha256(place.read(NAME)).hexdigest() == written.sha256
    assert fetched.items == written.items
    assert [fetched.request(item) for item in fetched.items] == [
        written.request(item) for item in written.items
    ]


def test_a_plan_of_megabytes_arrives_whole(place, folder):
    written = plan_of([f"{number} {'x' * 5_000}" for number in range(500)])

    written.publish(folder)

    assert Plan.fetch(folder, sha256=written.sha256).items == written.items


def test_the_rows_are_lines_of_json_that_others_can_read_too(disk, on_disk):
    plan_of(ROWS, variants=2).publish(on_disk)

    head, *rows = map(json.loads, disk.read(NAME).splitlines())

    assert head == {"version": 1, "scope": "any", "map_index": -1, "variants": 2}
    assert [row["given"] for row in rows] == [dict(row.given) for row in rows_of(ROWS)]


def test_a_new_plan_replaces_the_old_one(disk, on_disk):
    plan_of(["a", "b", "c"]).publish(on_disk)
    new = plan_of(["d"])

    new.publish(on_disk)

    assert disk.names() == [NAME]
    assert Plan.fetch(on_disk, sha256=new.sha256).items == new.items


def test_a_plan_that_is_gone_is_an_error_that_says_where_it_should_be(place, folder):
    with pytest.raises(DestinationError, match=r"plan\.jsonl could not be read") as caught:
        Plan.fetch(folder, sha256="0" * 64)

    assert place.destination in caught.value.message
    assert caught.value.retryable


def test_a_plan_that_somebody_else_wrote_is_refused(place, folder):
    mine, other = plan_of(["a", "b"]), plan_of(["a", "b", "c"])
    mine.publish(folder)
    other.publish(folder)

    with pytest.raises(PlanError, match="isn't the plan that this task wrote") as caught:
        Plan.fetch(folder, sha256=mine.sha256)

    assert caught.value.retryable


def cut(lines):
    return b"".join(lines)[:-30]


def without_the_last_line(lines):
    return b"".join(lines[:-1])


def without_rows(lines):
    return lines[0]


def without_a_head(lines):
    return b"".join(lines[1:])


def emptied(lines):
    return b""


def junk(lines):
    return b"\xff\x00{"


def deep(lines):
    return lines[0] + b"[" * 100_000


def deep_inside(lines):
    nested = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    return lines[0] + lines[1].replace(b'"given":{', b'"given":{"more":' + nested + b",")


def changed(find, put):
    def change(lines):
        whole = b"".join(lines)
        assert find in whole
        return whole.replace(find, put)

    return change


DAMAGE = {
    "cut": cut,
    "a row less": without_the_last_line,
    "no rows": without_rows,
    "no head": without_a_head,
    "empty": emptied,
    "junk": junk,
    "deep": deep,
    "deep inside": deep_inside,
    "another version": changed(b'"version":1', b'"version":2'),
    "a scope elsewhere": changed(b'"scope":"any"', b'"scope":"../../x"'),
    "more variants than there may be": changed(b'"variants":1', b'"variants":1000000'),
    "no variants": changed(b'"variants":1', b'"variants":0'),
    "another prompt": changed(b"a red teapot", b"a new teapot"),
    "no request": changed(b'"aspect_ratio":"16:9"', b'"aspect_ratio":"17:9"'),
    "a fingerprint elsewhere": changed(b'"fingerprint":"', b'"fingerprint":"../'),
    "row zero": changed(b'"row":1', b'"row":0'),
    "another field": changed(b'"row":1', b'"row":1,"and":"more"'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_plan_that_was_tampered_with_is_refused(disk, on_disk, damage):
    plan = plan_of(ROWS)
    plan.publish(on_disk)
    disk.write(NAME, damage(disk.read(NAME).splitlines(keepends=True)))

    with pytest.raises(PlanError, match=NAME):
        Plan.fetch(on_disk, sha256=plan.sha256)


def test_a_plan_that_makes_no_sense_is_refused_whoever_wrote_it():
    with pytest.raises(PlanError, match="no plan of this release"):
        Plan.read(io.BytesIO(b'{"version":2,"scope":"any","variants":1}\n'))


def test_a_plan_nobody_needs_any_more_closes_its_file():
    file = io.BytesIO()
    Plan.draft(rows_of(["a"]), variants=1, scope="any", conn_id="c", host="h", into=file)
    plan = Plan.read(file)
    before = file.closed

    del plan
    gc.collect()

    assert (before, file.closed) == (False, True)
