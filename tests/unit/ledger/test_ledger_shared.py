"""An image under a name that follows from the request alone is found by every run."""

from __future__ import annotations

from airflow_gpt_image.ledger.record import GenerationFacts
from tests.records import DEADLINE, NOW, PNG, identity, png_file


def stored(record):
    return record.stored([png_file("shared-0.png")], GenerationFacts(status="completed"), NOW)


def find_shared(ledger):
    return ledger.find_shared("shared-0", identity(), fresh_after=NOW)


def test_another_runs_stored_image_is_found_by_its_name(open_ledger, intent, payer, folder):
    theirs = open_ledger(payer(run_id="s"))
    record = stored(intent(by=theirs.payer).submitted("g1", NOW, name="shared-0"))
    theirs.write_stored(record, ["shared-0"])

    assert find_shared(open_ledger()) == []
    folder.files["shared-0.png"] = PNG
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


def test_a_worker_that_was_frozen_puts_no_intent_over_an_image_that_was_stored_meanwhile(
    open_ledger, intent, payer, folder
):
    later = open_ledger(payer(2))
    later.write_stored(stored(intent(by=payer(2)).submitted("g2", NOW, name="shared-0")), ["shared-0"])
    folder.files["shared-0.png"] = PNG
    stale = open_ledger()

    assert stale.write_intent(intent(), deadline=DEADLINE, shared="shared-0") is False

    assert [record.generation_id for record in find_shared(open_ledger(payer(run_id="s")))] == ["g2"]
