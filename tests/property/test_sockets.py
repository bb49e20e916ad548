"""Over all that can come over a socket: every call is over in time, with a value or an error of ours."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import threading
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import GptImageError
from tests.raw_server import RawServer

KEY = "sk-live-0123456789abcdef"
ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8

# Many times what any call here may take; for a call that hangs it is over.
LIMIT = 60.0

BODIES = {
    "submit": json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode(),
    "get": json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode(),
    "credits": json.dumps({"code": 200, "data": {"balance": 7.5}}).encode(),
    "download": IMAGE,
}
BODIES["wait"] = BODIES["get"]
CALLS = {
    "submit": lambda client, server, into: client.submit(ImageRequest(prompt="a red bicycle")),
    "get": lambda client, server, into: client.get(ID),
    "wait": lambda client, server, into: client.wait(ID, poll_interval=0.01, timeout=0.05),
    "credits": lambda client, server, into: client.credits(),
    "download": lambda client, server, into: client.download(server.url + "/1.png", into),
}


# --- what a server can say ----------------------------------------------------------------------------------

interim = st.sampled_from(
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x.css>; rel=preload\r\n\r\n",
    ]
)
harmless = st.sampled_from(
    [
        b"content-type: application/json",
        b"content-type: text/html; charset=klingon",
        b"Content-Type:",
        b"content-encoding: aws-chunked",
        b"content-encoding:",
        b"content-encoding: UTF-8",
        b"content-encoding: none",
        b"content-encoding: gzip",
        b"content-encoding: deflate",
        b"content-encoding: br",
        b"content-encoding: gzip, identity",
        b"set-cookie: a=\x80; Domain=.example.com",
        b"retry-after: soon",
        b"x-more: " + b"x" * 5000,
        b"x-echo: Bearer " + KEY.encode(),
        b"date: yesterday",
        b"server: \xe4\xf6\xfc",
        b"location: https://elsewhere.example/",
        b'alt-svc: h3=":443"',
        b"connection: close",
        b" folded: onto the line before",
        b"no colon at all",
        b"x y: z",
        b"x-nul: a\0b",
        b": no name",
        b"x-" + b"y" * 120_000 + b": z",
    ]
)
harmful = st.sampled_from(
    [
        b"content-length: -1",
        b"content-length: 3",
        b"content-length: 999999",
        b"content-length: 10, 20",
        b"content-length: 99999999999999999999999",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: identity",
        b"connection: upgrade",
        b"upgrade: websocket",
    ]
)
packing = st.sampled_from(
    [
        lambda data: data,
        gzip.compress,
        zlib.compress,
        lambda data: gzip.compress(gzip.compress(data)),
    ]
)
breaking = st.sampled_from(
    [
        lambda data: gzip.compress(data)[:-5],
        lambda data: gzip.compress(data)[:12] + b"\xff" * 20,
        lambda data: gzip.compress(data + b" " * 4_000_000),
    ]
)
refusals = st.sampled_from(
    [
        b'{"error": {"code": "rate_limit_exceeded", "message": "m", "type": "t"}}',
        b'{"error": {"code": "internal_error", "message": "m"}}',
        b'{"code": 500, "msg": "m"}',
        b"<html>502 Bad Gateway</html>",
        b'{"data": ',
        b"[]",
        b"",
        b"\xff\xfe\0",
        ("Bearer " + KEY).encode(),
    ]
)
extensions = st.sampled_from([b"", b";x", b";x=y", b';x="' + b"y" * 3000 + b'"'])
trailers = st.lists(
    st.sampled_from([b"x-more: y\r\n", b"content-length: 5\r\n", b"expires: 0\r\n"]), max_size=3
)
endings = st.sampled_from(["close", "reset", "silence", "drip", "continues"])


@dataclass(frozen=True)
class Said:
    """What a server says to a request: some bytes, and how it goes on after them."""

    data: bytes
    ending: str

    def __call__(self, connection, server):
        server.ask(connection)
        connection.sendall(self.data)
        if self.ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        elif self.ending != "close":
            more = {"silence": b"", "drip": b"x", "continues": b"HTTP/1.1 100 Continue\r\n\r\n"}[self.ending]
            while not server.done.wait(0.01):
                connection.sendall(more)


@st.composite
def framed(draw, body):
    """A body, and the headers that tell its length rightly: by a number, by chunks, or by its end."""
    how = draw(st.sampled_from(["length", "chunks", "end"]))
    if how == "length":
        return [b"content-length: %d" % len(body)], body
    if how == "end":
        return [], body
    size = draw(st.integers(1, 3000))
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), draw(extensions), part) for part in parts)
    return [b"transfer-encoding: chunked"], chunks + b"0\r\n" + b"".join(draw(trailers)) + b"\r\n"


@st.composite
def good_answers(draw, body):
    """Answers that are odd, and hold what was asked for."""
    framing, data = draw(framed(draw(packing)(body)))
    headers = draw(st.permutations(draw(st.lists(harmless, max_size=5, unique=True)) + framing))
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", b""])
    return Said(b"".join(draw(st.lists(interim, max_size=3))) + head + data, "close")


@st.composite
def any_answers(draw, body):
    """Answers of every kind, cut off anywhere, with any end or none."""
    status = draw(st.sampled_from([200, 200, 200, 201, 101, 204, 302, 304, 404, 429, 500, 999]))
    lines = [b"HTTP/1.1 %d OK" % status, b"HTTP/1.0 %d" % status, b"ICY 200 OK", b"\x16\x03\x01"]
    line = draw(st.sampled_from(lines))
    framing, data = draw(framed(draw(packing | breaking)(draw(refusals | st.just(body)))))
    headers = draw(st.lists(harmless | harmful, max_size=4)) + draw(st.sampled_from([framing, []]))
    said = b"".join(draw(st.lists(interim, max_size=3))) + b"\r\n".join([line, *headers, b"", b""]) + data
    # A hostile byte somewhere, and an end anywhere.
    if draw(st.booleans()):
        at = draw(st.integers(0, len(said)))
        said = said[:at] + draw(st.binary(min_size=1, max_size=4)) + said[at:]
    cut = draw(st.none() | st.integers(0, len(said)))
    return Said(said[:cut], draw(endings))


@st.composite
def endless_answers(draw, body):
    """Answers that begin well, and anywhere in their head or their body go on for ever without an end."""
    framing, data = draw(framed(body))
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *draw(st.lists(harmless, max_size=2)), *framing, b"", b""])
    part = draw(st.sampled_from(["nothing", "status", "head", "body", "end"]))
    cut = {
        "nothing": st.just(0),
        "status": st.integers(1, 14),
        "head": st.integers(15, len(head) - 1),
        "body": st.integers(len(head), len(head + data) - 1),
        "end": st.just(len(head + data)),
    }[part]
    return Said((head + data)[: draw(cut)], draw(st.sampled_from(["drip", "continues"])))


# --- what holds ---------------------------------------------------------------------------------------------


async def _on_a_loop(name, server, into, options):
    async with AsyncGptImageClient(**options) as client:
        return await CALLS[name](client, server, into)


def _blocking(name, server, into, options):
    with GptImageClient(**options) as client:
        return CALLS[name](client, server, into)


def outcome_of(name, kind, said, read_timeout):
    """Make a call of a server; its result or error, what was stored, and the requests the server had."""
    server, into, outcome = RawServer(said), io.BytesIO(), []
    options = {
        "api_key": KEY,
        "base_url": server.url,
        "verify": False,
        "read_timeout": read_timeout,
        "connect_timeout": LIMIT,
        "max_image_bytes": 1_000_000,
        "retrying": Retrying(most_sends=1),
    }

    def run():
        try:
            if kind == "sync":
                outcome.append(_blocking(name, server, into, options))
            else:
                outcome.append(asyncio.run(_on_a_loop(name, server, into, options)))
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    server.close()
    assert outcome, f"the call is not over after {LIMIT:g} s"
    return outcome[0], into.getvalue(), server.requests


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=25)
@given(data=st.data())
def test_whatever_a_server_says_a_call_is_over_with_a_value_or_an_error_of_ours(name, kind, data):
    said = data.draw(any_answers(BODIES[name]))

    outcome, stored, requests = outcome_of(name, kind, said, read_timeout=0.05)

    if isinstance(outcome, BaseException):
        assert isinstance(outcome, GptImageError), repr(outcome)
        assert KEY not in str(outcome) + repr(vars(outcome))
        assert len(str(outcome)) < 4000
    elif name == "submit":
        assert outcome == ID
    elif name == "download":
        assert outcome.bytes == len(stored)
    if name == "submit":
        assert len(requests) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=10)
@given(data=st.data())
def test_a_server_that_goes_on_for_ever_holds_no_call(name, kind, data):
    said = data.draw(endless_answers(BODIES[name]))

    outcome, _, _ = outcome_of(name, kind, said, read_timeout=0.05)

    if isinstance(outcome, BaseException):
        assert isinstance(outcome, GptImageError), repr(outcome)
    elif name == "submit":
        assert outcome == ID


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=15)
@given(data=st.data())
def test_what_a_server_says_in_an_odd_way_is_understood(name, kind, data):
    said = data.draw(good_answers(BODIES[name]))

    outcome, stored, _ = outcome_of(name, kind, said, read_timeout=30.0)

    assert not isinstance(outcome, BaseException), repr(outcome)
    if name == "submit":
        assert outcome == ID
    if name == "download":
        assert stored == IMAGE
