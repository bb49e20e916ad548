"""Two tasks never work at one destination, and none is kept out for ever."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from airflow_gpt_image.batch.lock import ended_in_airflow
from airflow_gpt_image.errors import DestinationError, DestinationTakenError
from airflow_gpt_image.ledger.payer import TaskInstance
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import MeddledFolder
from tests.unit.batch.conftest import ME_AS_OWNER as ME
from tests.unit.batch.conftest import YOU, ends_in


def theirs(**changes):
    """A lock as another worker writes it."""
    fields = {"version": 1, "owner": YOU.model_dump(), "ti_id": "t9", "at_work": True, "mark": "m"}
    return json.dumps(fields | {"until": time.time() + 600} | changes).encode()


def test_a_free_destination_is_taken_and_the_lock_says_whose_it_is(lock, place):
    lock().acquire(until=time.time() + 3600)

    [name] = place.names()
    written = json.loads(place.read(name))
    assert name.startswith("locks/")
    assert written["owner"] == ME.model_dump()
    assert written["until"] == pytest.approx(time.time() + 3600 + 600, abs=60)
    assert (written["version"], written["ti_id"], written["at_work"]) == (1, "t1", False)


def test_a_second_task_is_refused_with_who_until_when_and_what_can_be_done(lock, place):
    until = datetime(2199, 4, 5, 10, 11, 48, tzinfo=UTC)
    lock(YOU).acquire(until=until.timestamp() - 600)

    with pytest.raises(DestinationTakenError) as caught:
        lock().acquire()

    message = caught.value.message
    assert caught.value.retryable
    assert "'posters', run 'manual__2026-04-06', task 'make'[3]" in message
    assert "2199-04-05T10:11:48+00:00" in message
    assert "its own destination" in message
    assert f"remove {place.destination}/{place.names()[0]}" in message


def test_one_that_was_refused_leaves_no_lock_and_harms_none(lock, place):
    mine = lock()
    mine.acquire()
    before = place.names()

    with pytest.raises(DestinationTakenError):
        lock(YOU).acquire()

    assert place.names() == before
    mine.acquire()


@pytest.mark.parametrize(
    "change",
    [{"dag_id": "cards"}, {"run_id": "manual__2026-04-06"}, {"task_id": "made"}, {"map_index": 0}],
    ids=str,
)
def test_every_other_task_instance_is_another_owner(lock_on_disk, change):
    lock_on_disk().acquire()

    with pytest.raises(DestinationTakenError):
        lock_on_disk(ME.model_copy(update=change)).acquire()


def test_parts_of_an_owner_do_not_run_into_each_other():
    one = TaskInstance(dag_id="a", run_id="b/c", task_id="d", map_index=1)
    two = TaskInstance(dag_id="a/b", run_id="c", task_id="d", map_index=1)

    assert one.instance_digest != two.instance_digest


def test_the_next_try_of_a_killed_worker_takes_its_own_lock_again(lock, place):
    lock().acquire()

    may_be_at_work = lock(ti_id="t2").acquire()

    [name] = place.names()
    assert (may_be_at_work, json.loads(place.read(name))["ti_id"]) == (True, "t2")


def test_a_deferred_try_is_not_at_work_any_more_and_its_own_resume_is_no_other_try(lock_on_disk):
    lock_on_disk().acquire(until=time.time() + 60)

    assert lock_on_disk(ti_id="t2").acquire() is False
    assert lock_on_disk(ti_id="t2").acquire() is False


def test_a_try_that_finds_its_lock_taken_over_by_the_next_one_stops_and_leaves_it_there(lock_on_disk, disk):
    stale = lock_on_disk()
    stale.acquire()
    lock_on_disk(ti_id="t2").acquire()

    with pytest.raises(DestinationTakenError, match="another try of this task"):
        stale.acquire()
    stale.release()

    [name] = disk.names()
    assert json.loads(disk.read(name))["ti_id"] == "t2"


# Whether the owner is at work, Airflow knows


class Airflow:
    """A task instance that asks for others' states."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def get_task_states(self, dag_id, **asked):
        self.asked.append((dag_id, asked))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "states",
    [
        {"make_3": "success"},
        {"make_3": "failed"},
        {"make_3": "skipped"},
        {"make_3": "upstream_failed"},
        {"make_3": "removed"},
        {},
        None,
    ],
    ids=str,
)
def test_the_lock_of_a_task_that_has_ended_or_that_airflow_does_not_know_is_free_at_once(
    lock_on_disk, disk, log, states
):
    airflow = Airflow({} if states is None else {YOU.run_id: states})
    lock_on_disk(YOU).acquire(until=time.time() + 100_000)

    lock_on_disk(has_ended=ended_in_airflow(airflow)).acquire()

    asked = {"map_index": 3, "task_ids": ["make"], "run_ids": [YOU.run_id]}
    assert airflow.asked == [("posters", asked)]
    assert len(disk.names()) == 1
    assert "has ended" in log.warnings[0]


@pytest.mark.parametrize("at_work", [True, False], ids=["at work", "deferred"])
def test_a_task_that_was_ended_while_it_ran_may_be_at_work_for_some_seconds(lock_on_disk, at_work):
    airflow = Airflow({YOU.run_id: {"make_3": "failed"}})
    lock_on_disk(YOU).acquire(until=None if at_work else time.time() + 100_000)

    waits = lock_on_disk(has_ended=ended_in_airflow(airflow)).acquire()

    assert waits is at_work


