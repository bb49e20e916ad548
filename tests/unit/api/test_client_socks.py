"""Both clients through a SOCKS proxy."""

from __future__ import annotations

import io
import json
import select
import socket

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.errors import ConnectionFailedError

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
REFUSED = b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"


@pytest.fixture(autouse=True)
def _bare(bare_environment):
    pass


@pytest.fixture
def api(answering, wire, certificate):
    """An API that takes a submit, and then gives an image for ever."""
    return answering(wire.http(200, ACCEPTED), wire.http(200, b"PNG"), tls=certificate.server)


def _exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError("the client hung up")
        data += more
    return data


def _asked_for(connection):
    """Take the client's greeting and its wish; return the host it wants to be connected to, and the port."""
    _exactly(connection, _exactly(connection, 2)[1])
    connection.sendall(b"\x05\x00")
    kind = _exactly(connection, 4)[3]
    assert kind == 3, "it is the proxy that looks names up"
    host = _exactly(connection, _exactly(connection, 1)[0])
    return host.decode(), int.from_bytes(_exactly(connection, 2))


def passing_on(connection, server):
    """Pass everything on, wherever it should go, to a port of this machine."""
    host, port = _asked_for(connection)
    server.requests.append(host)
    with socket.create_connection(("127.0.0.1", port)) as there:
        connection.sendall(GRANTED)
        ends = {connection: there, there: connection}
        while not server.done.is_set():
            for end in select.select(list(ends), [], [], 0.1)[0]:
                data = end.recv(65536)
                if not data:
                    return
                ends[end].sendall(data)


def refusing(connection, server):
    _asked_for(connection)
    connection.sendall(REFUSED)
    server.done.wait(10)


def silent(connection, server):
    server.done.wait(10)


def dripping(connection, server):
    connection.sendall(b"\x05\x00")
    while not server.done.wait(0.05):
        connection.sendall(b"\x05")


def speaking_http(connection, server):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    server.done.wait(10)


def hanging_up(connection, server):
    _exactly(connection, 3)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_asked_for_the_api_and_for_images(connect, serve, api, certificate, scheme):
    proxy = serve(passing_on)
    url = api.url.replace("127.0.0.1", "files.test")
    client = connect(
        base_url=url,
        image_hosts=("files.test",),
        proxy=f"{scheme}://127.0.0.1:{proxy.port}",
        verify=certificate.path,
    )
    into = io.BytesIO()

    generation_id = client.submit(REQUEST)
    client.download(f"{url}/1.png", into)

    assert (generation_id, into.getvalue()) == (ID, b"PNG")
    assert proxy.requests == ["files.test", "files.test"]


@pytest.mark.parametrize("behave", [refusing, silent, dripping, speaking_http, hanging_up])
def test_a_socks_proxy_that_does_not_connect_has_passed_nothing_on(connect, serve, behave):
    proxy = serve(behave)
    client = connect(
        base_url="https://files.test",
        proxy=f"socks5h://127.0.0.1:{proxy.port}",
        verify=False,
        connect_timeout=0.3,
        read_timeout=0.3,
        retrying=Retrying(most_sends=1),
    )

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        client.submit(REQUEST)
