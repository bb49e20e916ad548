"""Which calls go over aiohttp, and what happens where it isn't installed or doesn't understand a server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from types import SimpleNamespace

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api.client import AsyncGptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from tests.raw_server import http

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
ACCEPTED = http(200, json.dumps({"code": 200, "data": {"taskId": ID}}).encode())
BODY = json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode()
DONE = http(200, BODY)
# aiohttp refuses such a head; over httpx it is mended.
NOT_UNDERSTOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n" + BODY


def over_aiohttp(request):
    """Whether a request came over aiohttp, which doesn't say what HTTP/1.1 does by default anyway."""
    return b"\r\nconnection: keep-alive" not in request.lower()


def run(base_url, *calls, **options):
    """Call an asynchronous client; what came of the calls."""
    options = {"api_key": "sk-live-0123456789abcdef", "verify": False, **options}
    options.setdefault("retrying", Retrying(first_pause=0.001))

    async def scenario():
        async with AsyncGptImageClient(base_url=base_url, **options) as client:
            return [await call(client) for call in calls]

    return asyncio.run(scenario())


def read(client):
    return client.get(ID)


def submit(client):
    return client.submit(ImageRequest(prompt="a red bicycle"))


@pytest.fixture
def without_aiohttp(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)


@pytest.fixture
def old_aiohttp(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", SimpleNamespace(ClientSession=lambda *, headers: headers))


def test_reads_go_over_aiohttp_and_submits_do_not(answering):
    server = answering(DONE, ACCEPTED, DONE)

    run(server.url, read, submit, read)

    assert [over_aiohttp(request) for request in server.requests] == [True, False, True]


@pytest.mark.parametrize("how", ["without_aiohttp", "old_aiohttp"])
def test_where_no_aiohttp_is_installed_that_can_be_used_reads_go_over_httpx(answering, request, how):
    request.getfixturevalue(how)
    server = answering(DONE)

    [generation] = run(server.url, read)

    assert generation.status == "completed"
    assert not over_aiohttp(server.requests[0])


def test_who_does_not_want_it_has_httpx(answering):
    server = answering(DONE)

    run(server.url, read, use_aiohttp=False)

    assert not over_aiohttp(server.requests[0])


def test_through_a_proxy_reads_go_over_httpx(answering):
    proxy = answering(DONE)

    [generation] = run("http://api.example.com", read, proxy=proxy.url, allow_http=True)

    assert generation.status == "completed"
    assert not over_aiohttp(proxy.requests[0])


def test_a_server_that_is_not_understood_is_asked_again_over_httpx_and_from_then_on(answering):
    server = answering(NOT_UNDERSTOOD)

    generations = run(server.url, read, read)

    assert [generation.status for generation in generations] == ["completed"] * 2
    assert [over_aiohttp(request) for request in server.requests] == [True, False, False]


@pytest.mark.parametrize("use_aiohttp", [True, False], ids=["aiohttp", "httpx"])
def test_a_read_leaves_nothing_that_the_garbage_collector_has_to_find(answering, use_aiohttp):
    """What it has to find among ten thousand waits it finds late: they took three times the memory."""
    server = answering(DONE)
    kinds = {"_Exchange", "Sending", "ClientResponse", "Response"}
    counts = []

    def count():
        counts.append(sum(type(each).__name__ in kinds for each in gc.get_objects()))

    async def read_often(client):
        gc.collect()
        gc.disable()
        count()
        for _ in range(20):
            await client.get(ID)
        count()

    try:
        run(server.url, read, read_often, use_aiohttp=use_aiohttp)
    finally:
        gc.enable()

    assert counts[1] - counts[0] < 5


def test_a_connection_is_used_again_and_closed_at_the_end(serve):
    closed = []

    def keep(connection, server):
        with contextlib.suppress(ConnectionError):
            while True:
                server.ask(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
        closed.append(connection)
        server.done.set()

    server = serve(keep)

    run(server.url, read, read, read)

    assert server.done.wait(30)
    assert (server.connections, len(closed), len(server.requests)) == (1, 1, 3)


def test_a_server_whose_certificate_nobody_vouches_for_is_sent_nothing(answering, certificate):
    server = answering(DONE, tls=certificate.server)

    with pytest.raises(errors.ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
        run(server.url, read, verify=True)

    assert server.requests == []


def test_a_response_that_is_far_larger_than_the_apis_is_read_all_the_same(answering):
    document = {**json.loads(BODY), "more": ["x"] * 100_000}
    server = answering(http(200, json.dumps(document).encode()))

    [generation] = run(server.url, read)

    assert generation.status == "completed"


def test_a_connection_that_breaks_off_before_a_response_is_no_response(serve):
    server = serve(lambda connection, server: server.ask(connection))

    with pytest.raises(errors.ConnectionFailedError, match="ReadError"):
        run(server.url, read, retrying=Retrying(most_sends=1))


def test_a_name_that_cannot_be_looked_up_is_a_connection_that_failed():
    with pytest.raises(errors.ConnectionFailedError, match="ConnectError"):
        run("https://no-such-host.invalid", read, retrying=Retrying(most_sends=1), verify=False)


def test_a_server_that_answers_with_headers_without_end_is_given_up(serve):
    def behave(connection, server):
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1_000_000):
                connection.sendall(b"x: y\r\n")

    server = serve(behave)

    with pytest.raises(errors.GptImageError):
        run(server.url, read, read_timeout=1, retrying=Retrying(most_sends=1))
