"""One worker at a time submits for a task instance, and what is left by one is found by the next."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_gpt_image.batch.checkpoint import Checkpoint, decode_indexes, encode_indexes
from airflow_gpt_image.batch.lease import KEY, Lease
from airflow_gpt_image.batch.stop import StopReason
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.errors import InvalidRequestError, LedgerError, ReplacedError
from tests.batches import LATER, plan_of, submitted
from tests.fake_clock import FakeClock

T = Timing()
LEFT = Checkpoint(
    plan="0" * 64,
    stored=encode_indexes({0, 5}),
    failed=encode_indexes({2}),
    unsettled=encode_indexes({3}),
    in_flight=encode_indexes({1, 4}),
    stopped=StopReason(error="SpendLimitError", fields={"message": "m", "status": 429}),
    began=1775383908.5,
    invalid=3,
    charged=Decimal("18.8"),
    refunded=Decimal("4.7"),
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def lease(store, clock):
    """A worker's lease; those of earlier workers are out of date."""
    return lambda clear_epoch=3: Lease(store.accessor(), clear_epoch, clock=clock)


def document(store):
    return json.loads(store.texts[KEY])


# The fence


def test_acquiring_is_one_write_that_never_expires(lease, store):
    lease().acquire()

    assert list(store.texts) == [KEY]
    assert store.writes == 1
    assert store.retentions[KEY] is NEVER_EXPIRE
    assert document(store)["open"] is True


def test_reading_writes_nothing(lease, store):
    lease()

    assert store.writes == 0


def test_a_worker_whose_task_instance_was_replaced_cannot_begin(lease):
    stale = lease()
    lease()

    with pytest.raises(ReplacedError, match="another worker goes on") as caught:
        stale.acquire()

    assert caught.value.retryable


def test_a_worker_that_is_replaced_at_work_cannot_renew_nor_submit(lease, clock):
    mine = lease()
    mine.acquire()
    mine.check()
    lease()
    clock.forward(T.renew_after + 1)

    with pytest.raises(ReplacedError):
        mine.renew()
    with pytest.raises(LedgerError, match="submits nothing more"):
        mine.check()


def test_a_worker_that_is_replaced_leaves_nothing_for_the_next_one(lease, store):
    mine = lease()
    mine.acquire()
    before = document(store)
    lease()

    with pytest.raises(ReplacedError):
        mine.release(LEFT)

    assert document(store) == before


@pytest.mark.parametrize("act", ["acquire", "release"])
def test_a_store_that_does_not_answer_is_an_error_that_is_tried_again(lease, store, act):
    mine = lease()
    store.unreachable = True

    with pytest.raises(LedgerError, match="could not be written") as caught:
        getattr(mine, act)()

    assert caught.value.retryable


def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one(lease, store):
    store.unreachable = True

    with pytest.raises(LedgerError, match="not the same as an empty one"):
        lease()


@pytest.mark.parametrize(
    "junk",
    [
        [],
        "lease",
        {},
        {"version": 2},
        {"version": 1},
        {"version": 1, "clear_epoch": "two"},
        {"version": 1, "clear_epoch": -1},
        {"version": 1, "clear_epoch": 1, "open": "perhaps"},
        {"version": 1, "clear_epoch": 1, "stranded": [{"state": "submitted"}]},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0"}},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0", "began": 0, "stored": "0x1f"}},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0", "began": 0, "failed": ""}},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0", "began": 0, "failed": "1f\n"}},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0", "began": 0, "charged": "many"}},
        {"version": 1, "clear_epoch": 1, "checkpoint": {"plan": "0", "began": 0, "stopped": "no"}},
    ],
    ids=str,
)
def test_something_else_under_its_key_is_an_error_and_no_empty_lease(lease, store, junk):
    store.texts[KEY] = json.dumps(junk)

    with pytest.raises(LedgerError, match="task state 'gpt_image_batch'"):
        lease()


# Taking over


def test_nobody_waits_for_a_predecessor_that_released_its_lease(lease, clock):
    first = lease()
    first.acquire()
    first.release()

    lease().acquire()

    assert clock.slept == []


@pytest.mark.parametrize("seen", ["in the store", "at the destination"])
def test_a_successor_waits_for_a_predecessor_that_did_not(lease, store, clock, seen):
    lease().acquire()
    if seen == "at the destination":
        store.empty()
    writes = []
    mine = lease()
    store.befalls = lambda number: writes.append(clock.elapsed())

    mine.acquire(predecessor=seen == "at the destination")

    # It shuts the old one out before it waits, and what it works on is its write from after that.
    assert clock.slept == [T.takeover_wait]
    assert writes[1] - writes[0] == T.takeover_wait


def test_a_successor_that_is_replaced_while_it_waits_does_not_begin(lease, store):
    lease().acquire()
    mine = lease()
    store.befalls = lambda number: store.replace() if number == 2 else None

    with pytest.raises(ReplacedError):
        mine.acquire()


def test_a_successor_that_dies_while_it_waits_is_waited_for_too(lease, store, clock):
    lease().acquire()
    mine = lease()
    store.at = "fail 2"
    with pytest.raises(LedgerError):
        mine.acquire()

    lease().acquire()

    assert clock.slept == [T.takeover_wait, T.takeover_wait]


