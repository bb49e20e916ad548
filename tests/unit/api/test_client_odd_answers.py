"""A header is no reason to lose an id or an image: both clients against servers that answer oddly."""

from __future__ import annotations

import gzip
import io
import json
import socket
import tracemalloc
import zlib

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    DownloadError,
    GptImageError,
    ImageRefusedError,
    RateLimitError,
    SubmissionUnknownError,
    UnreadableResponseError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
DONE = json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode()
REFUSED = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "m", "type": "t"}}).encode()
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100
HEAD = b"HTTP/1.1 %d Said\r\nconnection: close\r\n"


def raw_deflate(data):
    return zlib.compress(data)[2:-4]


PACKINGS = {
    "gzip": ("gzip", gzip.compress),
    "GZip": ("GZip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "gzip twice": ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    "gzip that is not said": ("identity", gzip.compress),
    "gzip in a store's words": ("aws-chunked, gzip", gzip.compress),
}
WORDS = [
    "aws-chunked",
    "",
    " ",
    "UTF-8",
    "none",
    "binary",
    "identity",
    "IDENTITY",
    "utf8",
    "br",
    "zstd",
    "gzip",
]
packed = pytest.mark.parametrize(("encoding", "pack"), PACKINGS.values(), ids=PACKINGS)


def fetched(client, server):
    into = io.BytesIO()
    arrived = client.download(server.url + "/1.png", into)
    assert arrived.bytes == len(into.getvalue())
    return into.getvalue()


# --- encodings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [*WORDS, "deflate", "gzip, gzip"])
def test_a_word_for_an_encoding_that_is_none_loses_nothing(reach, answering, wire, encoding):
    answers = [wire.http(200, body, content_encoding=encoding) for body in (ACCEPTED, DONE, PNG)]
    server = answering(*answers)
    client = reach(base_url=server.url)

    assert client.submit(REQUEST) == ID
    assert client.get(ID).finished
    assert fetched(client, server) == PNG


@packed
def test_what_is_packed_without_being_asked_for_is_unpacked(reach, answering, wire, encoding, pack):
    answers = [wire.http(200, pack(body), content_encoding=encoding) for body in (ACCEPTED, DONE, PNG)]
    server = answering(*answers)
    client = reach(base_url=server.url)

    assert client.submit(REQUEST) == ID
    assert client.get(ID).finished
    assert fetched(client, server) == PNG


def test_nothing_packed_is_asked_for(reach, answering, wire):
    server = answering(wire.http(200, ACCEPTED), wire.http(200, PNG))
    client = reach(base_url=server.url)

    client.submit(REQUEST)
    fetched(client, server)

    assert all(b"accept-encoding: identity\r\n" in request.lower() for request in server.requests)


def test_a_packed_refusal_is_the_apis_word_too(reach, answering, wire):
    refused = wire.http(429, gzip.compress(REFUSED), content_encoding="gzip")
    server = answering(refused, wire.http(200, ACCEPTED))

    assert reach(base_url=server.url).submit(REQUEST) == ID
    assert len(server.requests) == 2


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_packed_image_that_is_cut_off_or_broken_is_fetched_again(reach, answering, wire, pack):
    whole = pack(PNG)
    server = answering(
        wire.http(200, whole[:-9], content_encoding="gzip"),
        wire.http(200, whole[:12] + b"\xff" * 50, content_encoding="gzip"),
        wire.http(200, whole, content_encoding="gzip"),
    )

    assert fetched(reach(base_url=server.url), server) == PNG
    assert len(server.requests) == 3


def test_a_packed_image_counts_with_its_real_size(reach, answering, wire):
    largest = b"\x89PNG" + b"\0" * 996
    server = answering(wire.http(200, gzip.compress(largest)), wire.http(200, gzip.compress(largest + b"\0")))
    client = reach(base_url=server.url, max_image_bytes=1000)

    assert fetched(client, server) == largest
    with pytest.raises(ImageRefusedError, match="larger than 1,000 bytes"):
        fetched(client, server)


@pytest.mark.parametrize("what", ["an answer", "an image"])
def test_a_few_packed_bytes_do_not_fill_the_memory(reach, answering, wire, what):
    bomb = gzip.compress(gzip.compress(b" " * 32 * 1024 * 1024))
    server = answering(wire.http(200, bomb, content_encoding="gzip, gzip"))
    client = reach(base_url=server.url, max_image_bytes=1024)

    tracemalloc.start()
    with pytest.raises(GptImageError):
        client.get(ID) if what == "an answer" else client.download(server.url + "/1.png", io.BytesIO())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(bomb) < 4096
    assert peak < 16 * 1024 * 1024


# --- an id that came is taken -------------------------------------------------------------------------------

ODDITIES = {
    "no type": HEAD % 200 + b"\r\n",
    "another type": HEAD % 200 + b"content-type: text/html; charset=klingon\r\n\r\n",
    "a type that is none": HEAD % 200 + b"content-type: ;;;\xff\r\n\r\n",
    "another status": HEAD % 201 + b"\r\n",
    "accepted": HEAD % 202 + b"\r\n",
    "a length of what comes": HEAD % 200 + b"content-length: %d\r\n\r\n" % len(ACCEPTED),
    "a length too long": HEAD % 200 + b"content-length: 4000\r\n\r\n",
    "a length too long, packed": HEAD % 200 + b"content-length: 4000\r\ncontent-encoding: gzip\r\n\r\n",
    "chunks without an end": HEAD % 200 + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(ACCEPTED),
    "a redirect's header": HEAD % 200 + b"location: https://elsewhere.example/\r\n\r\n",
    "many headers": HEAD % 200 + b"".join(b"x-%d: y\r\n" % n for n in range(1000)) + b"\r\n",
    "an interim response": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + HEAD % 200 + b"\r\n",
}
BODIES = {
    "plain": ACCEPTED,
    "with a mark": b"\xef\xbb\xbf" + ACCEPTED,
    "with space": b"\r\n  " + ACCEPTED + b"\r\n\r\n",
    "in UTF-16": ACCEPTED.decode().encode("utf-16"),
    "and a page": ACCEPTED + b"<br>Warning: mysql_connect()",
    "and another document": ACCEPTED + REFUSED,
    "and zeros": ACCEPTED + b"\0\0\0",
}


@pytest.mark.parametrize("head", ODDITIES.values(), ids=ODDITIES)
def test_an_id_is_taken_however_its_answer_looks(reach, serve, head):
    def behave(connection, server):
        server.ask(connection)
        connection.sendall(head + ACCEPTED)

    server = serve(behave)

    assert reach(base_url=server.url).submit(REQUEST) == ID
    assert server.connections == 1


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_id_is_taken_whatever_stands_around_it(reach, answering, wire, body):
    server = answering(wire.http(200, body))

    assert reach(base_url=server.url).submit(REQUEST) == ID


@pytest.mark.parametrize("more", [b"0\r\nx-more: ", b"1;x=", b"zz\r\n", b"5\r\nab", b""])
def test_an_id_is_taken_when_what_follows_its_document_does_not_end(reach, serve, more):
    def behave(connection, server):
        server.ask(connection)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(ACCEPTED), ACCEPTED) + more)
        server.done.wait(10)

    assert reach(base_url=serve(behave).url, read_timeout=0.2).submit(REQUEST) == ID


