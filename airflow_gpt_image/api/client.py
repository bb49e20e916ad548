"""The two clients: they carry out the flows' steps over httpx, and decide nothing. All that is written twice.

The key is put on a call to the API and on nothing else: it is no header of the client's own, redirects are
never followed, and images are fetched without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypedDict, TypeVar, Unpack

import httpx

from airflow_gpt_image import __version__
from airflow_gpt_image.api import flows, protocol
from airflow_gpt_image.api.errors import ImageRefusedError, InvalidSettingsError
from airflow_gpt_image.api.flows import Downloaded, Fetch, FileAnswer, Flow, Send, Sleep
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.protocol import Answer, NoAnswer
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings, trusted

T = TypeVar("T")

# Shorter than any server's usual idle time (uvicorn's is 5 s): a submit on a connection that the server is
# just closing would end as "unknown", although nothing was accepted.
_KEEPALIVE_SECONDS: Final = 3.0

# Failures that come before the first byte of a request can leave: a submit that ends so is provably not
# accepted. A proxy that refuses its tunnel (ProxyError) has passed nothing on either.
_NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)

# ValueError: an address or a header that httpx, idna or the socket module can't encode. It says nothing of
# whether the request was sent, so it counts as sent.
_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, ValueError)

_STALLED: Final = "the answer took too long as a whole"
_OVERSIZED: Final = "the answer is larger than any of the API's"


class SettingsOptions(TypedDict, total=False):
    """The fields of :class:`ClientSettings`, for the clients' keyword arguments."""

    base_url: str
    connect_timeout: float
    read_timeout: float
    proxy: str | None
    verify: bool | str
    allow_http: bool
    image_hosts: tuple[str, ...]
    max_image_bytes: int


def _settings(given: ClientSettings | None, api_key: str | None, options: SettingsOptions) -> ClientSettings:
    if given is None:
        return ClientSettings(api_key=api_key or "", **options)
    if api_key is not None or options:
        raise InvalidSettingsError("Give settings, or api_key and single options; not both.")
    return given


def _options(settings: ClientSettings) -> dict[str, Any]:
    """What both kinds of httpx client are built with."""
    verify = trusted(settings.verify) if isinstance(settings.verify, str) else settings.verify
    return {
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "limits": httpx.Limits(max_connections=100, keepalive_expiry=_KEEPALIVE_SECONDS),
        "verify": verify,
        "proxy": settings.proxy,
        # A proxy of the environment is not asked for this machine's own address: over plain http it would see
        # the key.
        "trust_env": not settings.on_this_machine,
        "follow_redirects": False,
        # A cookie could carry to the file host what the API was told, and a junk one fails every later call.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Uncompressed, so that a few bytes can't become a gigabyte: sizes are counted as they arrive.
        "headers": {
            "user-agent": f"airflow-provider-gpt-image/{__version__}",
            "accept-encoding": "identity",
        },
    }


def _request(settings: ClientSettings, call: protocol.Call) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": settings.base_url + call.path,
        "json": call.body,
        "headers": {"authorization": f"Bearer {settings.api_key}", "accept": "application/json"},
    }


def _no_answer(error: Exception, settings: ClientSettings, at: float) -> NoAnswer:
    text = protocol.one_line(str(error).replace(settings.api_key, "***")) or "no details"
    return NoAnswer(sent=not isinstance(error, _NEVER_SENT), reason=f"{type(error).__name__}: {text}", at=at)


class _Body:
    """Collects an answer's body, and stops when it is none of the API's: too large, or dripping for ever."""

    def __init__(self, settings: ClientSettings) -> None:
        self._seconds = settings.read_timeout
        self._until: float | None = None
        self.bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        self.bytes += chunk
        # From the first byte of the body on: however long the API took to answer, its answer is read.
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        if len(self.bytes) > protocol.MAX_ANSWER_BYTES:
            raise httpx.ReadError(_OVERSIZED)
        if time.monotonic() > self._until:
            raise httpx.ReadTimeout(_STALLED)

    def answer(self, response: httpx.Response, settings: ClientSettings) -> Answer:
        return protocol.answer(
            status=response.status_code,
            headers=_lower(response),
            body=bytes(self.bytes),
            at=time.time(),
            api_key=settings.api_key,
        )


