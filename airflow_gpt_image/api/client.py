"""Carry out the flows' steps over httpx, blocking or on an event loop. Nothing is decided here.

The key is put on a call to the API and on nothing else: it is no header of the client's own, redirects are
never followed, and images are fetched without it. Submits, reads and images have connections of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from functools import cache, partial
from typing import Any, BinaryIO, Self, TypeVar, Unpack, cast

import httpx

from airflow_gpt_image.api import downloads, flows, wire
from airflow_gpt_image.api.aiohttp_reads import AiohttpReads
from airflow_gpt_image.api.downloads import Downloaded
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.network import aresolve, resolve
from airflow_gpt_image.api.replies import NoResponse, Response
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings, SettingsOptions, settings_of
from airflow_gpt_image.api.steps import Fetch, FileResponse, Flow, Resolve, Send, Sleep, do_nothing
from airflow_gpt_image.api.transport import Transports, proxy_of

T = TypeVar("T")
R = TypeVar("R")


class GptImageClient:
    """Call the API, from code that may block.

    :param settings: how to reach the API; or give ``api_key`` and single fields of :class:`ClientSettings`.
    :param retrying: how often calls are sent, and how long apart.
    :param transport: an httpx transport, for tests.

    Every method raises the errors of :mod:`airflow_gpt_image.errors`.
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        api_key: str | None = None,
        retrying: Retrying = Retrying(),
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        self.settings = settings_of(settings, api_key, options)
        self._retrying = retrying
        hooks = {"response": [wire.keep_location]}
        # A transport of somebody's own connects as it likes.
        self._transports = Transports(self.settings) if transport is None else None
        self._clients = ExitStack()

        def build(proxy: str | None, *, keep: bool) -> httpx.Client:
            through = self._transports.blocking(proxy, keep=keep) if self._transports else transport
            client = httpx.Client(transport=through, event_hooks=hooks, **wire.client_options(self.settings))
            return self._clients.enter_context(client)

        api_proxy = proxy_of(self.settings.base_url, self.settings)
        self._reads = build(api_proxy, keep=True)
        # Submits never use a connection that reads use: bytes left on it, such as the late response to a read
        # that had timed out, would be taken for the submit's. Built when first needed: most clients read.
        self._submits = cache(lambda: build(api_proxy, keep=True))
        # No connection is kept, for two hosts at one address would share it.
        self._files = cache(lambda proxy: build(proxy, keep=False))

    def submit(self, request: ImageRequest, *, before_send: Callable[[], object] = do_nothing) -> str:
        """Submit a request, which costs money, and return the generation id.

        :param before_send: called right before the request is sent, each time; what it raises keeps it back.
        :raises SubmissionUnknownError: when it may have been accepted although no response says so.
        """
        return self._run(flows.submit(request, self._retrying, before_send=before_send))

    def get(self, generation_id: str, *, grace: float = 0.0) -> Generation:
        """Read a generation once.

        :param grace: seconds that an unknown id may stay unknown, for one that was just submitted.
        :raises GenerationNotFoundError: when the account has no such generation.
        """
        return self._run(flows.get(generation_id, self._retrying, grace=grace))

    def wait(self, generation_id: str, *, poll_interval: float = 5.0, timeout: float = 3600.0) -> Generation:
        """Wait until a generation is completed or failed; both in seconds.

        :raises GenerationTimeoutError: after ``timeout``; the generation goes on.
        """
        return self.wait_until(generation_id, poll_interval=poll_interval, deadline=time.time() + timeout)

    def wait_until(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_poll: Callable[[str], object] = do_nothing,
        on_unknown_status: Callable[[str], object] = flows.warn,
    ) -> Generation:
        """Wait as :meth:`wait` does, until a deadline in seconds since 1970.

        :param on_poll: called after each poll, with what came of it.
        :param on_unknown_status: called once for each status that the API document doesn't know, with a
            warning; logs it by default.
        """
        return self._run(
            flows.wait(
                generation_id,
                poll_interval=poll_interval,
                deadline=deadline,
                retrying=self._retrying,
                on_poll=on_poll,
                on_unknown_status=on_unknown_status,
            )
        )

    def generate(
        self, request: ImageRequest, *, poll_interval: float = 5.0, timeout: float = 3600.0
    ) -> Generation:
        """Submit, wait, and return the completed generation with its image URLs.

        :raises GenerationFailedError: when it failed; it was refunded.
        """
        return self._run(
            flows.generate(request, poll_interval=poll_interval, timeout=timeout, retrying=self._retrying)
        )

    def credits(self) -> Decimal:
        """Return the account's balance in credits.

        :raises UnreadableResponseError: when the response can't be read; its shape is undocumented.
        """
        return self._run(flows.balance(self._retrying))

    def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        age: float | None = None,
        retrying: Retrying | None = None,
        whole: Callable[[BinaryIO], bool] = downloads.nothing_is_whole,
    ) -> Downloaded:
        """Fetch an image into a seekable binary file, without the API key; memory stays flat.

        :param age: seconds since its generation was completed, as ``Generation.age`` has it; None: that isn't
            known. Only an image that is older than a day can have expired.
        :param retrying: in place of the client's own.
        :param whole: says of a file whose transfer broke off whether it is whole; by default it never is.
        :raises DownloadError: or one of its subclasses.
        """
        return self._run(
            downloads.download(url, into, self.settings, retrying or self._retrying, age=age, whole=whole)
        )

    def close(self) -> None:
        """Close all connections."""
        self._clients.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        reply: Any = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                return cast("T", end.value)
            if isinstance(step, Send):
                reply = self._send(step)
            elif isinstance(step, Resolve):
                reply = self._resolve(step)
            elif isinstance(step, Fetch):
                reply = self._fetch(step)
            else:
                reply = self._sleep(step)

    def _send(self, step: Send) -> Response | NoResponse:
        sending = wire.Sending(step, self.settings, traced=self._transports is not None)
        client = self._submits() if step.call.method == "POST" else self._reads
        return self._exchange(client, sending, partial(sending.options, sending.trace))

    def _resolve(self, step: Resolve) -> tuple[str, ...] | NoResponse | None:
        if self._transports is None or proxy_of(step.url, self.settings) is not None:
            return None
        try:
            return resolve(*wire.look_up_arguments(step.url), self.settings.connect_timeout)
        except wire.FAILURES as error:
            return wire.no_response(error, self.settings, sent=False)

    def _fetch(self, step: Fetch) -> FileResponse | NoResponse:
        fetching = wire.Fetching(step, self.settings)
        proxy = None if step.address else proxy_of(step.url, self.settings)
        return self._exchange(self._files(proxy), fetching, fetching.options)

    def _exchange(
        self, client: httpx.Client, receiver: wire.Receiver[R], options: Callable[[], dict[str, Any]]
    ) -> R:
        try:
            with receiver.exchange, client.stream(**options()) as response:
                body = receiver.begin(response)
                if body is not None:
                    for chunk in response.iter_raw():
                        body.add(chunk)
                    body.end()
        except wire.FAILURES as error:
            return receiver.reply(error)
        return receiver.reply()

    def _sleep(self, step: Sleep) -> float:
        time.sleep(max(0.0, step.seconds))
        return time.time()


