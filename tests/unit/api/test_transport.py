"""Which of httpcore's connections a request goes over, and when they are closed."""

from __future__ import annotations

import asyncio
from functools import partial

import httpcore
import httpx
import pytest

from airflow_gpt_image.api.network import Exchange
from airflow_gpt_image.api.transport import AsyncTransport, Transport


class Connection:
    """A connection of httpcore's, of either kind."""

    def __init__(self, fails=None):
        self.fails, self.requests = fails, 0
        self.expired = self.closed = False

    def handle_request(self, request):
        self.requests += 1
        if self.fails is not None:
            raise self.fails
        return httpcore.Response(200, content=httpx.ByteStream(b""))

    async def handle_async_request(self, request):
        return self.handle_request(request)

    def has_expired(self):
        return self.expired

    def is_idle(self):
        return not self.closed

    def close(self):
        self.closed = True

    async def aclose(self):
        self.close()


class OnALoop:
    """The transport for an event loop, called as if it were the blocking one."""

    def __init__(self, connect, *, keep):
        self._transport, self._runner = AsyncTransport(connect, keep=keep), asyncio.Runner()

    def handle_request(self, request):
        response = self._runner.run(self._transport.handle_async_request(request))
        response.close = partial(self._run, response.aclose)
        return response

    def close(self):
        self._run(self._transport.aclose)

    def _run(self, function):
        async def called():
            await function()

        self._runner.run(called())


@pytest.fixture
def made():
    """The connections that were made, in their order."""
    return []


@pytest.fixture(params=[Transport, OnALoop], ids=["blocking", "on a loop"])
def transport(request, made):
    """Builds a transport of each kind."""
    left = []

    def build(*, keep=True, fails=None):
        def connect(origin):
            made.append(Connection(fails))
            return made[-1]

        left.append(request.param(connect, keep=keep))
        return left[-1]

    yield build
    for each in left:
        each.close()
        getattr(each, "_runner", asyncio.Runner()).close()


def send(transport, url="https://api.example.com/", *, host=None, sni=None):
    headers = {"host": host} if host else {}
    request = httpx.Request("GET", url, headers=headers, extensions={"sni_hostname": sni} if sni else {})
    with Exchange(seconds=10, most_bytes=1_000):
        return transport.handle_request(request)


def test_requests_at_the_same_time_have_connections_of_their_own_which_are_used_again(transport, made):
    sending = transport()

    for _ in range(3):
        for response in [send(sending), send(sending)]:
            response.close()

    assert [connection.requests for connection in made] == [3, 3]


def test_one_after_the_other_the_same_connection_is_used_and_one_that_has_expired_is_closed(transport, made):
    sending = transport()
    first, second = send(sending), send(sending)
    first.close()
    second.close()
    made[0].expired = True

    send(sending).close()
    send(sending).close()

    assert [connection.requests for connection in made] == [1, 3]
    assert [connection.closed for connection in made] == [True, False]


def test_connections_that_have_all_expired_are_closed_and_a_new_one_is_made(transport, made):
    sending = transport()
    for response in [send(sending), send(sending)]:
        response.close()
    made[0].expired = made[1].expired = True

    send(sending).close()

    assert [connection.closed for connection in made] == [True, True, False]


def test_a_connection_on_which_a_request_failed_is_closed(transport, made):
    with pytest.raises(httpcore.ReadError):
        send(transport(fails=httpcore.ReadError()))

    assert [connection.closed for connection in made] == [True]


def test_no_connection_is_kept_where_none_should_be(transport, made):
    sending = transport(keep=False)

    for _ in range(2):
        send(sending).close()

    assert [connection.closed for connection in made] == [True, True]


def test_all_are_closed_at_the_end_and_one_that_is_in_use_then_as_soon_as_it_is_not(transport, made):
    sending = transport()
    idle, used = send(sending), send(sending)
    idle.close()

    sending.close()
    closed_at_the_end = [connection.closed for connection in made]
    used.close()

    assert closed_at_the_end == [True, False]
    assert [connection.closed for connection in made] == [True, True]


def test_hosts_at_the_same_address_have_connections_of_their_own(transport, made):
    sending = transport()
    hosts = ["a.example.com", "b.example.com"]

    for host in hosts * 3:
        send(sending, "https://192.0.2.1/", host=host, sni=host).close()

    assert [connection.requests for connection in made] == [3, 3]


@pytest.mark.parametrize("other", ["http://192.0.2.1/", "https://192.0.2.1:8443/", "https://192.0.2.2/"])
def test_another_origin_of_the_same_host_has_connections_of_its_own(transport, made, other):
    sending = transport()

    for url in ["https://192.0.2.1/", other] * 2:
        send(sending, url, host="a.example.com").close()

    assert [connection.requests for connection in made] == [2, 2]


def test_a_connection_of_another_host_that_has_expired_is_closed_on_the_way(transport, made):
    sending = transport()
    send(sending, "https://192.0.2.1/").close()
    made[0].expired = True

    send(sending, "https://192.0.2.2/").close()

    assert [connection.closed for connection in made] == [True, False]
