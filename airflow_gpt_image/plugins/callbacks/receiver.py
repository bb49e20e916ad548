"""
The receiver of callbacks: the only address of ours that needs no login, and it can do one thing.

1. Nobody learns anything: whatever isn't an address of ours that is still valid is answered with 404, and
   one that is with 204, whether a task was woken or not.
2. An address is verified before a byte of the body is read. The body is small, and comes soon.
3. Every request is answered within a second; what takes the database longer goes on without the caller.
4. The body is a hint. An id in it is checked by the worker, who asks the API; nothing else in it is used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_gpt_image import callbacks
from airflow_gpt_image.api.rules import check_generation_id
from airflow_gpt_image.callbacks import PREFIX, Callback, Callbacks

_log = logging.getLogger(__name__)

Handle = Callable[[Callback, str | None], object]


@dataclass(frozen=True)
class Limits:
    """
    What a request may take.

    :param body_bytes: a notification of a generation with a hundred images is a fifth of the default.
    :param body_seconds: from the request's head to the end of its body.
    :param answer_seconds: from the request's head to the answer.
    :param threads: callbacks that are carried out at the same time; each holds a connection to the database.
    :param waiting: callbacks that are accepted and not yet carried out. More are told to come again.
    """

    body_bytes: int = 64 * 1024
    body_seconds: float = 0.5
    answer_seconds: float = 0.9
    threads: int = 4
    waiting: int = 1_000


class CallbackReceiver:
    """
    An ASGI application that takes callbacks at ``/gpt-image-callbacks/<what an address ends with>``.

    :param configured: gives what is configured of callbacks; None: they are off, and there is nothing here.
    :param handle: carries out a callback whose address is verified; it may block.
    :param now: seconds since 1970.
    """

    def __init__(
        self,
        configured: Callable[[], Callbacks | None],
        handle: Handle,
        *,
        limits: Limits = Limits(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._configured = configured
        self._handle = handle
        self._limits = limits
        self._now = now
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="gpt-image-callbacks")
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            try:
                response = await self._respond(Request(scope, receive))
            except ClientDisconnect:
                return
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        answer_at = time.monotonic() + self._limits.answer_seconds
        found = self._verify(str(request.scope["path"]))
        if found is None:
            return _refusal(404)
        configured, callback = found
        if request.method != "POST":
            return _refusal(405, allow="POST")
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await self._read(request)
        except TimeoutError:
            return _refusal(408)
        if body is None:
            return _refusal(413)
        generation_id = _generation_id(body)
        timestamp = request.headers.get("x-webhook-timestamp")
        signature = request.headers.get("x-webhook-signature")
        if not configured.verify_vendor(generation_id, timestamp, signature, now=self._now()):
            return _refusal(404)
        return await self._carry_out(callback, generation_id, answer_at)

    def _verify(self, path: str) -> tuple[Callbacks, Callback] | None:
        configured = self._configured()
        before, _, token = path.rpartition("/")
        if configured is None or not before.endswith(PREFIX):
            return None
        callback = configured.verify(token, now=self._now())
        return None if callback is None else (configured, callback)

    async def _read(self, request: Request) -> bytes | None:
        """Return the body; None when it is too large, which its head may say already."""
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told[:12]) > self._limits.body_bytes:
            return None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.body_bytes:
                return None
        return bytes(body)

    async def _carry_out(self, callback: Callback, generation_id: str | None, answer_at: float) -> Response:
        if self._waiting >= self._limits.waiting:
            return Response(status_code=503, headers={"retry-after": "5"})
        self._waiting += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._handle, callback, generation_id)
        work.add_done_callback(lambda done: self._tell(callback, done))
        await asyncio.wait([work], timeout=max(0.0, answer_at - time.monotonic()))
        if not work.done():
            return Response(status_code=202)
        # Where the database is away, another delivery may find it again; so may the poll.
        return Response(status_code=204 if work.exception() is None else 503)

    def _tell(self, callback: Callback, work: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if work.cancelled():
            return
        error = work.exception()
        if error is None:
            _log.info("A callback for task instance %s: %s.", callback.ti_id, work.result())
        else:
            _log.warning("A callback for task instance %s failed.", callback.ti_id, exc_info=error)


def make_app() -> CallbackReceiver:
    """Return the receiver of this API server. The configuration is read once, as Airflow's own is."""
    from airflow_gpt_image.plugins.callbacks.waking import receive

    found = callbacks.configured(_log)
    return CallbackReceiver(lambda: found, receive)


def _generation_id(body: bytes) -> str | None:
    """Return the id that a notification names, if it can be one."""
    try:
        told = json.loads(body)
        return check_generation_id(told["id"] if isinstance(told, dict) else None)
    except (ValueError, KeyError, RecursionError):
        return None


def _refusal(status: int, **headers: str) -> Response:
    # What is left of the body is not waited for.
    return Response(status_code=status, headers={"connection": "close", **headers})
