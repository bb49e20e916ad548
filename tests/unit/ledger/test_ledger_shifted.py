"""A mapped task's list was shifted: what was paid for is found by what it is."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import DestinationError, RecordMissingError
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.history import History
from tests.records import DEADLINE, NOW, REQUEST, check_complete, identity, verdict

MAPPED = History(first_run=False, cleared=True, mapped=True)


@pytest.fixture
def at_index(open_ledger, payer):
    """The ledger of a map index after a clear of the run."""

    def at_index(map_index, attempt=2, history=MAPPED, **given):
        return open_ledger(payer(attempt, 4, map_index=map_index, run_clears=1), history, **given)

    return at_index


def test_before_any_clear_an_equal_request_beside_this_one_is_another_image(pay, open_ledger, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()  # each map index has a store of its own

    ledger = open_ledger(payer(map_index=1), History(first_run=True, cleared=False, mapped=True))

    assert ledger.find(identity()) == []


def test_its_own_record_goes_before_an_equal_requests_under_another_index(pay, at_index, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()
    pay("g2", payer(map_index=1))

    assert [record.generation_id for record in at_index(1).find(identity())] == ["g2"]


def test_of_several_equal_ones_each_index_takes_another(pay, at_index, payer, store):
    for index in (0, 1):
        store.empty()
        pay(f"g{index}", payer(map_index=index))
    store.empty()

    taken = [at_index(index).find(identity())[0].generation_id for index in (2, 3)]

    assert taken == ["g0", "g1"]


def test_what_is_unknown_under_one_index_is_unknown_under_every_other_one(
    open_ledger, at_index, payer, intent, store
):
    owner = payer(map_index=0)
    open_ledger(owner).write_intent(intent(by=owner), deadline=DEADLINE)
    store.empty()

    ledger = at_index(1)

    found = ledger.find(identity())
    assert decide(found, ledger.payer, Policy()).decision == "unknown"
    assert decide(found, ledger.payer, Policy(resubmit_unknown=True)).decision == "submit"


def test_what_failed_under_another_index_is_none_of_this_one(open_ledger, at_index, payer, intent, store):
    owner = payer(map_index=0)
    ledger = open_ledger(owner)
    ledger.write_intent(intent(by=owner), deadline=DEADLINE)
    ledger.write_outcome(intent(by=owner).not_accepted(DestinationError("m"), NOW))
    store.empty()

    assert at_index(1).find(identity()) == []


@pytest.fixture
def fail(open_ledger, intent):
    """An attempt whose submit is not accepted."""

    def fail(by):
        ledger = open_ledger(by)
        ledger.write_intent(intent(by=by), deadline=DEADLINE)
        ledger.write_outcome(intent(by=by).not_accepted(DestinationError("m"), NOW))

    return fail


def test_what_failed_here_and_was_paid_for_under_another_index_after_a_clear_is_found_there(
    fail, pay, open_ledger, payer, store
):
    fail(payer(map_index=1))
    store.empty()
    pay("g1", payer(2, 4, map_index=0, run_clears=1))
    store.empty()

    ledger = open_ledger(payer(2, 4, map_index=1, run_clears=2), MAPPED)

    assert [record.generation_id for record in ledger.find(identity())] == ["g1"]


def test_an_equal_request_that_failed_gets_an_image_of_its_own_when_it_is_cleared(
    fail, pay, open_ledger, payer, store
):
    pay("g1", payer(map_index=0))
    store.empty()
    fail(payer(map_index=1))

    ledger = open_ledger(payer(2, 4, map_index=1, run_clears=1), MAPPED)

    assert verdict(ledger, REQUEST) == "submit"


def test_another_index_that_cannot_be_read_is_an_error_not_nothing(pay, at_index, payer, store, folder):
    pay("g1", payer(map_index=0))
    store.empty()
    folder.files = dict.fromkeys(folder.files, b"<html>")
    ledger = at_index(1)

    assert ledger.find(identity()) == []
    with pytest.raises(DestinationError):
        ledger.check_readable()


def test_an_index_that_took_anothers_image_has_paid_for_nothing_also_after_the_next_clear(
    pay, at_index, payer, store
):
    pay("g1", payer(map_index=0))
    store.empty()
    ledger = at_index(1, attempt=1, history=History(first_run=True, cleared=False, mapped=True))
    [record] = ledger.find(identity())
    ledger.wait_for(record, deadline=DEADLINE, reused=True)
    store.empty()

    check_complete(at_index(1))


def test_taking_anothers_image_does_not_hide_that_its_own_record_is_gone(pay, at_index, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()
    ledger = at_index(1)  # it ran before, and nothing tells what it paid for
    [record] = ledger.find(identity())
    ledger.wait_for(record, deadline=DEADLINE, reused=True)
    store.empty()

    with pytest.raises(RecordMissingError):
        check_complete(at_index(1, attempt=3))


@pytest.mark.parametrize(
    ("alone", "own_folder"), [(True, False), (False, True)], ids=["store alone", "a folder for each index"]
)
def test_where_other_indexes_records_cannot_be_seen_a_shifted_list_pays_nothing_silently(
    pay, at_index, payer, alone, own_folder
):
    pay(by=payer(map_index=0), alone=alone)
    history = History(first_run=False, cleared=True, mapped=True, own_folder=own_folder)

    with pytest.raises(RecordMissingError, match="what stands at this map index now is another request"):
        check_complete(at_index(0, history=history, alone=alone))


def test_what_failed_at_this_index_before_the_clear_is_no_shift(open_ledger, at_index, payer, intent):
    owner = payer(map_index=0)
    ledger = open_ledger(owner, alone=True)
    ledger.write_intent(intent(by=owner), deadline=DEADLINE)
    ledger.write_outcome(intent(by=owner).not_accepted(DestinationError("m"), NOW))

    check_complete(at_index(0, alone=True), REQUEST)
