"""Rules 4 and 5: a place that is empty though it held records, and a clear of which no record tells."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import DestinationError, LedgerError, RecordMissingError
from airflow_gpt_image.ledger.history import History
from tests.memory_folder import MemoryFolder
from tests.records import DEADLINE, NOW, OTHER, REQUEST, check_complete, verdict

RETRY = History(first_run=False, cleared=False)
FIRST_RUN = History(first_run=True, cleared=False)
CLEARED = History(first_run=False, cleared=True)
MAPPED = History(first_run=False, cleared=True, mapped=True)


# Rule 4


def test_a_folder_that_held_records_and_is_empty_now_is_an_error(pay, open_ledger, payer, folder):
    pay()
    folder.files.clear()

    with pytest.raises(
        DestinationError, match="held the record of what this task paid for, and is empty now"
    ):
        check_complete(open_ledger(payer(2)))


def test_not_even_the_authors_word_pays_where_the_folder_is_not_the_one_it_was(
    pay, open_ledger, payer, folder
):
    pay()
    folder.files.clear()

    with pytest.raises(DestinationError):
        check_complete(open_ledger(payer(2, 4), CLEARED), regenerate=True)


def test_another_folder_than_before_may_be_empty(pay, open_ledger, payer):
    pay()

    check_complete(open_ledger(payer(2), at=MemoryFolder(root="memory://elsewhere")))


def test_a_folder_that_never_held_anything_of_this_task_instance_may_be_empty(open_ledger, intent, payer):
    ledger = open_ledger(payer(map_index=1))
    another = intent(by=payer(map_index=0)).submitted("g1", NOW)
    ledger.wait_for(another, deadline=DEADLINE, reused=True)

    check_complete(open_ledger(payer(2, map_index=1)))


def test_an_intent_under_the_name_of_a_shared_image_is_not_missed_elsewhere(open_ledger, intent, payer):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE, shared="shared-0")

    check_complete(open_ledger(payer(2)))


def test_what_the_store_has_is_put_back_into_an_emptied_folder_all_of_it(
    pay, open_ledger, payer, store, folder
):
    pay("g1")
    pay("g2", payer(2), OTHER)
    folder.files.clear()

    open_ledger(payer(3)).restore()

    store.empty()
    ledger = open_ledger(payer(4, 4), CLEARED)
    assert verdict(ledger, OTHER) == "attach"
    assert len(folder.files) == 2


def test_a_folder_that_takes_nothing_back_is_only_warned_of(pay, open_ledger, payer, folder, log):
    pay()
    folder.files.clear()
    ledger = open_ledger(payer(2))
    folder.unreachable = True

    ledger.restore()

    assert "in Airflow's task state store alone" in log.warnings[-1]


# Rule 5


@pytest.mark.parametrize("alone", [True, False], ids=["store alone", "with a folder"])
def test_a_clear_of_which_no_record_tells_is_not_a_first_try(pay, open_ledger, payer, store, folder, alone):
    pay(alone=alone)
    store.empty()
    folder.files.clear()

    with pytest.raises(RecordMissingError) as caught:
        check_complete(open_ledger(payer(2, 4), CLEARED, alone=alone))

    message = str(caught.value)
    assert "Airflow 3.4 deletes a task's state on a clear" in message
    for help_ in ("on_clear='regenerate'", "a destination", "[gpt_image] records", "keep_task_state"):
        assert help_ in message
    assert not caught.value.retryable


def test_the_authors_word_pays_after_such_a_clear(open_ledger, payer):
    check_complete(open_ledger(payer(2, 4), CLEARED), regenerate=True)


@pytest.mark.parametrize("history", [FIRST_RUN, RETRY], ids=["first run", "retry"])
def test_without_a_clear_nothing_is_missing(open_ledger, history):
    check_complete(open_ledger(history=history))


@pytest.mark.parametrize("kept", ["store", "folder"])
def test_a_record_of_another_request_tells_what_was_paid_for_before_the_clear(
    pay, open_ledger, payer, store, folder, kept
):
    pay()
    if kept == "folder":
        store.empty()

    check_complete(open_ledger(payer(2, 4), CLEARED))


def test_a_clear_shows_in_the_store_also_when_the_retries_were_changed_meanwhile(pay, open_ledger, payer):
    pay()

    assert open_ledger(payer(2, 4)).cleared
    assert not open_ledger(payer(2, 3)).cleared
    assert not open_ledger(payer(2, 2)).cleared


@pytest.mark.parametrize("alone", [True, False], ids=["store alone", "with a folder"])
def test_an_attempt_that_paid_for_nothing_leaves_a_note_for_a_later_clear(open_ledger, payer, alone):
    open_ledger(history=FIRST_RUN, alone=alone).note_attempt()

    check_complete(open_ledger(payer(2, 4), CLEARED, alone=alone))


def test_a_note_in_the_folder_outlives_a_clear_that_empties_the_store(open_ledger, payer, store):
    open_ledger(history=FIRST_RUN, read=False).note_attempt()
    store.empty()

    check_complete(open_ledger(payer(2, 4), CLEARED))


def test_a_note_is_not_left_where_earlier_attempts_may_have_paid(open_ledger, payer):
    open_ledger(payer(2, 4), CLEARED).note_attempt()

    with pytest.raises(RecordMissingError):
        check_complete(open_ledger(payer(3, 4), CLEARED))


@pytest.mark.parametrize("away", ["store", "folder"])
def test_a_note_is_not_left_where_a_place_could_not_be_read(open_ledger, store, folder, away):
    place = {"store": store, "folder": folder}[away]
    place.unreachable = True
    ledger = open_ledger(history=RETRY)
    with pytest.raises((LedgerError, DestinationError)):
        ledger.check_readable()
    place.unreachable = False

    ledger.note_attempt()

    assert (store.texts, folder.files) == ({}, {})


@pytest.mark.parametrize("away", ["store", "folder"])
def test_a_first_run_leaves_its_note_in_one_place_where_the_other_one_is_away(
    open_ledger, store, folder, payer, away
):
    place = {"store": store, "folder": folder}[away]
    place.unreachable = True
    open_ledger(history=FIRST_RUN).note_attempt()
    place.unreachable = False

    check_complete(open_ledger(payer(2, 4), CLEARED))


def test_a_note_that_cannot_be_left_is_only_warned_of(open_ledger, folder, log):
    ledger = open_ledger(history=FIRST_RUN)
    folder.unreachable = True

    ledger.note_attempt()

    assert "could not be noted that nothing is paid for" in log.warnings[-1]


def test_a_task_that_was_waiting_and_whose_record_is_gone_pays_nothing_silently(open_ledger):
    resumed = History(first_run=True, cleared=False, resumed=True)

    with pytest.raises(RecordMissingError, match="was waiting for an image that it had paid for"):
        check_complete(open_ledger(history=resumed))


def test_a_task_that_was_waiting_for_what_failed_may_pay_anew(open_ledger, intent):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    ledger.write_outcome(intent().not_accepted(DestinationError("m"), NOW))

    check_complete(open_ledger(history=History(first_run=True, cleared=False, resumed=True)), REQUEST)
