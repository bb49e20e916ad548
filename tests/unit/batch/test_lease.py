"""One worker at a time submits for a task instance, and the next wave finds what the last one left."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import pytest
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_gpt_image.batch import lease as module
from airflow_gpt_image.batch.lease import HELD, KEY, RENEWED, SUCCESSION, Lease, Left, bits, indexes
from airflow_gpt_image.batch.stopping import Stopped
from airflow_gpt_image.errors import LedgerError
from tests.state_store import Store

A_MOMENT = 0.05
LEFT = Left(
    plan="0" * 64,
    stored=bits({0, 5}),
    failed=bits({2}),
    stopped=Stopped(error="SpendLimitError", fields={"message": "m", "status": 429}),
    began=1775383908.5,
    invalid=3,
    credits=Decimal("14.1"),
)


class LeaseStore(Store):
    """One whose writes take their time: ``slow`` seconds."""

    def __init__(self):
        super().__init__()
        self.slow, self.written_at = 0.0, []

    def set(self, key, value, *, retention=None):
        time.sleep(self.slow)
        super().set(key, value, retention=retention)
        self.written_at.append(time.monotonic())

    @property
    def document(self):
        return json.loads(self.texts[KEY])


@pytest.fixture
def store():
    return LeaseStore()


@pytest.fixture
def lease(store):
    """A worker's lease, as each one makes its own."""
    return lambda max_tries=1: Lease(store, max_tries=max_tries)


def seconds_of(act, *args):
    began = time.monotonic()
    act(*args)
    return time.monotonic() - began


# The fence


def test_taking_is_one_write_that_never_expires(lease, store):
    lease().take()

    assert list(store.texts) == [KEY]
    assert len(store.written_at) == 1
    assert store.retentions[KEY] is NEVER_EXPIRE
    assert store.document["open"] is True


def test_looking_writes_nothing(lease, store):
    lease().clears  # noqa: B018  # a look

    assert store.written_at == []


def test_a_worker_whose_task_instance_was_replaced_cannot_begin(lease, store):
    stale = lease()
    store.replaced = True

    with pytest.raises(LedgerError, match="this worker is out of date and stops here") as caught:
        stale.take()

    assert caught.value.retryable


def test_a_worker_that_is_replaced_at_work_cannot_renew_nor_submit_on_what_it_has(lease, store, monkeypatch):
    mine = lease()
    mine.take()
    store.replaced = True
    monkeypatch.setattr(module, "RENEWED", 0.0)
    monkeypatch.setattr(module, "HELD", 0.02)
    time.sleep(0.03)

    with pytest.raises(LedgerError, match="out of date"):
        mine.renew()
    with pytest.raises(LedgerError, match="could not say in time"):
        mine.check()


def test_a_worker_that_is_replaced_leaves_nothing_for_the_next_wave(lease, store):
    mine = lease()
    mine.take()
    before = store.document
    store.replaced = True

    with pytest.raises(LedgerError):
        mine.release(LEFT)

    assert store.document == before


@pytest.mark.parametrize("act", ["take", "release"])
def test_a_store_that_does_not_answer_is_an_error_that_is_tried_again(lease, store, act):
    mine = lease()
    store.unreachable = True

    with pytest.raises(LedgerError, match="could not be written") as caught:
        getattr(mine, act)()

    assert caught.value.retryable


def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one(lease, store):
    store.unreachable = True

    with pytest.raises(LedgerError, match="That is not the same as an empty one"):
        lease()


@pytest.mark.parametrize(
    "junk",
    [
        [],
        "lease",
        {},
        {"version": 2},
        {"version": 1},
        {"version": 1, "max_tries": "two"},
        {"version": 1, "max_tries": 1, "clears": -1},
        {"version": 1, "max_tries": 1, "open": "perhaps"},
        {"version": 1, "max_tries": 1, "and": "more"},
        {"version": 1, "max_tries": 1, "left": {"plan": "0"}},
        {"version": 1, "max_tries": 1, "left": {"plan": "0", "began": 0, "stored": "0x1f"}},
        {"version": 1, "max_tries": 1, "left": {"plan": "0", "began": 0, "failed": ""}},
        {"version": 1, "max_tries": 1, "left": {"plan": "0", "began": 0, "failed": "1f\n"}},
        {"version": 1, "max_tries": 1, "left": {"plan": "0", "began": 0, "credits": "NaN"}},
        {"version": 1, "max_tries": 1, "left": {"plan": "0", "began": 0, "stopped": "no"}},
    ],
    ids=str,
)
def test_something_else_under_its_key_is_an_error_and_no_empty_lease(lease, store, junk):
    store.set(KEY, junk)

    with pytest.raises(LedgerError, match="The ledger"):
        lease()


# The succession


def test_nobody_waits_for_a_predecessor_that_said_goodbye(lease, store):
    first = lease()
    first.take()
    first.release()

    took = seconds_of(lease().take, 30.0)

    assert took < 5


def test_a_successor_waits_for_a_predecessor_that_did_not_say_goodbye(lease, store):
    lease().take()

    took = seconds_of(lease().take, A_MOMENT)

    assert took >= A_MOMENT
    _, before, after = store.written_at
    # It shuts the old one out before it waits, and what it works on is its write from after that.
    assert after - before >= A_MOMENT


