"""Who may come in: programs of this machine, with a body of a size that the API's have."""

from __future__ import annotations

import json
import socket

import pytest

from airflow_gpt_image.emulator.doorway import MAX_BODY_BYTES

ENDPOINTS = [
    ("POST", "/v1/images/generations"),
    ("GET", "/v1/tasks/397ce9f2-c04e-4244-ac33-3af19a7cc297"),
    ("GET", "/v1/credits"),
    ("GET", "/files/images/a.png"),
    ("GET", "/_emulator/health"),
    ("GET", "/_emulator/books"),
    ("POST", "/_emulator/faults"),
    ("DELETE", "/_emulator/faults"),
    ("POST", "/_emulator/settings"),
    ("POST", "/_emulator/reset"),
    ("OPTIONS", "/_emulator/reset"),
    ("GET", "/nowhere"),
]
SUBMIT = {"model": "gpt-image-2", "input": {"prompt": "x"}}
BOUND = "/v1/images/generations", "/_emulator/faults", "/_emulator/settings"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:8080",
        "localhost.evil.example.com",
        "127.0.0.1.nip.io",
        "127.0.0.1@evil.example.com",
        "evil.example.com@127.0.0.1",
        "evil#127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "[::]",
        "[::ffff:10.0.0.1]",
        "127.0.0.1 evil",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_request_under_another_name_than_this_machines_is_refused(api, emulator, method, path, host):
    answer = api.request(method, path, headers={"host": host})

    assert answer.status_code == 403
    assert "Host" in answer.json()["error"]["message"]
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.example.com", "null", "http://127.0.0.1:8080", "http://localhost", ""]
)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_page_in_a_browser_is_refused(api, emulator, method, path, origin):
    answer = api.request(method, path, headers={"origin": origin})

    assert answer.status_code == 403
    assert "browser" in answer.json()["error"]["message"]


def test_neither_changes_or_pays_for_anything(api, emulator):
    emulator.fault("credits:503*9")
    for headers in ({"host": "evil.example.com"}, {"origin": "http://evil.example.com"}):
        api.post("/v1/images/generations", json=SUBMIT, headers=headers)
        api.delete("/_emulator/faults", headers=headers)
        api.post("/_emulator/settings", json={"credits": 7}, headers=headers)

    assert emulator.books()["submits"] == 0
    assert emulator.books()["balance"] == "100"
    assert len(emulator.faults()) == 1


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:80", "[::1]", "[::1]:8080", "127.0.0.1:"]
)
def test_every_name_of_this_machine_is_its_own(api, emulator, host):
    assert api.get("/_emulator/health", headers={"host": host}).status_code == 200


def connect(emulator):
    host, port = emulator.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_a_request_without_a_host_is_refused(emulator):
    with connect(emulator) as connection:
        connection.sendall(b"GET /_emulator/books HTTP/1.0\r\n\r\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")


def head(path, *lines):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "300000000", "9" * 4_000])
@pytest.mark.parametrize("path", BOUND)
def test_a_body_that_is_announced_too_long_is_refused_before_a_byte_of_it_has_come(emulator, path, length):
    with connect(emulator) as connection:
        connection.sendall(head(path, f"Content-Length: {length}"))

        assert connection.recv(65536).split()[1] in (b"413", b"400")


@pytest.mark.parametrize("path", BOUND)
def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_long(emulator, path):
    piece = b" " * 50_000
    chunk = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    with connect(emulator) as connection:
        key = f"Authorization: Bearer {emulator.key}"
        connection.sendall(head(path, key, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        for _ in range(MAX_BODY_BYTES // len(piece) + 1):
            connection.sendall(chunk)

        # The rest never comes, and the answer is there.
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_the_most_bytes_is_read(api, emulator):
    body = json.dumps(SUBMIT).encode()
    content = body + b" " * (MAX_BODY_BYTES - len(body))

    answer = api.post("/v1/images/generations", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == 200
