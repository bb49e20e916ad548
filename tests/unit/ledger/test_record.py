"""A record goes forward only, the one furthest along counts, and what was written first is read for ever."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.errors import (
    GenerationFailedError,
    InvalidRequestError,
    RateLimitError,
    RecordMoveError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger.record import (
    ALLOWED_FROM,
    GenerationFacts,
    Record,
    fingerprint,
    foreign_record,
    furthest,
    latest_versions,
    net_spent,
)
from airflow_gpt_image.storage.images import ImageFile
from tests.records import NOW, REQUEST

ACCOUNT = {"conn_id": "gpt_image_default", "host": "api.aivideoapi.ai"}
FACTS = GenerationFacts(status="completed")
IMAGE = ImageFile(url="https://files.example.com/1.png", name="g1-0.png", bytes=5)
FAILED = GenerationFailedError("m", code="upstream_error")
LATER = NOW + timedelta(seconds=30)


@pytest.fixture
def in_state(intent):
    """Makes a record in a state, by an attempt."""

    def in_state(state, by=None, generation_id="g1", request=REQUEST):
        record = intent(request, by)
        if state == "intent":
            return record
        if state == "failed without an id":
            return record.not_accepted(RateLimitError("m"), LATER)
        record = record.submitted(generation_id, LATER, name=f"{generation_id}-0")
        if state == "submitted":
            return record
        if state == "failed":
            return record.failed(FAILED, LATER)
        return record.stored([IMAGE], FACTS, LATER)

    return in_state


# What a request is


def test_the_fingerprint_is_the_documented_one_of_version_1():
    # By hand, not through the code: who changes this finds none of what was paid for before.
    canonical = (
        '["v1","gpt_image_default","api.aivideoapi.ai","gpt-image-2","a red teapot",'
        '["https://example.com/a.png","https://example.com/b.png"],"16:9","2k",true]'
    )
    request = ImageRequest(
        prompt="a red teapot",
        image_urls=["https://example.com/a.png", "https://example.com/b.png"],
        aspect_ratio="16:9",
        resolution="2k",
    )

    identity = fingerprint(request, **ACCOUNT)

    assert identity == hashlib.sha256(canonical.encode()).hexdigest()
    assert identity == "51cd23ac0321d2418da1d681d2222fd43ac04ca3a8ca081cc39e5da0a079a5fa"


def test_the_fingerprint_of_a_prompt_in_another_script_is_pinned_too():
    canonical = (
        '["v1","studio","127.0.0.1:8765","gpt-image-2","ein blauer Krug, 青い壺 🏺",[],"1:1","1k",false]'
    )
    request = ImageRequest(prompt="ein blauer Krug, 青い壺 🏺", nsfw_checker=False)

    identity = fingerprint(request, conn_id="studio", host="127.0.0.1:8765")

    assert identity == hashlib.sha256(canonical.encode("utf-8")).hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"aspect_ratio": "auto"}, {"aspect_ratio": "1:1"}),
        ({"aspect_ratio": "2048x1152"}, {"aspect_ratio": "2048x1152", "resolution": "2k"}),
        ({}, {"callback_url": "https://example.com/hook?run=1"}),
    ],
    ids=str,
)
def test_what_makes_no_other_image_makes_no_other_fingerprint(one, other):
    prints = [fingerprint(ImageRequest(prompt="x", **fields), **ACCOUNT) for fields in (one, other)]

    assert prints[0] == prints[1]


BASE = {"prompt": "x", "image_urls": ["https://example.com/a.png", "https://example.com/b.png"]}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "y"},
        {"prompt": "x "},
        {"prompt": None},
        {"image_urls": []},
        {"image_urls": ["https://example.com/a.png"]},
        {"image_urls": ["https://example.com/b.png", "https://example.com/a.png"]},
        {"image_urls": ["https://example.com/a.png", "https://example.com/c.png"]},
        {"aspect_ratio": "3:2"},
        {"aspect_ratio": "1024x1024"},
        {"resolution": "2k"},
        {"nsfw_checker": False},
    ],
    ids=str,
)
def test_every_part_of_a_request_makes_another_fingerprint(change):
    base, changed = ImageRequest(**BASE), ImageRequest(**BASE | change)

    assert fingerprint(changed, **ACCOUNT) != fingerprint(base, **ACCOUNT)


@pytest.mark.parametrize("change", [{"conn_id": "studio"}, {"host": "127.0.0.1:8765"}], ids=str)
def test_another_account_is_another_fingerprint(change):
    assert fingerprint(REQUEST, **ACCOUNT | change) != fingerprint(REQUEST, **ACCOUNT)


def test_parts_of_a_fingerprint_do_not_run_into_each_other():
    one = fingerprint(REQUEST, conn_id='a","b', host="c")
    two = fingerprint(REQUEST, conn_id="a", host='b","c')

    assert one != two


# The table of moves

MOVES = {
    "submitted": lambda record: record.submitted("g2", LATER),
    "stored": lambda record: record.stored([IMAGE], FACTS, LATER),
    "failed": lambda record: record.failed(FAILED, LATER),
    "not accepted": lambda record: record.not_accepted(RateLimitError("m"), LATER),
    "unknown": lambda record: record.unknown(SubmissionUnknownError("m")),
    "without image": lambda record: record.without_image(FAILED),
}
TO = {"not accepted": "failed", "unknown": "intent", "without image": "submitted"}
# Written out, so that a change of the table is seen.
POSSIBLE = {
    ("intent", "submitted"),
    ("intent", "failed"),
    ("intent", "not accepted"),
    ("intent", "unknown"),
    ("submitted", "submitted"),
    ("submitted", "stored"),
    ("submitted", "failed"),
    ("submitted", "not accepted"),
    ("submitted", "without image"),
    ("stored", "stored"),
    ("failed", "unknown"),
}


@pytest.mark.parametrize(("state", "move"), list(itertools.product(ALLOWED_FROM, MOVES)))
def test_a_record_makes_the_moves_of_the_table_and_no_other(in_state, state, move):
    record = in_state(state)

    if (state, move) in POSSIBLE:
        assert MOVES[move](record).state == TO.get(move, move)
    else:
        with pytest.raises(RecordMoveError, match=f"from '{state}' to '{TO.get(move, move)}'") as caught:
            MOVES[move](record)
        assert caught.value.retryable


@pytest.mark.parametrize("state", ["submitted", "stored"])
def test_what_is_paid_for_is_never_intended_again(in_state, intent, state):
    with pytest.raises(RecordMoveError, match=f"from '{state}' to 'intent'"):
        intent(before=in_state(state))


@pytest.mark.parametrize(
    ("state", "charges", "refunds"),
    [("intent", 2, 0), ("failed", 2, 1), ("failed without an id", 1, 0)],
)
def test_an_attempt_that_submits_again_carries_its_charges_on(in_state, intent, state, charges, refunds):
    again = intent(before=in_state(state))

    assert (again.charges, again.refunds, again.retries) == (charges, refunds, 1)
    assert again.generation_id is None


def test_moves_keep_account_of_what_they_cost(in_state):
    states = ("intent", "submitted", "stored", "failed", "failed without an id")

    assert [in_state(state).net_charges for state in states] == [1, 1, 1, 0, 0]


def test_an_image_that_is_gone_leaves_its_generation_paid_for(in_state):
    gone = in_state("stored").not_stored()

    assert (gone.state, gone.generation_id, gone.images, gone.settled_at) == ("submitted", "g1", (), None)


def test_an_intent_may_be_under_way_until_its_answer_is_certainly_lost(intent):
    record = intent()

    assert record.may_be_under_way(NOW + timedelta(seconds=59))
    assert not record.may_be_under_way(NOW + timedelta(seconds=60))
    assert not record.unknown(SubmissionUnknownError("m")).may_be_under_way(NOW)


# Which of several records counts

AS_IN_THE_TABLE = ["failed", "intent", "submitted", "stored"]


@pytest.mark.parametrize(("earlier", "later"), list(itertools.product(AS_IN_THE_TABLE, repeat=2)))
def test_the_record_furthest_along_counts_else_the_later_attempts(in_state, payer, earlier, later):
    one, two = in_state(earlier, payer(1)), in_state(later, payer(2), "g2")

    counts = [furthest(order) for order in ([one, two], [two, one])]

    paid = {"stored": 2, "submitted": 1}
    expected = one if paid.get(earlier, 0) > paid.get(later, 0) else two
    assert counts == [expected, expected]


def test_nothing_is_furthest_of_nothing():
    assert furthest([]) is None


@pytest.mark.parametrize("epochs", [(3, 5), (5, 2)], ids=["raised", "lowered, as with fewer retries"])
def test_a_later_attempt_counts_more_whatever_the_clear_made_of_max_tries(in_state, payer, epochs):
    refunded = in_state("failed", payer(1, epochs[0]))
    unknown = in_state("intent", payer(2, epochs[1]))

    assert furthest([refunded, unknown]) is unknown


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("intent", "submitted"),
        ("submitted", "stored"),
        ("submitted", "failed"),
        ("intent", "failed without an id"),
    ],
)
def test_of_one_attempt_the_version_further_along_counts_wherever_it_was_read(in_state, before, after):
    old, new = in_state(before), in_state(after)

    assert latest_versions([old, new]) == latest_versions([new, old]) == [new]


def test_a_request_that_an_attempt_submits_again_counts_more_than_how_it_failed_before(in_state, intent):
    refunded = in_state("failed")
    again = intent(before=refunded)

    assert latest_versions([again, refunded]) == [again]


def test_records_of_other_requests_attempts_and_map_indexes_stand_side_by_side(in_state, payer):
    records = [
        in_state("intent"),
        in_state("intent", payer(2)),
        in_state("intent", payer(1, 4)),
        in_state("intent", payer(map_index=0)),
        in_state("intent", payer(loop_index=0)),
        in_state("intent", request=ImageRequest(prompt="a blue teapot")),
    ]

    assert latest_versions(records) == records


# What was spent


def test_what_was_spent_since_the_last_clear_is_charges_less_refunds_of_this_task_instance(in_state, payer):
    records = [
        in_state("submitted"),
        in_state("intent", payer(2)),  # unknown: it counts as charged
        in_state("failed", payer(3)),
        in_state("stored", payer(1, 2)),  # before the clear
        in_state("stored", payer(map_index=1)),
    ]

    assert net_spent(records, payer(3)) == (Decimal("14.1"), Decimal("4.7"))


def test_the_same_charge_in_two_places_is_one(in_state, payer):
    assert net_spent([in_state("intent"), in_state("submitted")], payer()) == (Decimal("4.7"), Decimal(0))


# The document


GOLDEN = """{
 "version": 1,
 "state": "submitted",
 "fingerprint": "51cd23ac0321d2418da1d681d2222fd43ac04ca3a8ca081cc39e5da0a079a5fa",
 "slot": [1, 1, -1],
 "request": {"prompt": "a red teapot", "image_urls": [], "aspect_ratio": "auto", "resolution": "1k",
  "nsfw_checker": true},
 "payer": {"dag_id": "posters", "run_id": "r", "task_id": "poster", "map_index": -1, "loop_index": null,
  "clear_epoch": 3, "attempt": 1, "run_clears": 0, "ti_id": "ti-1"},
 "credits": "4.7", "usd": "0.0235", "charges": 1, "refunds": 0, "retries": 0,
 "intended_at": "2026-11-24T10:00:00Z", "answer_by": "2026-11-24T10:01:00Z",
 "submitted_at": "2026-11-24T10:00:30Z", "settled_at": null,
 "generation_id": "g1", "generation": null, "name": "g1-0", "images": [], "warnings": [], "failure": null
}"""


def test_what_was_written_first_can_be_read_by_every_later_release(in_state):
    # Written by hand: version 1, as it lies at destinations and in databases.
    record = Record.model_validate_json(GOLDEN)

    expected = in_state("submitted").model_copy(update={"fingerprint": record.fingerprint})
    assert record == expected


def test_what_a_later_release_adds_is_no_reason_not_to_read_a_record():
    later = json.loads(GOLDEN) | {"something": "new"}

    assert Record.model_validate(later).generation_id == "g1"


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"state": "paid"},
        {"fingerprint": "../../etc/passwd"},
        {"generation_id": "../g1"},
        {"credits": "-4.7"},
        {"credits": "9" * 30},
        {"credits": "NaN"},
        {"charges": 10**9},
        {"charges": -1},
        {"name": "../outside"},
        {"name": "/etc/passwd"},
        {"name": ".hidden"},
        {"images": [{"url": "https://a.example", "name": "../../outside.png"}]},
        {"images": [{"url": "https://a.example"}] * 101},
        {"payer": None},
        {"payer": {"dag_id": "d" * 2_000, "run_id": "r", "task_id": "t", "clear_epoch": 1, "attempt": 1}},
        {"intended_at": "yesterday"},
        {"intended_at": "2026-11-24T10:00:00"},
        {"request": {"prompt": ""}},
    ],
    ids=lambda damage: str(damage)[:60],
)
def test_a_record_that_makes_no_sense_is_none(damage):
    with pytest.raises((ValidationError, InvalidRequestError)):
        Record.model_validate(json.loads(GOLDEN) | damage)


def test_a_record_keeps_no_signature_and_no_callback(intent):
    request = ImageRequest(
        image_urls=["https://example.com/a.png?Signature=secret"],
        callback_url="https://example.com/?t=secret",
    )

    assert "secret" not in intent(request).model_dump_json()


def test_a_generation_that_somebody_else_submitted_has_cost_this_task_nothing(payer):
    generation = Generation.model_validate({"id": "g7", "status": "completed"})

    record = foreign_record(generation, [IMAGE], payer(), NOW)

    assert (record.state, record.generation_id, record.request) == ("stored", "g7", None)
    assert net_spent([record], payer()) == (0, 0)
