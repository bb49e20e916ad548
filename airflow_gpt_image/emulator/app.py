"""The HTTP face: the documented endpoints, the image files, and the doorway every request passes.

Polls are the bulk of the traffic, so nothing on their way is validated by a model or kept.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.emulator import control
from airflow_gpt_image.emulator.books import Books
from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.error_table import RefusalError, error_body
from airflow_gpt_image.emulator.fault_kinds import code_of
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.misbehaviour import JSON, Answer, misbehave
from airflow_gpt_image.emulator.pictures import Picture
from airflow_gpt_image.emulator.submissions import read_submission
from airflow_gpt_image.emulator.wire import TRANSPORT

_log = logging.getLogger(__name__)

_NO_FILE: Final = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'


def build_app(emulator: Emulator) -> ASGIApp:
    """The emulator as an ASGI app. Faults that cut connections need the server of ``server.py`` around it."""
    api = _Api(emulator)
    routes = [
        Route("/v1/tasks/{generation_id}", api.get, methods=["GET"]),
        Route("/v1/images/generations", api.submit, methods=["POST"]),
        Route("/files/images/{name}", api.file, methods=["GET"]),
        Route("/v1/credits", api.credits, methods=["GET"]),
        *control.routes(emulator),
    ]
    handlers: dict[Any, Any] = {
        RefusalError: api.refused,
        HTTPException: api.no_endpoint,
        Exception: _crashed,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a wrong address shall be noticed, not helped along
    return _Doorway(emulator, app)


def _crashed(request: Request, error: Exception) -> Response:
    return Response(error_body("internal_error", "The emulator itself has a bug."), 500, media_type=JSON)


class _Api:
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def submit(self, request: Request) -> Response:
        emulator, books, faults = self._emulator, self._emulator.books, self._emulator.faults
        books.requests["submit"] += 1
        key = emulator.check_key(request.headers.get("authorization"))
        emulator.check_rate()
        submission = read_submission(request.headers.get("content-type"), await request.body())
        books.check_affords(emulator.price(submission), emulator.now())

        def earlier(fault: Fault) -> str | None:
            return books.earlier(fault.value, fault.match)

        async def accepted() -> Answer:
            generation = emulator.accept(submission, key, books, faults)
            _log.info(
                "accepted %s for %s credits: %s", generation.id, generation.credits, quote(generation.prompt)
            )
            return _submitted(generation.id, repeated)

        fault = faults.take("submit", submission.request.prompt, earlier=earlier)
        repeated = earlier(fault) if fault and fault.kind == "repeated_id" else None
        if fault is None:
            return (await accepted()).response()
        decoy = _submitted(str(uuid.uuid4()), repeated)
        return await self._misbehave(fault, accepted, books, decoy)

    async def get(self, request: Request) -> Response:
        emulator, books = self._emulator, self._emulator.books
        books.requests["poll"] += 1
        key = emulator.check_key(request.headers.get("authorization"))
        generation = emulator.find(request.path_params["generation_id"], key)
        generation.polls += 1
        payload = emulator.payload(generation)
        fault = emulator.faults.take("get", generation.prompt, completed=payload["status"] == "completed")
        answer = Answer.of(payload)
        return answer.response() if fault is None else await self._misbehave(fault, _ready(answer), books)

    async def credits(self, request: Request) -> Response:
        emulator, books = self._emulator, self._emulator.books
        books.requests["credits"] += 1
        emulator.check_key(request.headers.get("authorization"))
        data = books.in_whole_credits(emulator.now())
        answer = Answer.of({"code": 200, "msg": "success", "data": data})
        fault = emulator.faults.take("credits")
        return answer.response() if fault is None else await self._misbehave(fault, _ready(answer), books)

    async def file(self, request: Request) -> Response:
        emulator, books = self._emulator, self._emulator.books
        books.requests["download"] += 1
        # The real file host is another company's: a key that arrives here has leaked.
        books.seen_authorization_on_files += "authorization" in request.headers
        found = emulator.picture(request.path_params["name"])
        if found is None:
            books.rejected["404"] += 1
            return Response(_NO_FILE, 404, media_type="application/xml")
        generation, picture = found
        generation.downloads += 1
        proper = functools.partial(self._image, picture)
        fault = emulator.faults.take("file", generation.prompt)
        return (await proper()).response() if fault is None else await self._misbehave(fault, proper, books)

    async def _image(self, picture: Picture) -> Answer:
        gallery = self._emulator.gallery

        def redraw(size: Size | None, form: str) -> Awaitable[bytes]:
            return gallery.image(picture.of_size(size), form)

        body = await gallery.image(picture)
        return Answer(body=body, content_type="image/png", redraw=redraw, size=picture.size)

    async def _misbehave(
        self, fault: Fault, proper: Callable[[], Awaitable[Answer]], books: Books, decoy: Answer | None = None
    ) -> Response:
        _log.info("%s meets the fault %s", fault.where, fault)
        response = await misbehave(fault, proper, decoy, self._emulator.now)
        if response.status_code >= 400:
            books.rejected[code_of(fault.kind, fault.where) or str(response.status_code)] += 1
        return response

    def refused(self, request: Request, error: RefusalError) -> Response:
        self._emulator.books.rejected[error.code] += 1
        _log.info("refused %s %s: %s", request.method, request.url.path, error)
        return Response(error.body, error.status, error.headers, media_type=JSON)

    def no_endpoint(self, request: Request, error: HTTPException) -> Response:
        self._emulator.books.rejected[str(error.status_code)] += 1
        body = error_body("invalid_request", f"{request.method} {request.url.path} is not an endpoint.")
        return Response(body, error.status_code, error.headers, media_type=JSON)


def _submitted(generation_id: str, earlier: str | None = None) -> Answer:
    payload = {"code": 200, "msg": "success", "data": {"taskId": generation_id}}
    return Answer.of(payload, earlier=earlier)


def _ready(answer: Answer) -> Callable[[], Awaitable[Answer]]:
    async def ready() -> Answer:
        return answer

    return ready


class _Doorway:
    """Give every answer its id and its date, count what is under way, let clients leave in peace."""

    def __init__(self, emulator: Emulator, app: ASGIApp) -> None:
        self._emulator = emulator
        self._app = app
        self._prefix = f"req_{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"x-request-id", f"{self._prefix}{next(self._numbers):08x}".encode()),
            (b"date", formatdate(self._emulator.now(), usegmt=True).encode()),
        ]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        books = self._emulator.books if scope["path"].startswith("/v1/") else None
        if books is not None:
            books.enter()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            # The server is stopping while a fault held this answer back. Nobody is listening any more.
            if not (TRANSPORT in scope and scope[TRANSPORT].is_closing()):
                raise
        finally:
            if books is not None:
                books.leave()
