"""Connections as both clients make them: to a host of several addresses, and to one that takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time

import httpcore
import pytest

from airflow_gpt_image.api.client import AsyncGptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.network import AsyncBackend, Backend, Exchange, aresolve, first_connected
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import ConnectionFailedError, SubmissionUnknownError

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
ONCE = Retrying(most_sends=1)


@pytest.fixture
def deaf():
    """Listens on 127.0.0.2 at a port, and never takes a connection: who connects waits."""
    with contextlib.ExitStack() as stack:

        def started(port):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.2", port))
            listener.listen(0)
            for _ in range(4):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(listener.getsockname())

        yield started


# --- several addresses --------------------------------------------------------------------------------------


def test_when_one_address_refuses_the_next_one_is_asked(connect, answering, wire, names):
    server = answering(wire.http(200, ACCEPTED))
    names["api.test"] = [("127.0.0.2", "127.0.0.3", "127.0.0.1")]
    client = connect(base_url=f"http://api.test:{server.port}", allow_http=True, verify=False)

    assert client.submit(REQUEST) == ID
    assert server.connections == 1


def test_when_all_addresses_refuse_nothing_was_sent(connect, closed_port, names):
    names["api.test"] = [("127.0.0.2", "127.0.0.1")]
    client = connect(base_url=f"http://api.test:{closed_port}", allow_http=True, verify=False, retrying=ONCE)

    with pytest.raises(ConnectionFailedError, match="ConnectError"):
        client.submit(REQUEST)


def test_when_one_address_does_not_answer_the_next_one_is_asked(connect, answering, wire, names, deaf):
    server = answering(wire.http(200, ACCEPTED))
    deaf(server.port)
    names["api.test"] = [("127.0.0.2", "127.0.0.1")]
    client = connect(
        base_url=f"http://api.test:{server.port}", allow_http=True, verify=False, connect_timeout=2
    )

    assert client.submit(REQUEST) == ID


def test_on_a_loop_the_next_address_is_asked_before_the_first_one_is_given_up(answering, wire, names, deaf):
    server = answering(wire.http(200, ACCEPTED))
    deaf(server.port)
    names["api.test"] = [("127.0.0.2", "127.0.0.1")]

    async def connected():
        with Exchange(seconds=3000, most_bytes=1000):
            stream = await AsyncBackend().connect_tcp("api.test", server.port, timeout=1000)
            await stream.aclose()

    asyncio.run(asyncio.wait_for(connected(), 60))


def test_an_address_that_does_not_answer_is_waited_for_when_the_others_refuse(
    connect, closed_port, names, deaf
):
    deaf(closed_port)
    names["api.test"] = [("127.0.0.2", "127.0.0.1")]
    client = connect(
        base_url=f"http://api.test:{closed_port}",
        allow_http=True,
        verify=False,
        connect_timeout=0.5,
        retrying=ONCE,
    )

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        client.submit(REQUEST)


class _Connection(httpcore.AsyncNetworkStream):
    def __init__(self):
        self.closed = False

    async def aclose(self):
        self.closed = True


def test_of_two_connections_that_come_at_once_one_is_closed():
    made = []

    async def scenario():
        both = asyncio.Event()

        async def connect(last):
            if last:
                both.set()
            await both.wait()
            made.append(_Connection())
            return made[-1]

        taken = await first_connected([lambda: connect(last=False), lambda: connect(last=True)])
        return [one for one in made if one is not taken]

    (other,) = asyncio.run(scenario())

    assert other.closed
    assert sorted(one.closed for one in made) == [False, True]


def test_who_gives_up_looking_up_is_heard_also_right_when_the_answer_comes():
    async def given_up_after(turns):
        looking_up = asyncio.ensure_future(aresolve("127.0.0.1", 80, 60.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = looking_up.cancel()
        await asyncio.wait([looking_up])
        return asked, looking_up.cancelled()

    ends = [asyncio.run(given_up_after(turns)) for turns in range(8)]

    assert {asked for asked, _ in ends} == {True, False}
    assert all(asked == cancelled for asked, cancelled in ends)


def test_who_gives_up_connecting_leaves_no_attempt_behind(names, deaf, closed_port):
    deaf(closed_port)
    names["api.test"] = [("127.0.0.2", "127.0.0.2")]

    async def scenario():
        with Exchange(seconds=3000, most_bytes=1000), contextlib.suppress(TimeoutError):
            await asyncio.wait_for(AsyncBackend().connect_tcp("api.test", closed_port), 0.05)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == 1


# --- a request that isn't taken -----------------------------------------------------------------------------


def _takes_little(connection, server):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while not server.done.wait(0.02):
        connection.recv(1)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_request_that_is_taken_byte_by_byte_is_over_in_time(serve, certificate, secure):
    server = serve(_takes_little, tls=certificate.server if secure else None)
    data = os.urandom(64 * 1024 * 1024)
    trust = certificate.client()

    with Exchange(seconds=60, most_bytes=1_000_000) as exchange:
        stream = Backend().connect_tcp("127.0.0.1", server.port)
        if secure:
            stream = stream.start_tls(trust, "127.0.0.1")
        exchange.allow(0.3)
        with pytest.raises(httpcore.WriteTimeout, match="as a whole"):
            stream.write(data, timeout=60)
        stream.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_on_a_loop_a_request_that_is_taken_byte_by_byte_is_over_in_time(serve, certificate, secure):
    server = serve(_takes_little, tls=certificate.server if secure else None)
    data = os.urandom(64 * 1024 * 1024)
    trust = certificate.client()

    async def write():
        with Exchange(seconds=60, most_bytes=1_000_000) as exchange:
            stream = await AsyncBackend().connect_tcp("127.0.0.1", server.port)
            if secure:
                stream = await stream.start_tls(trust, "127.0.0.1")
            exchange.allow(0.3)
            with pytest.raises(httpcore.WriteTimeout, match="as a whole"):
                await stream.write(data, timeout=60)
            await stream.aclose()

    asyncio.run(write())


def test_a_connection_that_is_reset_while_it_is_written_to_is_a_write_error(serve):
    def reset(connection, server):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    server = serve(reset)

    with Exchange(seconds=60, most_bytes=1000):
        stream = Backend().connect_tcp("127.0.0.1", server.port)
        with pytest.raises(httpcore.WriteError):
            stream.write(b"x" * 64 * 1024 * 1024)
        stream.close()


# --- time that is over --------------------------------------------------------------------------------------


def test_nothing_is_begun_when_the_time_is_over(serve, certificate):
    server = serve(lambda connection, server: server.done.wait(60))
    trust = certificate.client()

    with Exchange(seconds=60, most_bytes=1000) as exchange:
        stream = Backend().connect_tcp("127.0.0.1", server.port)
        exchange.allow(0)
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1)
        with pytest.raises(httpcore.WriteTimeout):
            stream.write(b"x")
        with pytest.raises(httpcore.ConnectTimeout):
            stream.start_tls(trust, "127.0.0.1")
        with pytest.raises(httpcore.ConnectTimeout):
            Backend().connect_tcp("127.0.0.1", server.port)


def test_on_a_loop_nothing_is_begun_when_the_time_is_over(serve, certificate):
    server = serve(lambda connection, server: server.done.wait(60))
    trust = certificate.client()

    async def scenario():
        with Exchange(seconds=60, most_bytes=1000) as exchange:
            stream = await AsyncBackend().connect_tcp("127.0.0.1", server.port)
            exchange.allow(0)
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(1)
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(b"x")
            with pytest.raises(httpcore.ConnectTimeout):
                await stream.start_tls(trust, "127.0.0.1")
            with pytest.raises(httpcore.ConnectTimeout):
                await AsyncBackend().connect_tcp("127.0.0.1", server.port)

    asyncio.run(scenario())


# --- a call that is cancelled -------------------------------------------------------------------------------


def test_a_call_that_is_cancelled_ends_at_once_wherever_it_is(serve):
    server = serve(lambda connection, server: server.done.wait(60))

    async def cancelled_after(turns):
        async with AsyncGptImageClient(api_key="sk-0", base_url=server.url, verify=False) as client:
            waiting = asyncio.create_task(client.wait(ID, poll_interval=1, timeout=3600))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting], timeout=60)
            return waiting.cancelled()

    assert all(asyncio.run(cancelled_after(turns)) for turns in range(25))


# --- a worker that was frozen -------------------------------------------------------------------------------


def _answers_in_pieces(connection, server):
    server.ask(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ACCEPTED))
    connection.sendall(ACCEPTED[:20])
    connection.sendall(ACCEPTED[20:])
    server.said.set()
    server.done.wait(60)


@pytest.fixture
def frozen_meanwhile(serve, certificate):
    """Starts a server that answers while its client's process stands still, until the time is over."""

    def started():
        server = serve(_answers_in_pieces, tls=certificate.server)
        server.said = threading.Event()
        return server

    return started


