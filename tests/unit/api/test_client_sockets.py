"""Both clients against servers on real sockets that misbehave."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
import tracemalloc

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    GptImageError,
    ImageRefusedError,
    SubmissionUnknownError,
    UnreadableResponseError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
DONE = json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


# --- the ways of a lost answer: each of these servers may have accepted the request -------------------------


def _closes_before_reading(connection, server):
    pass


def _resets_while_reading(connection, server):
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def _reads_and_closes(connection, server):
    server.ask(connection)


def _keeps_silent(connection, server):
    server.ask(connection)
    server.done.wait(10)


def _says_half_a_head(connection, server):
    server.ask(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-le")


def _says_half_a_body_and_closes(connection, server):
    server.ask(connection)
    connection.sendall(HEAD % len(ACCEPTED) + ACCEPTED[:-20])


def _says_half_a_body_and_keeps_silent(connection, server):
    _says_half_a_body_and_closes(connection, server)
    server.done.wait(10)


def _speaks_no_http(connection, server):
    server.ask(connection)
    connection.sendall(b"220 mail.example.com ESMTP\r\n")


def _breaks_its_chunks(connection, server):
    server.ask(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + ACCEPTED)


def _says_much_too_much(connection, server):
    server.ask(connection)
    connection.sendall(HEAD % 10**12)
    while not server.done.is_set():
        connection.sendall(b" " * 65536)


def _drips_its_body(connection, server):
    server.ask(connection)
    connection.sendall(HEAD % 1000)
    for _ in range(1000):
        connection.sendall(b" ")
        if server.done.wait(0.02):
            return


LOST = [
    _closes_before_reading,
    _resets_while_reading,
    _reads_and_closes,
    _keeps_silent,
    _says_half_a_head,
    _says_half_a_body_and_closes,
    _says_half_a_body_and_keeps_silent,
    _speaks_no_http,
    _breaks_its_chunks,
    _says_much_too_much,
    _drips_its_body,
]


def _named(behave):
    return behave.__name__.strip("_").replace("_", " ")


@pytest.mark.parametrize("behave", LOST, ids=_named)
def test_a_submit_to_a_server_that_loses_its_answer_is_unknown_and_sent_once(reach, serve, behave):
    server = serve(behave)

    with pytest.raises(SubmissionUnknownError) as caught:
        reach(base_url=server.url, read_timeout=0.3).submit(REQUEST)

    assert server.connections == 1
    assert caught.value.retryable is False
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize("behave", LOST, ids=_named)
def test_a_read_from_a_server_that_loses_its_answer_is_sent_again(reach, serve, wire, behave):
    def at_first(connection, server):
        if server.connections == 1:
            behave(connection, server)
        else:
            server.ask(connection)
            connection.sendall(wire.http(200, DONE))

    server = serve(at_first)

    assert reach(base_url=server.url, read_timeout=0.3).get(ID).finished
    assert server.connections == 2


def test_an_answer_that_drips_is_not_listened_to_for_ever(reach, serve):
    server = serve(_drips_its_body)
    started = time.monotonic()

    with pytest.raises(SubmissionUnknownError):
        reach(base_url=server.url, read_timeout=0.2).submit(REQUEST)

    assert time.monotonic() - started < 1.5


def test_an_answer_without_an_end_is_not_read_to_it(reach, serve):
    server = serve(_says_much_too_much)

    tracemalloc.start()
    with pytest.raises(SubmissionUnknownError, match="larger than any"):
        reach(base_url=server.url).submit(REQUEST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * 1024 * 1024


def test_an_answer_of_a_megabyte_is_read_and_no_more(reach, answering, wire):
    body = DONE[:-1] + b', "padding": "' + b"x" * (1024 * 1024 - len(DONE) - 15) + b'"}'

    client = reach(base_url=answering(wire.http(200, body), wire.http(200, body + b"  ")).url)

    assert len(body) == 1024 * 1024
    assert client.get(ID).finished
    with pytest.raises(GptImageError):
        client.get(ID)


# --- provably not accepted ----------------------------------------------------------------------------------


def test_a_refused_connection_is_no_submission(reach, closed_port):
    with pytest.raises(ConnectionFailedError, match="never reached the API") as caught:
        reach(base_url=f"http://127.0.0.1:{closed_port}").submit(REQUEST)

    assert caught.value.retryable


def test_a_connection_that_does_not_come_about_in_time_is_no_submission(reach):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())

        with pytest.raises(ConnectionFailedError, match="ConnectTimeout"):
            reach(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}", connect_timeout=0.05).submit(REQUEST)

        for one in crowd:
            one.close()


def test_a_submit_over_the_rate_limit_is_no_submission_and_it_is_sent_again(reach, answering, wire):
    body = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "m", "type": "t"}}).encode()
    server = answering(wire.http(429, body), wire.http(200, ACCEPTED))

    assert reach(base_url=server.url).submit(REQUEST) == ID
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "code"), [(500, "internal_error"), (503, "upstream_error")])
def test_a_submit_that_met_a_500_or_a_503_is_sent_once(reach, answering, wire, status, code):
    body = json.dumps({"error": {"code": code, "message": "m", "type": "t"}}).encode()
    server = answering(wire.http(status, body), wire.http(200, ACCEPTED))

    with pytest.raises(GptImageError) as caught:
        reach(base_url=server.url).submit(REQUEST)

    assert caught.value.code == code
    assert len(server.requests) == 1


# --- the key stays where it belongs -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_neither_the_key_nor_the_request_along(reach, answering, wire, status):
    elsewhere = answering(wire.http(200, ACCEPTED))
    server = answering(wire.http(status, location=elsewhere.url + "/v1/images/generations"))
    client = reach(base_url=server.url)

    with pytest.raises(SubmissionUnknownError):
        client.submit(REQUEST)
    with pytest.raises(UnreadableResponseError, match="key is not sent"):
        client.get(ID)

    assert elsewhere.connections == 0


def test_the_key_goes_to_the_api_and_not_to_where_images_are(reach, answering, wire, api_key):
    files = answering(wire.http(200, b"PNG"))
    moved = answering(wire.http(302, location=files.url + "/1.png"))
    server = answering(wire.http(200, ACCEPTED))
    client, into = reach(base_url=server.url), io.BytesIO()

    client.submit(REQUEST)
    client.download(moved.url + "/1.png", into)

    assert f"authorization: bearer {api_key}".encode() in server.requests[0].lower()
    assert into.getvalue() == b"PNG"
    for request in (*moved.requests, *files.requests):
        assert api_key.encode() not in request
        assert b"authorization" not in request.lower()


def test_a_server_that_throws_the_key_back_does_not_get_it_into_an_error(reach, serve, api_key):
    def repeat(connection, server):
        connection.sendall(b"HTTP/1.1 400 Bad\r\nconnection: close\r\n\r\n" + server.ask(connection))

    with pytest.raises(GptImageError) as caught:
        reach(base_url=serve(repeat).url).get(ID)

    assert api_key not in str(caught.value) + repr(vars(caught.value))


def test_a_server_that_speaks_the_key_instead_of_http_does_not_get_it_into_an_error(reach, serve, api_key):
    def repeat(connection, server):
        connection.sendall(server.ask(connection))

    with pytest.raises(GptImageError) as caught:
        reach(base_url=serve(repeat).url).get(ID)

    assert api_key not in str(caught.value) + repr(vars(caught.value))


# --- images -------------------------------------------------------------------------------------------------


def test_an_image_that_breaks_off_is_fetched_again_from_its_beginning(reach, serve, wire):
    def break_off_at_first(connection, server):
        server.ask(connection)
        whole = wire.http(200, b"0123456789" * 1000)
        connection.sendall(whole if server.connections > 2 else whole[:-1])

    server, into = serve(break_off_at_first), io.BytesIO()

    arrived = reach(base_url=server.url).download(server.url + "/1.png", into)

    assert into.getvalue() == b"0123456789" * 1000
    assert arrived.bytes == 10_000
    assert server.connections == 3


@pytest.mark.parametrize(
    "behave", [_reads_and_closes, _keeps_silent, _speaks_no_http, _breaks_its_chunks], ids=_named
)
def test_an_image_that_never_arrives_is_an_error_that_trying_again_may_help(reach, serve, behave):
    server = serve(behave)

    with pytest.raises(DownloadError) as caught:
        reach(base_url=server.url, read_timeout=0.1).download(server.url + "/1.png", io.BytesIO())

    assert caught.value.retryable
    assert server.connections == 4


def test_an_image_that_drips_is_given_up(reach, serve):
    def drip(connection, server):
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"x")
                time.sleep(0.02)

    server = serve(drip)

    with pytest.raises(DownloadError, match="took too long as a whole"):
        reach(base_url=server.url, read_timeout=0.1).download(server.url + "/1.png", io.BytesIO())


def test_an_endless_image_is_refused_and_memory_stays_flat(reach, serve):
    server = serve(_says_much_too_much)

    with open("/dev/null", "wb") as nowhere:  # noqa: PTH123
        tracemalloc.start()
        with pytest.raises(ImageRefusedError, match="larger than"):
            reach(base_url=server.url, max_image_bytes=32 * 1024 * 1024).download(
                server.url + "/1.png", _Unkept(nowhere)
            )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert server.connections == 1
    assert peak < 8 * 1024 * 1024


class _Unkept(io.RawIOBase):
    """A seekable file that keeps nothing, and is written to in pieces that are not large."""

    def __init__(self, to):
        self._to = to

    def tell(self):
        return 0

    def seek(self, where, whence=0):
        return where

    def truncate(self, size=None):
        return 0

    def write(self, data):
        assert len(data) < 2 * 1024 * 1024
        return self._to.write(data)
