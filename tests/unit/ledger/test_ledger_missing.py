"""Rules 4 and 5: a place that is empty though it held records, and a clear of which no record tells."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import DestinationError, LedgerError, RecordMissingError
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.record import GenerationFacts, furthest
from airflow_gpt_image.storage.images import ImageFile
from tests.memory_folder import MemoryFolder
from tests.records import NOW, OTHER, REQUEST, identity

DEADLINE = NOW.timestamp() + 3_600
RETRY = History(first_run=False, cleared=False)
FIRST_RUN = History(first_run=True, cleared=False)
CLEARED = History(first_run=False, cleared=True)
MAPPED = History(first_run=False, cleared=True, mapped=True)


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


def check(ledger, request=OTHER, regenerate=False):
    earlier = furthest(ledger.find(identity(request)))
    ledger.check_nothing_is_missing(identity(request), earlier, regenerate=regenerate)


def verdict(ledger, request):
    return decide(ledger.find(identity(request)), ledger.payer, Policy()).decision


# Rule 4


def test_a_folder_that_held_records_and_is_empty_now_is_an_error(pay, open_ledger, payer, folder):
    pay()
    folder.files.clear()

    with pytest.raises(
        DestinationError, match="held the record of what this task paid for, and is empty now"
    ):
        check(open_ledger(payer(2)))


def test_not_even_the_authors_word_pays_where_the_folder_is_not_the_one_it_was(
    pay, open_ledger, payer, folder
):
    pay()
    folder.files.clear()

    with pytest.raises(DestinationError):
        check(open_ledger(payer(2, 4), CLEARED), regenerate=True)


def test_another_folder_than_before_may_be_empty(pay, open_ledger, payer):
    pay()

    check(open_ledger(payer(2), at=MemoryFolder(root="memory://elsewhere")))


def test_a_folder_that_never_held_anything_of_this_task_instance_may_be_empty(open_ledger, intent, payer):
    ledger = open_ledger(payer(map_index=1))
    another = intent(by=payer(map_index=0)).submitted("g1", NOW)
    ledger.wait_for(another, deadline=DEADLINE, reused=True)

    check(open_ledger(payer(2, map_index=1)))


def test_an_intent_under_the_name_of_a_shared_image_is_not_missed_elsewhere(open_ledger, intent, payer):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE, shared="shared-0")

    check(open_ledger(payer(2)))


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
        check(open_ledger(payer(2, 4), CLEARED, alone=alone))

    message = str(caught.value)
    assert "Airflow 3.4 deletes a task's state on a clear" in message
    for help_ in ("on_clear='regenerate'", "a destination", "[gpt_image] records", "keep_task_state"):
        assert help_ in message
    assert not caught.value.retryable


def test_the_authors_word_pays_after_such_a_clear(open_ledger, payer):
    check(open_ledger(payer(2, 4), CLEARED), regenerate=True)


@pytest.mark.parametrize("history", [FIRST_RUN, RETRY], ids=["first run", "retry"])
def test_without_a_clear_nothing_is_missing(open_ledger, history):
    check(open_ledger(history=history))


@pytest.mark.parametrize("kept", ["store", "folder"])
def test_a_record_of_another_request_tells_what_was_paid_for_before_the_clear(
    pay, open_ledger, payer, store, folder, kept
):
    pay()
    if kept == "folder":
        store.empty()

    check(open_ledger(payer(2, 4), CLEARED))


def test_a_clear_shows_in_the_store_also_when_the_retries_were_changed_meanwhile(pay, open_ledger, payer):
    pay()

    assert open_ledger(payer(2, 4)).cleared
    assert not open_ledger(payer(2, 3)).cleared
    assert not open_ledger(payer(2, 2)).cleared


@pytest.mark.parametrize("alone", [True, False], ids=["store alone", "with a folder"])
def test_an_attempt_that_paid_for_nothing_leaves_a_note_for_a_later_clear(open_ledger, payer, alone):
    open_ledger(history=FIRST_RUN, alone=alone).note_attempt()

    check(open_ledger(payer(2, 4), CLEARED, alone=alone))


def test_a_note_in_the_folder_outlives_a_clear_that_empties_the_store(open_ledger, payer, store):
    open_ledger(history=FIRST_RUN, read=False).note_attempt()
    store.empty()

    check(open_ledger(payer(2, 4), CLEARED))


def test_a_note_is_not_left_where_earlier_attempts_may_have_paid(open_ledger, payer):
    open_ledger(payer(2, 4), CLEARED).note_attempt()

    with pytest.raises(RecordMissingError):
        check(open_ledger(payer(3, 4), CLEARED))


@pytest.mark.parametrize("away", ["store", "folder"])
def test_a_note_is_not_left_where_a_place_could_not_be_read(open_ledger, store, folder, away):
    place = {"store": store, "folder": folder}[away]
    place.unreachable = True
    ledger = open_ledger(history=FIRST_RUN)
    with pytest.raises((LedgerError, DestinationError)):
        ledger.check_readable()
    place.unreachable = False

    ledger.note_attempt()

    assert (store.texts, folder.files) == ({}, {})


def test_a_note_that_cannot_be_left_is_only_warned_of(open_ledger, folder, log):
    ledger = open_ledger(history=FIRST_RUN)
    folder.unreachable = True

    ledger.note_attempt()

    assert "could not be noted that nothing is paid for" in log.warnings[-1]


def test_a_task_that_was_waiting_and_whose_record_is_gone_pays_nothing_silently(open_ledger):
    resumed = History(first_run=True, cleared=False, resumed=True)

    with pytest.raises(RecordMissingError, match="was waiting for an image that it had paid for"):
        check(open_ledger(history=resumed))


def test_a_task_that_was_waiting_for_what_failed_may_pay_anew(open_ledger, intent):
    ledger = open_ledger()
    ledger.write_intent(intent(), deadline=DEADLINE)
    ledger.write_outcome(intent().not_accepted(DestinationError("m"), NOW))

    check(open_ledger(history=History(first_run=True, cleared=False, resumed=True)), REQUEST)


# A list that was shifted


@pytest.fixture
def at_index(open_ledger, payer):
    """The ledger of a map index after a clear of the run."""

    def at_index(map_index, attempt=2, history=MAPPED, **given):
        return open_ledger(payer(attempt, 4, map_index=map_index, run_clears=1), history, **given)

    return at_index


def test_after_a_clear_a_request_is_found_under_the_map_index_it_had(pay, at_index, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()

    ledger = at_index(1)

    assert [record.generation_id for record in ledger.find(identity())] == ["g1"]


def test_a_new_map_index_of_a_cleared_run_finds_it_too(pay, at_index, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()

    ledger = at_index(1, attempt=1, history=History(first_run=True, cleared=False, mapped=True))

    assert [record.generation_id for record in ledger.find(identity())] == ["g1"]


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

    check(at_index(1))


def test_taking_anothers_image_does_not_hide_that_its_own_record_is_gone(pay, at_index, payer, store):
    pay("g1", payer(map_index=0))
    store.empty()
    ledger = at_index(1)  # it ran before, and nothing tells what it paid for
    [record] = ledger.find(identity())
    ledger.wait_for(record, deadline=DEADLINE, reused=True)
    store.empty()

    with pytest.raises(RecordMissingError):
        check(at_index(1, attempt=3))


@pytest.mark.parametrize(
    ("alone", "own_folder"), [(True, False), (False, True)], ids=["store alone", "a folder for each index"]
)
def test_where_other_indexes_records_cannot_be_seen_a_shifted_list_pays_nothing_silently(
    pay, at_index, payer, alone, own_folder
):
    pay(by=payer(map_index=0), alone=alone)
    history = History(first_run=False, cleared=True, mapped=True, own_folder=own_folder)

    with pytest.raises(RecordMissingError, match="what stands at this map index now is another request"):
        check(at_index(0, history=history, alone=alone))


def test_what_failed_at_this_index_before_the_clear_is_no_shift(open_ledger, at_index, payer, intent):
    owner = payer(map_index=0)
    ledger = open_ledger(owner, alone=True)
    ledger.write_intent(intent(by=owner), deadline=DEADLINE)
    ledger.write_outcome(intent(by=owner).not_accepted(DestinationError("m"), NOW))

    check(at_index(0, alone=True), REQUEST)


# A name that every run looks under


def stored(record):
    image = ImageFile(url="u", name="shared-0.png", bytes=5)
    return record.stored([image], GenerationFacts(status="completed"), NOW)


def find_shared(ledger):
    return ledger.find_shared("shared-0", identity(), fresh_after=NOW)


def test_another_runs_stored_image_is_found_by_its_name(open_ledger, intent, payer, folder):
    theirs = open_ledger(payer(run_id="s"))
    record = stored(intent(by=theirs.payer).submitted("g1", NOW, name="shared-0"))
    theirs.write_stored(record, ["shared-0"])

    assert find_shared(open_ledger()) == []
    folder.files["shared-0.png"] = b"image"
    assert find_shared(open_ledger()) == [record]


def test_another_runs_generation_is_waited_for_while_it_is_fresh(open_ledger, intent, payer, clock):
    theirs = open_ledger(payer(run_id="s"))
    record = intent(by=theirs.payer)
    theirs.write_intent(record, deadline=DEADLINE, shared="shared-0")
    assert [found.state for found in find_shared(open_ledger())] == ["intent"]

    theirs = open_ledger(payer(run_id="s"))
    theirs.write_outcome(record.submitted("g1", NOW))

    ledger = open_ledger()
    assert [found.state for found in find_shared(ledger)] == ["submitted"]
    assert ledger.find_shared("shared-0", identity(), fresh_after=DEADLINE_MOMENT) == []


DEADLINE_MOMENT = NOW.replace(hour=23)


def test_another_runs_intent_whose_answer_is_lost_is_not_waited_for(open_ledger, intent, payer, clock):
    theirs = open_ledger(payer(run_id="s"))
    theirs.write_intent(intent(by=theirs.payer), deadline=DEADLINE, shared="shared-0")

    clock.sleep(61)

    assert find_shared(open_ledger()) == []


def test_who_finds_another_runs_intent_in_place_of_its_own_submits_nothing(
    open_ledger, intent, payer, folder
):
    mine, theirs = open_ledger(), open_ledger(payer(run_id="s"))
    written = []

    def write_theirs(what, when, name):
        if (what, when) == ("write", "after") and not written:
            written.append(name)
            theirs.folder.write_sidecar(intent(by=theirs.payer), "shared-0")

    folder.on_step = write_theirs

    assert mine.write_intent(intent(), deadline=DEADLINE, shared="shared-0") is False
