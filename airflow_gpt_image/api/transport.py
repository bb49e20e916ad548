"""Build httpx transports whose exchanges are bounded: one idea of proxies and of trust for API and images.

httpx takes no backend of ours, so these stand between its client and httpcore's pools, as its own do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from airflow_gpt_image.api.certificates import ssl_context
from airflow_gpt_image.api.network import AsyncBackend, Backend, aclose_connected, close_connected
from airflow_gpt_image.api.settings import ClientSettings, check_proxy
from airflow_gpt_image.errors import InvalidSettingsError

# Shorter than any server's usual idle time (uvicorn's is 5 s): a submit on a connection that the server is
# just closing would end as "unknown", although nothing was accepted.
_KEEPALIVE_SECONDS: Final = 3.0


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

    def blocking(self, proxy: str | None, *, keep: bool) -> Transport:
        """Return one for code that may block.

        :param keep: whether connections are kept for the next call.
        """
        return Transport(_Pool(network_backend=Backend(), **self._options(proxy, keep)))

    def on_a_loop(self, proxy: str | None, *, keep: bool) -> AsyncTransport:
        """Return one for an event loop; ``keep`` as in :meth:`blocking`."""
        return AsyncTransport(_AsyncPool(network_backend=AsyncBackend(), **self._options(proxy, keep)))

    def _options(self, proxy: str | None, keep: bool) -> dict[str, Any]:
        return {
            "ssl_context": self.context,
            "proxy": None if proxy is None else self._proxy(proxy),
            "max_connections": 100,
            "max_keepalive_connections": None if keep else 0,
            "keepalive_expiry": _KEEPALIVE_SECONDS,
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


class _Pool(httpcore.ConnectionPool):
    """A pool that forgets connections that failed.

    httpcore's own takes one whose handshake failed behind a proxy for one in use, for ever. After a hundred
    it has no room for another: an outage of some minutes would stop all waits of a triggerer for good.
    """

    def create_connection(self, origin: httpcore.Origin) -> Any:
        return PooledConnection(super().create_connection(origin))


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


class PooledConnection:
    """A connection that is closed when a request fails on it, unless it only serves another one."""

    def __init__(self, connection: httpcore.ConnectionInterface) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request."""
        try:
            with _socks_errors():
                return self._connection.handle_request(request)
        except httpcore.ConnectionNotAvailable:  # the pool takes another one
            raise
        except BaseException:
            self._connection.close()
            # httpcore knows nothing yet of a connection on which a SOCKS proxy's word is awaited.
            close_connected()
            raise


class _AsyncPool(httpcore.AsyncConnectionPool):
    """As :class:`_Pool`, on an event loop."""

    def create_connection(self, origin: httpcore.Origin) -> Any:
        return AsyncPooledConnection(super().create_connection(origin))


class AsyncPooledConnection:
    """As :class:`PooledConnection`, on an event loop."""

    def __init__(self, connection: httpcore.AsyncConnectionInterface) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request."""
        try:
            with _socks_errors():
                return await self._connection.handle_async_request(request)
        except httpcore.ConnectionNotAvailable:
            raise
        except BaseException:
            await self._connection.aclose()
            await aclose_connected()
            raise


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


class Transport(httpx.BaseTransport):
    """Send httpx's requests through one of httpcore's pools, whose errors it raises."""

    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        response = self._pool.handle_request(_request(request))
        return _response(response, _Stream(response.stream))

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        self._stream.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """As :class:`Transport`, on an event loop."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        response = await self._pool.handle_async_request(_request(request))
        return _response(response, _AsyncStream(response.stream))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
