"""A batch finds what is on record about its items, whoever wrote it and wherever the image is by now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.ledger.record import furthest
from tests.batches import (
    ANOTHER,
    CLEARED,
    LATER,
    ME,
    PICTURE,
    failed,
    intent,
    late,
    plan_of,
    stored,
    submitted,
)

PLAN = plan_of(["a red teapot", "a blue teapot", "a green teapot"])
ITEM, OTHER, THIRD = PLAN.items
SCOPE = "0123456789ab"


@pytest.fixture
def found(folder, records_at):
    """What the next worker finds about an item."""

    def found(item=ITEM, payer=LATER):
        fresh = records_at(folder, payer)
        fresh.load(PLAN.items)
        return furthest(fresh.of(item))

    return found


@pytest.fixture
def on_record(folder, records_at):
    """Puts a record where it belongs, and its pictures, too."""

    def on_record(record, *, pictures=True):
        mine = records_at(folder)
        if record.state != "stored":
            return mine.write(record)
        for image in record.images if pictures else ():
            folder.write(image.name, PICTURE)
        mine.write(record.not_stored())
        return mine.write_stored(record, record.name)

    return on_record


# What the next worker finds


def test_at_an_empty_destination_nothing_is_on_record_and_nothing_is_written(found, place):
    assert found() is None
    assert place.names() == []


@pytest.mark.parametrize(
    "record",
    [
        intent(ITEM),
        submitted(ITEM),
        late(ITEM),
        failed(ITEM),
        intent(ITEM).not_accepted(InvalidRequestError("no"), datetime(2026, 4, 5, tzinfo=UTC)),
        stored(ITEM),
        stored(ITEM, ANOTHER, count=3),
    ],
    ids=["intent", "submitted", "without image", "failed", "refused", "stored", "three images"],
)
def test_what_one_worker_wrote_the_next_one_finds(on_record, found, record):
    on_record(record)

    assert found() == record.model_copy(update={"request": None, "generation": None})
    assert found(OTHER) is None


def test_an_image_is_three_small_writes_the_intent_the_id_and_the_sidecar(on_disk, records_at, disk):
    mine = records_at(on_disk)
    for record in (intent(ITEM), submitted(ITEM)):
        mine.write(record)
    mine.write_stored(stored(ITEM), ITEM.name)

    assert len([name for name in disk.names() if name.startswith("records/any/")]) == 2
    assert [name for name in disk.names() if name.startswith("items/")] == [f"{ITEM.name}.json"]


def test_a_worker_knows_what_it_wrote_without_reading_it(on_disk, records_at):
    mine = records_at(on_disk)

    mine.write(submitted(ITEM))

    assert furthest(mine.of(ITEM)).generation_id == "g0"


def test_only_the_items_asked_for_are_read(on_disk, records_at):
    mine = records_at(on_disk)
    for item in (ITEM, OTHER):
        mine.write(submitted(item))
    on_disk.write(mine.folder.path_of(submitted(ITEM)), b"nobody reads this")
    fresh = records_at(on_disk)

    fresh.load([OTHER])

    assert (fresh.of(ITEM), furthest(fresh.of(OTHER)).generation_id) == ([], "g1")


def test_of_what_is_stored_only_the_sidecar_is_read(on_record, found, folder, records_at):
    record = on_record(stored(ITEM))  # which is without the request from here on: the plan has it
    folder.write(records_at(folder).folder.path_of(record), b"nobody reads this")

    assert found() == record


@pytest.mark.parametrize("junk", [b"", b"{", b"null", b"{}", b"\xff"], ids=str)
@pytest.mark.parametrize("where", ["record", "sidecar"])
def test_what_makes_no_sense_is_an_error_and_never_nothing(on_disk, records_at, where, junk):
    mine = records_at(on_disk)
    name = f"{ITEM.name}.json" if where == "sidecar" else mine.folder.path_of(submitted(ITEM))
    on_disk.write(name, junk)

    with pytest.raises(DestinationError, match="is no record of this release"):
        mine.load(PLAN.items)


def test_a_sidecar_about_another_request_is_an_error(on_disk, records_at):
    mine = records_at(on_disk)
    mine.write_stored(stored(OTHER), ITEM.name)

    with pytest.raises(DestinationError, match="it is about another request"):
        records_at(on_disk).load(PLAN.items)


# Attempts


def test_each_attempt_writes_a_file_of_its_own_and_the_id_counts_whoever_has_it(on_record, found):
    on_record(intent(ITEM, LATER))
    on_record(submitted(ITEM))

    assert found().generation_id == "g0"


def test_what_an_earlier_attempt_writes_late_replaces_nothing(on_record, found, disk, on_disk, records_at):
    mine = records_at(on_disk)
    mine.write(submitted(ITEM, LATER))

    mine.write(intent(ITEM))

    fresh = records_at(on_disk)
    fresh.load([ITEM])
    assert {record.state for record in fresh.of(ITEM)} == {"submitted", "intent"}
    assert furthest(fresh.of(ITEM)).payer == LATER


# Images that are gone


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "of another kind"])
def test_an_image_that_is_not_there_whole_is_paid_for_and_not_stored(on_record, found, folder, damage):
    on_record(stored(ITEM), pictures=False)
    if damage == "of another kind":
        folder.write(f"{ITEM.name}.jpg", PICTURE)
    elif damage != "missing":
        folder.write(f"{ITEM.name}.png", PICTURE[:-1] if damage == "cut" else PICTURE + b"\0")

    again = found()

    assert (again.state, again.images, again.generation_id) == ("submitted", (), "g0")


def test_one_of_several_images_gone_is_all_of_them_to_be_had_again(on_record, found, folder):
    on_record(stored(ITEM, count=2), pictures=False)
    folder.write(f"{ITEM.name}.png", PICTURE)

    assert found().state == "submitted"


# Money


def test_what_was_spent_is_of_this_task_instance_since_its_last_clear(on_disk, records_at):
    mine = records_at(on_disk)
    for record in (submitted(ITEM), failed(OTHER), submitted(THIRD), submitted(ITEM, ANOTHER)):
        mine.write(record)
    mine.write_stored(stored(THIRD), THIRD.name)
    fresh, cleared = records_at(on_disk, LATER), records_at(on_disk, CLEARED)
    for each in (fresh, cleared):
        each.load(PLAN.items)

    assert [str(amount) for amount in fresh.spent()] == ["14.1", "4.7"]
    assert [str(amount) for amount in cleared.spent()] == ["0", "0"]


def test_rows_that_are_in_the_plan_no_more_are_spent_all_the_same(on_disk, records_at):
    records_at(on_disk).write(submitted(OTHER))
    fresh = records_at(on_disk, LATER)

    fresh.load([ITEM], with_spent=True)

    assert str(fresh.spent()[0]) == "4.7"


def test_what_failed_before_it_was_stored_is_spent_too(on_disk, records_at):
    mine = records_at(on_disk)
    mine.write(failed(ITEM))
    on_disk.write(f"{ITEM.name}.png", PICTURE)
    mine.write(submitted(ITEM, LATER))
    mine.write_stored(stored(ITEM, LATER), ITEM.name)
    fresh = records_at(on_disk, LATER)

    fresh.load([ITEM])

    assert furthest(fresh.of(ITEM)).state == "stored"
    assert [str(amount) for amount in fresh.spent()] == ["9.4", "4.7"]


def test_an_id_is_known_from_the_first_time_on(on_disk, records_at):
    mine = records_at(on_disk)
    mine.add(submitted(ITEM))

    assert [mine.is_known(each) for each in ("g0", "g7", "g7")] == [True, False, True]


# Mapped batches


@pytest.fixture
def mapped(on_disk, records_at):
    """Records of map indexes 0 and 1 at one destination."""

    def mapped(index, **options):
        payer = ME.model_copy(update={"map_index": index} | options.pop("payer", {}))
        return records_at(on_disk, payer, scope=SCOPE, **options)

    return mapped


def item_of(index, prompt="a"):
    return plan_of([prompt], scope=SCOPE, map_index=index).items[0]


def payer_of(index):
    return ME.model_copy(update={"map_index": index})


@pytest.mark.parametrize(
    ("options", "adopted"),
    [
        ({}, False),
        ({"cleared": True}, True),
        ({"payer": {"run_clears": 1}}, True),
        ({"cleared": True, "adopts": False}, False),
    ],
    ids=["a retry", "cleared", "something in the run was cleared", "never to be reused"],
)
def test_another_map_indexs_record_is_adopted_after_a_clear_only(mapped, options, adopted):
    mapped(0).write(submitted(item_of(0), payer_of(0)))
    fresh = mapped(1, **options)

    fresh.load([item_of(1)])

    assert (bool(fresh.of(item_of(1))), fresh.adopted) == (adopted, int(adopted))


def test_an_index_that_has_a_record_of_its_own_adopts_none(mapped):
    mapped(0).write(submitted(item_of(0), payer_of(0)))
    mapped(1).write(intent(item_of(1), payer_of(1)))
    fresh = mapped(1, cleared=True)

    fresh.load([item_of(1)])

    assert [record.slot.map_index for record in fresh.of(item_of(1))] == [1]


def test_an_adopted_image_is_where_the_other_index_put_it(mapped, on_disk):
    item = item_of(0)
    record = stored(item, payer_of(0))
    on_disk.write(f"{item.name}.png", PICTURE)
    mapped(0).write(record.not_stored())
    mapped(0).write_stored(record, item.name)
    fresh = mapped(1, cleared=True)

    fresh.load([item_of(1)])

    assert furthest(fresh.of(item_of(1))).images == record.images
    assert str(fresh.spent()[0]) == "0"


def test_of_several_equal_ones_each_index_adopts_another(mapped):
    for index in range(2):
        mapped(index).write(submitted(item_of(index), payer_of(index)))
    taken = []
    for index in (2, 3):
        fresh = mapped(index, cleared=True)
        fresh.load([item_of(index)])
        taken.append(furthest(fresh.of(item_of(index))).slot.map_index)

    assert taken == [0, 1]


def test_what_another_index_was_refunded_for_is_not_adopted_as_unknown(mapped):
    theirs = mapped(0)
    for record in (intent(item_of(0), payer_of(0)), failed(item_of(0), payer_of(0))):
        theirs.write(record)  # a file each: one has an id
    fresh = mapped(1, cleared=True)

    fresh.load([item_of(1)])

    assert (fresh.of(item_of(1)), fresh.adopted) == ([], 0)


def test_what_is_paid_for_is_adopted_before_what_nobody_knows_and_what_failed_is_not(mapped):
    mapped(0).write(intent(item_of(0), payer_of(0)))
    mapped(1).write(submitted(item_of(1), payer_of(1)))
    mapped(2).write(failed(item_of(2), payer_of(2)))
    fresh = mapped(5, cleared=True)

    fresh.load([item_of(5)])

    assert furthest(fresh.of(item_of(5))).state == "submitted"


@pytest.mark.parametrize(("record", "expected"), [(intent, ["intent"]), (failed, [])])
def test_alone_what_nobody_knows_is_adopted_and_what_failed_is_not(mapped, record, expected):
    mapped(0).write(record(item_of(0), payer_of(0)))
    fresh = mapped(1, cleared=True)

    fresh.load([item_of(1)])

    assert [found.state for found in fresh.of(item_of(1))] == expected


def test_the_records_document_is_the_shared_one(on_disk, records_at, disk):
    records_at(on_disk).write(submitted(ITEM))

    [name] = disk.names()
    told = json.loads(disk.read(name))
    assert (told["version"], told["state"], told["slot"]) == (1, "submitted", [1, 1, -1])
    assert told["payer"]["task_id"] == "posters"