def test_a_successor_that_is_replaced_while_it_waits_does_not_begin(lease, store):
    class Replacing(Store):
        def set(self, key, value, *, retention=None):
            super().set(key, value, retention=retention)
            self.replaced = True

    lease().take()
    replacing = Replacing()
    replacing.texts = store.texts

    with pytest.raises(LedgerError, match="out of date"):
        Lease(replacing, max_tries=1).take(A_MOMENT)


def test_a_successor_that_dies_while_it_waits_is_waited_for_too(lease, store):
    lease().take()
    lease().take(0.0)

    assert seconds_of(lease().take, A_MOMENT) >= A_MOMENT


def test_a_successor_waits_longer_than_a_predecessor_may_submit():
    # And a worker that renews in time is never held up by that.
    assert RENEWED < HELD < SUCCESSION


# Between two writes


def test_nothing_is_submitted_before_the_lease_is_taken(lease):
    mine = lease()

    assert mine.due
    with pytest.raises(LedgerError, match="It submits nothing more"):
        mine.check()


def test_a_fresh_lease_is_good_for_a_submit_and_not_written_again(lease, store):
    mine = lease()
    mine.take()

    mine.renew()
    mine.check()

    assert not mine.due
    assert len(store.written_at) == 1


def test_a_lease_that_is_due_is_written_again_and_is_fresh_then(lease, store, monkeypatch):
    mine = lease()
    mine.take()
    monkeypatch.setattr(module, "RENEWED", 0.02)
    time.sleep(0.03)
    before = mine.due
    monkeypatch.setattr(module, "RENEWED", 60.0)
    still = mine.due
    monkeypatch.setattr(module, "RENEWED", 0.02)

    mine.renew()

    monkeypatch.setattr(module, "RENEWED", 60.0)
    assert (before, still, mine.due) == (True, False, False)
    assert len(store.written_at) == 2
    assert store.document["open"] is True


def test_a_worker_that_was_held_up_submits_nothing_more_and_is_tried_again(lease, monkeypatch):
    mine = lease()
    mine.take()
    mine.check()
    monkeypatch.setattr(module, "HELD", 0.02)
    time.sleep(0.03)

    with pytest.raises(LedgerError, match="another one may have taken over") as caught:
        mine.check()

    assert caught.value.retryable


def test_a_slow_write_is_as_old_as_its_beginning(lease, store, monkeypatch):
    mine = lease()
    store.slow = 0.06
    monkeypatch.setattr(module, "HELD", 0.05)

    mine.take()

    with pytest.raises(LedgerError, match="could not say in time"):
        mine.check()


# What one wave leaves for the next


def test_the_next_wave_finds_what_the_last_one_left(lease):
    first = lease()
    first.take()

    first.release(LEFT)

    assert lease().left() == LEFT


def test_what_was_left_stays_there_while_the_next_wave_works(lease):
    lease().release(LEFT)

    second = lease()
    second.take()
    second.renew()

    assert second.left() == LEFT
    assert lease().left() == LEFT


def test_a_task_that_is_done_leaves_nothing(lease):
    lease().release(LEFT)

    lease().release()

    with pytest.raises(LedgerError, match="does not say what this task was at"):
        lease().left()


def test_a_wave_of_a_task_that_never_began_is_an_error(lease):
    with pytest.raises(LedgerError, match="does not say what this task was at"):
        lease().left()


def test_what_was_written_first_can_be_read_by_every_later_release(store):
    # Written by hand: version 1, as it lies in databases.
    left = {"plan": "0" * 64, "stored": "21", "failed": "4", "stopped": None, "began": 1775383908.5}
    store.set(
        KEY,
        {
            "version": 1,
            "max_tries": 2,
            "clears": 1,
            "open": False,
            "left": {**left, "invalid": 3, "credits": "14.1"},
        },
    )

    found = Lease(store, max_tries=2)

    assert found.clears == 1
    assert found.left() == LEFT.model_copy(update={"stopped": None})


def test_bits_are_hex_with_the_first_item_lowest():
    assert bits([]) == "0"
    assert bits([0]) == "1"
    assert bits([5, 0]) == "21"
    assert bits([8]) == "100"
    assert indexes("21") == {0, 5}


# Clears


def test_a_task_that_was_never_cleared_has_none(lease):
    first = lease()
    first.take()
    first.release()

    assert (first.clears, lease().clears) == (0, 0)


def test_each_clear_is_counted_once(lease):
    lease(max_tries=1).take()
    cleared = lease(max_tries=2)
    cleared.take(0.0)
    cleared.release()

    retried, again = lease(max_tries=2), lease(max_tries=4)

    assert (cleared.clears, retried.clears, again.clears) == (1, 1, 2)


def test_a_clear_that_a_worker_only_looked_at_is_still_one_clear(lease):
    lease(max_tries=1).take()

    assert [lease(max_tries=2).clears for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("max_tries", [3, 2, 0])
def test_in_doubt_it_was_a_retry(lease, max_tries):
    lease(max_tries=3).take()

    assert lease(max_tries=max_tries).clears == 0


def test_fewer_tries_are_no_clear_later_when_there_are_as_many_as_before(lease):
    lease(max_tries=3).take()
    lease(max_tries=1).take(0.0)

    assert lease(max_tries=3).clears == 0


def test_the_first_worker_to_come_was_not_cleared_whatever_its_tries(lease):
    assert lease(max_tries=17).clears == 0
