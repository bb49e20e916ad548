"""The operator at work, on either path: what is paid, found again and returned. The API's books judge."""

from __future__ import annotations

import inspect
import json
import re
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import imagesize
import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.errors import (
    ConnectionFailedError,
    CreditLimitError,
    DownloadError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    ImageExpiredError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    SubmissionUnknownError,
    UpstreamError,
)
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator


def net(books):
    return Decimal(books["charged"]) - Decimal(books["refunded"])


def ids(books):
    return [charge["task_id"] for charge in books["charges"]]


# What is returned


def test_an_image_is_made_stored_and_told(task, api, tmp_path):
    result = task.run(destination=str(tmp_path), aspect_ratio="16:9")

    [image] = result["images"]
    assert Path(image["path"]).parent == tmp_path
    assert imagesize.get(image["path"]) == (image["width"], image["height"]) == (1536, 864)
    assert Path(image["path"]).stat().st_size == image["bytes"]
    assert (result["status"], result["model"], result["reused"]) == ("completed", "gpt-image-2", False)
    assert (result["credits"], result["usd"], result["resolution"]) == ("4.7", "0.0235", "1k")
    assert result["generation_id"] == api.books()["charges"][0]["task_id"]


def _documented():
    """The names in the operator's docstring, of the result and of what is nested in it."""
    text = re.search(r"\(XCom\)::(.*?)\n\n\s*Money", inspect.getdoc(GptImageGenerateOperator), re.DOTALL)[1]
    return set(re.findall(r'"(\w+)"', text))


def _names(value):
    if isinstance(value, dict):
        return set(value) | set().union(*map(_names, value.values()))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def test_what_is_returned_is_exactly_what_the_docstring_says(task, tmp_path):
    result = task.run(destination=str(tmp_path))

    metadata = result.pop("metadata")  # kept as the API gave it
    assert metadata["costTime"]
    assert _names(result) | {"metadata"} == _documented()


def test_what_is_returned_is_plain_json(task, tmp_path):
    result = task.run(destination=str(tmp_path))

    assert json.loads(json.dumps(result)) == result


def test_without_a_destination_the_image_stays_where_the_api_put_it(task, api):
    result = task.run()

    [image] = result["images"]
    assert image["url"].startswith(api.url)
    assert {image[name] for name in ("path", "width", "height", "sha256", "bytes")} == {None}
    assert api.books()["requests"]["download"] == 0


def test_several_images_of_one_generation_are_all_stored(task, api, tmp_path):
    api.fault("generation:images=3")

    result = task.run(destination=str(tmp_path))

    assert len({image["path"] for image in result["images"]}) == 3
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.json"))) == 3


def test_all_that_was_asked_for_is_sent(task, api):
    task.run(
        prompt="warmer",
        image_urls=["https://example.com/room.jpg", "https://example.com/lamp.jpg"],
        aspect_ratio="3:2",
        resolution="2k",
        nsfw_checker=False,
        callback_url=f"{api.url}/hook",
    )

    [charge] = api.books()["charges"]
    assert charge["request"] == {
        "prompt": "warmer",
        "image_urls": ["https://example.com/room.jpg", "https://example.com/lamp.jpg"],
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
    }
    assert charge["callback_url"] == f"{api.url}/hook"


def test_not_waiting_returns_the_id_of_what_was_submitted(task, api):
    api.fault("generation:never")

    result = task.run(wait_for_completion=False)

    assert result["generation_id"] == ids(api.books())[0]
    assert (result["status"], result["images"], result["completed_at"]) == ("submitted", [], None)
    assert (result["credits"], result["spent"]["charged"]) == ("4.7", "4.7")
    assert task.deferrals == []


def test_not_waiting_twice_pays_once(task, api):
    first = task.run(wait_for_completion=False)

    second = task.run(wait_for_completion=False)

    assert second["generation_id"] == first["generation_id"]
    assert (first["reused"], second["reused"]) == (False, True)
    assert api.books()["submits"] == 1


