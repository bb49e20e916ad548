"""Build httpx transports whose exchanges are bounded: one idea of proxies and of trust for API and images.

httpx's own take no backend of ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from airflow_gpt_image.api.certificates import ssl_context
from airflow_gpt_image.api.network import AsyncBackend, Backend, aclose_connected, close_connected
from airflow_gpt_image.api.settings import ClientSettings, check_proxy
from airflow_gpt_image.errors import InvalidSettingsError


def proxy_of(url: str, settings: ClientSettings) -> str | None:
    """Return the proxy an address is asked through: the connection's, else the environment's, else None.

    A proxy of the environment is not asked for an API on this machine, nor for its images: over plain http it
    would see the key.
    """
    if settings.proxy is not None or settings.on_this_machine:
        return settings.proxy
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if proxy_bypass(f"{parts.hostname}:{parts.port or (443 if scheme == 'https' else 80)}"):
        return None
    proxies = _environment_proxies()
    return proxies.get(scheme) or proxies.get("all")


def _environment_proxies() -> dict[str, str]:
    found = getproxies()
    # As everybody reads it: without a scheme it is plain http.
    return {
        scheme: url if "://" in url else f"http://{url}"
        for scheme in ("http", "https", "all")
        if (url := found.get(scheme, "").strip())
    }


class Transports:
    """Build transports that agree on proxies and certificates.

    :raises InvalidSettingsError: when a proxy or the certificates, the environment's too, can't be used: now,
        and not when an image is paid for.
    """

    def __init__(self, settings: ClientSettings) -> None:
        if settings.proxy is None and not settings.on_this_machine:
            for proxy in _environment_proxies().values():
                _check_environment_proxy(proxy)
        self.context = ssl_context(settings.verify)

    def blocking(self, proxy: str | None, *, keep: float) -> Transport:
        """Return one for code that may block.

        :param keep: seconds that a connection is kept for the next call; 0: none is.
        """
        pool = httpcore.ConnectionPool(network_backend=Backend(), **self._options(proxy, keep))
        return Transport(pool.create_connection, keep=keep > 0)

    def on_a_loop(self, proxy: str | None, *, keep: float) -> AsyncTransport:
        """Return one for an event loop; ``keep`` as in :meth:`blocking`."""
        pool = httpcore.AsyncConnectionPool(network_backend=AsyncBackend(), **self._options(proxy, keep))
        return AsyncTransport(pool.create_connection, keep=keep > 0)

    def _options(self, proxy: str | None, keep: float) -> dict[str, Any]:
        return {
            "ssl_context": self.context,
            "proxy": None if proxy is None else self._proxy(proxy),
            "keepalive_expiry": keep,
        }

    def _proxy(self, address: str) -> httpcore.Proxy:
        parsed = httpx.Proxy(address)
        context = self.context if parsed.url.scheme == "https" else None
        return httpcore.Proxy(str(parsed.url), auth=parsed.raw_auth, ssl_context=context)


def _check_environment_proxy(proxy: str) -> None:
    try:
        check_proxy(proxy)
    except InvalidSettingsError as error:
        raise InvalidSettingsError(
            f"The environment's proxy can't be used: {error.message.splitlines()[0]}\n"
            "It is asked for the API and for images.\n"
            "Mend HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or set the connection's proxy."
        ) from None


@contextmanager
def _socks_errors() -> Iterator[None]:
    """Raise what httpcore lets through of a SOCKS proxy that says nothing sensible as an error of its own."""
    try:
        yield
    except Exception as error:
        # By its name, for socksio need not be installed.
        if type(error).__module__.partition(".")[0] != "socksio":
            raise
        raise httpcore.ProxyError(f"the SOCKS proxy can't be understood: {error}") from None


def _request(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _response(
    response: httpcore.Response, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Response:
    return httpx.Response(
        response.status, headers=response.headers, stream=stream, extensions=response.extensions
    )


# What may be asked over one connection: an origin, in the name of one host, whatever its address.
_Whom = tuple[httpcore.Origin, Any, bytes]


def _whom(request: httpx.Request, sent: httpcore.Request) -> _Whom:
    host = request.headers.get("host", "")
    return sent.url.origin, request.extensions.get("sni_hostname"), host.encode()


class Transport(httpx.BaseTransport):
    """Send httpx's requests over connections of httpcore's, whose errors it raises.

    Not by httpcore's pools. They look at all their connections several times for each request, which on an
    event loop takes more CPU than all the rest of it. And one whose handshake failed behind a proxy counts as
    in use there for ever: after a hundred, an outage of some minutes would have stopped all waits for good.

    :param connect: builds a connection to an origin; it connects when it is first used.
    :param keep: whether connections are kept for the next request.
    """

    def __init__(
        self, connect: Callable[[httpcore.Origin], httpcore.ConnectionInterface], *, keep: bool
    ) -> None:
        self._connect, self._keep = connect, keep
        # The one that was used last stands last, and is used next.
        self._idle: deque[tuple[_Whom, httpcore.ConnectionInterface]] = deque()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        sent = _request(request)
        whom = _whom(request, sent)
        connection = self._take(whom) or self._connect(sent.url.origin)
        try:
            with _socks_errors():
                response = connection.handle_request(sent)
        except BaseException:
            connection.close()
            # httpcore knows nothing yet of a connection on which a SOCKS proxy's word is awaited.
            close_connected()
            raise
        return _response(response, _Stream(response.stream, partial(self._give_back, whom, connection)))

    def _take(self, whom: _Whom) -> httpcore.ConnectionInterface | None:
        """Return a connection that can be used again, if there is one; those that can't are closed."""
        # Others may take and give back at the same time, in threads of theirs.
        for _ in range(len(self._idle)):
            with suppress(IndexError):
                its, connection = self._idle.pop()
                if connection.has_expired():
                    connection.close()
                elif its == whom:
                    return connection
                else:
                    self._idle.appendleft((its, connection))
        return None

    def _give_back(self, whom: _Whom, connection: httpcore.ConnectionInterface) -> None:
        if self._keep and connection.is_idle():
            self._idle.append((whom, connection))
        else:
            connection.close()
        # Those that were used long ago are in nobody's way otherwise.
        with suppress(IndexError):
            its, oldest = self._idle.popleft()
            if oldest.has_expired():
                oldest.close()
            else:
                self._idle.appendleft((its, oldest))

    def close(self) -> None:
        """Close all connections; those in use are closed when they are given back."""
        self._keep = False
        with suppress(IndexError):
            while True:
                self._idle.pop()[1].close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any, give_back: Callable[[], None]) -> None:
        self._stream, self._give_back = stream, give_back

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        self._stream.close()
        self._give_back()


