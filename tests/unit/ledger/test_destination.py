"""Records in a folder, on a disk and on an object store: each attempt has files of its own."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_gpt_image.errors import DestinationError, GenerationFailedError
from airflow_gpt_image.ledger.payer import Slot
from airflow_gpt_image.ledger.record import GenerationFacts
from airflow_gpt_image.storage.images import ImageFile
from tests.records import NOW, OTHER, identity

FACTS = GenerationFacts(status="completed")


@pytest.fixture
def folder(place, records_at):
    return records_at(place.destination)


def stored(record, size=5):
    return record.stored([ImageFile(url="u", name="g1-0.png", bytes=size)], FACTS, NOW)


def files(folder):
    return folder.list().files


def test_a_folder_that_is_not_there_has_no_records(folder):
    assert folder.list() == ([], set())


def test_a_record_is_read_as_it_was_written(folder, submitted):
    folder.write(submitted)

    [file] = files(folder)
    assert folder.read(file) == submitted
    assert (file.fingerprint, file.slot) == (submitted.fingerprint, submitted.slot)


def test_the_names_of_an_attempts_records_are_pinned(folder, intent, submitted, payer, place):
    folder.write(intent())
    folder.write(submitted)

    begin = f"records/{payer().task_digest}/{identity()}-1-1-x~{payer().instance_digest[:8]}-3-1"
    assert place.names() == sorted([f"{begin}.json", f"{begin}~g1.json"])


def test_the_id_stands_in_the_name_so_that_a_listing_tells_it(folder, intent, submitted):
    folder.write(intent())
    folder.write(submitted)

    assert {file.generation_id for file in files(folder)} == {None, "g1"}


def test_later_versions_of_an_attempts_record_replace_earlier_ones(folder, submitted):
    folder.write(submitted)
    folder.write(stored(submitted))

    [file] = files(folder)
    assert folder.read(file).state == "stored"


def test_a_late_write_of_an_earlier_attempt_replaces_nothing_of_a_later_ones(folder, intent, payer):
    later = intent(by=payer(2)).submitted("g2", NOW)
    folder.write(later)

    folder.write(intent(by=payer(1)))

    states = {file.attempt: folder.read(file).state for file in files(folder)}
    assert states == {1: "intent", 2: "submitted"}


@pytest.mark.parametrize(
    "other",
    [{"attempt": 2}, {"clear_epoch": 4}, {"map_index": 0}, {"map_index": 1}],
    ids=str,
)
def test_attempts_clears_and_map_indexes_have_files_of_their_own(folder, intent, payer, other):
    folder.write(intent())
    folder.write(intent(by=payer(**other)))

    assert len(files(folder)) == 2


@pytest.mark.parametrize(
    "other", [{"run_id": "s"}, {"task_id": "t"}, {"dag_id": "d"}, {"loop_index": 0}], ids=str
)
def test_another_tasks_records_are_not_listed(place, folder, records_at, intent, payer, other):
    from airflow_gpt_image.ledger.destination import RecordsFolder
    from airflow_gpt_image.storage.folders import open_folder

    theirs = RecordsFolder(open_folder(place.destination), payer(**other).task_digest)
    theirs.write(intent(by=payer(**other)))

    assert files(folder) == []
    assert len(files(theirs)) == 1


def test_an_attempt_that_paid_for_nothing_is_noted_for_its_task_instance(folder, payer):
    folder.write_note(payer())
    folder.write_note(payer(map_index=7))

    listing = folder.list()
    assert listing.files == []
    assert [listing.is_noted(payer(map_index=index)) for index in (-1, 7, 8)] == [True, True, False]
    assert not listing.is_noted(payer(run_id="another"))


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "attempt-.json",
        "attempt-x.json",
        "attempt-1000000000000.json",
        f"{'a' * 63}-1-1-x~00000000-3-1.json",
        f"{'A' * 64}-1-1-x~00000000-3-1.json",
        f"{'a' * 64}-1-1-x~0000000g-3-1.json",
        f"{'a' * 64}-1-1--1~00000000-3-1.json",
        f"{'a' * 64}-1-1-x~00000000-{'9' * 40}-1.json",
        f"{'a' * 64}-1-1-x~00000000-3-1.json.bak",
        f"{'a' * 64}-1-1-x~00000000-3-1.json/inside.json",
        f".{'a' * 32}.part",
        f"{'a' * 64}-1-1-x~00000000-3-1~.json",
        f"{'a' * 64}-1-1-x~00000000-3-1~g.1.json",
        f"{'a' * 64}-1-1-x~00000000-3-1~{'g' * 129}.json",
    ],
)
def test_files_of_other_names_are_nobodys_records(place, folder, payer, name):
    place.write(f"records/{payer().task_digest}/{name}", b"{}")

    assert folder.list() == ([], set())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"state": "paid"},
        {"fingerprint": "0" * 64},
        {"slot": [1, 2, -1]},
        {"slot": "many"},
        {"state": "intent"},
        {"generation_id": None},
        {"credits": "Infinity"},
        {"name": "../../outside"},
        {"generation_id": "../x"},
        {"warnings": ["x" * 2_000_000]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_file_that_is_no_record_of_what_its_name_says_is_an_error_not_nothing(
    place, folder, submitted, change
):
    folder.write(submitted)
    document = json.loads(submitted.model_dump_json()) | change
    place.write(folder.path_of(submitted), json.dumps(document).encode())

    with pytest.raises(DestinationError, match="is no record of this release") as caught:
        folder.read(*files(folder))

    assert caught.value.retryable
    assert "Mend it, or remove it, and the image is paid for anew." in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"[]", b"null", b"<html>", b"\xff\xfe", b"[" * 100_000],
    ids=lambda data: repr(data)[:12],
)
def test_a_file_that_is_no_json_object_is_an_error_not_nothing(place, folder, submitted, data):
    folder.write(submitted)
    place.write(folder.path_of(submitted), data)

    with pytest.raises(DestinationError, match="is no record of this release"):
        folder.read(*files(folder))


def test_a_record_that_was_removed_between_the_listing_and_the_reading_is_gone(place, folder, submitted):
    folder.write(submitted)
    [file] = files(folder)
    place.delete(file.path)

    assert folder.read(file) is None


def test_the_outcome_of_an_intent_is_in_the_file_of_the_attempt_that_paid(folder, intent, submitted):
    assert folder.read_outcome(intent()) is None

    folder.write(intent())
    assert folder.read_outcome(intent()) == intent()
    folder.write(submitted)

    assert folder.read_outcome(intent()) == submitted
    assert folder.read_outcome(intent(OTHER)) is None


# Beside the images


def test_a_sidecar_is_the_same_document_beside_the_image(place, folder, submitted):
    record = stored(submitted)
    folder.write_sidecar(record, "2026/g1-0")

    assert place.names() == ["2026/g1-0.json"]
    assert folder.read_sidecar("2026/g1-0", record.fingerprint) == record


def test_a_sidecar_of_another_request_is_none_of_this_one(folder, submitted):
    folder.write_sidecar(stored(submitted), "g1-0")

    assert folder.read_sidecar("g1-0", identity(OTHER)) is None
    assert folder.read_sidecar("g2-0", identity()) is None


def test_somebody_elses_file_beside_the_images_is_an_error_not_nothing(place, folder):
    place.write("g1-0.json", b'{"title": "my teapot"}')

    with pytest.raises(DestinationError, match="is no record"):
        folder.read_sidecar("g1-0", identity())


@pytest.mark.parametrize(("size", "there"), [(5, True), (4, False), (6, False)])
def test_images_are_there_when_each_has_all_its_bytes(place, folder, submitted, size, there):
    place.write("g1-0.png", b"image")

    assert folder.has_images(stored(submitted, size)) is there


def test_images_that_were_removed_or_never_stored_are_not_there(folder, submitted):
    assert not folder.has_images(stored(submitted))
    assert not folder.has_images(submitted)
    assert not folder.has_images(submitted.stored([ImageFile(url="u")], FACTS, NOW))


def test_sizes_that_are_known_already_are_not_asked_for_again(folder, submitted):
    assert folder.has_images(stored(submitted), {"g1-0.png": 5}.get)


def test_a_record_of_every_state_comes_through_the_folder(folder, intent, payer):
    error = GenerationFailedError("m", code="upstream_error")
    records = [
        intent(by=payer(1)),
        intent(by=payer(2)).submitted("g2", NOW),
        stored(intent(by=payer(3)).submitted("g3", NOW)),
        intent(by=payer(4)).submitted("g4", NOW).failed(error, NOW + timedelta(seconds=9)),
        intent(by=payer(5)).not_accepted(error, NOW),
    ]

    for record in records:
        folder.write(record)

    assert [folder.read(file) for file in sorted(files(folder), key=lambda file: file.attempt)] == records


def test_a_slot_of_a_batch_comes_through_the_name(folder, submitted):
    folder.write(submitted.model_copy(update={"slot": Slot(variant=3, copy=12, map_index=4)}))

    [file] = files(folder)
    assert file.slot == Slot(variant=3, copy=12, map_index=4)


def test_a_pipe_in_a_sidecars_place_is_an_error_and_not_waited_for(records_at, disk, submitted):
    folder = records_at(disk.destination)
    folder.write_sidecar(stored(submitted), "g1-0")
    sidecar = Path(disk.destination) / "g1-0.json"
    sidecar.unlink()
    os.mkfifo(sidecar)

    with pytest.raises(DestinationError, match="not a regular file"):
        folder.read_sidecar("g1-0")