@pytest.mark.parametrize(
    "answer",
    [
        *(
            {YOU.run_id: {"make_3": state}}
            for state in (
                *("running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"),
                *("restarting", "awaiting_input", None, "a state of a later release"),
            )
        ),
        ConnectionError("the API server does not answer"),
        None,
    ],
    ids=str,
)
def test_the_lock_of_a_task_that_is_at_work_or_that_airflow_says_nothing_of_stands(lock_on_disk, answer):
    lock_on_disk(YOU).acquire()

    with pytest.raises(DestinationTakenError):
        lock_on_disk(has_ended=ended_in_airflow(Airflow(answer))).acquire()


def test_a_released_destination_is_free(lock, place):
    mine = lock()
    mine.acquire()

    mine.release()
    mine.release()

    assert place.names() == []
    lock(YOU).acquire()


def test_a_lock_that_ended_is_removed_and_the_log_says_whose_it_was(lock, place, log):
    lock(YOU).acquire(**ends_in(-61))

    lock().acquire()

    assert len(place.names()) == 1
    [line] = log.warnings
    assert "'manual__2026-04-06'" in line
    assert "has ended" in line


def test_a_lock_that_ended_a_moment_ago_stands_for_clocks_differ(lock_on_disk):
    lock_on_disk(YOU).acquire(**ends_in(-5))

    with pytest.raises(DestinationTakenError):
        lock_on_disk().acquire()


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
        theirs(until=float("nan")),
        theirs(until=float("inf")),
        theirs(until=1e300),
        theirs(until=-1e300),
        theirs(until=None),
        theirs(until=0, owner="me"),
        theirs(until=0, owner={**ME.model_dump(), "map_index": 0.5}),
        theirs(until=0, mark=5),
        theirs(until=0, **{"and": "more"}),
    ],
    ids=lambda junk: repr(junk[-40:]),
)
def test_a_lock_that_cannot_be_read_or_says_what_none_can_counts_as_one(lock, place, junk):
    place.write("locks/somebody.json", junk)

    with pytest.raises(DestinationTakenError, match=r"is no lock of this release[^$]*Remove it") as caught:
        lock().acquire()

    assert f"{place.destination}/locks/somebody.json" in caught.value.message
    assert place.names() == ["locks/somebody.json"]


def test_a_lock_without_an_end_in_sight_can_be_read_by_the_others(lock_on_disk):
    lock_on_disk(YOU).acquire(**ends_in(1e15))

    with pytest.raises(DestinationTakenError, match="until 9987-"):
        lock_on_disk().acquire()


# A destination that doesn't do as it is told


def test_a_destination_that_does_not_answer_is_not_taken_for_free(tmp_path, lock):
    (tmp_path / "images").write_text("a file where the folder should be")

    with pytest.raises(DestinationError, match="could not be read or written"):
        lock(folder=open_folder(tmp_path / "images")).acquire()


def test_a_store_that_does_not_show_what_was_just_written_is_refused(on_disk, lock):
    stale = MeddledFolder(on_disk, lambda act, *given: {} if act == "sizes" else None)

    with pytest.raises(DestinationTakenError, match="shows old listings"):
        lock(folder=stale).acquire()


def test_a_try_whose_lock_another_try_overwrites_gives_way_and_leaves_it_there(on_disk, disk, lock):
    def overtakes(act, *given):
        if act == "sizes":  # right after this one has written its lock
            lock(folder=on_disk).acquire()

    with pytest.raises(DestinationTakenError, match="another try"):
        lock(folder=MeddledFolder(on_disk, overtakes)).acquire()

    assert len(disk.names()) == 1


# The one at work


def test_one_that_only_tries_does_not_drive_away_the_one_at_work(lock, place):
    mine = lock()
    mine.acquire()
    # Somebody has written his lock, hasn't looked around yet, or was killed before he could.
    place.write("locks/somebody.json", theirs())

    mine.acquire()

    with pytest.raises(DestinationTakenError):
        lock(YOU).acquire()


def test_one_whose_lock_was_removed_meanwhile_gives_way_to_who_came(lock, place):
    mine = lock()
    mine.acquire()
    place.delete(place.names()[0])
    lock(YOU).acquire()

    with pytest.raises(DestinationTakenError, match="manual__2026-04-06"):
        mine.acquire()


def test_only_who_holds_a_lock_that_has_not_ended_may_submit(lock_on_disk):
    mine = lock_on_disk()
    with pytest.raises(DestinationTakenError):
        mine.check()
    mine.acquire()

    mine.check()

    mine.acquire(**ends_in(-1))
    with pytest.raises(DestinationTakenError, match="has ended meanwhile"):
        mine.check()


def test_one_who_slept_past_the_end_of_his_lock_gives_way_to_who_came(lock_on_disk, disk):
    mine = lock_on_disk()
    mine.acquire(**ends_in(-1))
    disk.write("locks/somebody.json", theirs())

    with pytest.raises(DestinationTakenError):
        mine.acquire()
