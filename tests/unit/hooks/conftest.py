"""What the hook's tests share: connections in the environment, and servers that aren't the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_gpt_image.hooks.gpt_image import GptImageHook

KEY = "sk-live-0123456789abcdef"


@pytest.fixture
def api_key():
    return KEY


@pytest.fixture
def connection(monkeypatch):
    """Puts a connection into the environment, as Airflow reads it; a working one but for what is given.

    Comes back: the hook on it.
    """

    def define(**fields):
        given = {"conn_type": "gpt_image", "password": KEY, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))
        return GptImageHook()

    return define


@pytest.fixture
def connection_uri(monkeypatch):
    """The same for a connection that is written as a URI."""

    def define(uri):
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", uri)
        return GptImageHook()

    return define


async def _on_a_loop(hook, method, arguments):
    async with await hook.aget_conn() as client:
        return await getattr(client, method)(*arguments)


def _blocking(hook, method, arguments):
    with hook.get_conn() as client:
        return getattr(client, method)(*arguments)


@pytest.fixture(params=["sync", "async"])
def settings_of(request):
    """Reads the settings as blocking code does, and as code on an event loop does."""
    return {"sync": lambda hook: hook.settings(), "async": lambda hook: asyncio.run(hook.asettings())}[
        request.param
    ]


@pytest.fixture(params=["sync", "async"])
def call(request):
    """Calls a method of a client the hook made, of either kind."""

    def call(hook, method, *arguments):
        if request.param == "sync":
            return _blocking(hook, method, arguments)
        return asyncio.run(_on_a_loop(hook, method, arguments))

    return call


class _Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.server.web.asked.append(self.requestline)
        self.server.web.headers.append(dict(self.headers))
        status, body, content_type = self.server.web.answer
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_CONNECT = answer  # noqa: N815 - the names are the standard library's

    def log_message(self, *args):
        pass


class Web:
    """A server of this machine that gives one answer to everything, and keeps the requests' first lines."""

    def __init__(self, status, body, content_type, tls):
        self.asked, self.headers = [], []
        self.answer = status, body, content_type
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.web = self
        # A client that doesn't trust the certificate hangs up in the handshake; nobody needs to hear of it.
        self._server.handle_error = lambda *args: None
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def web():
    """Starts servers that aren't the API."""
    with contextlib.ExitStack() as stack:

        def start(status=200, body=b"{}", content_type="application/json", tls=None):
            server = Web(status, body, content_type, tls)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def silent_port():
    """A port that takes connections, and on which nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
