"""An image's record is believed as far as it can be seen; what makes no sense is never "nothing"."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from airflow_gpt_image.batch.records import Payer, image_stem, intended, refused
from airflow_gpt_image.errors import DestinationError, InvalidRequestError, UpstreamError
from tests.batches import ANOTHER, ME, PICTURE, failed, late, plan_of, stored, submitted

PLAN = plan_of(["a red teapot", "a blue teapot", "a green teapot"])
ITEM, OTHER, THIRD = PLAN.items
NAME = f"{ITEM.name}.json"


@pytest.fixture
def found(records):
    """What the next worker finds about an item."""

    def found(item=ITEM):
        fresh = records()
        fresh.load(PLAN.items)
        return fresh.find(item)

    return found


@pytest.fixture
def found_on_disk(records_on_disk):
    def found(item=ITEM):
        fresh = records_on_disk()
        fresh.load(PLAN.items)
        return fresh.find(item)

    return found


@pytest.fixture
def document():
    """A record as it lies at the destination, with changes."""

    def document(record, **changes):
        return json.dumps(record.model_dump(mode="json") | changes).encode()

    return document


# What the next worker finds


def test_at_an_empty_destination_nothing_is_on_record_and_nothing_is_written(found, place):
    assert found() is None
    assert place.names() == []


@pytest.mark.parametrize(
    "record",
    [
        intended(ITEM, None, ME),
        submitted(ITEM),
        late(ITEM),
        failed(ITEM),
        refused(ITEM, None, InvalidRequestError("no"), ME),
    ],
    ids=["intent", "submitted", "without image", "failed", "refused"],
)
def test_what_one_worker_wrote_the_next_one_finds(records, found, record):
    records().write(ITEM, record, PLAN.request(ITEM))

    assert found() == record
    assert found(OTHER) is None


@pytest.mark.parametrize("count", [1, 3])
def test_stored_images_are_found_with_their_paths(place, records, found, count):
    record = stored(ITEM, at=place.destination, count=count)
    for index in range(count):
        place.write(f"{image_stem(ITEM, index)}.png", PICTURE)
    records().write(ITEM, record, PLAN.request(ITEM))

    assert found() == record
    assert [place.destination in image.path for image in found().images] == [True] * count


def test_the_record_of_an_image_tells_people_what_was_asked_for_without_signatures(disk, records_on_disk):
    plan = plan_of([{"prompt": "a teapot", "image_urls": ["https://example.com/a.png?Signature=secret"]}])
    [item] = plan.items

    records_on_disk().write(item, submitted(item), plan.request(item))

    told = json.loads(disk.read(f"{item.name}.json"))
    assert told["request"]["prompt"] == "a teapot"
    assert told["request"]["image_urls"] == ["https://example.com/a.png"]
    assert b"secret" not in disk.read(f"{item.name}.json")


def test_a_worker_knows_what_it_wrote_without_reading_it(records_on_disk):
    mine = records_on_disk()

    mine.write(ITEM, submitted(ITEM), PLAN.request(ITEM))

    assert mine.find(ITEM).generation_id == "g0"


def test_only_the_items_asked_for_are_read(disk, records_on_disk):
    disk.write(NAME, b"nobody reads this")
    records_on_disk().write(OTHER, submitted(OTHER), PLAN.request(OTHER))
    fresh = records_on_disk()

    fresh.load([OTHER])

    assert fresh.find(OTHER).generation_id == "g1"


def test_what_was_written_first_can_be_read_by_every_later_release(disk, found_on_disk):
    # Written by hand: version 1, as it lies in buckets.
    disk.write(
        NAME,
        json.dumps(
            {
                "version": 1,
                "state": "failed",
                "by": "0123456789abcdef-0",
                "attempt": 2,
                "retries": 1,
                "fingerprint": ITEM.fingerprint,
                "charges": 2,
                "refunds": 2,
                "credits": "4.7",
                "intended_at": "2026-04-05T10:11:48Z",
                "submitted_at": "2026-04-05T10:11:49Z",
                "settled_at": "2026-04-05T10:12:19.5Z",
                "generation_id": "397ce9f2-c04e-4244-ac33-3af19a7cc297",
                "images": [],
                "error": {"error": "GenerationFailedError", "code": None, "message": "m", "retryable": True},
                "request": {"prompt": "a red teapot"},
            }
        ).encode(),
    )

    record = found_on_disk()

    assert (record.state, record.charges, record.refunds, record.credits) == ("failed", 2, 2, Decimal("4.7"))
    assert (record.generation_id, record.seconds) == ("397ce9f2-c04e-4244-ac33-3af19a7cc297", 30.5)
    assert record.error.retryable


# What makes no sense


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'"stored"',
        b"\xff\xfe\x00",
        b'{"state": ' + b"9" * 5_000 + b"}",
        b"[" * 200_000,
        b'{"images":' * 20_000,
    ],
    ids=["empty", "cut", "null", "list", "object", "text", "no UTF-8", "number", "deep", "deeper"],
)
def test_a_broken_record_is_an_error_that_names_the_file_and_what_mending_costs(place, found, junk):
    place.write(NAME, junk)

    with pytest.raises(DestinationError, match=r"is no record of this release .* is paid for anew") as caught:
        found()

    assert f"{place.destination}/{NAME}" in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": "1"},
        {"state": "done"},
        {"state": None},
        {"by": 5},
        {"attempt": -1},
        {"charges": -1},
        {"charges": 10**20},
        {"retries": 0.5},
        {"refunds": 10**400},
        {"credits": "-4.7"},
        {"credits": "NaN"},
        {"credits": "1E+999999999"},
        {"credits": "1E-999999999"},
        {"fingerprint": OTHER.fingerprint},
        {"fingerprint": ITEM.fingerprint.upper()},
        {"intended_at": "yesterday"},
        {"intended_at": "2026-04-05T10:11:48"},
        {"generation_id": "../../etc/passwd"},
        {"generation_id": "g1\nERROR something"},
        {"generation_id": ""},
        {"generation_id": None},
        {"images": {}},
        {"images": [{"path": "x"}]},
        {"error": "why"},
    ],
    ids=str,
)
def test_a_record_that_says_what_none_can_is_an_error(disk, found_on_disk, document, changes):
    disk.write(NAME, document(submitted(ITEM), **changes))

    with pytest.raises(DestinationError, match="is no record of this release"):
        found_on_disk()


@pytest.mark.parametrize(
    ("state", "generation_id"), [("intent", "g1"), ("submitted", None), ("stored", None)]
)
def test_a_state_and_a_generation_id_that_contradict_each_other_are_an_error(
    disk, found_on_disk, document, state, generation_id
):
    disk.write(NAME, document(submitted(ITEM), state=state, generation_id=generation_id))

    with pytest.raises(DestinationError, match="is no record of this release"):
        found_on_disk()


def test_a_record_larger_than_any_of_ours_is_not_read(place, found, document):
    place.write(NAME, document(submitted(ITEM), request="x" * 1_000_001))

    with pytest.raises(DestinationError, match="is no record of this release"):
        found()


def test_the_longest_record_there_can_be_is_read_again(disk, records_on_disk):
    longest = [f"https://example.com/{number}/{'x' * 8_000}" for number in range(16)]
    plan = plan_of([{"prompt": "\U0001f3fa" * 20_000, "image_urls": longest}])
    [item] = plan.items
    record = late(item)
    fresh = records_on_disk()

    records_on_disk().write(item, record, plan.request(item))
    fresh.load([item])

    assert fresh.find(item) == record


def test_one_broken_record_among_good_ones_stops_the_reading(disk, records_on_disk):
    records_on_disk().write(ITEM, submitted(ITEM), PLAN.request(ITEM))
    disk.write(f"{OTHER.name}.json", b"{")

    with pytest.raises(DestinationError, match=OTHER.fingerprint):
        records_on_disk().load(PLAN.items)


# Stored images are had only when they are there


def missing(place, record):
    del place, record


def cut(place, record):
    place.write(f"{ITEM.name}.png", PICTURE[:-1])


def longer(place, record):
    place.write(f"{ITEM.name}.png", PICTURE + b"\0")


def of_another_kind(place, record):
    place.write(f"{ITEM.name}.jpg", PICTURE)


@pytest.mark.parametrize("damage", [missing, cut, longer, of_another_kind])
def test_an_image_that_is_not_there_whole_is_paid_for_and_lands_again(place, records, found, damage):
    record = stored(ITEM, at=place.destination)
    records().write(ITEM, record, PLAN.request(ITEM))
    damage(place, record)

    again = found()

    assert (again.state, again.images, again.generation_id) == ("submitted", (), "g0")
    assert again.seconds is None


def test_one_of_several_images_gone_is_all_of_them_to_be_had_again(disk, records_on_disk, found_on_disk):
    records_on_disk().write(ITEM, stored(ITEM, at=disk.destination, count=2), PLAN.request(ITEM))
    disk.write(f"{ITEM.name}.png", PICTURE)

    assert found_on_disk().state == "submitted"


@pytest.mark.parametrize(
    "changes",
    [
        {"images": []},
        {"images": [{"url": "https://example.com/a.png", "path": None, "bytes": len(PICTURE)}]},
        {"images": [{"url": "https://example.com/a.png", "path": f"{ITEM.name}.png", "bytes": None}]},
        {"images": [{"url": "https://example.com/a.png", "path": f"{ITEM.name}.json", "bytes": 1}]},
        {"images": [{"url": "u", "path": f"{ITEM.name}./../../x.sh", "bytes": len(PICTURE)}]},
    ],
    ids=str,
)
def test_a_stored_record_without_an_image_of_ours_is_only_paid_for(disk, found_on_disk, document, changes):
    disk.write(NAME, document(stored(ITEM), **changes))
    disk.write(f"{ITEM.name}.png", PICTURE)

    assert found_on_disk().state == "submitted"


@pytest.mark.parametrize("path", ["/etc/passwd.png", "../../elsewhere.png", "s3://nobodys/a.png", ".png"])
def test_a_record_leads_nowhere_its_image_is_the_one_beside_it(place, found, document, path):
    image = {"url": "https://example.com/a.png", "path": path, "bytes": len(PICTURE)}
    place.write(NAME, document(stored(ITEM), images=[image]))
    place.write(f"{ITEM.name}.png", PICTURE)

    [image] = found().images

    assert image.path == f"{place.destination}/{ITEM.name}.png"


def test_a_destination_that_was_moved_finds_its_images_where_they_are_now(disk, found_on_disk, document):
    disk.write(NAME, document(stored(ITEM, at="s3://the_old_bucket/images")))
    disk.write(f"{ITEM.name}.png", PICTURE)

    record = found_on_disk()

    assert record.state == "stored"
    assert record.images[0].path == f"{disk.destination}/{ITEM.name}.png"


# Taking back


def test_a_withdrawn_intent_leaves_nothing(place, records, found):
    mine = records()
    mine.write(ITEM, intended(ITEM, None, ME), PLAN.request(ITEM))

    mine.withdraw(ITEM, None, PLAN.request(ITEM))

    assert mine.find(ITEM) is None
    assert found() is None
    assert place.names() == []


def test_a_withdrawn_intent_leaves_what_was_on_record_before(records, found):
    before, mine = failed(ITEM, code="upstream_error"), records()
    mine.write(ITEM, before, PLAN.request(ITEM))
    mine.write(ITEM, intended(ITEM, before, ME), PLAN.request(ITEM))

    mine.withdraw(ITEM, before, PLAN.request(ITEM))

    assert mine.find(ITEM) == before
    assert found() == before


# What is counted


def test_an_intent_of_the_same_try_counts_as_a_retry_and_one_more_charge():
    first = failed(ITEM, code="upstream_error")

    second = intended(ITEM, first, ME)
    third = intended(ITEM, second.submitted("g2"), ME)

    assert (first.retries, first.charges, first.refunds) == (0, 1, 1)
    assert (second.state, second.retries, second.charges, second.refunds) == ("intent", 1, 2, 1)
    assert (third.retries, third.charges) == (2, 3)


def test_another_try_begins_its_retries_anew_and_goes_on_counting_money():
    second = intended(ITEM, failed(ITEM), Payer(ME.by, 2))

    assert (second.attempt, second.retries, second.charges, second.refunds) == (2, 0, 2, 1)


def test_what_another_task_spent_is_not_counted_here():
    mine = intended(ITEM, failed(ITEM, ANOTHER), ME)

    assert (mine.by, mine.retries, mine.charges, mine.refunds) == (ME.by, 0, 1, 0)


def test_an_item_that_was_refused_was_not_charged():
    record = refused(ITEM, None, InvalidRequestError("The prompt is refused.", code="invalid_request"), ME)

    assert (record.state, record.charges, record.refunds) == ("failed", 0, 0)
    assert (record.error.error, record.error.code) == ("InvalidRequestError", "invalid_request")
    assert not record.error.retryable


def test_an_item_that_is_refused_after_a_refunded_generation_keeps_that_ones_money():
    record = refused(ITEM, failed(ITEM), UpstreamError("The service is down."), ME)

    assert (record.charges, record.refunds, record.error.error) == (1, 1, "UpstreamError")


@pytest.mark.parametrize("before", [intended(ITEM, None, ME), submitted(ITEM), late(ITEM), stored(ITEM)])
def test_a_refusal_never_replaces_what_may_be_paid_for(before):
    assert refused(ITEM, before, InvalidRequestError("no"), ME) is None


def test_an_image_that_arrives_after_all_takes_the_error_away():
    record = late(ITEM).stored(stored(ITEM).images)

    assert (record.state, record.error) == ("stored", None)


def test_the_message_of_an_error_is_kept_within_bounds():
    record = submitted(ITEM).without_image(UpstreamError("x" * 100_000))

    assert len(record.error.message) == 1_000


def test_the_seconds_are_those_from_the_submit_to_the_image():
    began = datetime(2026, 4, 5, tzinfo=UTC)
    record = stored(ITEM).model_copy(
        update={"submitted_at": began, "settled_at": began + timedelta(seconds=61.26)}
    )

    assert record.seconds == 61.3


def test_a_submit_that_another_clock_dates_in_the_future_was_just_now():
    ahead = submitted(ITEM).model_copy(update={"submitted_at": datetime(9999, 1, 1, tzinfo=UTC)})
    hour = submitted(ITEM).model_copy(update={"submitted_at": datetime.now(UTC) - timedelta(hours=1)})

    assert ahead.age == 0.0
    assert 3_600 <= hour.age < 3_660
    assert intended(ITEM, None, ME).age == 0.0