def until(condition):
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_what_was_not_waited_for_and_failed_is_paid_for_anew_after_a_clear(task, api):
    api.fault("generation:failed*1")
    first = task.run(wait_for_completion=False)
    until(lambda: api.books()["refunded"] == "4.7")
    task.clear()

    second = task.run(wait_for_completion=False)

    assert second["generation_id"] != first["generation_id"]


# Retries


def test_a_retry_finds_the_result_that_is_stored(task, api, tmp_path):
    first = task.run(destination=str(tmp_path))

    second = task.run(destination=str(tmp_path))

    assert second == first | {"reused": True}
    assert (api.books()["submits"], api.books()["requests"]["download"]) == (1, 1)


def test_a_retry_waits_on_for_a_generation_that_was_not_finished_in_time(task, api):
    api.fault("generation:takes=0.7")
    with pytest.raises(GenerationTimeoutError) as caught:
        task.run(timeout=0.1)

    result = task.run()

    assert caught.value.retryable
    assert (result["status"], result["reused"]) == ("completed", True)
    assert api.books()["submits"] == 1


def test_a_retry_pays_anew_for_a_generation_that_failed_and_was_refunded(task, api):
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError) as caught:
        task.run()

    result = task.run()

    books = api.books()
    assert caught.value.retryable
    assert (books["submits"], books["charged"], books["refunded"]) == (2, "9.4", "4.7")
    assert result["generation_id"] == ids(books)[1]
    assert result["spent"] == {"charged": "9.4", "refunded": "4.7", "usd": "0.0235"}


def test_a_generation_that_failed_for_good_says_so(task, api):
    api.fault("generation:failed=invalid_request")

    with pytest.raises(GenerationFailedError, match="refunded") as caught:
        task.run()

    assert not caught.value.retryable
    assert net(api.books()) == 0


@pytest.mark.parametrize(
    ("fault", "error", "retryable"),
    [("file:500", DownloadError, True), ("file:404", ImageExpiredError, False)],
)
def test_an_image_that_did_not_arrive_is_fetched_again_and_not_paid_for_again(
    task, api, tmp_path, fault, error, retryable
):
    api.fault(f"{fault}*4")
    with pytest.raises(error) as caught:
        task.run(destination=str(tmp_path))
    api.clear_faults()

    result = task.run(destination=str(tmp_path))

    assert caught.value.retryable is retryable
    assert result["reused"]
    assert Path(result["images"][0]["path"]).exists()
    assert api.books()["submits"] == 1


def test_a_changed_prompt_is_a_new_request_and_changed_back_is_the_old_one(task, api):
    first = task.run()
    other = task.run(prompt="a blue teapot")

    back = task.run()

    assert other["generation_id"] != first["generation_id"]
    assert (back["generation_id"], back["reused"]) == (first["generation_id"], True)
    assert api.books()["submits"] == 2


def test_an_id_the_api_no_longer_knows_says_so_and_does_not_loop(deferrable_task, api):
    deferrable_task.run(wait_for_completion=False)
    api.reset()

    for _ in range(2):
        with pytest.raises(GenerationNotFoundError) as caught:
            deferrable_task.run()

    assert not caught.value.retryable
    assert "is on record as paid for" in str(caught.value)
    assert "on_clear='regenerate'" in str(caught.value)
    assert api.books()["submits"] == 0


@pytest.mark.soak
def test_an_id_the_api_no_longer_knows_says_the_same_where_the_worker_waits(api, task):
    # For 15 s after the submit "unknown" may be "not yet": where the worker waits, it waits for that too.
    task.run(wait_for_completion=False)
    api.reset()

    with pytest.raises(GenerationNotFoundError, match="is on record as paid for"):
        task.run()

    assert api.books()["submits"] == 0


# Clears


def test_a_clear_reuses_what_was_paid_for(task, api):
    first = task.run()
    task.clear()

    second = task.run()

    assert (second["generation_id"], second["reused"]) == (first["generation_id"], True)
    assert second["spent"]["charged"] == "0"
    assert api.books()["submits"] == 1


