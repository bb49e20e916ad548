"""Send calls and fetch images over httpx's transports, blocking or on an event loop: what every client has.

httpx's clients aren't used. What they add is what we never want: redirects that are followed, cookies, logins
of a ``.netrc``, proxies of their own choice. And a request costs half as much CPU without them.

Submits, reads and images have connections of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final, Protocol, TypeVar

import httpx

from airflow_gpt_image.api import wire
from airflow_gpt_image.api.blocking import in_thread
from airflow_gpt_image.api.network import aresolve, resolve
from airflow_gpt_image.api.replies import NoResponse, Reply
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Fetch, FileResponse, Resolve, Send
from airflow_gpt_image.api.transport import Transports, proxy_of

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Seconds that a connection is kept. Of submits shorter than any server's usual idle time (uvicorn's is 5 s):
# one that the server is just closing would make it "unknown", although nothing was accepted. A read is sent
# again.
_KEEP_SUBMITS: Final = 3.0
KEEP_READS: Final = 30.0
# Of images as short as that, too: each is asked for again, but an attempt counts.
_KEEP_FILES: Final = 3.0


class AsyncCalls(Protocol):
    """Send calls to the API, on an event loop: what a client's flows go over."""

    async def send(self, step: Send) -> Reply:
        """Send a call, and return what came of it; it raises nothing but what ``before_send`` does."""

    async def aclose(self) -> None:
        """Close all connections."""


class _Replying(Protocol[R_co]):
    @property
    def is_large(self) -> bool: ...

    def reply(self, error: Exception | None = None) -> R_co: ...


async def reply_of(receiver: _Replying[R], error: Exception | None = None) -> R:
    """Return what came of an exchange; a large response is read in a thread, for the loop is everybody's."""
    if receiver.is_large:
        return await asyncio.wrap_future(in_thread(partial(receiver.reply, error)))
    return receiver.reply(error)


class HttpxCalls:
    """Send calls and fetch images, from code that may block.

    :param transport: for everything, in place of our own, for tests; it connects as it likes.
    """

    def __init__(self, settings: ClientSettings, transport: httpx.BaseTransport | None) -> None:
        self._settings = settings
        transports = Transports(settings) if transport is None else None
        self._traced = transports is not None
        self._open: list[httpx.BaseTransport] = []

        def build(proxy: str | None, keep: float) -> httpx.BaseTransport:
            built = transports.blocking(proxy, keep=keep) if transports else transport
            assert built is not None
            self._open.append(built)
            return built

        api_proxy = proxy_of(settings.base_url, settings)
        self._reads = build(api_proxy, KEEP_READS)
        # Submits never use a connection that reads use: bytes left on it, such as the late response to a read
        # that had timed out, would be taken for the submit's. Built when first needed: most clients read.
        self._submits = cache(lambda: build(api_proxy, _KEEP_SUBMITS))
        self._files = cache(lambda proxy: build(proxy, _KEEP_FILES))

    def send(self, step: Send) -> Reply:
        """Send a call to the API."""
        sending = wire.Sending(step, self._settings, traced=self._traced)
        transport = self._submits() if step.call.method == "POST" else self._reads
        return self._exchange(transport, sending, lambda: sending.request(sending.trace))

    def resolve(self, step: Resolve) -> tuple[str, ...] | NoResponse | None:
        """Look up an image's host; None when a proxy or a transport of somebody's own does."""
        if not self._traced or proxy_of(step.url, self._settings) is not None:
            return None
        try:
            return resolve(*wire.look_up_arguments(step.url), self._settings.connect_timeout)
        except wire.FAILURES as error:
            return wire.no_response(error, self._settings, sent=False)

    def fetch(self, step: Fetch) -> FileResponse | NoResponse:
        """Fetch an image."""
        fetching = wire.Fetching(step, self._settings)
        proxy = None if step.address else proxy_of(step.url, self._settings)
        return self._exchange(self._files(proxy), fetching, fetching.request)

    def _exchange(
        self, transport: httpx.BaseTransport, receiver: wire.Receiver[R], request: Callable[[], httpx.Request]
    ) -> R:
        try:
            with receiver.exchange:
                response = transport.handle_request(request())
                try:
                    body = receiver.begin(response)
                    if body is not None:
                        for chunk in response.iter_raw():
                            body.add(chunk)
                        body.end()
                finally:
                    response.close()
        except wire.FAILURES as error:
            return receiver.reply(error)
        return receiver.reply()

    def close(self) -> None:
        """Close all connections."""
        for transport in self._open:
            transport.close()


class AsyncHttpxCalls:
    """As :class:`HttpxCalls`, on an event loop."""

    def __init__(self, settings: ClientSettings, transport: httpx.AsyncBaseTransport | None) -> None:
        self._settings = settings
        self.transports = Transports(settings) if transport is None else None
        self._open: list[httpx.AsyncBaseTransport] = []

        def build(proxy: str | None, keep: float) -> httpx.AsyncBaseTransport:
            built = self.transports.on_a_loop(proxy, keep=keep) if self.transports else transport
            assert built is not None
            self._open.append(built)
            return built

        # All as in HttpxCalls.
        api_proxy = proxy_of(settings.base_url, settings)
        self._reads = build(api_proxy, KEEP_READS)
        self._submits = cache(lambda: build(api_proxy, _KEEP_SUBMITS))
        self._files = cache(lambda proxy: build(proxy, _KEEP_FILES))

    async def send(self, step: Send) -> Reply:
        """Send a call to the API."""
        sending = wire.Sending(step, self._settings, traced=self.transports is not None)
        transport = self._submits() if step.call.method == "POST" else self._reads

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            sending.trace(event, info)

        return await self._exchange(transport, sending, lambda: sending.request(trace))

    async def resolve(self, step: Resolve) -> tuple[str, ...] | NoResponse | None:
        """Look up an image's host, as :meth:`HttpxCalls.resolve` does."""
        if self.transports is None or proxy_of(step.url, self._settings) is not None:
            return None
        try:
            return await aresolve(*wire.look_up_arguments(step.url), self._settings.connect_timeout)
        except wire.FAILURES as error:
            return wire.no_response(error, self._settings, sent=False)

    async def fetch(self, step: Fetch) -> FileResponse | NoResponse:
        """Fetch an image."""
        fetching = wire.Fetching(step, self._settings)
        proxy = None if step.address else proxy_of(step.url, self._settings)
        return await self._exchange(self._files(proxy), fetching, fetching.request)

    async def _exchange(
        self,
        transport: httpx.AsyncBaseTransport,
        receiver: wire.Receiver[R],
        request: Callable[[], httpx.Request],
    ) -> R:
        try:
            with receiver.exchange:
                response = await transport.handle_async_request(request())
                try:
                    body = receiver.begin(response)
                    if body is not None:
                        async for chunk in response.aiter_raw():
                            body.add(chunk)
                        body.end()
                finally:
                    await response.aclose()
        except wire.FAILURES as error:
            return await reply_of(receiver, error)
        return await reply_of(receiver)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._open:
            await transport.aclose()
