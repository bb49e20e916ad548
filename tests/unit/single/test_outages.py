"""Airflow's task state store, or the destination, is away at some moment: for a while, or for good."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import DestinationError, GptImageError, LedgerError, SubmissionUnknownError
from tests.unit.single.conftest import charges

TWO_MINUTES = 120
AFTER_THE_POST = pytest.mark.parametrize("write", [2, 3], ids=["POST answered", "image stored"])


@pytest.fixture(params=["with a destination", "without one"])
def either(request, make, deferrable, tmp_path):
    destination = tmp_path / "images" if request.param == "with a destination" else None
    return make(deferrable=deferrable, destination=destination)


def goes_away(task, clock, *, at_write, seconds=None):
    """Take the store away at the n-th write of a try; for so many seconds, or for good."""

    def befalls(number):
        if number != at_write:
            return
        task.store.unreachable = True
        task.store.befalls = lambda number: None
        if seconds is not None:
            clock.after(seconds, lambda: setattr(task.store, "unreachable", False))

    task.store.befalls = befalls


def logged(lines):
    return "\n".join(line["event"] % tuple(line.get("positional_args", ())) for line in lines)


# The store


def test_a_store_that_is_away_before_the_post_costs_nothing(either, api):
    either.store.unreachable = True

    with pytest.raises(LedgerError) as raised:
        either.run()
    assert raised.value.retryable
    assert charges(api) == []
    either.store.unreachable = False

    result = either.run()
    assert charges(api) == [result["generation_id"]]


def test_a_store_that_does_not_take_the_intent_costs_nothing_and_the_next_try_pays_once(either, api, clock):
    goes_away(either, clock, at_write=1, seconds=TWO_MINUTES)

    with pytest.raises(LedgerError):
        either.run()
    assert charges(api) == []
    clock.forward(TWO_MINUTES)

    result = either.run()
    assert charges(api) == [result["generation_id"]]
    assert result["spent"]["charged"] == "4.7"


def test_an_intent_that_was_written_though_nobody_heard_of_it_is_taken_back(either, api):
    either.store.at = "lost 1"
    with pytest.raises(LedgerError):
        either.run()
    assert charges(api) == []

    result = either.run()

    assert charges(api) == [result["generation_id"]]


@AFTER_THE_POST
def test_a_store_that_is_away_for_two_minutes_loses_nothing(either, api, clock, write):
    goes_away(either, clock, at_write=write, seconds=TWO_MINUTES)

    result = either.run()

    assert result["status"] == "completed"
    assert charges(api) == [result["generation_id"]]
    assert clock.ahead >= TWO_MINUTES
    assert either.run()["reused"]


@AFTER_THE_POST
def test_a_store_that_is_away_for_good_loses_nothing_with_a_destination(task, api, clock, write):
    goes_away(task, clock, at_write=write)
    with pytest.raises(LedgerError) as raised:
        task.run()
    assert raised.value.retryable
    assert len(charges(api)) == 1
    task.store.unreachable = False

    result = task.run()

    assert charges(api) == [result["generation_id"]]
    assert Path(result["images"][0]["path"]).exists()
    assert result["reused"]
    assert api.books()["requests"]["download"] == 1


def test_a_store_that_is_away_for_good_without_a_destination_leaves_the_id_in_the_log_and_is_never_paid_again(
    bare_task, api, clock
):
    goes_away(bare_task, clock, at_write=2)
    with structlog.testing.capture_logs() as lines, pytest.raises(LedgerError) as raised:
        bare_task.run()
    bare_task.store.unreachable = False

    with pytest.raises(SubmissionUnknownError, match="log of an earlier try"):
        bare_task.run()

    [paid] = charges(api)
    assert paid in logged(lines)
    assert paid in str(raised.value)


def test_a_store_that_is_away_while_the_task_goes_on_after_a_deferral_is_tried_again(make, api):
    task = make()
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()
    task.store.unreachable = True
    with pytest.raises(LedgerError) as raised:
        task.wake(deferred.value)
    task.store.unreachable = False

    result = task.run()

    assert raised.value.retryable
    assert charges(api) == [result["generation_id"]]


@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_short_outage_at_any_write_never_pays_twice_over_three_tries(either, api, clock, write):
    for _ in range(2):
        goes_away(either, clock, at_write=write, seconds=9)
        with suppress(LedgerError):
            either.run()
        clock.forward(9)
    result = either.run()

    assert charges(api) == [result["generation_id"]]


# The destination


@pytest.fixture
def blocked(tmp_path):
    """Make a folder one that takes nothing, to root as well: there is a file in its place."""
    folder = tmp_path / "images"

    def block():
        if folder.exists():
            folder.rename(tmp_path / "away")
        folder.write_text("no folder")

    def unblock():
        folder.unlink()
        if (tmp_path / "away").exists():
            (tmp_path / "away").rename(folder)

    block.end = unblock
    return block


def test_a_destination_that_takes_nothing_is_found_out_before_anything_is_paid(task, api, blocked):
    blocked()
    for _ in range(2):
        with pytest.raises(DestinationError, match="Make the destination writable, or give another one"):
            task.run()
    assert charges(api) == []
    blocked.end()

    result = task.run()

    assert charges(api) == [result["generation_id"]]


@pytest.mark.parametrize("write", [1, 2], ids=["POST answered", "image arrives"])
def test_a_destination_that_is_away_for_good_leaves_the_id_in_the_store(task, api, blocked, write):
    task.store.befalls = lambda number: blocked() if number == write else None
    with pytest.raises(DestinationError) as raised:
        task.run()
    task.store.befalls = lambda number: None
    blocked.end()

    result = task.run()

    assert raised.value.retryable
    assert (result["reused"], charges(api)) == (True, [result["generation_id"]])


@pytest.mark.parametrize("waits", [False, True], ids=["under way", "stored"])
@pytest.mark.parametrize(("cleared", "error"), [(False, DestinationError), (True, GptImageError)])
def test_a_destination_that_is_away_at_the_next_try_is_no_reason_to_pay(
    task, api, blocked, waits, cleared, error
):
    task.run(wait_for_completion=waits)
    if cleared:
        task.clear(airflow="3.4")
    blocked()
    with pytest.raises(error):
        task.run()
    blocked.end()

    result = task.run()

    assert (result["reused"], charges(api)) == (True, [result["generation_id"]])


def test_what_a_lost_write_left_behind_is_readable_json(task, tmp_path):
    task.store.at = "lost 2"
    task.run()

    files = list((tmp_path / "images").rglob("*.json"))
    assert all(json.loads(path.read_text())["version"] == 1 for path in files)