class _File:
    """Writes an image's bytes as they come, up to the largest size that is taken."""

    def __init__(self, step: Fetch, settings: ClientSettings) -> None:
        self._step = step
        self._most = settings.max_image_bytes
        self.received = 0

    def add(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.received > self._most:
            raise ImageRefusedError(
                f"The image at {flows.bare(self._step.url)} is larger than {self._most:,} bytes "
                "(max_image_bytes)."
            )
        self._step.into.write(chunk)

    def answer(self, response: httpx.Response) -> FileAnswer:
        return FileAnswer(
            status=response.status_code,
            headers=_lower(response),
            received=self.received,
            at=time.time(),
        )


def _lower(response: httpx.Response) -> Mapping[str, str]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if "location" in response.extensions:
        headers["location"] = response.extensions["location"]
    return headers


def _keep_location(response: httpx.Response) -> None:
    """Put a redirect's target where httpx doesn't see it.

    It prepares the next request even when told not to follow, and fails over a junk address: after our POST
    was answered, as if it had never been sent.
    """
    location = response.headers.pop("location", None)
    if location is not None:
        response.extensions["location"] = location


async def _akeep_location(response: httpx.Response) -> None:
    _keep_location(response)


def _uncompressed(response: httpx.Response) -> httpx.Response:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx.DecodingError("the answer is compressed, which was not asked for")
    return response


def _built(make: Callable[[], T]) -> T:
    """Make an httpx client; what it can fail over is a proxy that only the environment knows."""
    try:
        return make()
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise InvalidSettingsError(
            f"The environment's proxy can't be used ({type(error).__name__}). Mend HTTPS_PROXY or ALL_PROXY "
            "(socks needs: pip install 'httpx[socks]'), or set the connection's proxy."
        ) from None


class GptImageClient:
    """The API, for code that may block.

    :param settings: how to reach the API; or give ``api_key`` and single fields of :class:`ClientSettings`.
    :param retrying: how often calls are sent, and how long apart.
    :param transport: an httpx transport, for tests.

    Every method raises the errors of :mod:`airflow_gpt_image.api.errors`.
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
        self.settings = _settings(settings, api_key, options)
        self._retrying = retrying
        hooks = {"response": [_keep_location]}
        self._http = _built(
            lambda: httpx.Client(transport=transport, event_hooks=hooks, **_options(self.settings))
        )

    def submit(self, request: ImageRequest) -> str:
        """Submit a request, which costs money; the generation id.

        :raises SubmissionUnknownError: when it may have been accepted although no answer says so.
        """
        return self._run(flows.submit(request, self._retrying))

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

    def wait_until(self, generation_id: str, *, poll_interval: float, deadline: float) -> Generation:
        """As :meth:`wait`, with a deadline in seconds since 1970."""
        return self._run(
            flows.wait(generation_id, poll_interval=poll_interval, deadline=deadline, retrying=self._retrying)
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
        """The account's balance in credits.

        :raises UnreadableAnswerError: when the answer, whose shape is undocumented, can't be read.
        """
        return self._run(flows.balance(self._retrying))

    def download(self, url: str, into: BinaryIO) -> Downloaded:
        """Fetch an image into a seekable binary file, without the API key; memory stays flat.

        :raises DownloadError: or one of its subclasses.
        """
        return self._run(flows.download(url, into, self.settings, self._retrying))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        reply: Any = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Send):
                reply = self._send(step)
            elif isinstance(step, Fetch):
                reply = self._fetch(step)
            else:
                reply = self._sleep(step)

    def _send(self, step: Send) -> Answer | NoAnswer:
        body = _Body(self.settings)
        try:
            with self._http.stream(**_request(self.settings, step.call)) as response:
                for chunk in _uncompressed(response).iter_raw():
                    body.add(chunk)
        except _FAILURES as error:
            return _no_answer(error, self.settings, time.time())
        return body.answer(response, self.settings)

    def _fetch(self, step: Fetch) -> FileAnswer | NoAnswer:
        file = _File(step, self.settings)
        try:
            with self._http.stream("GET", step.url) as response:
                if response.status_code != 200:
                    return file.answer(response)
                for chunk in _uncompressed(response).iter_raw():
                    file.add(chunk)
        except _FAILURES as error:
            return _no_answer(error, self.settings, time.time())
        return file.answer(response)

    def _sleep(self, step: Sleep) -> float:
        if step.seconds > 0:
            time.sleep(step.seconds)
        return time.time()


class AsyncGptImageClient:
    """The API, for code on an event loop; everything else as :class:`GptImageClient`.

    :param at_once: calls under way at the same time; the others queue up. Default 16: more don't make the API
        answer sooner, and a thousand at once cost 30 times the CPU.
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        api_key: str | None = None,
        retrying: Retrying = Retrying(),
        at_once: int = 16,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[SettingsOptions],
    ) -> None:
        self.settings = _settings(settings, api_key, options)
        self._retrying = retrying
        self._gate = asyncio.Semaphore(at_once)
        hooks = {"response": [_akeep_location]}
        self._http = _built(
            lambda: httpx.AsyncClient(transport=transport, event_hooks=hooks, **_options(self.settings))
        )

    async def submit(self, request: ImageRequest) -> str:
        """As :meth:`GptImageClient.submit`."""
        return await self._run(flows.submit(request, self._retrying))

    async def get(self, generation_id: str, *, grace: float = 0.0) -> Generation:
        """As :meth:`GptImageClient.get`."""
        return await self._run(flows.get(generation_id, self._retrying, grace=grace))

    async def wait(
        self, generation_id: str, *, poll_interval: float = 5.0, timeout: float = 3600.0
    ) -> Generation:
        """As :meth:`GptImageClient.wait`."""
        return await self.wait_until(
            generation_id, poll_interval=poll_interval, deadline=time.time() + timeout
        )

    async def wait_until(self, generation_id: str, *, poll_interval: float, deadline: float) -> Generation:
        """As :meth:`GptImageClient.wait_until`."""
        return await self._run(
            flows.wait(generation_id, poll_interval=poll_interval, deadline=deadline, retrying=self._retrying)
        )

    async def generate(
        self, request: ImageRequest, *, poll_interval: float = 5.0, timeout: float = 3600.0
    ) -> Generation:
        """As :meth:`GptImageClient.generate`."""
        return await self._run(
            flows.generate(request, poll_interval=poll_interval, timeout=timeout, retrying=self._retrying)
        )

    async def credits(self) -> Decimal:
        """As :meth:`GptImageClient.credits`."""
        return await self._run(flows.balance(self._retrying))

    async def download(self, url: str, into: BinaryIO) -> Downloaded:
        """As :meth:`GptImageClient.download`."""
        return await self._run(flows.download(url, into, self.settings, self._retrying))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        reply: Any = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Send):
                reply = await self._send(step)
            elif isinstance(step, Fetch):
                reply = await self._fetch(step)
            else:
                reply = await self._sleep(step)

    async def _send(self, step: Send) -> Answer | NoAnswer:
        async with self._gate:
            body = _Body(self.settings)
            try:
                async with self._http.stream(**_request(self.settings, step.call)) as response:
                    async for chunk in _uncompressed(response).aiter_raw():
                        body.add(chunk)
            except _FAILURES as error:
                return _no_answer(error, self.settings, time.time())
            return body.answer(response, self.settings)

    async def _fetch(self, step: Fetch) -> FileAnswer | NoAnswer:
        file = _File(step, self.settings)
        try:
            async with self._http.stream("GET", step.url) as response:
                if response.status_code != 200:
                    return file.answer(response)
                async for chunk in _uncompressed(response).aiter_raw():
                    file.add(chunk)
        except _FAILURES as error:
            return _no_answer(error, self.settings, time.time())
        return file.answer(response)

    async def _sleep(self, step: Sleep) -> float:
        if step.seconds > 0:
            await asyncio.sleep(step.seconds)
        return time.time()
