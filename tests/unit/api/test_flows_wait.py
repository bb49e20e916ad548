"""Waiting for a generation, in virtual time."""

from __future__ import annotations

import inspect
import json

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import flows, protocol
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import GenerationNotFoundError, GenerationTimeoutError, GptImageError

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
RETRYING = Retrying(first_pause=1, longest_pause=8, jitter=lambda: 1.0)


def _response(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.parse_response(status=status, headers=named, body=raw, at=0.0, api_key="sk-live-key")


def _failing(code, status, **headers):
    return _response({"error": {"code": code, "message": "as it says", "type": "t"}}, status, **headers)


def _in_status(status):
    return _response({"id": ID, "status": status, "output": {"urls": ["https://h/1.png"]}})


PENDING, PROCESSING, DONE = _in_status("pending"), _in_status("processing"), _in_status("completed")
LOST = NoResponse(sent=True, reason="ReadTimeout: no details", at=0.0)
NOT_FOUND = _failing("task_not_found", 404)


def _wait(here, *, poll_interval=5, seconds=3600, on_unknown_status=flows.warn):
    return here.run(
        flows.wait(
            ID,
            poll_interval=poll_interval,
            deadline=here.start + seconds,
            retrying=RETRYING,
            on_unknown_status=on_unknown_status,
        )
    )


def test_it_looks_at_once_and_then_at_the_interval(world):
    here = world(PENDING, PROCESSING, DONE)

    generation = _wait(here)

    assert generation.status == "completed"
    assert here.looked_at == [0, 5, 10]
    assert here.sent == [protocol.get_call(ID)] * 3


def test_the_pause_before_the_next_poll_can_be_said_from_outside_and_failures_keep_theirs(world):
    here = world(PENDING, LOST, PROCESSING, DONE)
    asked = []

    def pause(generation, now):
        asked.append((generation.status, now - here.start))
        return 3.0

    here.run(
        flows.wait(ID, poll_interval=5, deadline=here.start + 60, retrying=RETRYING, pause_before_next=pause)
    )

    assert here.looked_at == [0, 3, 4, 7]
    assert asked == [("pending", 0), ("processing", 4)]


def test_the_pause_said_from_outside_ends_at_the_deadline(world):
    here = world(PENDING)

    with pytest.raises(GenerationTimeoutError):
        here.run(
            flows.wait(
                ID,
                poll_interval=5,
                deadline=here.start + 8,
                retrying=RETRYING,
                pause_before_next=lambda *_: 60.0,
            )
        )

    assert here.looked_at == [0, 8]


def test_a_failed_generation_is_the_end_and_not_an_error_of_waiting(world):
    here = world(_in_status("failed"))

    assert _wait(here).status == "failed"
    assert here.looked_at == [0]


def test_a_completed_generation_without_images_is_the_end_too(world):
    here = world(_response({"id": ID, "status": "completed"}))

    assert _wait(here).urls == ()


def test_each_look_is_told_once_also_one_that_fails_and_before_what_came_of_it(world):
    here = world(PENDING, LOST, NOT_FOUND, _failing("internal_error", 500), _failing("invalid_api_key", 401))
    polls = []

    with pytest.raises(errors.InvalidApiKeyError):
        here.run(
            flows.wait(
                ID,
                poll_interval=5,
                deadline=here.start + 3600,
                retrying=RETRYING,
                on_poll=lambda seen: polls.append((len(here.sent), seen)),
            )
        )

    assert [sent for sent, _ in polls] == [1, 2, 3, 4, 5]
    assert polls[0][1] == "its status is 'pending'"
    assert polls[1][1] == "the last poll failed: No response from the API"


def test_a_status_the_document_does_not_know_counts_as_not_finished(world):
    here = world(_in_status("queued"), _in_status("done"), DONE)

    assert _wait(here).status == "completed"
    assert here.looked_at == [0, 5, 10]


def test_a_status_that_nobody_knows_is_said_once_however_often_it_is_seen(world):
    told = []
    here = world(
        PENDING,
        *[_in_status("queued")] * 3,
        PROCESSING,
        _in_status("on hold\x1b"),
        _in_status("queued"),
        DONE,
    )

    _wait(here, on_unknown_status=told.append)

    assert [text.splitlines()[0] for text in told] == [
        f"Generation {ID} has the status 'queued', a word that the API document doesn't know.",
        f"Generation {ID} has the status 'on hold\\x1b', a word that the API document doesn't know.",
    ]
    assert "polled on until 2026-04-05T11:11:48+00:00" in told[0]
    assert "Nothing is paid for again." in told[0]


@pytest.mark.parametrize("status", [None, 3, [], ""])
def test_a_status_that_is_no_word_is_said_once_too(world, status):
    here, told = world(*[_in_status(status)] * 3, DONE), []

    _wait(here, on_unknown_status=told.append)

    [text] = told
    what, until, paid = text.splitlines()
    assert what.startswith(f"Generation {ID}: The response (HTTP 200) can't be read: ")
    assert "not what the document says: status." in what
    assert "polled on until 2026-04-05T11:11:48+00:00" in until
    assert paid == "Nothing is paid for again."


def test_it_is_logged_where_nobody_else_wants_to_say_it(world, caplog):
    _wait(world(_in_status("queued"), _in_status("queued"), DONE))

    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "'queued'" in line.getMessage()


@pytest.mark.parametrize("status", ["pending", "processing", "completed", "failed", "Completed"])
def test_there_is_nothing_to_say_of_a_status_that_is_known(status):
    generation = Generation(id=ID, status=status)

    assert flows.unknown_status(generation) is None


def test_the_last_look_is_at_the_deadline(world):
    here = world(PENDING)

    with pytest.raises(GenerationTimeoutError) as caught:
        _wait(here, seconds=12)

    assert here.looked_at == [0, 5, 10, 12]
    assert caught.value.generation_id == ID
    assert caught.value.retryable


def test_the_look_at_the_deadline_counts(world):
    here = world(PENDING, PENDING, PENDING, DONE)

    assert _wait(here, seconds=12).status == "completed"
    assert here.looked_at[-1] == 12


def test_a_deadline_in_the_past_still_allows_one_look(world):
    here = world(DONE)

    assert _wait(here, seconds=-100).status == "completed"


def test_a_timeout_says_when_what_was_seen_last_and_that_waiting_again_costs_nothing(world):
    here = world(PROCESSING)

    with pytest.raises(GenerationTimeoutError) as caught:
        _wait(here, seconds=60)

    assert ID in caught.value.message
    assert "2026-04-05T10:12:48+00:00" in caught.value.message
    assert "'processing'" in caught.value.message
    assert "costs nothing" in caught.value.message


def test_a_timeout_after_a_failed_look_says_why_the_look_failed(world):
    here = world(_failing("internal_error", 500))

    with pytest.raises(GenerationTimeoutError, match="as it says"):
        _wait(here, seconds=1)


TRANSIENT = {
    "no answer": LOST,
    "nothing left": NoResponse(sent=False, reason="ConnectError: refused", at=0.0),
    "a proxy's page": _response(b"<html>502</html>", 502),
    "half a body": _response(b'{"id": "397c'),
    "another generation": _response({"id": "other", "status": "completed"}),
    "500": _failing("internal_error", 500),
    "503": _failing("upstream_error", 503),
    "429": _failing("rate_limit_exceeded", 429),
}


@pytest.mark.parametrize("trouble", TRANSIENT.values(), ids=TRANSIENT)
def test_a_look_that_fails_for_a_passing_reason_does_not_end_the_wait(world, trouble):
    here = world(*[trouble] * 10, DONE)

    assert _wait(here).status == "completed"
    assert len(here.sent) == 11


def test_failed_looks_are_ever_further_apart_until_one_succeeds(world):
    here = world(LOST, LOST, LOST, PENDING, LOST, DONE)

    _wait(here)

    assert here.slept[1:] == [1, 2, 4, 5, 1]


def test_failed_looks_are_never_further_apart_than_the_longest_pause(world):
    here = world(*[LOST] * 8, DONE)

    _wait(here)

    assert max(here.slept) == 8


def test_the_wait_the_server_asks_for_is_kept_whatever_its_length(world):
    here = world(_failing("rate_limit_exceeded", 429, retry_after="120"), DONE)

    _wait(here)

    assert here.looked_at == [0, 120]


def test_the_wait_a_proxy_asks_for_is_kept_too(world):
    here = world(_response(b"<html>503</html>", 503, retry_after="90"), DONE)

    _wait(here)

    assert here.looked_at == [0, 90]


def test_a_wish_for_less_than_the_backoff_does_not_make_it_hurry(world):
    here = world(LOST, LOST, LOST, _failing("rate_limit_exceeded", 429, retry_after="0"), DONE)

    _wait(here)

    assert here.slept[-1] == 8


def test_a_wish_beyond_the_deadline_is_cut_there(world):
    here = world(_failing("rate_limit_exceeded", 429, retry_after="86400"), DONE)

    assert _wait(here, seconds=30).status == "completed"
    assert here.looked_at == [0, 30]


FINAL = [
    ("invalid_request", 400, errors.InvalidRequestError),
    ("invalid_api_key", 401, errors.InvalidApiKeyError),
    ("insufficient_credits", 402, errors.InsufficientCreditsError),
    ("ip_not_allowed", 403, errors.IpNotAllowedError),
    ("model_not_found", 404, errors.ModelNotFoundError),
    ("spend_limit_exceeded", 429, errors.SpendLimitError),
]


@pytest.mark.parametrize(("code", "status", "expected"), FINAL)
def test_what_looking_again_can_not_help_ends_the_wait_at_once_and_names_the_id(
    world, code, status, expected
):
    here = world(_failing(code, status, retry_after="1"), DONE)

    with pytest.raises(GptImageError) as caught:
        _wait(here)

    assert type(caught.value) is expected
    assert caught.value.generation_id == ID
    assert here.looked_at == [0]


def test_right_after_the_submit_an_unknown_id_is_not_yet(world):
    here = world(NOT_FOUND, NOT_FOUND, PENDING, DONE)

    assert _wait(here).status == "completed"


def test_after_a_short_grace_an_unknown_id_is_unknown(world):
    here = world(NOT_FOUND)

    with pytest.raises(GenerationNotFoundError) as caught:
        _wait(here)

    assert caught.value.generation_id == ID
    assert 5 < here.looked_at[-1] < 60


def test_an_id_that_was_known_for_an_hour_and_is_not_any_more_is_unknown_at_once(world):
    here = world(*[PENDING] * 13, NOT_FOUND, DONE)

    with pytest.raises(GenerationNotFoundError):
        _wait(here)

    assert here.looked_at[-1] == 65


def test_a_deadline_within_the_grace_is_a_timeout(world):
    here = world(NOT_FOUND)

    with pytest.raises(GenerationTimeoutError):
        _wait(here, seconds=2)


def test_an_id_that_can_be_none_is_refused_before_anything_is_sent(world):
    here = world(DONE)

    with pytest.raises(errors.InvalidRequestError, match="not a generation id"):
        here.run(flows.wait("../credits", poll_interval=5, deadline=0, retrying=RETRYING))

    assert here.sent == []


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_would_spin_is_refused_before_anything_is_paid_for(world, interval):
    here = world(DONE)

    with pytest.raises(errors.InvalidRequestError, match="poll_interval"):
        here.run(
            flows.generate(ImageRequest(prompt="x"), poll_interval=interval, timeout=1, retrying=RETRYING)
        )

    assert here.sent == []


def test_while_it_sleeps_it_keeps_nothing_of_its_last_poll():
    flow = flows.wait(ID, poll_interval=5, deadline=3600, retrying=RETRYING)
    next(flow)
    flow.send(0.0)

    assert flow.send(PROCESSING).seconds == 5

    kept = [
        value for value in inspect.getgeneratorlocals(flow).values() if not isinstance(value, (str, float))
    ]
    assert PROCESSING not in kept
    assert not any(isinstance(value, Generation) for value in kept)
