"""The answer to a submit. Here every doubt is about money."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.errors import ConnectionFailedError, SubmissionUnknownError

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"


def _read(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocol.parse_submit(
        protocol.parse_response(status=status, headers=headers, body=raw, at=1000.0, api_key="sk-live-key")
    )


def test_the_documents_answer_gives_the_id():
    assert _read({"code": 200, "msg": "success", "data": {"taskId": ID}}) == ID


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"taskId": ID}},
        {"code": None, "msg": 7, "data": {"taskId": ID, "more": []}, "more": 1},
        {"code": 200, "data": {"taskId": ID}, "error": None},
        {"code": "200", "data": {"taskId": ID}, "error": {}},
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_id_is_believed_whatever_else_is_missing(body, status):
    assert _read(body, status) == ID


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {},
        {"taskId": None},
        {"taskId": 5.5},
        {"taskId": True},
        {"taskId": ""},
        {"taskId": "../credits"},
        {"taskId": "a\nb"},
        {"taskId": "x" * 129},
        {"taskId": [ID]},
        {"task_id": ID},
    ],
)
def test_a_success_without_an_id_leaves_it_unknown(data):
    with pytest.raises(SubmissionUnknownError) as caught:
        _read({"code": 200, "msg": "success", "data": data})

    assert caught.value.generation_id is None


@pytest.mark.parametrize("status", [302, 400, 500, 504])
def test_an_id_beside_a_failing_status_is_kept_on_the_error_for_it_may_be_paid_for(status):
    with pytest.raises(SubmissionUnknownError) as caught:
        _read({"code": 200, "data": {"taskId": ID}}, status, **{"x-request-id": "req-7"})

    assert caught.value.generation_id == ID
    assert caught.value.status == status
    assert caught.value.request_id == "req-7"


@pytest.mark.parametrize(
    "trouble", [{"error": {"code": "internal_error"}}, {"code": 500, "msg": "m"}, {"code": 0, "msg": "m"}]
)
def test_an_id_and_an_error_at_once_are_never_taken_for_not_accepted(trouble):
    with pytest.raises(SubmissionUnknownError) as caught:
        _read({"code": 200, **trouble, "data": {"taskId": ID}}, 500, **{"x-request-id": "req-7"})

    assert caught.value.generation_id == ID
    assert ID in caught.value.message
    assert caught.value.request_id == "req-7"


@pytest.mark.parametrize("envelope", [0, 201, 202, True])
def test_a_success_in_other_words_but_without_an_id_is_not_proof_of_a_refusal(envelope):
    with pytest.raises(SubmissionUnknownError):
        _read({"code": envelope, "msg": "success", "data": {"task": "somewhere else"}})


# --- what counts as "not accepted" --------------------------------------------------------------------------


def _error(error_code, type="t", **more):
    return {"error": {"code": error_code, "type": type, "message": "m"}, **more}


def _envelope(envelope_code, **more):
    return {"code": envelope_code, "msg": "m", "data": None, **more}


UNKNOWN = SubmissionUnknownError
GATEWAY = {"error": {"code": "504", "message": "upstream timed out"}}

OUTCOMES = [
    # The API's own words: a status and a code that stand together in the document's table.
    (400, _error("invalid_request"), errors.InvalidRequestError),
    (401, _error("invalid_api_key"), errors.InvalidApiKeyError),
    (402, _error("insufficient_credits"), errors.InsufficientCreditsError),
    (403, _error("ip_not_allowed"), errors.IpNotAllowedError),
    (404, _error("model_not_found"), errors.ModelNotFoundError),
    (404, _error("task_not_found"), errors.GenerationNotFoundError),
    (429, _error("rate_limit_exceeded"), errors.RateLimitError),
    (429, _error("spend_limit_exceeded"), errors.SpendLimitError),
    (500, _error("internal_error"), errors.InternalServerError),
    (503, _error("upstream_error"), errors.UpstreamError),
    (503, {"error": {"code": "upstream_error"}}, errors.UpstreamError),
    (429, _error("rate_limit_exceeded", type=7, code=200, data={}), errors.RateLimitError),
    # An envelope without an id, under a status that doesn't contradict it.
    (200, _envelope(400), errors.InvalidRequestError),
    (200, _envelope(401), errors.InvalidApiKeyError),
    (201, _envelope(402), errors.InsufficientCreditsError),
    (200, _envelope(403), errors.IpNotAllowedError),
    (200, _envelope(404), errors.InvalidRequestError),
    (200, _envelope(422), errors.InvalidRequestError),
    (299, _envelope(429), errors.RateLimitError),
    (400, _envelope(400), errors.InvalidRequestError),
    (422, {"code": 422}, errors.InvalidRequestError),
    (429, _envelope(429, error=None), errors.RateLimitError),
    # A code of the table under another status.
    (500, _error("upstream_error"), UNKNOWN),
    (503, _error("internal_error"), UNKNOWN),
    (502, _error("internal_error"), UNKNOWN),
    (504, _error("upstream_error"), UNKNOWN),
    (200, _error("invalid_request"), UNKNOWN),
    (200, _error("rate_limit_exceeded"), UNKNOWN),
    (400, _error("insufficient_credits"), UNKNOWN),
    (403, _error("invalid_api_key"), UNKNOWN),
    (429, _error("insufficient_credits"), UNKNOWN),
    (503, _error("rate_limit_exceeded"), UNKNOWN),
    # A code that isn't the table's, or none at all, whatever the type and the status say.
    (504, _error("504", type="gateway_error"), UNKNOWN),
    (504, GATEWAY, UNKNOWN),
    (502, {"error": {"type": "timeout"}}, UNKNOWN),
    (429, {"error": {"type": "rate_limit_error", "message": "m"}}, UNKNOWN),
    (400, {"error": {"type": "invalid_request_error"}}, UNKNOWN),
    (503, {"error": {"type": "upstream_error"}}, UNKNOWN),
    (400, {"error": {"message": "no"}}, UNKNOWN),
    (400, _error("brand_new"), UNKNOWN),
    (400, _error(400), UNKNOWN),
    (400, _error(["invalid_request"]), UNKNOWN),
    (400, _error(" invalid_request "), UNKNOWN),
    (400, _error("Invalid_Request"), UNKNOWN),
    (400, {"error": "invalid_request"}, UNKNOWN),
    (400, {"error": ["invalid_request"]}, UNKNOWN),
    (429, {"code": "rate_limit_exceeded"}, UNKNOWN),
    # A gateway's JSON.
    (502, {"error": {"code": 502, "message": "Gateway trouble", "status": "UNAVAILABLE"}}, UNKNOWN),
    (503, {"message": "Service Unavailable"}, UNKNOWN),
    (504, {"message": "Endpoint request timed out"}, UNKNOWN),
    # An envelope with another code, of another type, or under a status that contradicts it.
    (504, _envelope(504), UNKNOWN),
    (200, _envelope(504), UNKNOWN),
    (200, _envelope(500), UNKNOWN),
    (500, _envelope(500), UNKNOWN),
    (200, _envelope(503), UNKNOWN),
    (503, _envelope(503), UNKNOWN),
    (200, _envelope(408), UNKNOWN),
    (408, _envelope(408), UNKNOWN),
    (200, _envelope(409), UNKNOWN),
    (200, _envelope(425), UNKNOWN),
    (499, _envelope(499), UNKNOWN),
    (500, _envelope(400), UNKNOWN),
    (504, _envelope(429), UNKNOWN),
    (400, _envelope(402), UNKNOWN),
    (302, _envelope(400), UNKNOWN),
    (200, _envelope("400"), UNKNOWN),
    (200, _envelope(400.0), UNKNOWN),
    (200, _envelope(True), UNKNOWN),
    (200, _envelope(0), UNKNOWN),
    (400, _envelope(400, **GATEWAY), UNKNOWN),
    (200, _envelope(429, **GATEWAY), UNKNOWN),
    # Statuses that mean "too slow", and those of proxies in front of an API.
    *[(status, _error("brand_new"), UNKNOWN) for status in (408, 409, 425, 499, 502, 504)],
    *[(status, b"<html>origin trouble</html>", UNKNOWN) for status in range(520, 531)],
    (524, _error("internal_error"), UNKNOWN),
    # What can't be read, or names no generation.
    (500, b"", UNKNOWN),
    (400, b"", UNKNOWN),
    (429, b"Too many requests", UNKNOWN),
    (400, b'{"error": {"code": "invalid_request"', UNKNOWN),
    (200, {}, UNKNOWN),
    (400, {}, UNKNOWN),
    (307, b"", UNKNOWN),
    # What may name a generation, though none that can be read.
    (400, _error("invalid_request", data={"taskId": 5.5}), UNKNOWN),
    (503, _error("upstream_error", id=ID, status="failed"), UNKNOWN),
    (429, _error("rate_limit_exceeded", taskId=ID), UNKNOWN),
    (200, _envelope(402, data={"task_id": ID}), UNKNOWN),
]


@pytest.mark.parametrize(("status", "body", "expected"), OUTCOMES)
def test_only_the_apis_own_words_mean_that_a_submit_was_not_accepted(status, body, expected):
    with pytest.raises(errors.GptImageError) as caught:
        _read(body, status, **{"x-request-id": "req-7"})

    assert type(caught.value) is expected
    assert caught.value.generation_id is None
    assert caught.value.request_id == "req-7"
    assert (expected is not UNKNOWN) or "may have been charged" in caught.value.message


def test_a_refusal_carries_all_that_the_response_says():
    with pytest.raises(errors.RateLimitError, match="Slow down") as caught:
        _read(
            {"error": {"code": "rate_limit_exceeded", "message": "Slow down.", "type": "rate_limit_error"}},
            429,
            **{"retry-after": "7"},
        )

    error = caught.value
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.retry_after == 7


def test_a_refusing_envelope_is_the_errors_status_and_message():
    with pytest.raises(errors.InsufficientCreditsError, match="Top up please") as caught:
        _read({"code": 402, "msg": "Top up please", "data": None}, 200)

    assert caught.value.status == 402


def test_an_unknown_submit_carries_what_the_response_says_as_evidence():
    with pytest.raises(SubmissionUnknownError, match="upstream timed out") as caught:
        _read({"error": {"code": "504", "message": "upstream timed out", "type": "gateway"}}, 504)

    assert (caught.value.status, caught.value.code, caught.value.type) == (504, "504", "gateway")


def test_a_request_that_never_left_is_a_failed_connection_and_nothing_was_submitted():
    with pytest.raises(ConnectionFailedError, match="Nothing was submitted") as caught:
        protocol.parse_submit(NoResponse(sent=False, reason="ConnectError: refused", at=0.0))

    assert "ConnectError: refused" in caught.value.message


def test_a_request_that_left_without_an_answer_is_unknown_and_says_what_that_means():
    with pytest.raises(SubmissionUnknownError, match="can pay twice") as caught:
        protocol.parse_submit(NoResponse(sent=True, reason="ReadTimeout: no details", at=0.0))

    assert "ReadTimeout" in caught.value.message
    assert caught.value.retryable is False