def test_what_came_while_a_worker_was_frozen_is_read(frozen_meanwhile, certificate):
    server = frozen_meanwhile()
    came = b""

    with Exchange(seconds=60, most_bytes=10_000) as exchange:
        stream = Backend().connect_tcp("127.0.0.1", server.port)
        stream = stream.start_tls(certificate.client(), "127.0.0.1")
        stream.write(b"GET / HTTP/1.1\r\n\r\n")
        server.said.wait(60)
        exchange.allow(0)
        while not came.endswith(ACCEPTED):
            came += stream.read(65536)
        with pytest.raises(httpcore.ReadTimeout, match="as a whole"):
            stream.read(65536)
        stream.close()


def test_on_a_loop_an_id_that_came_while_a_worker_was_frozen_is_read(frozen_meanwhile, certificate):
    server = frozen_meanwhile()

    async def submitted():
        options = {"base_url": server.url, "verify": certificate.path, "read_timeout": 0.2}
        async with AsyncGptImageClient(api_key="sk-0", connect_timeout=60, **options) as client:
            submitting = asyncio.create_task(client.submit(REQUEST))
            while not server.requests:  # noqa: ASYNC110  # the server is another thread
                await asyncio.sleep(0.001)
            # Nothing runs on the loop while the answer comes and its time passes.
            server.said.wait(60)
            time.sleep(0.5)  # noqa: ASYNC251
            return await submitting

    assert asyncio.run(submitted()) == ID


# --- TLS within TLS -----------------------------------------------------------------------------------------


def test_nonsense_instead_of_tls_behind_a_proxy_over_tls_leaves_a_submit_unknown(
    connect, serve, tunnel, certificate, names
):
    names["files.test"] = ["127.0.0.1"]

    def behave(connection, server):
        server.ask(connection)
        with socket.socket(fileno=connection.detach()) as bare:
            bare.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    api, proxy = serve(behave, tls=certificate.server), tunnel(tls=certificate.server)
    client = connect(base_url=f"https://files.test:{api.port}", verify=certificate.path, proxy=proxy.url)

    with pytest.raises(SubmissionUnknownError, match="ReadError"):
        client.submit(REQUEST)
