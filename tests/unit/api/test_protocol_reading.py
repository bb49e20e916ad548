"""The answers to reading a generation, and to reading the balance."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GenerationNotFoundError,
    InvalidApiKeyError,
    UnreadableResponseError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"


def _response(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocol.parse_response(status=status, headers=headers, body=raw, at=1000.0, api_key="sk-live-key")


def _read(body, status=200):
    return protocol.parse_generation(_response(body, status), ID)


def _balance(body, status=200):
    return protocol.parse_balance(_response(body, status))


# --- a generation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "processing", "completed", "failed", "queued"])
def test_a_generation_is_read_in_any_status(status):
    assert _read({"id": ID, "status": status}).status == status


def test_a_failed_generation_is_no_failed_read():
    generation = _read({"id": ID, "status": "failed", "error": {"code": "upstream_error", "message": "m"}})

    assert generation.error.code == "upstream_error"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": ID}, "status"),
        ({"status": "pending"}, "id"),
        ({"id": 5, "status": "pending"}, "id"),
        ({"id": ID, "status": 5}, "status"),
        ({"id": ID, "status": "completed", "output": {"urls": {"0": "x"}}}, "urls"),
        ({"id": ID, "status": "completed", "output": {"urls": [5]}}, "urls"),
    ],
)
def test_an_answer_that_lacks_what_matters_is_unreadable_and_names_the_field(body, field):
    with pytest.raises(UnreadableResponseError) as caught:
        _read(body)

    assert field in caught.value.message
    assert caught.value.generation_id == ID


def test_an_answer_about_another_generation_is_not_taken():
    with pytest.raises(UnreadableResponseError, match="another generation") as caught:
        _read({"id": "57c8772c", "status": "completed", "output": {"urls": ["https://h/"]}})

    assert caught.value.generation_id == ID


def test_an_unknown_id_is_the_only_thing_that_means_does_not_exist():
    with pytest.raises(GenerationNotFoundError) as caught:
        _read({"error": {"code": "task_not_found", "message": "m", "type": "invalid_request_error"}}, 404)

    assert caught.value.generation_id == ID
    assert caught.value.retryable is False


@pytest.mark.parametrize("body", [b"<html>404</html>", b"", {}, {"message": "no route"}])
def test_a_404_that_is_not_the_apis_is_unreadable(body):
    with pytest.raises(UnreadableResponseError):
        _read(body, 404)


@pytest.mark.parametrize("status", [400, 500])
def test_a_failing_http_status_is_no_generation_even_if_the_body_looks_like_one(status):
    with pytest.raises(UnreadableResponseError):
        _read({"id": ID, "status": "completed"}, status)


def test_a_failed_read_names_the_generation():
    with pytest.raises(ConnectionFailedError) as caught:
        protocol.parse_generation(NoResponse(sent=True, reason="r", at=0.0), ID)

    assert caught.value.generation_id == ID


# --- the balance, whose shape is undocumented ---------------------------------------------------------------


def test_the_balance_is_what_is_left_and_not_what_was_bought_or_used():
    data = {"total_purchased": 10000, "total_consumed": 200, "balance": 9800}

    assert str(_balance({"code": 200, "msg": "success", "data": data})) == "9800"


@pytest.mark.parametrize(
    "body",
    [
        {"balance": 94.5, "credits": 100},
        {"data": {"credits": 100, "total_credits": 200, "balance": 94.5}},
        {"balance": {"total": 100, "remaining": 94.5}},
    ],
)
def test_the_name_balance_comes_before_others(body):
    assert _balance(body) == Decimal("94.5")


@pytest.mark.parametrize(
    "body",
    [
        {"credits": 94.5},
        {"credits": "94.5"},
        {"balance": 94.5},
        {"remaining": 94.5},
        {"remaining_credits": 94.5},
        {"available_credits": " 94.5 "},
        {"data": 94.5},
        {"data": "94.5"},
        {"data": {"credits": 94.5}},
        {"code": 200, "msg": "success", "data": {"balance": "94.5", "currency": "credits"}},
        {"data": {"credits": {"remaining": 94.5}}},
        {"credits": {"balance": 94.5}},
    ],
)
def test_the_plausible_shapes_of_a_balance_are_read(body):
    assert _balance(body) == Decimal("94.5")


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0"), (-4.7, "-4.7"), (0.1, "0.1"), (1000000, "1000000")]
)
def test_a_balance_is_exact_and_may_be_nothing_or_below(number, expected):
    assert str(_balance({"credits": number})) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"credits": None},
        {"credits": True},
        {"credits": "many"},
        {"credits": "1,000"},
        {"credits": ""},
        {"credits": []},
        {"credits": [94.5]},
        {"credits": {}},
        {"credits": "NaN"},
        {"credits": "sNaN"},
        {"credits": "Infinity"},
        {"credits": "\ud800"},
        {"data": []},
        {"data": {"data": {"data": {"credits": 1}}}},
        {"something": 5},
        {"total_credits": 94.5},
        {"data": {"total_purchased": 10000, "total_consumed": 200}},
        {"data": {"balance": None, "total_purchased": 10000}},
        b'{"credits": NaN}',
        b'{"credits": 1e999}',
        b'{"credits": -Infinity}',
    ],
)
def test_a_balance_that_can_not_be_read_is_said_to_be_unreadable(body):
    with pytest.raises(UnreadableResponseError, match="no amount of credits"):
        _balance(body)


@pytest.mark.parametrize("amount", ["1E+999999", "1e308", "9" * 4000, "1" + "0" * 40])
def test_an_absurd_balance_is_unreadable_for_nothing_could_be_done_with_it(amount):
    with pytest.raises(UnreadableResponseError):
        _balance({"credits": amount})


def test_a_refused_read_of_the_balance_says_why():
    with pytest.raises(InvalidApiKeyError):
        _balance({"error": {"code": "invalid_api_key", "message": "m"}}, 401)


# How old a generation is


def _told(date, at=2_000_000_000.0, **times):
    body = {"id": ID, "status": "completed", "told_at": 0, **times}
    headers = {} if date is None else {"date": date}
    response = protocol.parse_response(
        status=200, headers=headers, body=json.dumps(body).encode(), at=at, api_key="sk-live-key"
    )
    return protocol.parse_generation(response, ID)


def _aged(date, at=2_000_000_000.0, **times):
    return _told(date, at, **times).age


COMPLETED = 1_775_383_910
HALF_A_MINUTE_LATER = "Sun, 05 Apr 2026 10:12:20 GMT"


def test_a_generation_is_as_old_as_the_api_says_whatever_our_clock_does():
    assert _aged(HALF_A_MINUTE_LATER, completed_at=COMPLETED) == 30
    assert _aged(HALF_A_MINUTE_LATER, created_at=COMPLETED - 60) == 90


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_where_the_api_does_not_say_what_time_it_is_our_clock_does(date):
    assert _aged(date, at=COMPLETED + 40.0, completed_at=COMPLETED) == 40


def test_a_completion_a_little_ahead_of_the_api_has_just_been_and_one_far_ahead_is_none():
    assert _aged(HALF_A_MINUTE_LATER, completed_at=COMPLETED + 60) == 0
    assert _aged(HALF_A_MINUTE_LATER, completed_at=COMPLETED + 3600) is None


def test_a_generation_without_times_has_no_age():
    assert _aged(HALF_A_MINUTE_LATER) is None


def test_the_lag_is_from_the_end_of_a_generation_and_unknown_without_one():
    assert _told(HALF_A_MINUTE_LATER, completed_at=COMPLETED).lag == 30
    assert _told(HALF_A_MINUTE_LATER, created_at=COMPLETED).lag is None
