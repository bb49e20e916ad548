"""What came over the wire → a value that can be looked at without danger."""

from __future__ import annotations

import json
import re

import pytest

from airflow_gpt_image.api import protocol
from airflow_gpt_image.errors import GptImageError, UnreadableResponseError

KEY = "sk-live-0123456789abcdef"


def _response(body, status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return protocol.parse_response(status=status, headers=named, body=raw, at=1000.0, api_key=KEY)


def _error_of(body, status=200, **headers):
    with pytest.raises(GptImageError) as caught:
        protocol.parse_generation(_response(body, status, **headers), "abc")
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"true",
        b"7",
        b'{"code": 200',
        b"\xff\xfe{}",
        b"{'a': 1}",
        b"\x00",
        b"{" * 2000,
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"n": ' + b"9" * 5000,
    ],
)
def test_what_is_no_json_object_is_no_document(body):
    answer = _response(body)

    assert answer.document is None
    assert len(answer.excerpt) <= 200


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 990, 1100])
def test_json_nested_to_any_depth_is_an_answer_like_any_other(depth):
    body = b'{"data": {"taskId": "abc"}, "deep": ' + b"[" * depth + b"]" * depth + b"}"

    answer = _response(body)

    assert answer.document is None or answer.document["data"] == {"taskId": "abc"}


def test_deep_json_in_the_answer_to_a_submit_raises_nothing_of_pythons_own():
    body = b'{"data": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}"

    with pytest.raises(GptImageError):
        protocol.parse_submit(_response(body))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 4000])
def test_a_strange_number_does_not_hide_the_rest(number):
    answer = _response(b'{"id": "abc", "status": "pending", "created_at": ' + number + b"}")

    assert protocol.parse_generation(answer, "abc").created_at is None


def test_the_key_is_concealed_wherever_an_answer_repeats_it():
    answer = _response(
        {KEY: {"nested": [f"Bearer {KEY}", {KEY: f"{KEY}{KEY}"}]}, "n": 1},
        **{KEY: "x", "location": f"https://evil.example/?{KEY}"},
    )

    assert "sk-live" not in repr(answer)
    assert "***" in answer.excerpt


def test_the_key_is_concealed_before_the_excerpt_is_cut():
    answer = _response(b"x" * 190 + KEY.encode() + b"y" * 50)

    assert "sk-live" not in answer.excerpt


@pytest.mark.parametrize("key", ['sk-with"quote', "sk-with\\backslash", "sk-with/slash"])
def test_a_key_that_json_writes_in_another_way_is_concealed_too(key):
    raw = json.dumps({"message": f"no such key {key}"}).replace("/", "\\/").encode()

    answer = protocol.parse_response(status=200, headers={}, body=raw, at=0.0, api_key=key)

    assert "with" not in answer.excerpt
    assert key not in repr(answer.document)


def test_a_key_written_in_json_escapes_is_concealed_too():
    raw = ('{"message": "' + "".join(f"\\u{ord(letter):04x}" for letter in KEY) + '"}').encode()

    answer = _response(raw)

    assert json.loads(raw)["message"] == KEY
    assert KEY not in re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), answer.excerpt)


@pytest.mark.parametrize("where", ["message", "code", "type"])
def test_an_error_that_repeats_the_key_does_not_pass_it_on(where):
    body = {
        "error": {"code": "invalid_api_key", "message": "m", "type": "t", where: f"your key {KEY} is bad"}
    }

    error = _error_of(body, 401, x_request_id=f"req-{KEY}")

    assert KEY not in repr(vars(error))
    assert KEY not in str(error)


def test_a_message_lands_on_one_line_of_a_log():
    error = _error_of({"error": {"code": "x", "message": "a\r\nb\tc\u2028d\x85e\x0bf"}}, 400)

    assert error.message.startswith("a b c d e f")
    assert len(error.message.splitlines()) == 1


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x9b", "\u202e", "\x7f"])
def test_a_message_can_not_steer_a_terminal_or_end_a_string(character):
    error = _error_of({"error": {"code": "x", "message": f"a{character}[31mb"}}, 400)

    assert character not in error.message


@pytest.mark.parametrize("where", ["message", "code", "type"])
def test_a_message_of_half_a_surrogate_pair_can_still_be_written_to_a_log(where):
    error = _error_of({"error": {"code": "c", "message": "m", "type": "t", where: "half \ud800"}}, 400)

    assert str(error).encode()
    assert f"{error.code} {error.type}".encode()


def test_a_long_message_is_cut():
    error = _error_of({"error": {"code": "c" * 10_000, "message": "m" * 100_000, "type": "t" * 10_000}}, 400)

    assert len(error.message) < 2000


def test_an_unreadable_answer_shows_its_beginning_only():
    error = _error_of(b"<html>\n\x1b" + b"x" * 100_000, 502)

    assert isinstance(error, UnreadableResponseError)
    assert "<html>\\n\\x1b" in error.message
    assert len(error.message) < 1000
    assert error.status == 502


def test_bytes_that_are_no_text_are_shown_as_far_as_they_go():
    error = _error_of(b"\xff\xfe caf\xe9", 502)

    assert "caf" in error.message
    assert error.message.encode()


def test_a_redirect_is_unreadable_and_says_where_it_leads_and_that_the_key_is_not_sent_there():
    error = _error_of(b"", 302, location="https://evil.example/x")

    assert isinstance(error, UnreadableResponseError)
    assert "'https://evil.example/x'" in error.message
    assert "key is not sent" in error.message


def test_the_request_id_of_the_server_is_kept():
    assert _error_of({}, 500, x_request_id="req-7").request_id == "req-7"
    assert _error_of({"error": {"code": "internal_error"}}, 500, x_request_id="req-7").request_id == "req-7"
    assert _error_of({}, 500).request_id is None
