"""The doorway that every request passes: who may come in, how much may be brought, and who is inside.

The emulator has no secret, and listens on this machine alone. But a page in a browser on this machine can
send requests here: directly, with an Origin; or under a name of its own that it lets lead to 127.0.0.1 (DNS
rebinding), with that name as Host. Neither is answered.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from email.utils import formatdate
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.error_table import error_body
from airflow_gpt_image.emulator.loopback import is_loopback
from airflow_gpt_image.emulator.misbehaviour import JSON
from airflow_gpt_image.emulator.wire import TRANSPORT

MAX_BODY_BYTES: Final = 2_000_000
"""Ours: far above the longest valid request (20,000 escaped characters and 16 addresses)."""

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/\\\[\]]+))(?::[0-9]*)?")


class BodyTooLargeError(Exception):
    """A request's body is larger than any of the API's."""

    def response(self) -> Response:
        """Return the answer. The connection is closed after it, for the rest of the body may still come."""
        message = f"The body is larger than {MAX_BODY_BYTES:,} bytes. Send one request at a time."
        return _refusal(413, message)


class Doorway:
    """Lets in who may come, gives every answer its id and its date, counts what is under way."""

    def __init__(self, emulator: Emulator, app: ASGIApp) -> None:
        self._emulator = emulator
        self._app = app
        self._prefix = f"req_{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [
            (b"x-request-id", f"{self._prefix}{next(self._numbers):08x}".encode()),
            (b"date", formatdate(self._emulator.now(), usegmt=True).encode()),
        ]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        refusal = _refused(Headers(scope=scope))
        if refusal is not None:
            self._emulator.books.rejected[str(refusal.status_code)] += 1
            await refusal(scope, receive, send_with_id)
            return
        books = self._emulator.books if scope["path"].startswith("/v1/") else None
        if books is not None:
            books.enter()
        try:
            await self._app(scope, _bounded(receive), send_with_id)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            # The server is stopping while a fault held this answer back. Nobody is listening any more.
            if not (TRANSPORT in scope and scope[TRANSPORT].is_closing()):
                raise
        finally:
            if books is not None:
                books.leave()


def _refused(headers: Headers) -> Response | None:
    """Return the answer to who may not come in, by the head of the request alone."""
    host = _HOST.fullmatch(headers.get("host", ""))
    if host is None or not is_loopback(host[1] or host[2]):
        return _refusal(
            403,
            "The Host is not this machine. Use the emulator's own address, such as http://127.0.0.1:8080.",
        )
    if "origin" in headers:
        return _refusal(403, "A page in a browser sent this; the emulator answers programs only.")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        return BodyTooLargeError().response()
    return None


def _refusal(status: int, message: str) -> Response:
    body = error_body("invalid_request", message)
    return Response(body, status, {"connection": "close"}, media_type=JSON)


def _bounded(receive: Receive) -> Receive:
    """Return what receives a request's body, and stops when that is too large: also one without a length."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise BodyTooLargeError
        return message

    return bounded
