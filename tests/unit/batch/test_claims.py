"""Two tasks never work at one destination, and none is kept out for ever."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product

import pytest

from airflow_gpt_image.batch.claims import Claim, Owner
from airflow_gpt_image.errors import DestinationError, DestinationTakenError
from airflow_gpt_image.storage.folders import open_folder
from tests.log_lines import Lines

ME = Owner(dag_id="posters", run_id="manual__2026-04-05", task_id="make", map_index=-1)
YOU = Owner(dag_id="posters", run_id="manual__2026-04-06", task_id="make", map_index=3)


def soon(seconds=600.0):
    return time.time() + seconds


@pytest.fixture
def claim(folder, log):
    """A claim as each try makes its own."""
    return lambda owner=ME: Claim(folder, owner, log)


@pytest.fixture
def claim_on_disk(on_disk, log):
    return lambda owner=ME: Claim(on_disk, owner, log)


def test_a_free_destination_is_taken_and_the_claim_says_whose_it_is(claim, place):
    until = soon()

    claim().hold(until)

    [name] = place.names()
    written = json.loads(place.read(name))
    assert name.startswith("claims/")
    assert written["owner"] == ME.model_dump()
    assert written["until"] == until


def test_a_second_task_is_refused_with_who_until_when_and_what_can_be_done(claim, place):
    until = datetime(2199, 4, 5, 10, 11, 48, tzinfo=UTC)
    claim().hold(until.timestamp())

    with pytest.raises(DestinationTakenError) as caught:
        claim(YOU).hold(soon())

    message = caught.value.message
    assert caught.value.retryable
    assert "'posters', run 'manual__2026-04-05', task 'make'" in message
    assert "2199-04-05T10:11:48+00:00" in message
    assert "a destination of its own" in message
    assert f"remove {place.destination}/{place.names()[0]}" in message


def test_one_that_was_refused_leaves_no_claim_and_harms_none(claim, place):
    mine = claim()
    mine.hold(soon())
    before = place.names()

    with pytest.raises(DestinationTakenError):
        claim(YOU).hold(soon())

    assert place.names() == before
    mine.hold(soon())


def test_a_mapped_task_is_told_by_its_index(claim_on_disk):
    claim_on_disk(YOU).hold(soon())

    with pytest.raises(DestinationTakenError, match=r"task 'make'\[3\]"):
        claim_on_disk().hold(soon())


@pytest.mark.parametrize(
    "change",
    [{"dag_id": "cards"}, {"run_id": "manual__2026-04-06"}, {"task_id": "made"}, {"map_index": 0}],
    ids=str,
)
def test_every_other_task_instance_is_another_owner(claim_on_disk, change):
    claim_on_disk().hold(soon())

    with pytest.raises(DestinationTakenError):
        claim_on_disk(ME.model_copy(update=change)).hold(soon())


def test_parts_of_an_owner_do_not_run_into_each_other():
    one = Owner(dag_id="a", run_id="b/c", task_id="d", map_index=1)
    two = Owner(dag_id="a/b", run_id="c", task_id="d", map_index=1)

    assert one.digest != two.digest


def test_the_next_try_of_a_killed_worker_takes_its_own_claim_again(claim, place):
    claim().hold(soon())

    claim().hold(until := soon(1_200))

    [name] = place.names()
    assert json.loads(place.read(name))["until"] == until


def test_a_released_destination_is_free(claim, place):
    mine = claim()
    mine.hold(soon())

    mine.release()
    mine.release()

    assert place.names() == []
    claim(YOU).hold(soon())


def test_a_claim_that_ended_is_removed_and_the_log_says_whose_it_was(claim, place, log):
    claim(YOU).hold(soon(-61))

    claim().hold(soon())

    assert len(place.names()) == 1
    [line] = log.warnings
    assert "'manual__2026-04-06'" in line
    assert "has ended" in line


def test_a_claim_that_ended_a_moment_ago_stands_for_clocks_differ(claim_on_disk):
    claim_on_disk(YOU).hold(soon(-55))

    with pytest.raises(DestinationTakenError):
        claim_on_disk().hold(soon())


# What nobody can read


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 9_000,
        b"x" * 1_000_000,
    ],
    ids=["empty", "cut", "null", "object", "no UTF-8", "deep", "large"],
)
def test_a_claim_that_cannot_be_read_counts_as_one(claim, place, junk):
    place.write("claims/somebody.json", junk)

    with pytest.raises(DestinationTakenError, match="Remove it if none is") as caught:
        claim().hold(soon())

    assert f"{place.destination}/claims/somebody.json" in caught.value.message
    assert place.names() == ["claims/somebody.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"until": float("nan")},
        {"until": float("inf")},
        {"until": 1e300},
        {"until": -1e300},
        {"until": None},
        {"owner": "me"},
        {"owner": {**ME.model_dump(), "map_index": 0.5}},
        {"mark": 5},
        {"and": "more"},
    ],
    ids=str,
)
def test_a_claim_that_says_what_none_can_counts_as_one(claim_on_disk, disk, changes):
    written = {"owner": YOU.model_dump(), "until": 0, "mark": "m"} | changes
    disk.write("claims/somebody.json", json.dumps(written).encode())

    with pytest.raises(DestinationTakenError, match="is no claim of this release"):
        claim_on_disk().hold(soon())


def test_a_claim_without_an_end_in_sight_can_be_read_by_the_others(claim_on_disk):
    claim_on_disk(YOU).hold(soon(1e15))

    with pytest.raises(DestinationTakenError, match="claimed until 9987-"):
        claim_on_disk().hold(soon())


# A destination that doesn't do as it is told


def test_a_destination_that_does_not_answer_is_not_taken_for_free(tmp_path, log):
    (tmp_path / "images").write_text("a file where the folder should be")

    with pytest.raises(DestinationError, match="could not be read or written"):
        Claim(open_folder(tmp_path / "images"), ME, log).hold(soon())


class Stale:
    """A store whose listings show what was there a while ago."""

    def __init__(self, folder):
        self._folder = folder

    def __getattr__(self, name):
        return getattr(self._folder, name)

    def sizes(self, folder):
        return {}


def test_a_store_that_does_not_show_what_was_just_written_is_refused(on_disk, log):
    with pytest.raises(DestinationTakenError, match="shows old listings"):
        Claim(Stale(on_disk), ME, log).hold(soon())


class Overtaken:
    """Another try of the same task writes the same claim right after this one."""

    def __init__(self, folder):
        self._folder = folder

    def __getattr__(self, name):
        return getattr(self._folder, name)

    def write(self, name, data):
        self._folder.write(name, data)
        Claim(self._folder, ME, Lines()).hold(soon())


def test_a_try_whose_claim_another_try_overwrites_gives_way_and_leaves_it_there(on_disk, disk, log):
    with pytest.raises(DestinationTakenError, match="another try"):
        Claim(Overtaken(on_disk), ME, log).hold(soon())

    assert len(disk.names()) == 1


# The one at work


def test_one_that_only_tries_does_not_drive_away_the_one_at_work(claim, place):
    mine = claim()
    mine.hold(soon())
    # Somebody has written his claim, hasn't looked around yet, or was killed before he could.
    other = {"owner": YOU.model_dump(), "until": soon(), "mark": "m"}
    place.write("claims/somebody.json", json.dumps(other).encode())

    mine.hold(soon())

    with pytest.raises(DestinationTakenError):
        claim(YOU).hold(soon())


def test_one_whose_claim_was_removed_meanwhile_gives_way_to_who_came(claim, place):
    mine = claim()
    mine.hold(soon())
    place.delete(place.names()[0])
    claim(YOU).hold(soon())

    with pytest.raises(DestinationTakenError, match="manual__2026-04-06"):
        mine.hold(soon())


def test_one_who_slept_past_the_end_of_his_claim_gives_way_to_who_came(claim_on_disk, disk):
    mine = claim_on_disk()
    mine.hold(soon(-1))
    other = {"owner": YOU.model_dump(), "until": soon(), "mark": "m"}
    disk.write("claims/somebody.json", json.dumps(other).encode())

    with pytest.raises(DestinationTakenError):
        mine.hold(soon())


# At the same time


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


def both(claims, turns):
    """Two hold at the same time; who of them holds then."""

    def hold(who):
        try:
            claims[who].hold(soon())
        except DestinationTakenError:
            return False
        finally:
            turns.leave(who)
        return True

    with ThreadPoolExecutor(2) as pair:
        return list(pair.map(hold, (0, 1)))


ORDERS = list(product((0, 1), repeat=7))


@pytest.mark.parametrize("ended", [False, True], ids=["free", "an ended claim there"])
def test_in_whatever_order_two_take_their_steps_never_both_hold_it(tmp_path, log, ended):
    third = Owner(dag_id="d", run_id="r", task_id="t", map_index=0)
    outcomes = set()
    for number, order in enumerate(ORDERS):
        # The orders in which the other begins are the same with the names exchanged.
        folder, turns = open_folder(tmp_path / str(number)), Turns((0, *order))
        if ended:
            Claim(folder, third, log).hold(soon(-100))

        claims = [Claim(InTurns(folder, turns, who), owner, log) for who, owner in enumerate((ME, YOU))]
        outcomes.add(tuple(both(claims, turns)))

    assert (True, True) not in outcomes
    assert {(True, False), (False, True)} <= outcomes


def test_in_whatever_order_the_one_at_work_keeps_it_and_who_comes_is_refused(tmp_path, log):
    for number, order in enumerate(ORDERS):
        folder, turns = open_folder(tmp_path / str(number)), Turns()
        mine = Claim(InTurns(folder, turns, 0), ME, log)
        mine.hold(soon())
        turns.order = list(order)

        holds = both([mine, Claim(InTurns(folder, turns, 1), YOU, log)], turns)

        assert holds == [True, False]


def test_of_two_that_start_at_the_same_time_again_and_again_never_both_hold_it(claim, place):
    rounds = 100 if place.destination.startswith("/") else 25
    start = threading.Barrier(2)

    def run(owner):
        held = []
        for _ in range(rounds):
            mine = claim(owner)
            start.wait()
            try:
                mine.hold(soon())
            except DestinationTakenError:
                held.append(False)
            else:
                held.append(True)
            start.wait()
            if held[-1]:
                mine.release()
        return held

    with ThreadPoolExecutor(2) as pair:
        one, two = pair.map(run, (ME, YOU))

    assert not any(first and second for first, second in zip(one, two, strict=True))
    assert place.names() == []
