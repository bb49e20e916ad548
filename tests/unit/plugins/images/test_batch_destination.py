"""A batch at work, where others write to its destination, too: what isn't a record tells nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import DestinationError
from tests.airflow_database import NOW
from tests.batches import BatchTask, MeddledFolder

PLACE = "task/shop/manual__2026-01-01T00:00:00+00:00/posters/-1"


@pytest.fixture
def waiting(api, airflow, tmp_path):
    """A batch of three that waits in the triggerer: its destination."""
    api.settings(duration=900)
    task = BatchTask(tmp_path / "posters", deferrable=True)
    airflow.run("shop", task.run_id)
    with pytest.raises(TaskDeferred):
        task.begin()
    airflow.keep(task, operator="GptImageBatchOperator", state="deferred", ended=None)
    return task.folder


def records(folder):
    return sorted((folder / "records").rglob("*~*~*.json"))


@pytest.mark.parametrize(
    "text", ["", "<script>", "[" * 100_000, '{"state": "stored"}', "x" * 2_000_000], ids=len
)
def test_a_record_that_is_none_tells_what_its_name_tells(text, waiting, show):
    records(waiting)[0].write_text(text)

    document = show(PLACE)

    assert document["counts"]["in_flight"] == 3
    assert json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a": 1}', "x" * 2_000_000], ids=len)
def test_a_sidecar_that_is_none_shows_no_image(text, waiting, show):
    name = json.loads(records(waiting)[0].read_text())["name"]
    (waiting / "items").mkdir(exist_ok=True)
    (waiting / f"{name}.json").write_text(text)

    document = show(PLACE)

    [done] = [tile for tile in document["tiles"] if tile["status"] == "done"]
    assert done["image"] is None


def test_a_sidecar_that_names_files_elsewhere_shows_no_image(waiting, show, tmp_path):
    record = json.loads(records(waiting)[0].read_text())
    image = {"url": "u", "name": "plan.jsonl", "width": 1, "height": 1, "bytes": 1}
    (waiting / "items").mkdir(exist_ok=True)
    (waiting / f"{record['name']}.json").write_text(
        json.dumps(record | {"state": "stored", "images": [image]})
    )

    [done] = [tile for tile in show(PLACE)["tiles"] if tile["status"] == "done"]

    assert done["image"] is None


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[" * 100_000, '{"version": 1, "scope": "any", "variants": 1}\n'], ids=len
)
def test_a_plan_that_is_none_is_a_problem_and_no_crash(text, waiting, show):
    (waiting / "plan.jsonl").write_text(text)

    assert show(PLACE)["kind"] in ("problem", "empty")


def test_another_batchs_plan_is_not_taken_for_this_ones(waiting, show):
    lines = (waiting / "plan.jsonl").read_text().splitlines()
    (waiting / "plan.jsonl").write_text("\n".join([*lines[:1], *reversed(lines[1:])]) + "\n")

    assert show(PLACE)["kind"] == "empty"


def test_names_that_are_no_records_are_left_out(waiting, show):
    (records(waiting)[0].parent / "..json").write_text("{}")
    (records(waiting)[0].parent / "attempt-<script>.json").write_text("{}")

    assert show(PLACE)["counts"]["in_flight"] == 3


def test_an_image_that_failed_and_was_sent_again_without_an_answer_is_at_stake(waiting, show):
    # Both have one file of the intent, and the id's file is the first one's.
    accepted = records(waiting)[0]
    intent = accepted.with_name(f"{accepted.stem.rpartition('~')[0]}.json")
    first, again = json.loads(accepted.read_text()), json.loads(intent.read_text())
    failure = {"error": "UpstreamError", "message": "Generation failed."}
    accepted.write_text(json.dumps(first | {"state": "failed", "refunds": 1, "failure": failure}))
    long_ago = {"intended_at": "2026-01-01T00:00:00Z", "answer_by": "2026-01-01T00:02:00Z"}
    intent.write_text(json.dumps(again | long_ago | {"retries": 1, "charges": 2, "refunds": 1}))

    document = show(PLACE)

    assert (document["counts"]["unknown"], document["counts"]["in_flight"]) == (1, 2)
    assert {"label": "At stake", "value": "$0.0235", "note": None} in document["figures"]


class SlowDestination:
    """
    The destination of a batch, whose listings wait until they are let; then they may be refused.

    :ivar shared: what pages have of it.
    """

    def __init__(self, folder, roots):
        from airflow_gpt_image.ledger.payer import Payer
        from airflow_gpt_image.plugins.images.documents.batch_looks import look_at
        from airflow_gpt_image.plugins.images.documents.batch_opening import open_destination

        document = json.loads(records(folder)[0].read_text())
        self.payer = Payer(**document["payer"])
        self.let, self.error, self._look_at = threading.Event(), None, look_at
        scope = records(folder)[0].parent.name
        given = (str(folder), self.payer, scope, None, SimpleNamespace(roots=roots))
        self.shared = open_destination(*given)
        self.there = replace(self.shared, folder=MeddledFolder(self.shared.folder, self._meddle))

    def _meddle(self, act, *args):
        assert self.let.wait(60)
        if self.error is not None:
            raise self.error

    def look(self, within=None):
        return self._look_at(self.there, self.payer, NOW, within=within)


@pytest.fixture
def slow(waiting, tmp_path):
    from airflow_gpt_image.plugins.images.roots import Roots

    made = SlowDestination(waiting, Roots([str(tmp_path)]))
    yield made
    made.let.set()


def test_a_page_waits_for_the_first_look_as_long_as_it_may(slow):
    from airflow_gpt_image.plugins.images.documents.batch_looks import StillReadingError

    with pytest.raises(StillReadingError):
        slow.look(within=0.01)
    slow.let.set()

    assert slow.look().statuses == ["in_flight"] * 3


def test_a_page_shows_the_look_before_until_the_next_one_has_ended(slow):
    slow.let.set()
    first = slow.look()
    slow.let.clear()
    slow.there.look = old = replace(first, at=first.at - 3_600)

    assert slow.look(within=0.01) is old
    slow.let.set()
    assert slow.look().at > first.at


def test_a_look_that_failed_is_told_and_the_next_one_made_anew(slow):
    slow.let.set()
    slow.error = DestinationError("The store is away.")
    with pytest.raises(DestinationError):
        slow.look()
    slow.error = None

    assert slow.look().statuses == ["in_flight"] * 3


def test_a_page_says_that_a_destination_is_being_read_and_goes_on_asking(slow, show):
    slow.shared.looking = True  # somebody else does, and isn't ready

    document = show(PLACE, patience=0.0)
    run = show("run/shop/manual__2026-01-01T00:00:00+00:00", patience=0.0)
    slow.shared.looking = False

    assert (document["kind"], document["live"]) == ("empty", True)
    assert "is being read" in document["why"]
    assert (run["kind"], run["live"]) == ("run", True)
    assert show(PLACE)["counts"]["in_flight"] == 3
