"""Carry out the flows' steps, blocking or on an event loop. Nothing is decided here.

The key is put on a call to the API and on nothing else: redirects are never followed, and images are fetched
without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, BinaryIO, Self, TypeVar, Unpack, cast

import httpx

from airflow_gpt_image.api import downloads, flows
from airflow_gpt_image.api.aiohttp_reads import AiohttpReads, can_use_aiohttp
from airflow_gpt_image.api.downloads import Downloaded
from airflow_gpt_image.api.httpx_calls import AsyncCalls, AsyncHttpxCalls, HttpxCalls
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.replies import Reply
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings, SettingsOptions, settings_of
from airflow_gpt_image.api.steps import Fetch, Flow, Resolve, Send, Sleep, do_nothing

T = TypeVar("T")


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
        self._calls = HttpxCalls(self.settings, transport)

    def submit(
        self,
        request: ImageRequest,
        *,
        before_send: Callable[[], object] = do_nothing,
        on_rate_limit: Callable[[], object] = do_nothing,
    ) -> str:
        """Submit a request, which costs money, and return the generation id.

        :param before_send: called right before the request is sent, each time; what it raises keeps it back.
        :param on_rate_limit: called each time that the API refuses it for the rate.
        :raises SubmissionUnknownError: when it may have been accepted although no response says so.
        """
        flow = flows.submit(request, self._retrying, before_send=before_send, on_rate_limit=on_rate_limit)
        return self._run(flow)

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

    def send(self, step: Send) -> Reply:
        """Send one call of a flow, for those who drive flows themselves."""
        return self._calls.send(step)

    def close(self) -> None:
        """Close all connections."""
        self._calls.close()

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
                reply = self.send(step)
            elif isinstance(step, Resolve):
                reply = self._calls.resolve(step)
            elif isinstance(step, Fetch):
                reply = self._calls.fetch(step)
            else:
                reply = self._sleep(step)

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
        self._httpx = AsyncHttpxCalls(self.settings, transport)
        self._calls: AsyncCalls = self._httpx
        if use_aiohttp and can_use_aiohttp(self.settings, self._httpx):
            self._calls = AiohttpReads(self.settings, self._httpx)

    async def submit(
        self,
        request: ImageRequest,
        *,
        before_send: Callable[[], object] = do_nothing,
        on_rate_limit: Callable[[], object] = do_nothing,
    ) -> str:
        """Submit a request, as :meth:`GptImageClient.submit` does."""
        flow = flows.submit(request, self._retrying, before_send=before_send, on_rate_limit=on_rate_limit)
        return await self._run(flow)

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

    async def send(self, step: Send) -> Reply:
        """Send one call of a flow, for those who drive flows themselves."""
        async with self._gate:
            return await self._calls.send(step)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._calls.aclose()

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
                reply = await self._httpx.resolve(step)
            elif isinstance(step, Fetch):
                reply = await self._httpx.fetch(step)
            else:
                reply = await self._sleep(step)

    async def _sleep(self, step: Sleep) -> float:
        if step.seconds > 0:
            await asyncio.sleep(step.seconds)
        return time.time()