def test_a_clear_that_regenerates_pays_once_and_its_retries_find_it(task, api):
    first = task.run(on_clear="regenerate")
    task.clear()

    second = task.run(on_clear="regenerate")
    retry = task.run(on_clear="regenerate")

    assert second["generation_id"] != first["generation_id"]
    assert (retry["generation_id"], retry["reused"]) == (second["generation_id"], True)
    assert api.books()["submits"] == 2
    assert second["spent"] == {"charged": "4.7", "refunded": "0", "usd": "0.0235"}


def test_a_task_cleared_while_its_generation_runs_reattaches(task, api):
    api.fault("generation:takes=0.4*1")
    task.run(wait_for_completion=False)
    task.clear()

    result = task.run()

    assert (result["status"], result["reused"]) == ("completed", True)
    assert api.books()["submits"] == 1


# Deaths and lost answers


UNKNOWN, NOT_PAID, PAID = "unknown", "not paid", "paid"
DEATHS = [
    ("before 1", 0, NOT_PAID),
    ("after 1", 0, UNKNOWN),
    ("before 2", 1, UNKNOWN),
    ("after 2", 1, PAID),
    ("before 3", 1, PAID),
    ("after 3", 1, PAID),
]


@pytest.mark.parametrize(("at", "charges", "then"), DEATHS)
def test_a_worker_may_die_at_any_write_and_the_next_try_does_not_pay_twice(task, api, at, charges, then):
    task.store.at = at
    with pytest.raises(SystemExit):
        task.run()
    assert api.books()["submits"] == charges
    task.store.at = ""

    if then == UNKNOWN:
        with pytest.raises(SubmissionUnknownError, match="on_unknown_submit='resubmit'"):
            task.run()
        assert api.books()["submits"] == charges
    else:
        assert task.run()["reused"] is (then == PAID)
        assert api.books()["submits"] == 1


@pytest.mark.parametrize("at", ["after 1", "before 2"])
def test_a_worker_that_died_is_submitted_again_where_the_author_chose_so(task, api, at):
    task.store.at = at
    with pytest.raises(SystemExit):
        task.run(on_unknown_submit="resubmit")
    before = api.books()["submits"]
    task.store.at = ""

    result = task.run(on_unknown_submit="resubmit")

    assert not result["reused"]
    assert api.books()["submits"] == before + 1
    assert task.run(on_unknown_submit="resubmit")["generation_id"] == result["generation_id"]


@pytest.mark.parametrize("when", ["before", "after", "fail"])
def test_a_worker_may_die_while_it_settles_and_the_image_is_there_at_the_next_try(api, task, tmp_path, when):
    task.run(wait_for_completion=False)
    task.store.at = f"{when} 2"  # of a try that reattaches: 1 is what it waits for, 2 is the result
    with pytest.raises((SystemExit, LedgerError)):
        task.run(destination=str(tmp_path))
    task.store.at = ""

    result = task.run(destination=str(tmp_path))

    assert Path(result["images"][0]["path"]).exists()
    assert api.books()["submits"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        "close",
        "reset",
        "lost",
        "html",
        "empty",
        "garbage",
        "not_object",
        "broken_json",
        "truncated",
        "missing_id",
        "junk_id",
        "502",
        "504",
        "redirect=https://example.com/login",
        "late=2",
    ],
)
def test_a_submit_without_an_answer_of_the_apis_is_unknown_and_never_sent_again(task, api, connect, fault):
    connect(api.url, api.key, extra={"read_timeout": 0.5})
    api.fault(f"submit:{fault}")
    with pytest.raises(SubmissionUnknownError) as first:
        task.run()
    api.clear_faults()

    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert not first.value.retryable
    assert api.books()["requests"]["submit"] == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", InvalidRequestError),
        ("402", InsufficientCreditsError),
        ("429;retry_after=60", RateLimitError),
        ("500*4", InternalServerError),
        ("503*2", UpstreamError),
    ],
)
def test_a_submit_the_api_refused_may_be_sent_by_the_next_try(task, api, fault, error):
    api.fault(f"submit:{fault}")
    with pytest.raises(error):
        task.run()
    api.clear_faults()

    result = task.run()

    assert not result["reused"]
    assert result["spent"] == {"charged": "4.7", "refunded": "0", "usd": "0.0235"}
    assert api.books()["submits"] == 1