def test_a_generation_is_read_too_when_its_answer_breaks_off_after_the_document(reach, answering, wire):
    whole = wire.http(200, DONE).replace(b"content-length: %d" % len(DONE), b"content-length: 9999")

    assert reach(base_url=answering(whole).url).get(ID).finished


# --- but nothing else is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 5, len(ACCEPTED) - 1])
def test_half_a_document_is_no_answer(reach, answering, wire, cut):
    half = wire.http(200, ACCEPTED)[:-cut]

    with pytest.raises(SubmissionUnknownError):
        reach(base_url=answering(half).url).submit(REQUEST)


@pytest.mark.parametrize(
    "refusal", [REFUSED + b"<br>Warning", REFUSED + ACCEPTED], ids=["and a page", "and an id"]
)
def test_a_refusal_with_something_behind_it_proves_nothing(reach, answering, wire, refusal):
    server = answering(wire.http(429, refusal))

    with pytest.raises(SubmissionUnknownError):
        reach(base_url=server.url).submit(REQUEST)

    assert len(server.requests) == 1


def test_a_refusal_that_breaks_off_proves_nothing(reach, answering, wire):
    cut = wire.http(429, REFUSED).replace(b"content-length: %d" % len(REFUSED), b"content-length: 9999")
    server = answering(cut)

    with pytest.raises(SubmissionUnknownError):
        reach(base_url=server.url).submit(REQUEST)

    assert len(server.requests) == 1


