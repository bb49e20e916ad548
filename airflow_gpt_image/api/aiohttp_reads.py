"""Read from the API over aiohttp, where that is installed: a poll costs a third of what it costs over httpx.

1. Only reads go this way, on an event loop, and without a proxy. A submit doesn't, nor does an image.
2. What aiohttp doesn't understand is asked for again over httpx, which has its heads mended, for a read may
   be sent twice. A server that was not understood once is asked over httpx from then on.
3. The bounds are the same: one deadline for the whole exchange, timeouts for each step, the bytes that may
   come, the look-up, the certificates.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from contextvars import Context, ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

from airflow_gpt_image.api import protocol, wire
from airflow_gpt_image.api.httpx_calls import KEEP_READS, AsyncHttpxCalls, reply_of
from airflow_gpt_image.api.network import aresolve
from airflow_gpt_image.api.replies import NoResponse, Reply, Response
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Send
from airflow_gpt_image.api.transport import proxy_of
from airflow_gpt_image.api.unpacking import Unpacking

if TYPE_CHECKING:
    import aiohttp


def can_use_aiohttp(settings: ClientSettings, otherwise: AsyncHttpxCalls) -> bool:
    """Return whether reads can go over aiohttp.

    No proxy and no transport of somebody's own is to be used, and an aiohttp is installed that bounds how
    many headers it takes. It is imported here, for clients are built where nobody else has to wait for that.
    """
    if otherwise.transports is None or proxy_of(settings.base_url, settings) is not None:
        return False
    try:
        import aiohttp
    except ImportError:
        return False
    return "max_headers" in inspect.signature(aiohttp.ClientSession).parameters


class AiohttpReads:
    """Send reads over one session of aiohttp's, which is built on the loop that first uses it.

    :param otherwise: sends everything else.
    """

    def __init__(self, settings: ClientSettings, otherwise: AsyncHttpxCalls) -> None:
        self._settings, self._otherwise = settings, otherwise
        self._session: aiohttp.ClientSession | None = None
        self._understood = True

    async def send(self, step: Send) -> Reply:
        """Send a call to the API."""
        reads = step.call.method == "GET" and self._understood
        reply = await self._read(step) if reads else None
        return await self._otherwise.send(step) if reply is None else reply

    async def _read(self, step: Send) -> Reply | None:
        """Send a read; None: the response isn't understood."""
        import aiohttp

        exchange = _Exchange(self._settings)
        step.before_send()
        _current.set(exchange)
        try:
            async with exchange, self._get(step.call.path) as response:
                exchange.begin(response)
                async for data in response.content.iter_any():
                    exchange.add(data)
                exchange.end()
        except (
            httpx.HTTPError,
            TimeoutError,
            aiohttp.ClientOSError,
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientPayloadError,
        ) as error:
            return await reply_of(exchange, error)
        except (aiohttp.ClientError, ValueError):
            self._understood = False
            return None
        return await reply_of(exchange)

    def _get(self, path: str) -> Any:
        session = self._opened()
        return session.get(
            # As it is: the path was checked, and what is quoted in it stays so.
            self._base.with_path(self._base.raw_path.rstrip("/") + path, encoded=True),
            headers={"authorization": f"Bearer {self._settings.api_key}"},
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp
            from yarl import URL

            assert self._otherwise.transports is not None
            settings = self._settings
            self._base = URL(settings.base_url, encoded=True)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._otherwise.transports.context,
                    resolver=_resolver(settings.connect_timeout),
                    use_dns_cache=False,
                    limit=0,  # whoever sends knows how many at once
                    # Longer than a server keeps it, perhaps: then aiohttp sends the read again.
                    keepalive_timeout=KEEP_READS,
                ),
                # How long a response may take is bounded by the exchange, with one timer for all of it.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout),
                # A cookie could carry to another host what the API has set.
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={**wire.common_headers(), "accept": "application/json"},
                auto_decompress=False,
                trust_env=False,
                request_class=_request_class(),
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        self._understood = False
        if self._session is not None:
            await self._session.close()
        await self._otherwise.aclose()


