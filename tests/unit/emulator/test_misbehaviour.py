"""Refusals, connections that end and answers that take their time, over a real socket; and what they cost."""

from __future__ import annotations

import email.utils
import socket
import time

import httpx
import pytest

from airflow_gpt_image.emulator.error_table import ROWS


@pytest.mark.parametrize("code", ROWS)
@pytest.mark.parametrize("place", ["submit", "get", "credits"])
def test_every_row_of_the_error_table_can_be_had(submit, read, emulator, place, code):
    emulator.fault(place, code, times=1)

    answer = submit() if place == "submit" else read(place)

    row = ROWS[code]
    assert answer.status_code == row.status
    assert answer.json() == {"error": {"code": code, "message": row.message, "type": row.type}}
    assert emulator.books()["requests"]["rejected"] == {code: 1}


@pytest.mark.parametrize(
    ("place", "status", "code"),
    [
        ("submit", 400, "invalid_request"),
        ("submit", 404, "model_not_found"),
        ("get", 404, "task_not_found"),
        ("submit", 429, "rate_limit_exceeded"),
        ("submit", 500, "internal_error"),
        ("submit", 503, "upstream_error"),
    ],
)
def test_a_status_of_the_table_means_its_row(submit, read, emulator, place, status, code):
    emulator.fault(place, str(status), times=1)

    answer = submit() if place == "submit" else read(place)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("status", [200, 204, 304, 418, 502, 504, 599])
@pytest.mark.parametrize("place", ["submit", "get", "credits"])
def test_another_status_is_a_proxys_page(submit, read, emulator, place, status):
    emulator.fault(place, str(status), times=1)

    answer = submit() if place == "submit" else read(place)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert ("<html>" in answer.text) == (status not in (204, 304))


def test_a_status_can_have_any_body(submit, emulator):
    emulator.fault("submit", "400", body='{"error": {"code": "brand_new"}}', content_type="text/plain")

    answer = submit()

    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "brand_new"}}
    assert answer.headers["content-type"].startswith("text/plain")


GATEWAYS = {
    "gateway=504": (504, {"error": {"code": "504", "message": "Gateway Timeout"}}),
    "gateway": (504, {"error": {"code": "504", "message": "Gateway Timeout"}}),
    "gateway=502;form=type": (502, {"error": {"type": "timeout"}}),
    "gateway=504;form=envelope": (504, {"code": 504, "msg": "Gateway Timeout"}),
    "gateway=504;form=envelope;status=200": (200, {"code": 504, "msg": "Gateway Timeout"}),
    "gateway=524": (524, {"error": {"code": "524", "message": "A Timeout Occurred"}}),
    "gateway=499": (499, {"error": {"code": "499", "message": "Client Closed Request"}}),
    "gateway=425": (425, {"error": {"code": "425", "message": "Too Early"}}),
    "gateway=409;form=type": (409, {"error": {"type": "timeout"}}),
}


@pytest.mark.parametrize("spec", GATEWAYS)
@pytest.mark.parametrize("place", ["submit", "get", "credits"])
def test_a_gateway_answers_with_json_of_its_own(submit, read, emulator, place, spec):
    emulator.fault(f"{place}:{spec}")

    answer = submit() if place == "submit" else read(place)

    assert (answer.status_code, answer.json()) == GATEWAYS[spec]


@pytest.mark.parametrize("status", [204, 408, 409, 425, 499, 502, 504, 524])
def test_a_gateway_answers_with_a_page_too(submit, emulator, status):
    emulator.fault(f"submit:gateway={status};form=page")

    answer = submit()

    assert answer.status_code == status
    assert (f"<title>{status}" in answer.text) is (status != 204)


def test_a_gateway_can_say_when_to_come_again(submit, emulator):
    emulator.fault("submit:gateway=429;retry_after=3")

    answer = submit()

    assert answer.headers["retry-after"] == "3"
    assert emulator.books()["requests"]["rejected"] == {"429": 1}