def test_a_submit_that_never_left_may_be_sent_by_the_next_try(task, api, connect):
    connect("http://127.0.0.1:9", api.key)
    with pytest.raises(ConnectionFailedError):
        task.run()
    connect(api.url, api.key)

    assert task.run()["status"] == "completed"


def test_an_id_that_could_not_be_put_on_record_is_at_least_in_the_log(task, api):
    task.store.at = "fail 2"

    with structlog.testing.capture_logs() as lines, pytest.raises(LedgerError):
        task.run()

    assert any(ids(api.books())[0] in str(line) for line in lines)


def test_when_the_ledger_cannot_be_read_nothing_is_paid(task, api):
    task.run()
    task.store.unreachable = True

    with pytest.raises(LedgerError) as caught:
        task.run()

    assert caught.value.retryable
    assert api.books()["submits"] == 1


def test_a_worker_whose_task_instance_was_replaced_pays_nothing(task, api):
    task.run()
    task.store.replaced = True

    with pytest.raises(LedgerError, match="out of date"):
        task.run()

    assert api.books()["submits"] == 1


# Guards


def test_max_credits_refuses_before_the_post(task, api):
    with pytest.raises(CreditLimitError):
        task.run(max_credits=9.3, resolution="2k")

    assert api.books()["requests"]["submit"] == 0


def test_max_credits_means_the_amount_as_it_is_written(task, api):
    # As a binary fraction 4.7 is a little less than 4.7.
    assert task.run(max_credits=4.7)["status"] == "completed"


def test_a_low_balance_refuses_before_the_post(task, api):
    api.settings(credits="4.6")

    with pytest.raises(InsufficientCreditsError, match="The balance is 4 credits"):
        task.run(check_balance=True)

    assert api.books()["requests"]["submit"] == 0


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
    assert task.store.texts == {}


# What is told


def _told(lines):
    return [line["event"] % line.get("positional_args", ()) for line in lines]


@pytest.mark.parametrize(
    ("fault", "options", "spent"),
    [
        ("", {}, "4.7 charged, 0 refunded. This try submitted."),
        ("generation:failed", {}, "4.7 charged, 4.7 refunded. This try submitted."),
        ("generation:never", {"timeout": 0.1}, "4.7 charged, 0 refunded. This try submitted."),
        ("file:404", {}, "4.7 charged, 0 refunded. This try submitted."),
        ("submit:lost", {}, "4.7 charged, 0 refunded. This try submitted."),
        ("submit:401", {}, "0 charged, 0 refunded. This try paid nothing."),
        ("", {"max_credits": 1}, "0 charged, 0 refunded. This try paid nothing."),
        ("", {"wait_for_completion": False}, "4.7 charged, 0 refunded. This try submitted."),
    ],
)
def test_what_was_spent_is_the_logs_last_line_however_the_try_ends(
    task, api, tmp_path, fault, options, spent
):
    if fault:
        api.fault(fault)

    with structlog.testing.capture_logs() as lines, suppress(GptImageError):
        task.run(destination=str(tmp_path), **options)

    last = _told(lines)[-1]
    assert last.startswith("Spent since the last clear: ")
    assert last.endswith(spent)


def test_a_retry_that_finds_its_generation_unfinished_is_told_to_have_paid_nothing(task, api):
    api.fault("generation:never")
    with suppress(GenerationTimeoutError):
        task.run(timeout=0.1)

    with structlog.testing.capture_logs() as lines, suppress(GenerationTimeoutError):
        task.run(timeout=0.1)

    assert _told(lines)[-1].endswith("4.7 charged, 0 refunded. This try paid nothing.")


def test_what_was_spent_is_told_once_and_not_before_the_task_waits(deferrable_task, api):
    with structlog.testing.capture_logs() as lines:
        deferrable_task.run()

    assert [line for line in _told(lines) if "Spent since" in line] == _told(lines)[-1:]


def test_a_reused_result_is_told_to_have_cost_this_try_nothing(task):
    task.run()

    with structlog.testing.capture_logs() as lines:
        task.run()

    assert _told(lines)[-1].endswith("This try paid nothing.")


