"""Records in two places, of which neither is trusted alone: rules 1 to 3, reading and writing."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    LedgerError,
    RateLimitError,
    ReplacedError,
)
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.record import GenerationFacts
from airflow_gpt_image.ledger.task_state import IMAGE_KEY
from airflow_gpt_image.storage.images import ImageFile
from tests.records import NOW, OTHER, identity

DEADLINE = NOW.timestamp() + 3_600


def verdict(ledger, request=None):
    found = ledger.find(identity(request) if request else identity())
    return decide(found, ledger.payer, Policy()).decision


@pytest.fixture
def submitted(intent):
    return intent().submitted("g1", NOW, name="g1-0")


@pytest.fixture
def pay(open_ledger, intent):
    """An attempt that submits, with the id in both places."""

    def pay(generation_id="g1", by=None, request=None, **given):
        ledger = open_ledger(by, **given)
        record = intent(by=ledger.payer) if request is None else intent(request, by=ledger.payer)
        ledger.write_intent(record, deadline=DEADLINE)
        ledger.write_outcome(record.submitted(generation_id, NOW, name=f"{generation_id}-0"))
        return ledger

    return pay


# Rule 1: reading takes both places, and the record furthest along counts


def test_nothing_is_on_record_at_first_and_looking_writes_nothing(open_ledger, store, folder):
    ledger = open_ledger()

    assert ledger.find(identity()) == []
    assert ledger.spent == (0, 0)
    assert (store.texts, folder.files) == ({}, {})


def test_what_was_paid_for_is_found_in_both_places(pay, open_ledger, payer, store, folder):
    pay()

    ledger = open_ledger(payer(2))

    assert verdict(ledger) == "attach"
    assert ledger.is_known("g1")
    assert not ledger.is_known("g2")


@pytest.mark.parametrize("emptied", ["store", "folder"])
def test_a_place_that_was_emptied_hides_nothing(pay, open_ledger, payer, store, folder, emptied):
    pay()
    (store.texts if emptied == "store" else folder.files).clear()

    assert verdict(open_ledger(payer(2))) == "attach"


@pytest.mark.parametrize("away", ["store", "folder"])
def test_a_place_that_is_away_is_no_reason_to_stop_when_the_other_one_is_decisive(
    pay, open_ledger, payer, store, folder, away
):
    pay()
    (store if away == "store" else folder).unreachable = True

    ledger = open_ledger(payer(2))

    assert verdict(ledger) == "attach"


@pytest.mark.parametrize(("away", "error"), [("store", LedgerError), ("folder", DestinationError)])
def test_a_place_that_is_away_is_an_error_that_is_tried_again_when_the_other_one_is_not_decisive(
    open_ledger, store, folder, away, error
):
    (store if away == "store" else folder).unreachable = True
    ledger = open_ledger()

    with pytest.raises(error) as caught:
        ledger.check_readable()

    assert caught.value.retryable


def test_a_place_that_can_be_read_again_is_no_error_any_more(open_ledger, store):
    store.unreachable = True
    ledger = open_ledger()
    store.unreachable = False

    ledger.read()

    ledger.check_readable()


def test_a_record_that_makes_no_sense_is_an_error_unless_the_other_place_is_decisive(
    pay, open_ledger, payer, store, folder
):
    pay()
    for name in folder.files:
        folder.files[name] = b"<html>"

    assert verdict(open_ledger(payer(2))) == "attach"
    store.empty()
    with pytest.raises(DestinationError, match="is no record of this release"):
        open_ledger(payer(3)).check_readable()


@pytest.mark.parametrize("behind", ["store", "folder"])
def test_the_place_that_is_further_along_counts(open_ledger, intent, submitted, payer, store, folder, behind):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    if behind == "store":
        ledger.folder.write(submitted)
    else:
        store.texts[IMAGE_KEY] = ledger._new_state(submitted, None).model_dump_json()

    assert verdict(open_ledger(payer(2))) == "attach"


def test_an_image_beside_its_sidecar_is_done_where_the_task_state_is_gone(
    pay, open_ledger, payer, store, folder
):
    ledger = pay()
    [record] = ledger.find(identity())
    folder.files["g1-0.png"] = b"image"
    image = ImageFile(url="u", name="g1-0.png", bytes=5)
    ledger.write_stored(record.stored([image], GenerationFacts(status="completed"), NOW), ["g1-0"])
    store.empty()

    assert verdict(open_ledger(payer(2))) == "done"
    del folder.files["g1-0.png"]
    assert verdict(open_ledger(payer(3))) == "attach"


def test_another_requests_records_are_not_this_ones(pay, open_ledger, payer):
    pay()

    assert verdict(open_ledger(payer(2)), OTHER) == "submit"


def test_a_changed_request_and_back_finds_both(pay, open_ledger, payer):
    pay()
    pay("g2", payer(2), OTHER)

    ledger = open_ledger(payer(3))

    assert [record.generation_id for record in ledger.find(identity())] == ["g1"]
    assert [record.generation_id for record in ledger.find(identity(OTHER))] == ["g2"]


# Rule 2: an intent goes to every place before the POST, to the store last


def test_an_intent_is_in_the_folder_before_it_is_in_the_store(open_ledger, intent, store, folder):
    store_at_the_folders_write = []
    folder.on_step = lambda what, when, name: store_at_the_folders_write.append(
        (what, when, dict(store.texts))
    )
    ledger = open_ledger()

    ledger.write_intent(intent(), deadline=DEADLINE)

    assert ("write", "after", {}) in store_at_the_folders_write
    assert store.texts
    assert ledger.waiting.generation_id is None
    assert ledger.waiting.deadline == DEADLINE


def test_a_folder_that_takes_no_intent_is_an_error_before_anything_is_paid(
    open_ledger, intent, store, folder
):
    ledger = open_ledger()
    folder.unreachable = True

    with pytest.raises(DestinationError, match=r"Nothing was submitted[^$]*Make the destination writable"):
        ledger.write_intent(intent(), deadline=DEADLINE)

    assert store.texts == {}


def test_an_intent_that_a_folder_took_but_answered_with_an_error_is_taken_back(
    open_ledger, intent, payer, folder
):
    failing = ["once"]

    def fail_once(what, when, name):
        if (what, when) == ("write", "after") and failing:
            failing.clear()
            raise DestinationError("no answer came")

    folder.on_step = fail_once
    with pytest.raises(DestinationError):
        open_ledger().write_intent(intent(), deadline=DEADLINE)

    assert verdict(open_ledger(payer(2))) == "submit"


def test_a_store_that_takes_no_intent_is_an_error_and_the_folder_says_that_nothing_is_paid_for(
    open_ledger, intent, payer, store
):
    ledger = open_ledger()
    store.unreachable = True

    with pytest.raises(LedgerError, match="could not be written"):
        ledger.write_intent(intent(), deadline=DEADLINE)

    store.unreachable = False
    after = open_ledger(payer(2))
    assert verdict(after) == "submit"
    assert after.spent == (0, 0)


def test_a_worker_that_was_replaced_is_stopped_by_the_write_to_the_store(open_ledger, intent, payer, pay):
    stale = open_ledger()
    pay("g2", payer(2))

    with pytest.raises(ReplacedError):
        stale.write_intent(intent(), deadline=DEADLINE)

    ledger = open_ledger(payer(3))
    assert [r.generation_id for r in ledger.find(identity()) if r.state == "submitted"] == ["g2"]
    assert verdict(ledger) == "attach"


def test_a_fence_is_trusted_for_ten_seconds_and_then_written_again(open_ledger, intent, clock, store):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    writes = store.writes

    clock.sleep(10)
    ledger.renew_fence(intent())
    assert store.writes == writes
    clock.sleep(1)
    ledger.renew_fence(intent())
    assert store.writes == writes + 1


def test_a_worker_that_was_replaced_while_it_was_frozen_sends_nothing(open_ledger, intent, clock, store):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    clock.sleep(11)
    store.accessor()

    with pytest.raises(ReplacedError):
        ledger.renew_fence(intent())


def test_a_renewed_fence_says_until_when_the_answer_is_waited_for_now(open_ledger, intent, payer, clock):
    ledger = open_ledger()
    record = intent()
    ledger.write_intent(record, deadline=DEADLINE)
    clock.sleep(50)
    ledger.renew_fence(record)

    [found] = open_ledger(payer(2)).find(identity())

    assert (found.answer_by - record.answer_by).total_seconds() == 50
    clock.sleep(59)
    assert found.may_be_under_way(clock.now())


# Rule 3: what came of the POST is written until each place has it, or time is up


@pytest.mark.parametrize("away", [["store"], ["folder"], ["store", "folder"]], ids="+".join)
def test_an_id_outlives_an_outage_of_two_minutes_of_any_place(
    open_ledger, intent, submitted, payer, clock, store, folder, away
):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    places = [{"store": store, "folder": folder}[name] for name in away]
    for place in places:
        place.unreachable = True
        clock.after(120, lambda place=place: setattr(place, "unreachable", False))

    ledger.write_outcome(submitted)

    assert 120 <= clock.elapsed() < 130
    assert "g1" in store.texts[IMAGE_KEY]
    assert any(b"g1" in data for data in folder.files.values())
    assert verdict(open_ledger(payer(2))) == "attach"


@pytest.mark.parametrize("away", ["store", "folder"])
def test_an_id_that_one_place_never_takes_is_in_the_other_one(
    open_ledger, intent, submitted, payer, clock, store, folder, log, away
):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    place = {"store": store, "folder": folder}[away]
    place.unreachable = True

    ledger.write_outcome(submitted)

    assert 150 <= clock.elapsed() < 160
    assert log.warnings[-1] == "It was put on record as g1 in one place of two."
    place.unreachable = False
    assert verdict(open_ledger(payer(2))) == "attach"


def test_an_id_that_no_place_takes_is_an_error_that_names_it(
    open_ledger, intent, submitted, payer, clock, store, folder, log
):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    store.unreachable = folder.unreachable = True

    with pytest.raises(LedgerError, match="could not be put on record as g1"):
        ledger.write_outcome(submitted)

    assert clock.elapsed() >= 150
    assert "g1" in "".join(log.warnings)
    store.unreachable = folder.unreachable = False
    assert verdict(open_ledger(payer(2))) == "unknown"


def test_an_id_of_a_worker_that_was_replaced_is_in_the_folder(open_ledger, intent, submitted, payer, store):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    store.accessor()

    with pytest.raises(ReplacedError):
        ledger.write_outcome(submitted)

    assert verdict(open_ledger(payer(2))) == "attach"


def test_an_id_of_a_worker_that_was_replaced_is_in_its_log_where_there_is_no_folder(
    open_ledger, intent, submitted, store, log
):
    ledger = open_ledger(alone=True)
    ledger.write_intent(intent(), deadline=DEADLINE)
    store.accessor()

    with pytest.raises(ReplacedError):
        ledger.write_outcome(submitted)

    assert "g1" in "".join(log.warnings)


def test_a_record_in_the_folder_is_waited_for_also_by_a_worker_that_was_replaced(
    open_ledger, intent, submitted, payer, clock, store, folder
):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    store.accessor()
    folder.unreachable = True
    clock.after(60, lambda: setattr(folder, "unreachable", False))

    with pytest.raises(ReplacedError):
        ledger.write_outcome(submitted)

    assert verdict(open_ledger(payer(2))) == "attach"


def test_what_was_not_accepted_costs_nothing_and_is_in_both_places(open_ledger, intent, payer, store, folder):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    ledger.write_outcome(intent().not_accepted(RateLimitError("m"), NOW))

    assert ledger.spent == (0, 0)
    for place in (store.texts, folder.files):
        kept = dict(place)
        place.clear()
        assert verdict(open_ledger(payer(2))) == "submit"
        place.update(kept)


# The document of the store is replaced as a whole


def test_records_that_the_store_alone_has_outlive_an_outage_between_reading_and_writing(
    pay, open_ledger, payer, store, folder
):
    pay("g2", request=OTHER)
    folder.files.clear()
    pay("g1", payer(2))
    store.unreachable = True
    ledger = open_ledger(payer(3))
    store.unreachable = False
    [record] = ledger.find(identity())

    ledger.wait_for(record, deadline=DEADLINE, reused=True)

    assert verdict(open_ledger(payer(4)), OTHER) == "attach"


def test_a_store_that_could_not_be_read_is_not_written_before_it_can(pay, open_ledger, payer, store):
    pay()
    store.unreachable = True
    ledger = open_ledger(payer(2))
    [record] = ledger.find(identity())

    with pytest.raises(GptImageError):
        ledger.wait_for(record, deadline=DEADLINE, reused=True)


def test_an_attempt_that_fails_before_it_has_looked_takes_nothing_off_the_record(pay, open_ledger, payer):
    pay(alone=True)

    open_ledger(payer(2), alone=True, read=False).note_attempt()

    assert verdict(open_ledger(payer(3), alone=True)) == "attach"


def test_a_wait_that_is_on_record_already_is_not_written_again(pay, open_ledger, store):
    ledger = pay()
    [record] = ledger.find(identity())
    writes = store.writes

    ledger.wait_for(record, deadline=DEADLINE, reused=False)

    assert store.writes == writes


def test_failures_from_before_the_last_clear_are_dropped_from_the_store(open_ledger, intent, payer, store):
    ledger = open_ledger(alone=True)
    ledger.write_intent(intent(), deadline=DEADLINE)
    ledger.write_outcome(intent().not_accepted(RateLimitError("m"), NOW))
    after_the_clear = payer(2, 4)

    ledger = open_ledger(after_the_clear, alone=True)
    ledger.write_intent(intent(by=after_the_clear), deadline=DEADLINE)

    assert store.texts[IMAGE_KEY].count('"fingerprint"') == 2  # the intent, and the wait