class AsyncTransport(httpx.AsyncBaseTransport):
    """As :class:`Transport`, on an event loop."""

    def __init__(
        self, connect: Callable[[httpcore.Origin], httpcore.AsyncConnectionInterface], *, keep: bool
    ) -> None:
        self._connect, self._keep = connect, keep
        self._idle: deque[tuple[_Whom, httpcore.AsyncConnectionInterface]] = deque()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        sent = _request(request)
        whom = _whom(request, sent)
        connection = await self._take(whom) or self._connect(sent.url.origin)
        try:
            with _socks_errors():
                response = await connection.handle_async_request(sent)
        except BaseException:
            await connection.aclose()
            await aclose_connected()
            raise
        return _response(response, _AsyncStream(response.stream, partial(self._give_back, whom, connection)))

    async def _take(self, whom: _Whom) -> httpcore.AsyncConnectionInterface | None:
        for _ in range(len(self._idle)):
            its, connection = self._idle.pop()
            if connection.has_expired():
                await connection.aclose()
            elif its == whom:
                return connection
            else:
                self._idle.appendleft((its, connection))
            if not self._idle:
                break
        return None

    async def _give_back(self, whom: _Whom, connection: httpcore.AsyncConnectionInterface) -> None:
        if self._keep and connection.is_idle():
            self._idle.append((whom, connection))
        else:
            await connection.aclose()
        if self._idle and self._idle[0][1].has_expired():
            await self._idle.popleft()[1].aclose()

    async def aclose(self) -> None:
        """Close all connections; those in use are closed when they are given back."""
        self._keep = False
        while self._idle:
            await self._idle.pop()[1].aclose()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: Any, give_back: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._give_back = stream, give_back

    def __aiter__(self) -> AsyncIterator[bytes]:
        iterator: AsyncIterator[bytes] = aiter(self._stream)
        return iterator

    async def aclose(self) -> None:
        await self._stream.aclose()
        await self._give_back()