@pytest.mark.parametrize("wanted", ["7", "0.5", "soon", "-1"])
def test_retry_after_is_sent_as_it_was_asked_for(submit, emulator, wanted):
    emulator.fault("submit", "429", retry_after=wanted)

    answer = submit()

    assert answer.headers["retry-after"] == wanted


def test_retry_after_can_be_a_date(submit, emulator, clock):
    emulator.fault("submit:503;retry_after=date:30")

    answer = submit()

    date = email.utils.parsedate_to_datetime(answer.headers["retry-after"])
    assert date.timestamp() == int(clock.time + 30)


# What a submit costs: refusals and lost connections nothing, unless asked; damaged answers their price.

NOT_CHARGED = [
    "503",
    "500",
    "502",
    "close",
    "reset",
    "not_http",
    "html",
    "empty",
    "garbage",
    "not_object",
    "envelope",
]
CHARGED = [
    "lost",
    "truncated",
    "broken_json",
    "huge=1",
    "drip=0.01",
    "late=0.01",
    "late_accept=0.01",
    "missing_id",
    "gateway=504",
    "gateway=502;form=type",
    "gateway=504;form=envelope;status=200",
    "gateway=524;form=page",
]


def try_to(action):
    """Do it; how it went doesn't matter."""
    try:
        return action()
    except httpx.TransportError as error:
        return error


@pytest.mark.parametrize("kind", NOT_CHARGED)
def test_what_comes_instead_of_the_answer_is_not_charged(submit, emulator, kind):
    emulator.fault(f"submit:{kind}")

    try_to(submit)

    assert (emulator.books()["submits"], emulator.books()["charged"]) == (0, "0")


@pytest.mark.parametrize("kind", NOT_CHARGED)
def test_it_is_charged_when_the_fault_says_so(submit, emulator, kind):
    emulator.fault(f"submit:{kind};accepted=yes")

    try_to(submit)

    assert (emulator.books()["submits"], emulator.books()["charged"]) == (1, "4.7")


@pytest.mark.parametrize("kind", [*CHARGED, "junk_id", "extra"])
def test_a_damaged_answer_is_charged(submit, emulator, kind):
    emulator.fault(f"submit:{kind}")

    try_to(submit)

    assert (emulator.books()["submits"], emulator.books()["charged"]) == (1, "4.7")


@pytest.mark.parametrize("kind", CHARGED)
def test_it_is_not_charged_when_the_fault_says_so(submit, emulator, kind):
    emulator.fault(f"submit:{kind};accepted=no")

    try_to(submit)

    assert (emulator.books()["submits"], emulator.books()["charged"]) == (0, "0")


def test_a_proper_looking_answer_without_acceptance_names_nothing_that_exists(submit, get, emulator):
    emulator.fault("submit:late=0;accepted=no")

    generation_id = submit().json()["data"]["taskId"]

    assert get(generation_id).status_code == 404


def test_a_lost_answer_is_in_the_books_before_the_client_knows(submit, emulator):
    emulator.fault("submit:lost*1;match=bicycle")

    with pytest.raises(httpx.RemoteProtocolError):
        submit("a red bicycle")
    second = submit("a red bicycle")

    assert second.status_code == 200
    assert emulator.books()["submits"] == 2


def test_an_invalid_submit_uses_no_fault_up(submit, emulator):
    emulator.fault("submit:503*1")

    statuses = [submit("").status_code, submit("a cat").status_code, submit("a cat").status_code]

    assert statuses == [400, 503, 200]


# How connections end. httpx says what a client makes of it; a bare socket says what came over the wire.


@pytest.mark.parametrize("place", ["submit", "get", "credits", "file"])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("close", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("not_http", httpx.RemoteProtocolError),
        ("truncated", httpx.RemoteProtocolError),
    ],
)
def test_a_connection_can_end_in_every_way_everywhere(submit, read, emulator, place, kind, error):
    emulator.fault(place, kind, times=1)

    with pytest.raises(error):
        submit() if place == "submit" else read(place)

    assert (submit() if place == "submit" else read(place)).status_code == 200


