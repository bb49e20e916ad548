"""What a task may spend, and what is told of it: in its result, its log and XCom."""

from __future__ import annotations

from contextlib import suppress

import pytest
import structlog

from airflow_gpt_image.errors import GenerationTimeoutError, GptImageError, InvalidRequestError
from tests.unit.single.conftest import recorded

# Guards


def test_max_credits_means_the_amount_as_it_is_written(task, api):
    # As a binary fraction 4.7 is a little less than 4.7.
    assert task.run(max_credits=4.7)["status"] == "completed"


def test_the_balance_is_not_asked_for_unless_it_shall_be(task, api):
    task.run()

    assert api.books()["requests"]["credits"] == 0


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"prompt": "{{ x }}", "aspect_ratio": "{{ x }}"}, "aspect ratio"),
        ({"destination": "{{ x }}"}, "folder"),
    ],
    ids=["request", "destination"],
)
def test_what_was_rendered_wrong_is_refused_before_anything_is_sent(task, api, options, rule):
    # Not rendered at all, which is as wrong as it can get.
    with pytest.raises(InvalidRequestError, match=rule):
        task.run(**options)

    assert sum(api.books()["requests"][name] for name in ("submit", "poll", "credits")) == 0
    assert recorded(task) == []


# What is told


def _told(lines):
    return [line["event"] % line.get("positional_args", ()) for line in lines]


def _ending(lines):
    """Return what is told, but for the address of the Images tab at its very end, if that is there."""
    told = _told(lines)
    return told[:-1] if told[-1].startswith("Images: ") else told


@pytest.mark.parametrize(
    ("fault", "options", "charged", "refunded", "this_try"),
    [
        ("", {}, "4.7", "0", "submitted"),
        ("generation:failed", {}, "4.7", "4.7", "submitted"),
        ("generation:never", {"timeout": 0.1}, "4.7", "0", "submitted"),
        ("file:404", {}, "4.7", "0", "submitted"),
        ("submit:lost", {}, "4.7", "0", "submitted"),
        ("submit:401", {}, "0", "0", "paid nothing"),
        ("", {"max_credits": 1}, "0", "0", "paid nothing"),
        ("", {"wait_for_completion": False}, "4.7", "0", "submitted"),
    ],
)
def test_what_was_spent_is_told_at_the_logs_end_however_the_try_ends_and_in_xcom_if_it_failed(
    task, api, clock, fault, options, charged, refunded, this_try
):
    if fault == "file:404":
        task.while_waiting = clock.forward
    if fault:
        api.fault(fault)
    result = None

    with structlog.testing.capture_logs() as lines, suppress(GptImageError):
        result = task.run(**options)

    last = _ending(lines)[-1]
    assert last.startswith("Spent since the last clear: ")
    assert last.endswith(f"{charged} charged, {refunded} refunded. This try {this_try}.")
    spent = (result or task.pushed)["spent"]
    assert (spent["charged"], spent["refunded"]) == (charged, refunded)


@pytest.mark.parametrize(("fault", "options"), [("never", {"timeout": 0.1}), ("images=1", {})])
def test_a_retry_that_finds_its_generation_is_told_to_have_paid_nothing(task, api, fault, options):
    api.fault(f"generation:{fault}")
    with suppress(GenerationTimeoutError):
        task.run(**options)

    with structlog.testing.capture_logs() as lines, suppress(GenerationTimeoutError):
        task.run(**options)

    assert _ending(lines)[-1].endswith("4.7 charged, 0 refunded. This try paid nothing.")


def test_what_was_spent_is_told_once_and_not_before_the_task_waits(make):
    with structlog.testing.capture_logs() as lines:
        make().run()

    assert [line for line in _told(lines) if "Spent since" in line] == _ending(lines)[-1:]


def test_the_key_is_nowhere_but_in_the_connection(task, api):
    api.fault("submit:429*1;retry_after=0")

    with structlog.testing.capture_logs() as lines:
        result = task.run()

    kept = [task.store.texts, result, lines, [vars(deferral) for deferral in task.deferrals]]
    triggers = [deferral.trigger.serialize() for deferral in task.deferrals]
    assert api.key not in repr(kept) + repr(triggers)


def test_a_deployment_that_forgets_what_succeeded_is_warned_of(bare_task, monkeypatch):
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")

    with structlog.testing.capture_logs() as lines:
        bare_task.run()

    assert any(line["log_level"] == "warning" and "clear_on_success is on" in line["event"] for line in lines)


def test_an_image_of_another_size_is_kept_and_said(task, api):
    api.fault("file:wrong_size=640x480")

    with structlog.testing.capture_logs() as lines:
        result = task.run()

    assert (result["images"][0]["width"], result["images"][0]["height"]) == (640, 480)
    assert any("640x480 pixels; 1024x1024 or 1254x1254 was asked for" in line for line in _told(lines))
