"""Something can be asked right before a submit leaves: whether this worker is still the one to send it."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import LedgerError

REQUEST = ImageRequest(prompt="a teapot")


@pytest.fixture
def listener():
    """A server that takes one connection and keeps what comes over it until that is closed."""
    server = socket.create_server(("127.0.0.1", 0))
    came = []

    def listen():
        connection, _ = server.accept()
        with connection:
            while chunk := connection.recv(65536):
                came.append(chunk)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield server.getsockname()[1], came, thread
    server.close()


@pytest.mark.parametrize("kind", [GptImageClient, AsyncGptImageClient])
def test_a_worker_that_is_replaced_while_it_connects_sends_not_a_byte(kind, listener):
    port, came, thread = listener
    asked = []

    def before_send():
        asked.append(thread.is_alive())
        if len(asked) > 1:  # first before the connection is made, then when it stands
            raise LedgerError("replaced")

    with pytest.raises(LedgerError):
        submit(kind, f"http://127.0.0.1:{port}", before_send)

    thread.join(60)
    assert not thread.is_alive(), "it connected, and closed the connection"
    assert came == []
    assert len(asked) == 2


def submit(kind, base_url, before_send):
    client = kind(api_key="sk-0", base_url=base_url, verify=False)
    if kind is GptImageClient:
        with client:
            return client.submit(REQUEST, before_send=before_send)

    async def submitted():
        async with client:
            return await client.submit(REQUEST, before_send=before_send)

    return asyncio.run(submitted())
