"""What the records of a request lead to: every row, and that the two older tables said the same."""

from __future__ import annotations

import itertools

import pytest

from airflow_gpt_image.errors import (
    GenerationFailedError,
    InsufficientCreditsError,
    RateLimitError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.record import GenerationFacts
from airflow_gpt_image.storage.images import ImageFile
from tests.records import NOW

# Whose record it is, as seen by attempt 5 of clear epoch 3.
ASKS = {"attempt": 5, "clear_epoch": 3}
WHOSE = {
    "this attempt": ASKS,
    "an earlier attempt": {"attempt": 4, "clear_epoch": 3},
    "before the clear": {"attempt": 1, "clear_epoch": 2},
    "before a clear with fewer retries": {"attempt": 1, "clear_epoch": 7},
    "another map index": {"attempt": 5, "clear_epoch": 3, "map_index": 7},
    "another run": {"attempt": 5, "clear_epoch": 3, "run_id": "another"},
}
SINCE_THE_CLEAR = ("this attempt", "an earlier attempt")
FAILURES = {
    "failed for a while": GenerationFailedError("m", code="upstream_error"),
    "failed for good": GenerationFailedError("m", code="invalid_request"),
    "refused for a while": RateLimitError("m"),
    "refused for the account": InsufficientCreditsError("m"),
}
STATES = ["nothing", "intent", "unknown", "submitted", "stored", *FAILURES]


@pytest.fixture
def on_record(payer, intent):
    """Makes the record of a state, by somebody."""

    def on_record(state, whose):
        record = intent(by=payer(**WHOSE[whose]))
        if state == "intent":
            return record
        if state == "unknown":
            return record.unknown(SubmissionUnknownError("m"))
        if state.startswith("refused"):
            return record.not_accepted(FAILURES[state], NOW)
        record = record.submitted("g1", NOW)
        if state == "stored":
            return record.stored([ImageFile(url="u")], GenerationFacts(status="completed"), NOW)
        return record.failed(FAILURES[state], NOW) if state in FAILURES else record

    return on_record


@pytest.fixture
def decided(payer, on_record):
    """What follows from one record."""

    def decided(state, whose="an earlier attempt", **policy):
        records = [] if state == "nothing" else [on_record(state, whose)]
        return decide(records, payer(**ASKS), Policy(**policy))

    return decided


def booleans(*names):
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product([False, True], repeat=len(names))
    ]


POLICIES = booleans("regenerate", "resubmit_unknown", "retry_failed")


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize(("state", "whose"), list(itertools.product(STATES, WHOSE)))
def test_every_record_and_every_policy_lead_to_what_the_table_says(decided, state, whose, policy):
    counts = state != "nothing" and (whose in SINCE_THE_CLEAR or not policy["regenerate"])

    decision, record = decided(state, whose, **policy)

    expected = "submit"
    if counts and state in ("intent", "unknown"):
        expected = "submit" if policy["resubmit_unknown"] else "unknown"
    elif counts and state == "submitted":
        expected = "attach"
    elif counts and state == "stored":
        expected = "done"
    elif counts and state == "failed for good" and whose in SINCE_THE_CLEAR and not policy["retry_failed"]:
        expected = "failed"
    assert decision == expected
    assert (record is not None) == counts


PAID = ["submitted", "stored"]


@pytest.mark.parametrize("policy", booleans("resubmit_unknown", "retry_failed"), ids=str)
@pytest.mark.parametrize(("state", "other"), list(itertools.product(PAID, STATES[1:])))
def test_what_one_record_has_paid_for_no_other_record_hides(payer, on_record, state, other, policy):
    paid = on_record(state, "before the clear")
    for whose in WHOSE.keys() - {"before the clear"}:
        records = [paid, on_record(other, whose)]

        decisions = {
            decide(order, payer(**ASKS), Policy(**policy)).decision for order in (records, records[::-1])
        }

        assert decisions <= {"attach", "done"}
        assert len(decisions) == 1


@pytest.mark.parametrize("state", ["intent", "unknown"])
@pytest.mark.parametrize("failed", FAILURES)
def test_an_unknown_submit_of_a_later_attempt_is_not_hidden_by_an_earlier_failure(
    payer, on_record, state, failed
):
    for whose in ("before the clear", "before a clear with fewer retries"):
        records = [on_record(failed, whose), on_record(state, "an earlier attempt")]

        assert decide(records, payer(**ASKS), Policy()).decision == "unknown"


def test_an_unknown_submit_that_the_author_had_sent_again_and_that_was_refused_is_settled(payer, on_record):
    # The author's word was given for it once; what was refused then took nothing.
    records = [on_record("unknown", "an earlier attempt"), on_record("refused for a while", "this attempt")]

    assert decide(records, payer(**ASKS), Policy()).decision == "submit"


# The two tables that there were, of single images (paying.py) and of batches (batch/triage.py). The modules
# are gone; what they decided is here, row by row.


def single_then(state, resubmit):
    """Return what ``pay_once`` did, for whoever the record was: it had one record for a request."""
    if state in ("intent", "unknown"):
        return "submit" if resubmit else "unknown"
    return {"submitted": "attach", "stored": "done"}.get(state, "submit")


def batch_then(state, whose, resubmit):
    """Return what ``verdict`` said; ``by`` was a task instance since its last clear."""
    failed_for_good = state in FAILURES and not FAILURES[state].retryable
    return "failed" if failed_for_good and whose in SINCE_THE_CLEAR else single_then(state, resubmit)


COURSES = list(itertools.product(STATES, WHOSE, [False, True]))


@pytest.mark.parametrize(("state", "whose", "resubmit"), COURSES)
def test_a_single_image_is_decided_as_by_the_table_that_it_had_of_its_own(decided, state, whose, resubmit):
    now = decided(state, whose, resubmit_unknown=resubmit, retry_failed=True).decision

    assert now == single_then(state, resubmit)


@pytest.mark.parametrize("resubmit", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_after_a_clear_with_regenerate_a_single_image_is_paid_for_as_it_was(decided, state, resubmit):
    policy = Policy(regenerate=True, resubmit_unknown=resubmit, retry_failed=True)

    assert decided(state, "before the clear", **vars(policy)).decision == "submit"


@pytest.mark.parametrize(("state", "whose", "resubmit"), COURSES)
def test_an_image_of_a_batch_is_decided_as_by_the_table_that_it_had_of_its_own(
    decided, state, whose, resubmit
):
    now = decided(state, whose, resubmit_unknown=resubmit).decision

    # The one change: a refusal that concerns the account, such as 402, is no longer taken for the prompt's.
    changed = state == "refused for the account" and whose in SINCE_THE_CLEAR
    assert now == ("submit" if changed else batch_then(state, whose, resubmit))


def test_the_two_tables_differed_in_what_failed_for_good_since_the_clear_and_the_policy_says_so(decided):
    differences = {
        (state, whose)
        for state, whose, resubmit in COURSES
        if single_then(state, resubmit) != batch_then(state, whose, resubmit)
    }

    # The other one: only single images have on_clear="regenerate".
    assert {state for state, _ in differences} == {"failed for good", "refused for the account"}
    for whose in SINCE_THE_CLEAR:
        assert decided("failed for good", whose, retry_failed=True).decision == "submit"
        assert decided("failed for good", whose, retry_failed=False).decision == "failed"
