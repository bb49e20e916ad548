"""The answer to a submit. Here every doubt is about money."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import protocol
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
        {"taskId": 5},
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


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateways_json_is_not_the_apis_word_that_nothing_was_accepted(status):
    with pytest.raises(SubmissionUnknownError):
        _read({"error": {"code": status, "message": "Gateway trouble", "status": "UNAVAILABLE"}}, status)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(500, "internal_error", errors.InternalServerError), (503, "upstream_error", errors.UpstreamError)],
)
def test_an_error_body_of_the_api_itself_means_not_accepted_500_and_503_included(status, code, expected):
    with pytest.raises(expected) as caught:
        _read({"error": {"code": code, "message": "m", "type": "t"}}, status)

    assert caught.value.retryable


def test_a_request_that_never_left_is_a_failed_connection_and_nothing_was_submitted():
    with pytest.raises(ConnectionFailedError, match="Nothing was submitted") as caught:
        protocol.parse_submit(protocol.NoResponse(sent=False, reason="ConnectError: refused", at=0.0))

    assert "ConnectError: refused" in caught.value.message


def test_a_request_that_left_without_an_answer_is_unknown_and_says_what_that_means():
    with pytest.raises(SubmissionUnknownError, match="can pay twice") as caught:
        protocol.parse_submit(protocol.NoResponse(sent=True, reason="ReadTimeout: no details", at=0.0))

    assert "ReadTimeout" in caught.value.message
    assert caught.value.retryable is False