class AsyncGptImageClient:
    """Call the API, from code on an event loop; everything else as :class:`GptImageClient`.

    :param at_once: calls under way at the same time; the others wait. Default 16: more don't make the API
        respond sooner, and a thousand at once cost 30 times the CPU.
    :param use_aiohttp: read over aiohttp, which costs less than httpx, where it is installed and no proxy is
        to be used. Default True.
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        api_key: str | None = None,
        retrying: Retrying = Retrying(),
        at_once: int = 16,
        use_aiohttp: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        self.settings = settings_of(settings, api_key, options)
        self._retrying = retrying
        self._gate = asyncio.Semaphore(at_once)
        hooks = {"response": [wire.akeep_location]}
        self._transports = Transports(self.settings) if transport is None else None
        self._clients: list[httpx.AsyncClient] = []

        def build(proxy: str | None, *, keep: bool) -> httpx.AsyncClient:
            through = self._transports.on_a_loop(proxy, keep=keep) if self._transports else transport
            client = httpx.AsyncClient(
                transport=through, event_hooks=hooks, **wire.client_options(self.settings)
            )
            self._clients.append(client)
            return client

        api_proxy = proxy_of(self.settings.base_url, self.settings)
        self._reads = build(api_proxy, keep=True)
        self._aiohttp = AiohttpReads(self.settings, self._transports if use_aiohttp else None)
        # Both as in GptImageClient.
        self._submits = cache(lambda: build(api_proxy, keep=True))
        self._files = cache(lambda proxy: build(proxy, keep=False))

    async def submit(self, request: ImageRequest, *, before_send: Callable[[], object] = do_nothing) -> str:
        """Submit a request, as :meth:`GptImageClient.submit` does."""
        return await self._run(flows.submit(request, self._retrying, before_send=before_send))

    async def get(self, generation_id: str, *, grace: float = 0.0) -> Generation:
        """Read a generation once, as :meth:`GptImageClient.get` does."""
        return await self._run(flows.get(generation_id, self._retrying, grace=grace))

    async def wait(
        self, generation_id: str, *, poll_interval: float = 5.0, timeout: float = 3600.0
    ) -> Generation:
        """Wait for a generation, as :meth:`GptImageClient.wait` does."""
        deadline = time.time() + timeout
        return await self.wait_until(generation_id, poll_interval=poll_interval, deadline=deadline)

    async def wait_until(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_poll: Callable[[str], object] = do_nothing,
        on_unknown_status: Callable[[str], object] = flows.warn,
    ) -> Generation:
        """Wait for a generation until a deadline, as :meth:`GptImageClient.wait_until` does."""
        return await self._run(
            flows.wait(
                generation_id,
                poll_interval=poll_interval,
                deadline=deadline,
                retrying=self._retrying,
                on_poll=on_poll,
                on_unknown_status=on_unknown_status,
            )
        )

    async def generate(
        self, request: ImageRequest, *, poll_interval: float = 5.0, timeout: float = 3600.0
    ) -> Generation:
        """Submit a request and wait, as :meth:`GptImageClient.generate` does."""
        return await self._run(
            flows.generate(request, poll_interval=poll_interval, timeout=timeout, retrying=self._retrying)
        )

    async def credits(self) -> Decimal:
        """Read the balance, as :meth:`GptImageClient.credits` does."""
        return await self._run(flows.balance(self._retrying))

    async def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        age: float | None = None,
        retrying: Retrying | None = None,
        whole: Callable[[BinaryIO], bool] = downloads.nothing_is_whole,
    ) -> Downloaded:
        """Fetch an image, as :meth:`GptImageClient.download` does."""
        return await self._run(
            downloads.download(url, into, self.settings, retrying or self._retrying, age=age, whole=whole)
        )

    async def send(self, step: Send) -> Response | NoResponse:
        """Send one call of a flow, for those who drive flows themselves."""
        async with self._gate:
            if (reply := await self._aiohttp.send(step)) is not None:
                return reply
            sending = wire.Sending(step, self.settings, traced=self._transports is not None)
            client = self._submits() if step.call.method == "POST" else self._reads

            async def trace(event: str, info: Mapping[str, Any]) -> None:
                sending.trace(event, info)

            return await self._exchange(client, sending, partial(sending.options, trace))

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()
        await self._aiohttp.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        reply: Any = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                return cast("T", end.value)
            if isinstance(step, Send):
                reply = await self.send(step)
            elif isinstance(step, Resolve):
                reply = await self._resolve(step)
            elif isinstance(step, Fetch):
                reply = await self._fetch(step)
            else:
                reply = await self._sleep(step)

    async def _resolve(self, step: Resolve) -> tuple[str, ...] | NoResponse | None:
        if self._transports is None or proxy_of(step.url, self.settings) is not None:
            return None
        try:
            return await aresolve(*wire.look_up_arguments(step.url), self.settings.connect_timeout)
        except wire.FAILURES as error:
            return wire.no_response(error, self.settings, sent=False)

    async def _fetch(self, step: Fetch) -> FileResponse | NoResponse:
        fetching = wire.Fetching(step, self.settings)
        proxy = None if step.address else proxy_of(step.url, self.settings)
        return await self._exchange(self._files(proxy), fetching, fetching.options)

    async def _exchange(
        self, client: httpx.AsyncClient, receiver: wire.Receiver[R], options: Callable[[], dict[str, Any]]
    ) -> R:
        try:
            with receiver.exchange:
                async with client.stream(**options()) as response:
                    body = receiver.begin(response)
                    if body is not None:
                        async for chunk in response.aiter_raw():
                            body.add(chunk)
                        body.end()
        except wire.FAILURES as error:
            return receiver.reply(error)
        return receiver.reply()

    async def _sleep(self, step: Sleep) -> float:
        if step.seconds > 0:
            await asyncio.sleep(step.seconds)
        return time.time()
