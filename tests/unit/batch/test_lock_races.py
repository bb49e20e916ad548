"""In whatever order two tasks take their steps at one destination, never both hold its lock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from airflow_gpt_image.errors import DestinationTakenError
from airflow_gpt_image.ledger.payer import TaskInstance
from airflow_gpt_image.storage.folders import open_folder
from tests.unit.batch.conftest import ME_AS_OWNER as ME
from tests.unit.batch.conftest import YOU, ends_in


class Turns:
    """Lets threads take their steps in a given order: all orders of two can be tried."""

    def __init__(self, order=()):
        self.order = list(order)
        self._at_work = {0, 1}
        self._changed = threading.Condition()

    def step(self, who, act):
        with self._changed:
            self._changed.wait_for(lambda: self._next() == who)
            try:
                return act()
            finally:
                del self.order[:1]
                self._changed.notify_all()

    def leave(self, who):
        with self._changed:
            self._at_work.discard(who)
            self._changed.notify_all()

    def _next(self):
        while self.order and self.order[0] not in self._at_work:
            del self.order[0]
        return self.order[0] if self.order else min(self._at_work)


class InTurns:
    """A folder whose every act waits for its turn."""

    def __init__(self, folder, turns, who):
        self._folder, self._turns, self._who = folder, turns, who

    def __getattr__(self, name):
        act = getattr(self._folder, name)
        if name == "address":
            return act
        return lambda *args: self._turns.step(self._who, lambda: act(*args))


def both(locks, turns):
    """Two hold at the same time; who of them holds then."""

    def hold(who):
        try:
            locks[who].acquire()
        except DestinationTakenError:
            return False
        finally:
            turns.leave(who)
        return True

    with ThreadPoolExecutor(2) as pair:
        return list(pair.map(hold, (0, 1)))


ORDERS = list(product((0, 1), repeat=8))


@pytest.mark.parametrize("ended", [False, True], ids=["free", "an ended lock there"])
def test_in_whatever_order_two_take_their_steps_never_both_hold_it(tmp_path, lock, ended):
    third = TaskInstance(dag_id="d", run_id="r", task_id="t", map_index=0)
    outcomes = set()
    for number, order in enumerate(ORDERS):
        # The orders in which the other begins are the same with the names exchanged.
        folder, turns = open_folder(tmp_path / str(number)), Turns((0, *order))
        if ended:
            lock(third, folder=folder).acquire(**ends_in(-100))

        locks = [lock(owner, folder=InTurns(folder, turns, who)) for who, owner in enumerate((ME, YOU))]
        outcomes.add(tuple(both(locks, turns)))

    assert (True, True) not in outcomes
    assert {(True, False), (False, True)} <= outcomes


def test_in_whatever_order_the_one_at_work_keeps_it_and_who_comes_is_refused(tmp_path, lock):
    for number, order in enumerate(ORDERS):
        folder, turns = open_folder(tmp_path / str(number)), Turns()
        mine = lock(folder=InTurns(folder, turns, 0))
        mine.acquire()
        turns.order = list(order)

        holds = both([mine, lock(YOU, folder=InTurns(folder, turns, 1))], turns)

        assert holds == [True, False]


def test_of_two_that_start_at_the_same_time_again_and_again_never_both_hold_it(lock, place, folder):
    rounds = 100 if place.destination.startswith("/") else 25
    together = threading.Barrier(2)

    def run(owner):
        held = []
        for _ in range(rounds):
            mine = lock(owner, folder=folder)  # a fixture isn't asked for by two threads at once
            together.wait()
            try:
                mine.acquire()
            except DestinationTakenError:
                held.append(False)
            else:
                held.append(True)
            together.wait()
            if held[-1]:
                mine.release()
        return held

    def run_or_end_both(owner):
        try:
            return run(owner)
        except BaseException:
            together.abort()  # else the other one waits for ever, and nobody learns why
            raise

    with ThreadPoolExecutor(2) as pair:
        runs = [pair.submit(run_or_end_both, owner) for owner in (ME, YOU)]
    errors = [error for ended in runs if (error := ended.exception()) is not None]
    assert [error for error in errors if not isinstance(error, threading.BrokenBarrierError)] == []

    one, two = (ended.result() for ended in runs)
    assert not any(first and second for first, second in zip(one, two, strict=True))
    assert place.names() == []
