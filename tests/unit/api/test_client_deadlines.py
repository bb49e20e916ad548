"""Nothing a server does makes a call last: both clients against servers that always send a little more."""

from __future__ import annotations

import io
import json
import socket
import threading
import time

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    GenerationTimeoutError,
    GptImageError,
    SubmissionUnknownError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
DONE = json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

ONCE = Retrying(most_sends=1)

# Far longer than any call here may take, for a machine that is busy; for a call that hangs it is over.
LIMIT = 60.0


def over_within(seconds, call):
    """Make a call in a thread of its own; its result, or what it raised. It fails when the call goes on."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:  # noqa: BLE001  # the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"the call is not over after {seconds:g} s"
    return outcome[0]


def drip(first, again, pause=0.02):
    """A server that says something, and then the same again and again, without an end."""

    def behave(connection, server):
        server.ask(connection)
        connection.sendall(first)
        while not server.done.wait(pause):
            connection.sendall(again)

    return behave


ENDLESS = {
    "a status line": drip(b"HTTP/1.1 200 ", b"O"),
    "headers": drip(OK, b"x-more: x\r\n"),
    "one header": drip(OK + b"x-more: ", b"x"),
    "interim responses": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a flood of interim responses": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, pause=0),
    "a body": drip(OK + b"content-length: 100000\r\n\r\n", b" "),
    "a body without a length": drip(OK + b"\r\n", b" "),
    "chunks": drip(CHUNKED, b"1\r\n \r\n"),
    "a chunk's size": drip(CHUNKED, b"0"),
    "a chunk's extension": drip(CHUNKED + b"1;x=", b"x"),
    "chunks with large extensions": drip(CHUNKED, b"1;x=" + b"x" * 50_000 + b"\r\n \r\n", pause=0),
    "trailers": drip(CHUNKED + b"1\r\n \r\n0\r\n", b"x-more: x\r\n"),
}
endless = pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)


@pytest.fixture
def quick(reach):
    """Opens a client with a short timeout, which sends everything once."""

    def opened(server, **options):
        return reach(base_url=server.url, read_timeout=0.05, connect_timeout=5, retrying=ONCE, **options)

    return opened


@endless
def test_a_submit_is_over_and_unknown_whatever_drips(quick, serve, behave):
    server = serve(behave)
    client = quick(server)

    error = over_within(LIMIT, lambda: client.submit(REQUEST))

    assert isinstance(error, SubmissionUnknownError)
    assert server.connections == 1


@endless
def test_a_read_is_over_whatever_drips(quick, serve, behave):
    client = quick(serve(behave))

    assert isinstance(over_within(LIMIT, lambda: client.get(ID)), GptImageError)


@endless
def test_a_wait_is_over_at_its_deadline_whatever_drips(quick, serve, behave):
    client = quick(serve(behave))

    error = over_within(LIMIT, lambda: client.wait(ID, poll_interval=0.01, timeout=0.1))

    assert isinstance(error, GenerationTimeoutError)


@endless
def test_the_balance_is_over_whatever_drips(quick, serve, behave):
    client = quick(serve(behave))

    assert isinstance(over_within(LIMIT, client.credits), GptImageError)


@endless
def test_a_download_is_over_whatever_drips(quick, serve, behave):
    server = serve(behave)
    client = quick(server, max_image_bytes=100_000)

    error = over_within(LIMIT, lambda: client.download(server.url + "/1.png", io.BytesIO()))

    assert isinstance(error, DownloadError)


def test_a_drip_is_called_too_slow(quick, serve):
    error = over_within(LIMIT, lambda: quick(serve(ENDLESS["one header"])).submit(REQUEST))

    assert "ReadTimeout: it took too long as a whole" in error.message


def test_a_flood_is_given_up_before_its_time(reach, serve):
    # With the default of a minute: what ends it is how much came.
    flood = drip(b"", b"HTTP/1.1 103 Early Hints\r\nlink: " + b"x" * 50_000 + b"\r\n\r\n", pause=0)
    client = reach(base_url=serve(flood).url)

    error = over_within(LIMIT, lambda: client.submit(REQUEST))

    assert isinstance(error, SubmissionUnknownError)
    assert "far more came than any response needs" in error.message


def test_redirects_that_drip_share_the_time_of_one_image(quick, serve):
    def behave(connection, server):
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 302 Found\r\nx-more: ")
        for _ in range(10):
            connection.sendall(b"x")
            server.done.wait(0.01)
        connection.sendall(b"\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    server = serve(behave)
    client = quick(server)

    error = over_within(LIMIT, lambda: client.download(server.url + "/1.png", io.BytesIO()))

    # At most 0.25 s for a try, and at least 0.1 s for a redirect: never the six that are allowed.
    assert isinstance(error, DownloadError)
    assert "too long as a whole" in error.message
    assert server.connections < 6


# --- before the request -------------------------------------------------------------------------------------


def test_a_proxy_that_drips_its_word_has_passed_nothing_on(connect, serve):
    proxy = serve(drip(b"HTTP/1.1 200 ", b"O"))
    client = connect(
        base_url="https://api.example.com",
        proxy=proxy.url,
        verify=False,
        connect_timeout=0.1,
        read_timeout=5,
        retrying=ONCE,
    )
    asked = []

    error = over_within(LIMIT, lambda: client.submit(REQUEST, before_send=lambda: asked.append(1)))

    assert isinstance(error, ConnectionFailedError)
    assert "never reached the API" in error.message
    assert len(asked) == 1  # before the try; never for the proxy's own sake


def test_a_handshake_that_drips_is_over_and_nothing_was_sent(connect, serve):
    def behave(connection, server):
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB follows, a byte now and then
        while not server.done.wait(0.02):
            connection.sendall(b"\x02")

    server = serve(behave)
    url = server.url.replace("http:", "https:")
    client = connect(base_url=url, verify=False, connect_timeout=0.2, retrying=ONCE)

    error = over_within(LIMIT, lambda: client.submit(REQUEST))

    assert isinstance(error, ConnectionFailedError)


@pytest.fixture
def slow_names(monkeypatch):
    """The system's name service, which does not answer for names that end in ``.slow.test``."""
    ask, answered, asked = socket.getaddrinfo, threading.Event(), []

    def answer(host, *args, **kwargs):
        if str(host).endswith(".slow.test"):
            asked.append(host)
            answered.wait(LIMIT)
            raise socket.gaierror("nobody answered")
        return ask(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    yield asked
    answered.set()


def test_a_name_that_is_looked_up_for_ever_counts_and_nothing_was_sent(connect, slow_names):
    client = connect(base_url="https://api.slow.test", verify=False, connect_timeout=0.1)

    error = over_within(LIMIT, lambda: client.submit(REQUEST))

    assert isinstance(error, ConnectionFailedError)
    assert "the look-up of api.slow.test took longer than 0.1 s" in error.message


def test_an_image_on_a_name_that_is_looked_up_for_ever_can_be_tried_again(connect, slow_names):
    client = connect(verify=False, connect_timeout=0.1)

    error = over_within(LIMIT, lambda: client.download("https://files.slow.test/1.png", io.BytesIO()))

    assert isinstance(error, DownloadError)
    assert error.retryable
    assert "took longer than" in error.message


def test_a_name_that_hangs_costs_one_look_up_however_often_it_is_needed(connect, slow_names):
    client = connect(base_url="https://often.slow.test", verify=False, connect_timeout=0.05)

    over_within(LIMIT, lambda: client.get(ID))
    over_within(LIMIT, lambda: client.get(ID))

    assert slow_names == ["often.slow.test"]


def test_other_names_are_looked_up_while_one_hangs(connect, slow_names, answering, wire):
    server = answering(wire.http(200, DONE))
    hanging = [
        connect(base_url=f"https://{number}.slow.test", verify=False, connect_timeout=0.05, retrying=ONCE)
        for number in range(20)
    ]
    for client in hanging:
        over_within(LIMIT, lambda client=client: client.get(ID))

    reached = connect(base_url=server.url.replace("127.0.0.1", "localhost"), verify=False)

    assert over_within(LIMIT, lambda: reached.get(ID)).finished


def test_a_name_that_can_not_be_one_is_no_submission(connect):
    error = over_within(LIMIT, lambda: connect(base_url=f"https://{'a.' * 200}com").submit(REQUEST))

    assert isinstance(error, ConnectionFailedError)


# --- what comes at last counts ------------------------------------------------------------------------------


def test_a_connection_that_took_long_leaves_the_response_its_time(connect, serve, wire, certificate):
    def behave(connection, server):
        server.ask(connection)
        connection.sendall(wire.http(200, ACCEPTED))

    server = serve(behave, tls=certificate.server)
    client = connect(base_url=server.url, verify=certificate.path, connect_timeout=30, read_timeout=5)
    started = time.monotonic()

    assert over_within(LIMIT, lambda: client.submit(REQUEST)) == ID
    assert time.monotonic() - started < LIMIT