def test_a_successor_waits_longer_than_a_predecessor_may_submit():
    # And a worker that renews in time is never held up by that.
    assert T.renew_after < T.expires_after < T.takeover_wait


# Between two writes


def test_nothing_is_submitted_before_the_lease_is_acquired(lease):
    mine = lease()

    assert mine.needs_renewal
    with pytest.raises(LedgerError, match="It submits nothing more"):
        mine.check()


def test_a_lease_is_written_again_only_when_that_is_needed_and_is_good_for_submits_till_then(
    lease, store, clock
):
    mine = lease()
    mine.acquire()
    clock.forward(T.renew_after)
    mine.renew()
    mine.check()
    before = store.writes
    clock.forward(0.1)

    mine.renew()

    assert (before, store.writes, mine.needs_renewal) == (1, 2, False)
    assert document(store)["open"] is True


def test_a_worker_that_was_held_up_submits_nothing_more_and_is_tried_again(lease, clock):
    mine = lease()
    mine.acquire()
    clock.forward(T.expires_after)
    mine.check()
    clock.forward(0.1)

    with pytest.raises(LedgerError, match="another one may have taken over") as caught:
        mine.check()

    assert caught.value.retryable


def test_a_slow_write_is_as_old_as_its_beginning(lease, store, clock):
    mine = lease()
    store.befalls = lambda number: clock.forward(T.expires_after + 1)

    mine.acquire()

    assert not mine.needs_renewal
    with pytest.raises(LedgerError, match="could not say in time"):
        mine.check()


# What one leaves for the next


def test_the_work_after_a_deferral_finds_what_the_work_before_it_left(lease):
    first = lease()
    first.acquire()

    first.release(LEFT)

    assert lease().checkpoint == LEFT


def test_what_was_left_stays_there_while_the_next_worker_works(lease):
    lease().release(LEFT)

    second = lease()
    second.acquire()

    assert second.checkpoint == lease().checkpoint == LEFT


@pytest.mark.parametrize("ended", [True, False], ids=["a task that is done", "one that never began"])
def test_a_task_that_waits_for_nothing_has_nothing_to_go_on_with(lease, ended):
    if ended:
        lease().release(LEFT)
        lease().release()

    with pytest.raises(LedgerError, match="does not say what this task was at"):
        lease().checkpoint  # noqa: B018


def test_what_the_destination_did_not_take_is_kept_until_it_does(lease, store):
    one, two = plan_of(["a", "b"]).items
    mine = lease()
    mine.keep_stranded(submitted(one))
    mine.keep_stranded(submitted(two, LATER))
    mine.keep_stranded(submitted(one))

    found = lease()
    found.forget_stranded(submitted(two, LATER))
    found.release()

    assert [record["generation_id"] for record in document(store)["stranded"]] == ["g0"]
    assert lease().state.stranded == (submitted(one),)


def test_what_was_written_first_can_be_read_by_every_later_release(store, lease):
    # Written by hand: version 1, as it lies in databases.
    checkpoint = {
        "plan": "0" * 64,
        "stored": "21",
        "failed": "4",
        "unsettled": "8",
        "in_flight": "12",
        "stopped": {"error": "SpendLimitError", "fields": {"message": "m", "status": 429}},
        "began": 1775383908.5,
        "invalid": 3,
        "charged": "18.8",
        "refunded": "4.7",
    }
    store.texts[KEY] = json.dumps(
        {
            "version": 1,
            "clear_epoch": 2,
            "open": False,
            "destination": "/images",
            "published": True,
            "recorded": "any",
            "stranded": [],
            "checkpoint": checkpoint,
        }
    )

    found = lease()

    assert (found.state.destination, found.state.published, found.state.recorded) == ("/images", True, "any")
    assert found.checkpoint == LEFT
    assert (found.checkpoint.stopped.to_error().status, str(found.checkpoint.stopped.to_error())) == (
        429,
        "m",
    )


def test_indexes_are_hex_with_the_first_item_lowest():
    assert encode_indexes([]) == "0"
    assert encode_indexes([0]) == "1"
    assert encode_indexes([5, 0]) == "21"
    assert encode_indexes([8]) == "100"
    assert decode_indexes("21") == {0, 5}


# Where the images go


def test_all_tries_between_two_clears_go_to_the_same_destination(lease):
    first = lease()
    first.bind("/images")
    first.release()

    lease().bind("/images")
    with pytest.raises(InvalidRequestError, match="isn't where an earlier try"):
        lease().bind("/elsewhere")
    lease(clear_epoch=4).bind("/elsewhere")


def test_a_new_destination_has_no_plan_yet(lease):
    first = lease()
    first.bind("/images")
    first.note(published=True, recorded="any")
    first.release()

    same, other = lease(clear_epoch=4), lease(clear_epoch=4)
    same.bind("/images")
    other.bind("/elsewhere")

    assert (same.state.published, same.state.recorded) == (True, "any")
    assert (other.state.published, other.state.recorded) == (False, None)


def test_a_reason_to_stop_that_no_release_knows_is_an_error_all_the_same():
    assert str(StopReason(error="quote", fields={"message": "m"}).to_error()) == "m"
