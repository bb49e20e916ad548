"""Submit, read, balance, generate: driven by hand, in virtual time."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import flows, protocol
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GenerationFailedError,
    GptImageError,
    SubmissionUnknownError,
    UnreadableResponseError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="x")
RETRYING = Retrying(first_pause=1, jitter=lambda: 1.0)


def _response(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.parse_response(status=status, headers=named, body=raw, at=0.0, api_key="sk-live-key")


def _failing(code, status, **headers):
    return _response({"error": {"code": code, "message": "m", "type": "t"}}, status, **headers)


ACCEPTED = _response({"code": 200, "msg": "success", "data": {"taskId": ID}})
NEVER_SENT = NoResponse(sent=False, reason="ConnectError: refused", at=0.0)
LOST = NoResponse(sent=True, reason="ReadTimeout: no details", at=0.0)
DONE = _response(
    {"id": ID, "status": "completed", "output": {"urls": ["https://h/1.png", "https://h/2.png"]}}
)
PENDING = _response({"id": ID, "status": "pending"})


# --- submit -------------------------------------------------------------------------------------------------


def test_an_accepted_request_is_sent_once(world):
    here = world(ACCEPTED)

    generation_id = here.run(flows.submit(REQUEST, RETRYING))

    assert generation_id == ID
    assert here.sent == [protocol.submit_call(REQUEST)]
    assert here.slept == []


def test_each_refusal_for_the_rate_is_told_and_nothing_else(world):
    refused, spent = _failing("rate_limit_exceeded", 429), _failing("spend_limit_exceeded", 429)
    here, told = world(refused, NEVER_SENT, refused, spent), []

    with pytest.raises(errors.SpendLimitError):
        here.run(flows.submit(REQUEST, RETRYING, on_rate_limit=lambda: told.append(len(here.sent))))

    assert told == [1, 3]


@pytest.mark.parametrize(
    "reply",
    [
        NEVER_SENT,
        _failing("rate_limit_exceeded", 429),
        _response({"code": 429, "msg": "slow down", "data": None}),
    ],
    ids=["never sent", "429", "429 in the envelope"],
)
def test_a_submit_that_was_provably_not_accepted_is_sent_again(world, reply):
    here = world(reply, ACCEPTED)

    assert here.run(flows.submit(REQUEST, RETRYING)) == ID
    assert here.sent == [protocol.submit_call(REQUEST)] * 2


UNKNOWN = {
    "no answer": LOST,
    "a proxy's page": _response(b"<html>502</html>", 502),
    "a gateway's page that asks to come back": _response(b"<html>503</html>", 503, retry_after="1"),
    "an empty 500": _response(b"", 500),
    "half a body": _response(b'{"code": 200, "data": {"taskId": "397c'),
    "a redirect": _response(b"", 307, location="https://elsewhere.example/"),
    "no id": _response({"code": 200, "msg": "success", "data": {}}),
    "json of somebody else": _response({"message": "Endpoint request timed out"}, 504),
    "a gateway's error": _response({"error": {"code": 504, "message": "upstream request timeout"}}, 504),
    "success in other words": _response({"code": 0, "msg": "ok", "data": {"id": 5}}),
    "a gateway's timeout": _response({"error": {"code": "504", "type": "gateway"}}, 504),
    "a gateway's timeout without a code": _response({"error": {"type": "timeout"}}, 502),
    "a gateway's timeout in the envelope": _response({"code": 504, "msg": "timeout"}),
    "a code of the table under another status": _failing("upstream_error", 500),
    "an id and an error": _response({"error": {"code": "internal_error"}, "data": {"taskId": ID}}, 500),
}


@pytest.mark.parametrize("reply", UNKNOWN.values(), ids=UNKNOWN)
def test_a_lost_answer_is_never_paid_for_again(world, reply):
    here = world(reply, ACCEPTED)

    with pytest.raises(SubmissionUnknownError):
        here.run(flows.submit(REQUEST, RETRYING))

    assert len(here.sent) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (_failing("internal_error", 500), errors.InternalServerError),
        (_failing("internal_error", 500, retry_after="1"), errors.InternalServerError),
        (_failing("upstream_error", 503), errors.UpstreamError),
    ],
)
def test_a_submit_that_met_a_500_or_a_503_is_not_sent_again_for_our_reading_may_be_wrong(
    world, reply, expected
):
    here = world(reply, ACCEPTED)

    with pytest.raises(expected) as caught:
        here.run(flows.submit(REQUEST, RETRYING))

    assert len(here.sent) == 1
    assert caught.value.retryable  # by Airflow, as the author's retries allow


def test_a_lost_answer_ends_it_after_any_number_of_refusals(world):
    here = world(NEVER_SENT, _failing("rate_limit_exceeded", 429), LOST, ACCEPTED)

    with pytest.raises(SubmissionUnknownError):
        here.run(flows.submit(REQUEST, RETRYING))

    assert len(here.sent) == 3


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_request", 400),
        ("invalid_api_key", 401),
        ("insufficient_credits", 402),
        ("ip_not_allowed", 403),
        ("model_not_found", 404),
        ("spend_limit_exceeded", 429),
    ],
)
def test_what_sending_again_can_not_help_is_raised_at_once(world, code, status):
    here = world(_failing(code, status, retry_after="1"), ACCEPTED)

    with pytest.raises(GptImageError) as caught:
        here.run(flows.submit(REQUEST, RETRYING))

    assert caught.value.code == code
    assert len(here.sent) == 1


def test_sends_are_apart_and_few(world):
    here = world(NEVER_SENT)

    with pytest.raises(ConnectionFailedError):
        here.run(flows.submit(REQUEST, RETRYING))

    assert len(here.sent) == 4
    assert here.slept == [1, 2, 4]


def test_a_read_that_meets_an_upstream_error_is_sent_twice(world):
    here = world(_failing("upstream_error", 503))

    with pytest.raises(errors.UpstreamError):
        here.run(flows.get(ID, RETRYING))

    assert len(here.sent) == 2


def test_the_wait_the_server_asked_for_is_kept(world):
    here = world(_failing("rate_limit_exceeded", 429, retry_after="7"), ACCEPTED)

    here.run(flows.submit(REQUEST, RETRYING))

    assert 7 <= here.slept[0] <= 8


def test_a_longer_wait_is_left_to_airflow(world):
    here = world(_failing("rate_limit_exceeded", 429, retry_after="3600"), ACCEPTED)

    with pytest.raises(errors.RateLimitError) as caught:
        here.run(flows.submit(REQUEST, RETRYING))

    assert caught.value.retry_after == 3600
    assert here.slept == []


# --- read once, and the balance -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        LOST,
        NEVER_SENT,
        _response(b"<html>", 502),
        _failing("internal_error", 500),
        _failing("upstream_error", 503),
    ],
)
def test_a_read_costs_nothing_and_is_repeated_while_that_can_help(world, trouble):
    here = world(trouble, PENDING)

    assert here.run(flows.get(ID, RETRYING)).status == "pending"
    assert here.sent == [protocol.get_call(ID)] * 2


def test_an_unknown_id_is_told_at_once_when_reading_once(world):
    here = world(_failing("task_not_found", 404), PENDING)

    with pytest.raises(errors.GenerationNotFoundError) as caught:
        here.run(flows.get(ID, RETRYING))

    assert caught.value.generation_id == ID
    assert len(here.sent) == 1


def test_the_balance_is_read_and_repeated_too(world):
    here = world(LOST, _response({"credits": 94.5}))

    assert here.run(flows.balance(RETRYING)) == Decimal("94.5")
    assert here.sent == [protocol.BALANCE_CALL] * 2


# --- succeeded ----------------------------------------------------------------------------------------------


def test_a_completed_generation_with_images_succeeded():
    generation = Generation(id=ID, status="completed", output={"urls": ["https://h/1.png"]})

    assert flows.succeeded(generation) is generation


@pytest.mark.parametrize("status", ["completed", "processing"])
def test_a_generation_without_images_did_not_succeed_but_reading_again_may_help(status):
    with pytest.raises(UnreadableResponseError, match="names no image") as caught:
        flows.succeeded(Generation(id=ID, status=status))

    assert caught.value.generation_id == ID
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("invalid_request", False),
        ("upstream_error", True),
        ("internal_error", True),
        ("rate_limit_exceeded", True),
        ("spend_limit_exceeded", False),
        ("insufficient_credits", False),
    ],
)
def test_a_failed_generation_raises_what_its_code_means_and_says_it_was_refunded(code, again):
    failure = {"code": code, "message": "Generation failed", "type": "t"}

    with pytest.raises(GenerationFailedError, match="refunded") as caught:
        flows.succeeded(Generation(id=ID, status="failed", error=failure))

    error = caught.value
    assert (error.code, error.type, error.generation_id) == (code, "t", ID)
    assert error.retryable is again
    assert "Generation failed" in error.message
    assert code in error.message


@pytest.mark.parametrize("failure", [{}, {"message": " "}, {"code": None, "message": None}])
def test_a_failed_generation_without_a_reason_says_so(failure):
    with pytest.raises(GenerationFailedError, match="no reason"):
        flows.succeeded(Generation(id=ID, status="failed", error=failure))


@pytest.mark.parametrize("where", ["code", "message", "type"])
def test_a_reason_for_a_failure_can_neither_flood_a_log_nor_break_it(where):
    failure = {"code": "c", "message": "m", "type": "t", where: "x\r\n\x1b[31m\ud800" + "y" * 100_000}

    with pytest.raises(GenerationFailedError) as caught:
        flows.succeeded(Generation(id=ID, status="failed", error=failure))

    assert len(caught.value.message) < 2000
    assert len(caught.value.message.splitlines()) == 3
    assert "\x1b" not in caught.value.message
    assert caught.value.message.encode()


# --- generate -----------------------------------------------------------------------------------------------


def test_generate_submits_waits_and_returns_the_images(world):
    here = world(ACCEPTED, PENDING, DONE)

    generation = here.run(flows.generate(REQUEST, poll_interval=5, timeout=60, retrying=RETRYING))

    assert generation.urls == ("https://h/1.png", "https://h/2.png")
    assert [call.method for call in here.sent] == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            _response({"id": ID, "status": "failed", "error": {"code": "upstream_error"}}),
            GenerationFailedError,
        ),
        (_response({"id": ID, "status": "completed", "output": {"urls": []}}), UnreadableResponseError),
        (_failing("invalid_api_key", 401), errors.InvalidApiKeyError),
        (PENDING, errors.GenerationTimeoutError),
        (LOST, errors.GenerationTimeoutError),
    ],
)
def test_whatever_happens_after_the_submit_it_is_paid_for_once_and_the_error_names_the_id(
    world, reply, expected
):
    here = world(ACCEPTED, reply)

    with pytest.raises(expected) as caught:
        here.run(flows.generate(REQUEST, poll_interval=5, timeout=60, retrying=RETRYING))

    assert caught.value.generation_id == ID
    assert [call.method for call in here.sent].count("POST") == 1


def test_the_timeout_of_generate_begins_when_the_submit_is_through(world):
    here = world(_failing("rate_limit_exceeded", 429, retry_after="20"), ACCEPTED, PENDING)

    with pytest.raises(errors.GenerationTimeoutError):
        here.run(flows.generate(REQUEST, poll_interval=5, timeout=10, retrying=RETRYING))

    assert sum(here.slept[1:]) == 10


# --- get ----------------------------------------------------------------------------------------------------

UNKNOWN = _failing("task_not_found", 404)


def test_an_unknown_id_is_an_error_at_once():
    flow = flows.get(ID, RETRYING)
    next(flow)

    with pytest.raises(errors.GenerationNotFoundError):
        flow.send(UNKNOWN)


def test_an_id_given_a_moment_ago_may_stay_unknown_for_the_grace(world):
    here = world(UNKNOWN, UNKNOWN, PENDING)

    generation = here.run(flows.get(ID, RETRYING, grace=5.0))

    assert generation.status == "pending"
    assert here.slept == [1.0, 2.0]


def test_after_the_grace_an_unknown_id_is_an_error(world):
    here = world(*[UNKNOWN] * 9)

    with pytest.raises(errors.GenerationNotFoundError):
        here.run(flows.get(ID, RETRYING, grace=5.0))

    assert sum(here.slept) < 5.0 + RETRYING.longest_pause


@pytest.mark.parametrize("status", [400, 500, 418])
def test_what_the_api_repeats_of_a_callback_address_is_in_no_error(world, status):
    hook = "https://hooks.example.com/services/s3cretpath?token=s3crettoken"
    request = ImageRequest(prompt="a red teapot", callback_url=hook)
    said = {"code": "invalid_request", "message": f"can't call {hook} or /services/s3cretpath", "type": "t"}

    with pytest.raises(GptImageError) as caught:
        world(_response({"error": said, "msg": hook}, status)).run(flows.submit(request, RETRYING))

    assert "s3cret" not in str(caught.value)
    for other in (None, "https://hooks.example.com", "https://hooks.example.com/"):
        request = ImageRequest(prompt="a red teapot", callback_url=other)
        with pytest.raises(GptImageError, match="can't call"):
            world(_response({"error": said}, status)).run(flows.submit(request, RETRYING))
