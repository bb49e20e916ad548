"""Error responses to a read become the classes of the table. What refuses a submit is tested elsewhere."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.replies import NoResponse

WHERE = "https://h (connection 'c')"

# "Error Reference" of the API document.
TABLE = [
    (400, "invalid_request", "invalid_request_error", errors.InvalidRequestError),
    (401, "invalid_api_key", "authentication_error", errors.InvalidApiKeyError),
    (402, "insufficient_credits", "billing_error", errors.InsufficientCreditsError),
    (403, "ip_not_allowed", "permission_error", errors.IpNotAllowedError),
    (404, "model_not_found", "invalid_request_error", errors.ModelNotFoundError),
    (404, "task_not_found", "invalid_request_error", errors.GenerationNotFoundError),
    (429, "rate_limit_exceeded", "rate_limit_error", errors.RateLimitError),
    (429, "spend_limit_exceeded", "billing_error", errors.SpendLimitError),
    (500, "internal_error", "api_error", errors.InternalServerError),
    (503, "upstream_error", "upstream_error", errors.UpstreamError),
]
READERS = {
    "a read": lambda reply: protocol.parse_generation(reply, "abc"),
    "the balance": protocol.parse_balance,
}


def _response(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.parse_response(status=status, headers=named, body=raw, at=1000.0, api_key="sk-live-key")


@pytest.fixture(params=READERS.values(), ids=READERS)
def error_of(request):
    """Return the error that a response to either read becomes."""

    def raised(body, status, **headers):
        with pytest.raises(errors.GptImageError) as caught:
            request.param(_response(body, status, **headers))
        return caught.value

    return raised


@pytest.mark.parametrize(("status", "code", "type", "expected"), TABLE)
def test_an_error_body_of_the_api_becomes_its_row_with_all_it_said(error_of, status, code, type, expected):
    body = {"error": {"code": code, "message": "As the server says.", "type": type}}

    error = error_of(body, status, x_request_id="req-7")

    assert error.__class__ is expected
    assert (error.status, error.code, error.type) == (status, code, type)
    assert error.request_id == "req-7"
    assert "As the server says." in error.message
    assert str(status) in error.message
    assert code in error.message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "invalid_api_key", ["sk-", "disabled", "banned"]),
        (402, "insufficient_credits", ["GET /v1/credits", "Dashboard > Billing"]),
        (403, "ip_not_allowed", ["allowlist"]),
        (503, "upstream_error", ["prohibited content", "temporarily unavailable", "parameters"]),
    ],
)
def test_the_message_carries_the_documents_causes_and_remedies(error_of, status, code, words):
    error = error_of({"error": {"code": code, "message": "m", "type": "t"}}, status)

    assert [word for word in words if word not in error.message] == []


def test_an_unknown_code_falls_back_on_the_type(error_of):
    error = error_of({"error": {"code": "brand_new", "type": "billing_error", "message": "m"}}, 418)

    assert type(error) is errors.InsufficientCreditsError
    assert error.code == "brand_new"


def test_an_unknown_code_and_type_fall_back_on_the_status(error_of):
    error = error_of({"error": {"code": "brand_new", "type": "also_new", "message": "m"}}, 403)

    assert type(error) is errors.IpNotAllowedError


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        ({"code": "invalid_api_key"}, 401, errors.InvalidApiKeyError),
        ({"type": "rate_limit_error"}, 429, errors.RateLimitError),
        ({"message": "no"}, 400, errors.InvalidRequestError),
        ({"code": 7, "type": [], "message": "no"}, 402, errors.InsufficientCreditsError),
        ({"code": "internal_error", "type": None, "message": {"a": 1}}, 500, errors.InternalServerError),
        ({"code": " ip_not_allowed ", "more": 1}, 403, errors.IpNotAllowedError),
        ({"code": ["x"], "type": "api_error", "message": ""}, 500, errors.InternalServerError),
    ],
)
def test_an_error_body_may_lack_fields_have_more_or_have_them_of_the_wrong_type(
    error_of, error, status, expected
):
    raised = error_of({"error": error, "trace": []}, status)

    assert type(raised) is expected
    assert raised.status == status
    assert raised.code is None or isinstance(raised.code, str)


@pytest.mark.parametrize("value", [30, 30.5])
def test_the_wait_the_server_asks_for_is_on_the_error_and_in_its_message(error_of, value):
    body = {"error": {"code": "rate_limit_exceeded", "message": "m", "type": "rate_limit_error"}}

    error = error_of(body, 429, retry_after=str(value))

    assert error.retry_after == value
    assert f"{value} s" in error.message


def test_a_date_to_come_back_at_is_relative_to_the_answer(error_of):
    body = {"error": {"code": "internal_error"}}

    error = error_of(body, 500, retry_after="Thu, 01 Jan 1970 00:17:40 GMT")

    assert error.retry_after == 60


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.InvalidApiKeyError),
        (402, errors.InsufficientCreditsError),
        (403, errors.IpNotAllowedError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (503, errors.UpstreamError),
    ],
)
def test_a_200_whose_envelope_code_is_an_error_is_an_error(error_of, envelope, expected):
    error = error_of({"code": envelope, "msg": "as the envelope says", "data": None}, 200)

    assert type(error) is expected
    assert error.status == envelope
    assert "as the envelope says" in error.message


def test_a_failing_http_status_weighs_more_than_the_envelopes(error_of):
    assert type(error_of({"code": 500, "msg": "m"}, 402)) is errors.InsufficientCreditsError


UNREADABLE = [
    (b"<html><body>502 Bad Gateway</body></html>", 502),
    (b"", 500),
    (b"", 200),
    (b'{"id": "abc", "stat', 200),
    (b"[]", 200),
    (b"null", 401),
    ({}, 200),
    ({}, 401),
    ({"message": "Service Unavailable"}, 503),
    ({"error": None}, 500),
    ({"error": "internal"}, 500),
    ({"error": ["internal"]}, 500),
    ({"error": {}}, 500),
    ({"error": {"code": "", "message": " ", "type": None}}, 500),
    ({"error": {"details": "x"}}, 503),
    (b"", 301),
    (b"", 302),
    (b"", 307),
    (b"", 204),
    (b"<html>login</html>", 200),
    ({"code": "500", "msg": "m"}, 200),
]


@pytest.mark.parametrize(("body", "status"), UNREADABLE)
def test_an_answer_that_is_not_the_apis_is_unreadable_and_never_means_no(body, status):
    for read in (READERS["a read"], READERS["the balance"]):
        with pytest.raises(errors.UnreadableResponseError) as caught:
            read(_response(body, status, retry_after="9"))

        assert caught.value.status == status
        assert caught.value.retry_after == 9
        assert caught.value.retryable


@pytest.mark.parametrize(("body", "status"), UNREADABLE)
def test_after_a_submit_an_answer_that_is_not_the_apis_leaves_it_unknown(body, status):
    with pytest.raises(errors.SubmissionUnknownError) as caught:
        protocol.parse_submit(_response(body, status))

    assert caught.value.status == status
    assert "may have been charged" in caught.value.message


def test_no_answer_to_a_read_is_a_failed_connection():
    reply = NoResponse(sent=True, reason="ReadTimeout: no details", at=0.0)

    for read in (READERS["a read"], READERS["the balance"]):
        with pytest.raises(errors.ConnectionFailedError, match="ReadTimeout"):
            read(reply)


@pytest.mark.parametrize(
    ("refused", "local", "remedy"),
    [
        (True, True, "Does the emulator run? Start it: python -m airflow_gpt_image.emulator"),
        (True, False, "Nobody listens there: are the connection's Host and Port right?"),
        (False, True, "That is the network, a proxy or the API itself, and may pass: try again."),
    ],
)
def test_an_api_that_does_not_respond_is_named_with_its_connection_and_what_to_do(refused, local, remedy):
    reply = NoResponse(
        sent=False,
        reason="ConnectError: r",
        at=0.0,
        where=WHERE,
        refused=refused,
        local=local,
    )

    with pytest.raises(errors.ConnectionFailedError) as reading:
        protocol.parse_balance(reply)
    with pytest.raises(errors.ConnectionFailedError) as submitting:
        protocol.parse_submit(reply)

    assert reading.value.message.splitlines() == [
        "No response from the API at https://h (connection 'c').",
        "ConnectError: r. Reading costs nothing.",
        remedy,
    ]
    assert submitting.value.message.splitlines() == [
        "The request never reached the API at https://h (connection 'c').",
        "ConnectError: r. Nothing was submitted.",
        remedy,
    ]
