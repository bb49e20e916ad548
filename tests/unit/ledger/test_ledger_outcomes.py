"""Rule 3: what came of a POST is written until each place has it, or time is up."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import (
    GptImageError,
    LedgerError,
    RateLimitError,
    ReplacedError,
)
from airflow_gpt_image.ledger.task_state import IMAGE_KEY
from tests.records import DEADLINE, NOW, OTHER, identity, verdict


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