_current: ContextVar[_Exchange] = ContextVar("exchange")
# A timer would keep the present one otherwise, and the exchange in it, until the garbage is collected.
_EMPTY: Final = Context()


@cache
def _request_class() -> type[aiohttp.ClientRequest]:
    import aiohttp

    class Request(aiohttp.ClientRequest):
        """Tell the present exchange when its connection stands, in a tenth of the CPU that a trace takes."""

        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            _current.get().connected()
            return await super().send(conn)

    return Request


class _Exchange:
    """Collect one response within its bounds.

    :param settings: have the bounds.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._connected = False
        self._response: aiohttp.ClientResponse | None = None
        self._body = bytearray()
        self._loop = asyncio.get_running_loop()
        # When it ends at the latest, and when the present step of it does.
        self._latest = self._until = self._loop.time() + settings.connect_seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._timer = self._loop.call_at(self._until, self._look, context=_EMPTY)
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def _look(self) -> None:
        """End what has no time left; else look again when it hasn't: so most exchanges set one timer."""
        if self._loop.time() >= self._until:
            self._timeout.reschedule(0.0)
        else:
            self._timer = self._loop.call_at(self._until, self._look, context=_EMPTY)

    def _step(self) -> None:
        """Begin a step, such as awaiting the next bytes."""
        self._until = min(self._loop.time() + self._settings.read_timeout, self._latest)
        if self._timer.when() > self._until:
            self._timer.cancel()
            self._look()

    def connected(self) -> None:
        """Note that the connection stands: however long that took, the response gets its time."""
        self._connected = True
        self._latest = self._loop.time() + self._settings.response_seconds
        self._step()

    def begin(self, response: aiohttp.ClientResponse) -> None:
        """Take the response's status and headers."""
        self._response = response
        self._unpacking = Unpacking(
            self._body.extend,
            response.headers.get("content-encoding", ""),
            most_bytes=protocol.MAX_RESPONSE_BYTES,
            too_large=lambda: httpx.ReadError("the response is larger than any of the API's"),
        )
        self.end = self._unpacking.end
        self._step()

    def add(self, data: bytes) -> None:
        """Take bytes of the body."""
        self._unpacking.add(data)
        self._step()

    @property
    def is_large(self) -> bool:
        """Return whether reading what came would hold up the loop for others."""
        return len(self._body) > protocol.LARGE_RESPONSE_BYTES

    def reply(self, error: Exception | None = None) -> Response | NoResponse:
        """Return what came of it, as :meth:`airflow_gpt_image.api.wire.Sending.reply` does."""
        if self._response is not None:
            headers: dict[str, str] = {}
            for given, value in self._response.headers.items():
                name = given.lower()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            response = protocol.parse_response(
                status=self._response.status,
                headers=headers,
                body=bytes(self._body),
                at=time.time(),
                api_key=self._settings.api_key,
                complete=error is None,
            )
            if error is None or response.document is not None:
                return response
        return wire.no_reply(self._failure(error), self._settings, sent=self._connected)

    def _failure(self, error: Exception | None) -> Exception | None:
        """Return what aiohttp says of time and of the network as httpcore says it."""
        import aiohttp

        failure = error
        if isinstance(error, TimeoutError):
            late = httpcore.ReadTimeout if self._connected else httpcore.ConnectTimeout
            whole = self._timeout.expired() and self._until == self._latest
            failure = late("it took too long as a whole" if whole else "timed out")
        elif isinstance(error, aiohttp.ClientConnectorError):
            failure = httpcore.ConnectError(str(error.__cause__ or error))
        elif isinstance(error, aiohttp.ClientError):
            failed = httpcore.ReadError if self._connected else httpcore.ConnectError
            failure = failed(str(error))
        if failure is not error and failure is not None:
            failure.__cause__ = error
        return failure


def _resolver(seconds: float) -> aiohttp.abc.AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        """Look names up as every client here does: in threads of its own, within a time."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            try:
                addresses = await aresolve(host, port, seconds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                raise OSError(str(error)) from error
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in addresses
            ]

        async def close(self) -> None:
            """Hold nothing open."""

    return Resolver()