def connect(emulator):
    host, port = emulator.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def head(emulator, request_line, **headers):
    lines = [f"{request_line} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {emulator.key}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def exchange(emulator, *, keep_alive=True):
    """Ask for the credits over a bare socket; everything that comes until the end."""
    with connect(emulator) as connection:
        connection.sendall(
            head(emulator, "GET /v1/credits", connection="keep-alive" if keep_alive else "close")
        )
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_closed_connection_ends_without_a_byte(emulator):
    emulator.fault("credits:close")

    assert exchange(emulator) == b""


def test_a_reset_connection_is_reset(emulator):
    emulator.fault("credits:reset")

    with pytest.raises(ConnectionResetError):
        exchange(emulator)


def test_a_truncated_answer_announces_more_than_it_sends(emulator):
    emulator.fault("credits:truncated")

    start, _, body = exchange(emulator).partition(b"\r\n\r\n")

    assert start.startswith(b"HTTP/1.1 200 OK")
    assert b"x-request-id" in start
    announced = int(start.lower().partition(b"content-length: ")[2].split()[0])
    assert len(body) == announced // 2


def test_what_is_not_http_is_not_http(emulator):
    emulator.fault("credits:not_http")

    assert exchange(emulator) == b"220 mail.example.com ESMTP\r\n\r\n"


def test_a_client_that_leaves_in_the_middle_of_its_submit_pays_nothing(emulator, until):
    with connect(emulator) as connection:
        connection.sendall(
            head(emulator, "POST /v1/images/generations", content_type="application/json", content_length=100)
        )
        connection.sendall(b'{"model": "gpt-image-2", ')
        until(lambda: emulator.books()["requests"]["submit"] == 1)

    assert exchange(emulator, keep_alive=False).startswith(b"HTTP/1.1 200")
    assert emulator.books()["submits"] == 0


def test_a_client_that_leaves_in_the_middle_of_an_answer_disturbs_nobody(emulator):
    emulator.fault("credits:drip=1*1")
    with connect(emulator) as connection:
        connection.sendall(head(emulator, "GET /v1/credits"))
        connection.recv(10)

    assert exchange(emulator, keep_alive=False).startswith(b"HTTP/1.1 200")


# Time.


@pytest.mark.parametrize("place", ["submit", "get", "credits", "file"])
@pytest.mark.parametrize("kind", ["late", "drip"])
def test_an_answer_can_take_its_time_everywhere(submit, read, emulator, place, kind):
    proper = (submit() if place == "submit" else read(place)).content
    emulator.fault(place, kind, 0.15, times=1)
    started = time.monotonic()

    answer = submit() if place == "submit" else read(place)

    assert time.monotonic() - started >= 0.15
    assert answer.status_code == 200
    assert len(answer.content) == len(proper)


def test_any_fault_can_come_late(submit, emulator):
    emulator.fault("submit:503;delay=0.15")
    started = time.monotonic()

    answer = submit()

    assert answer.status_code == 503
    assert time.monotonic() - started >= 0.15


def test_a_client_that_gives_up_on_a_late_answer_has_already_paid(submit, api, emulator):
    emulator.fault("submit:late=30")
    api.timeout = 0.2

    with pytest.raises(httpx.ReadTimeout):
        submit()

    assert emulator.books()["submits"] == 1


def test_a_client_that_gives_up_on_a_late_acceptance_pays_later(submit, api, emulator, until):
    emulator.fault("submit:late_accept=0.4")
    api.timeout = 0.1

    with pytest.raises(httpx.ReadTimeout):
        submit()

    assert emulator.books()["submits"] == 0
    until(lambda: emulator.books()["submits"] == 1)


def test_a_late_acceptance_that_cannot_be_paid_any_more_is_refused(submit, emulator):
    emulator.fault("submit:late_accept=0.1")
    emulator.settings(credits="4.7")
    emulator.fault("generation:never")

    first, second = submit(), submit()

    assert (first.status_code, second.status_code) == (200, 402)