def test_a_page_that_begins_with_a_number_is_shown_as_it_is(reach, answering, wire):
    server = answering(wire.http(502, b"502 Bad Gateway"))

    with pytest.raises(UnreadableResponseError, match="502 Bad Gateway"):
        reach(base_url=server.url).get(ID)


def test_an_image_that_breaks_off_is_not_taken_if_nobody_says_that_it_is_whole(reach, answering, wire):
    cut = wire.http(200, PNG).replace(b"content-length: %d" % len(PNG), b"content-length: 99999")
    server = answering(cut)

    with pytest.raises(DownloadError):
        fetched(reach(base_url=server.url), server)


def test_an_image_that_breaks_off_is_taken_if_it_is_said_to_be_whole(reach, answering, wire):
    cut = wire.http(200, PNG).replace(b"content-length: %d" % len(PNG), b"content-length: 99999")
    server, into = answering(cut), io.BytesIO()

    reach(base_url=server.url).download(
        server.url + "/1.png", into, whole=lambda file: file.getvalue() == PNG
    )

    assert into.getvalue() == PNG
    assert len(server.requests) == 1


# --- heads that the parser of HTTP refuses ------------------------------------------------------------------

REFUSED_LINES = {
    "no colon": b"no colon at all",
    "a blank in a name": b"x y: z",
    "no name": b": z",
    "a zero": b"x-nul: a\0b",
    "a fold": b" folded: onto the line before",
    "a very long line": b"x-" + b"y" * 120_000 + b": z",
    "many long lines": b"\r\n".join(b"x-%d: " % n + b"z" * 5000 for n in range(30)),
    "a length below zero": b"content-length: -1",
    "two lengths": b"content-length: 10, 20",
    "a length without an end": b"content-length: " + b"9" * 30,
    "another coding": b"transfer-encoding: identity",
    "two codings": b"transfer-encoding: gzip, chunked",
    "two codings on two lines": b"transfer-encoding: gzip,\r\n chunked",
    "a fold under the chunks": b"transfer-encoding: chunked\r\n folded: onto the line before",
}


def _with_line(line, body, status=200):
    if b"chunked" in line:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return HEAD % status + line + b"\r\nx-more: y\r\n\r\n" + body


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "body apart"])
@pytest.mark.parametrize("line", REFUSED_LINES.values(), ids=REFUSED_LINES)
def test_an_id_is_taken_whatever_headers_stand_above_it(reach, serve, line, apart):
    head, _, body = _with_line(line, ACCEPTED).partition(b"\r\n\r\n")

    def behave(connection, server):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"\r\n\r\n" + (b"" if apart else body))
        connection.sendall(body if apart else b"")

    server = serve(behave)

    assert reach(base_url=server.url).submit(REQUEST) == ID
    assert server.connections == 1


@pytest.mark.parametrize("line", REFUSED_LINES.values(), ids=REFUSED_LINES)
def test_an_image_is_stored_whatever_headers_stand_above_it(reach, answering, line):
    server = answering(_with_line(line, PNG))

    assert fetched(reach(base_url=server.url), server) == PNG


def test_a_refusal_under_headers_that_are_none_proves_nothing(reach, answering):
    server = answering(_with_line(b"no colon at all", REFUSED, status=429))

    with pytest.raises(SubmissionUnknownError):
        reach(base_url=server.url).submit(REQUEST)

    assert len(server.requests) == 1


def test_a_refusal_under_a_header_of_two_lines_is_the_apis_word(reach, answering):
    server = answering(_with_line(b"x-trace: 1\r\n\tand its second line", REFUSED, status=429))

    with pytest.raises(RateLimitError):
        reach(base_url=server.url).submit(REQUEST)


def test_a_head_without_headers_is_one(reach, answering):
    assert reach(base_url=answering(b"HTTP/1.1 200 OK\r\n\r\n" + ACCEPTED).url).submit(REQUEST) == ID