def test_the_key_is_nowhere_but_in_the_connection(task, api, tmp_path):
    api.fault("submit:429*1;retry_after=0")

    with structlog.testing.capture_logs() as lines:
        result = task.run(destination=str(tmp_path))

    kept = [task.store.texts, result, lines, [vars(deferral) for deferral in task.deferrals]]
    triggers = [deferral.trigger.serialize() for deferral in task.deferrals]
    assert api.key not in repr(kept) + repr(triggers)


def test_a_deployment_that_forgets_what_succeeded_is_warned_of(task, monkeypatch):
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")

    with structlog.testing.capture_logs() as lines:
        task.run()

    assert any(line["log_level"] == "warning" and "clear_on_success is on" in line["event"] for line in lines)


def test_an_image_of_another_size_is_kept_and_said(task, api, tmp_path):
    api.fault("file:wrong_size=640x480")

    with structlog.testing.capture_logs() as lines:
        result = task.run(destination=str(tmp_path))

    assert (result["images"][0]["width"], result["images"][0]["height"]) == (640, 480)
    assert any("640x480 pixels; 1024x1024 or 1254x1254 was asked for" in line for line in _told(lines))


# Deferring


def test_what_is_deferred_is_plain_json_of_ids_and_times(deferrable_task, api):
    with pytest.raises(TaskDeferred) as caught:
        deferrable_task.operator().execute(deferrable_task.context)

    path, kwargs = caught.value.trigger.serialize()
    assert path == "airflow_gpt_image.triggers.gpt_image.GptImageTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert kwargs["generation_ids"] == ids(api.books())
    assert "teapot" not in json.dumps(kwargs)
    assert not caught.value.kwargs


def test_airflows_own_timeout_comes_later_than_ours(deferrable_task):
    with pytest.raises(TaskDeferred) as caught:
        deferrable_task.operator(timeout=100).execute(deferrable_task.context)

    assert 100 < caught.value.timeout.total_seconds() < 300


@pytest.mark.parametrize(
    "event", [None, {}, "completed", {"status": "success", "path": "/etc"}, [1]], ids=repr
)
def test_whatever_wakes_the_task_the_api_is_asked(deferrable_task, api, event):
    with pytest.raises(TaskDeferred) as caught:
        deferrable_task.operator().execute(deferrable_task.context)

    result = deferrable_task.wake(caught.value, event)

    assert result["status"] == "completed"


def test_a_task_that_is_woken_too_early_waits_on_until_the_same_deadline(deferrable_task, api):
    api.fault("generation:never")
    with pytest.raises(TaskDeferred) as first:
        deferrable_task.operator().execute(deferrable_task.context)

    with pytest.raises(TaskDeferred) as second:
        deferrable_task.operator().execute_complete(deferrable_task.context, {"reason": "finished"})

    assert second.value.trigger.deadline == first.value.trigger.deadline
    assert api.books()["submits"] == 1


def test_a_prompt_that_changed_while_the_task_was_deferred_does_not_change_what_was_paid_for(
    deferrable_task, api
):
    with pytest.raises(TaskDeferred) as caught:
        deferrable_task.operator().execute(deferrable_task.context)
    paid = deferrable_task.wake(caught.value, prompt="a blue teapot", resolution="4k")

    assert paid["generation_id"] == ids(api.books())[0]
    assert (paid["resolution"], paid["credits"]) == ("1k", "4.7")
    assert deferrable_task.run()["fingerprint"] == paid["fingerprint"]


def test_the_deadline_of_a_retry_begins_anew(deferrable_task, api):
    api.fault("generation:never")
    deadlines = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as caught:
            deferrable_task.operator(timeout=100).execute(deferrable_task.context)
        deadlines.append(caught.value.trigger.deadline)

    assert deadlines[0] < deadlines[1]


def test_killing_the_task_cancels_nothing(task, api):
    task.run(wait_for_completion=False)

    task.operator().on_kill()

    assert task.run()["reused"]


def test_every_error_is_one_of_ours(task, api):
    api.fault("submit:400")

    with pytest.raises(GptImageError) as caught:
        task.run()

    assert type(caught.value).__module__.startswith("airflow_gpt_image.")
