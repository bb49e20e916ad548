"""Workers that are declared dead and aren't, and what the next try does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from airflow_gpt_image.errors import LedgerError, ReplacedError, SubmissionUnknownError
from tests.task_instance import DiedError
from tests.unit.single.conftest import charges


def replaced_while_posting(task, airflow):
    """Clear a task while its POST is under way: another worker begins before its answer comes."""

    def befalls(number):
        if number == 2:  # the id goes to the store, after the destination has it
            task.store.befalls = lambda number: None
            task.clear(airflow=airflow)
            task.store.accessor()

    task.store.befalls = befalls


def test_a_stale_worker_that_thaws_before_its_post_sends_nothing(task, api, clock):
    def befalls(number):
        if number == 1:  # it freezes while it writes its intent
            clock.forward(400)
        else:  # and by now another worker is at work
            task.store.befalls = lambda number: None
            task.store.accessor()

    task.store.befalls = befalls
    with pytest.raises(ReplacedError):
        task.run()
    assert api.books()["requests"]["submit"] == 0

    result = task.run()

    assert charges(api) == [result["generation_id"]]
    assert result["spent"]["charged"] == "4.7"


def test_a_worker_that_was_only_slow_sends_its_post(task, api, clock):
    task.store.befalls = lambda number: clock.forward(400) if number == 1 else None

    result = task.run()

    assert charges(api) == [result["generation_id"]]
    assert task.store.writes >= 3


def test_a_replaced_worker_reads_nothing_and_pays_nothing(task, api):
    task.run()
    task.store.accessor()

    with pytest.raises(LedgerError):
        task.operator(prompt="another one").execute(task.context)

    assert api.books()["requests"]["submit"] == 1


def test_a_task_cleared_within_its_posts_seconds_gets_the_image_from_the_destination(task, api, clock):
    for airflow in ("3.3", "3.4"):
        prompt = f"a teapot for {airflow}"
        replaced_while_posting(task, airflow)
        with pytest.raises(ReplacedError):
            task.run(prompt=prompt)

        result = task.run(prompt=prompt)

        assert charges(api)[-1] == result["generation_id"]
    assert len(charges(api)) == 2


def test_an_intent_of_a_worker_still_at_work_is_waited_for_until_it_has_its_id(task, api, clock):
    # What two workers put on record; the first one's answer is made to come while the second one looks.
    paid = task.run(wait_for_completion=False)
    answered = next(path for path in records(task) if paid["generation_id"] in path.name)
    outcome = answered.read_text()
    answered.unlink()
    task.store.empty()
    clock.after(5, lambda: answered.write_text(outcome))

    with structlog.testing.capture_logs() as lines:
        result = task.run()

    assert result["generation_id"] == paid["generation_id"]
    assert len(charges(api)) == 1
    assert any("may still be at its submit" in line["event"] for line in lines)


def records(task):
    """The files of records at a task's destination."""
    return sorted(Path(task.operator().destination, "records").rglob("*~*.json"))


def test_an_intent_that_is_older_than_any_submit_is_unknown_at_once(task, api, clock):
    task.store.at = "die after 1"
    with pytest.raises(DiedError):
        task.run()
    clock.forward(3600)
    ahead = clock.ahead

    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert clock.ahead == ahead


def test_a_young_intent_is_not_submitted_again_before_its_answer_is_certainly_lost(task, api, clock):
    task.store.at = "die after 1"
    with pytest.raises(DiedError):
        task.run()

    task.run(on_unknown_submit="resubmit")

    assert clock.ahead > 100  # connect, send, answer, read: 60 s to read by default
    assert len(charges(api)) == 1


def test_without_a_destination_a_clear_within_the_posts_seconds_says_where_the_id_is(bare_task, api):
    replaced_while_posting(bare_task, "3.3")
    with structlog.testing.capture_logs() as lines, pytest.raises(ReplacedError):
        bare_task.run()

    with pytest.raises(SubmissionUnknownError) as raised:
        bare_task.run()

    [paid] = charges(api)
    assert paid in repr(lines)
    assert "log of an earlier try" in str(raised.value)
    assert "GptImageSensor(generation_id=…, destination=…)" in str(raised.value)


def test_a_late_write_of_an_earlier_worker_does_not_take_back_what_a_later_one_stored(task, api, tmp_path):
    task.store.at = "die after 1"
    with pytest.raises(DiedError):
        task.run()
    [old] = records(task)
    intent = old.read_text()
    stored = task.run(on_unknown_submit="resubmit")

    old.write_text(intent)
    again = task.run()

    assert again["images"] == stored["images"]
    assert again["reused"]
    assert len(charges(api)) == 1
