"""What the tests of the API room share: virtual time for the flows, both clients behind one face, and servers
on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import select
import socket
from types import SimpleNamespace

import httpx
import pytest

from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.steps import Fetch, FileResponse, Resolve, Send, Sleep
from tests.raw_server import RawServer, http, read_request

KEY = "sk-live-0123456789abcdef"
NOW = 1_775_383_908.0


@pytest.fixture
def api_key():
    return KEY


class World:
    """Carries out a flow's steps in virtual time; the last reply is given again for ever.

    A reply to a Fetch is ``(status, headers, bytes)``, or ``(NoResponse, bytes that had arrived)``.
    """

    def __init__(self, *replies):
        self.start = self.now = NOW
        self.sent, self.fetched, self.slept, self.looked_at = [], [], [], []
        self.looked_up, self.asked = [], []
        self.addresses = ("93.184.215.14",)
        self._replies = list(replies)

    def run(self, flow):
        came = None
        for _ in range(1_000):
            try:
                step = flow.send(came)
            except StopIteration as end:
                return end.value
            came = self._carry_out(step)
        raise AssertionError("this flow does not end")

    def _carry_out(self, step):
        if isinstance(step, Sleep):
            assert step.seconds >= 0
            self.slept.append(step.seconds)
            self.now += step.seconds
            return self.now
        if isinstance(step, Resolve):
            self.looked_up.append(step.url)
            return self.addresses
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(step, Send):
            self.sent.append(step.call)
            self.looked_at.append(self.now - self.start)
            return dataclasses.replace(reply, at=self.now)
        assert isinstance(step, Fetch)
        self.fetched.append(step.url)
        self.asked.append(step.address)
        if isinstance(reply[0], NoResponse):
            step.into.write(reply[1])
            return dataclasses.replace(reply[0], at=self.now)
        status, headers, body = reply
        if status == 200:
            step.into.write(body)
        return FileResponse(status, headers, len(body), self.now)


@pytest.fixture
def world():
    return World


class Blocking:
    """The blocking client."""

    def __init__(self, stack, *settings, handler=None, **options):
        transport = None if handler is None else httpx.MockTransport(handler)
        self.client = stack.enter_context(GptImageClient(*settings, transport=transport, **options))

    def __getattr__(self, name):
        return getattr(self.client, name)


class OnALoop:
    """The asynchronous client, called as if it were the blocking one."""

    use_aiohttp = False

    def __init__(self, stack, *settings, handler=None, **options):
        transport = None if handler is None else httpx.MockTransport(handler)
        self._runner = stack.enter_context(asyncio.Runner())
        options.setdefault("use_aiohttp", self.use_aiohttp)
        self.client = AsyncGptImageClient(*settings, transport=transport, **options)
        self._runner.run(self.client.__aenter__())
        stack.callback(lambda: self._runner.run(self.client.__aexit__(None, None, None)))

    def __getattr__(self, name):
        method = getattr(self.client, name)

        @functools.wraps(method)
        def call(*args, **kwargs):
            return self._runner.run(method(*args, **kwargs))

        return call


class OverAiohttp(OnALoop):
    """The asynchronous client, reading over aiohttp."""

    use_aiohttp = True


@pytest.fixture(params=[Blocking, OnALoop, OverAiohttp], ids=["sync", "async", "aiohttp"])
def connect(request):
    """Opens a client of each kind: what is tested with it holds for all."""
    with contextlib.ExitStack() as stack:

        def opened(*settings, **options):
            if not settings:
                options.setdefault("api_key", KEY)
            options.setdefault("retrying", Retrying(first_pause=0.001))
            return request.param(stack, *settings, **options)

        yield opened


@pytest.fixture
def reach(connect):
    """Opens a client of a server that speaks plain http; loading certificates would only take time."""
    return functools.partial(connect, verify=False)


@pytest.fixture
def serve():
    """Starts servers on real sockets."""
    with contextlib.ExitStack() as stack:

        def started(behave, tls=None):
            server = RawServer(behave, tls)
            stack.callback(server.close)
            return server

        yield started


@pytest.fixture
def answering(serve):
    """A server that answers every request with the next of these answers, and then the last for ever."""

    def started(*answers, tls=None):
        left = list(answers)

        def behave(connection, server):
            server.ask(connection)
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

        return serve(behave, tls)

    return started


@pytest.fixture
def names(monkeypatch):
    """The system's name service, with answers of our own; one after the other, the last one for ever.

    An answer is an address, or several of them.
    """
    ask, told = socket.getaddrinfo, {}

    def answer(host, port, *args, **kwargs):
        if host not in told:
            return ask(host, port, *args, **kwargs)
        answers = told[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        addresses = (addresses,) if isinstance(addresses, str) else addresses
        return [found for address in addresses for found in ask(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return told


@pytest.fixture
def bare_environment(monkeypatch):
    """An environment that names neither proxies nor certificates."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def tunnel(serve):
    """Starts proxies that pass everything on, wherever it should go, to a port of this machine."""

    def pass_on(connection, server):
        request = server.ask(connection)
        port = int(request.split()[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as there:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {connection: there, there: connection}
            while not server.done.is_set():
                # What TLS has decrypted already is not seen by select().
                ready = [end for end in ends if getattr(end, "pending", int)()]
                for end in ready or select.select(list(ends), [], [], 0.1)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    def started(tls=None):
        return serve(pass_on, tls)

    return started


@pytest.fixture
def wire():
    """How to say something over HTTP."""
    return SimpleNamespace(http=http, read_request=read_request)
