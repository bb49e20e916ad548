"""The receiver behind a real socket; what it hands on is kept, and the database is not there."""

from __future__ import annotations

import socket
import threading
import time
from uuid import UUID

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from airflow_gpt_image.callbacks import PREFIX, Callback, Callbacks
from airflow_gpt_image.plugins.callbacks.receiver import CallbackReceiver, Limits

OURS = Callback(UUID("019a0000-0000-7000-8000-000000000001"), "a" * 32)


def airflows(app):
    """Mount an application as Airflow's API server does, beneath a middleware that wraps its requests."""

    async def pass_on(request, call_next):
        return await call_next(request)

    outer = FastAPI()
    outer.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    outer.mount(PREFIX, app)
    return outer


class Receiver:
    """A receiver that is served, and what came of the calls."""

    def __init__(self, limits=Limits(), vendor_secret=None, on=True, mounted=False):
        self.callbacks = Callbacks("http://127.0.0.1", (b"a secret of 26 characters.",), vendor_secret)
        self.handed_on = []
        self.handle = lambda callback, generation_id: "woken"
        app = CallbackReceiver(lambda: self.callbacks if on else None, self._hand_on, limits=limits)
        if mounted:
            app = airflows(app)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30)

    def _hand_on(self, callback, generation_id):
        self.handed_on.append((callback, generation_id))
        return self.handle(callback, generation_id)

    def path(self, callback=OURS, timeout=60.0, now=None):
        now = time.time() if now is None else now
        address = self.callbacks.address(callback, timeout=timeout, now=now)
        return address.removeprefix("http://127.0.0.1")

    def post(self, path=None, **options):
        return self.client.post(path or self.path(), **options)

    def start(self):
        self.thread.start()
        give_up_at = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def stop(self):
        self.client.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def receiving():
    """Makes receivers and serves them."""
    made = []

    def receiving(**options):
        receiver = Receiver(**options)
        made.append(receiver)
        receiver.start()
        return receiver

    yield receiving
    for receiver in made:
        receiver.stop()


@pytest.fixture(params=["alone", "mounted"])
def receiver(request, receiving):
    return receiving(mounted=request.param == "mounted")
