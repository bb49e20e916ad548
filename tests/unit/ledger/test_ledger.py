"""Records in two places, of which neither is trusted alone: rules 1 and 2."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import (
    DestinationError,
    LedgerError,
    ReplacedError,
)
from airflow_gpt_image.ledger.record import GenerationFacts
from airflow_gpt_image.ledger.task_state import IMAGE_KEY
from tests.records import DEADLINE, NOW, OTHER, PNG, identity, png_file, verdict

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
    folder.files["g1-0.png"] = PNG
    image = png_file("g1-0.png")
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
