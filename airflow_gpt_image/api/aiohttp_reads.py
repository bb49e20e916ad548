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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

from airflow_gpt_image.api import protocol, wire
from airflow_gpt_image.api.blocking import in_thread
from airflow_gpt_image.api.network import aresolve
from airflow_gpt_image.api.replies import NoResponse, Response
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Send
from airflow_gpt_image.api.transport import Transports, proxy_of
from airflow_gpt_image.api.unpacking import Unpacking

if TYPE_CHECKING:
    import aiohttp

_KEEPALIVE_SECONDS: Final = 30.0

# Bytes of JSON that are read on the loop at once. The API's own responses are some hundred.
_LARGE: Final = 32 * 1024


def _installed() -> bool:
    """Return whether an aiohttp is installed that bounds how many headers it takes."""
    try:
        import aiohttp
    except ImportError:
        return False
    return "max_headers" in inspect.signature(aiohttp.ClientSession).parameters


class AiohttpReads:
    """Send reads over one session of aiohttp's, which is built on the loop that first uses it.

    :param transports: of the client; None: nothing goes this way.
    """

    def __init__(self, settings: ClientSettings, transports: Transports | None) -> None:
        self._settings, self._transports = settings, transports
        self._session: aiohttp.ClientSession | None = None
        # Imported here, for clients are built where nobody else has to wait for that.
        self._used = transports is not None and proxy_of(settings.base_url, settings) is None and _installed()

    async def send(self, step: Send) -> Response | NoResponse | None:
        """Send a call, if it is a read; None: it has to be sent over httpx."""
        if not self._used or step.call.method != "GET":
            return None
        import aiohttp
        from yarl import URL

        exchange = _Exchange(self._settings)
        try:
            # As it is: the path was checked, and what is quoted in it stays so.
            url = URL(self._settings.base_url + step.call.path, encoded=True)
            step.before_send()
            async with exchange.bounded(), self._get(url, exchange) as response:
                exchange.begin(response)
                async for data in response.content.iter_any():
                    exchange.add(data)
                exchange.end()
        except (httpx.HTTPError, httpcore.TimeoutException, httpcore.NetworkError) as error:
            return exchange.reply(error)
        except aiohttp.ClientPayloadError as error:
            return exchange.reply(httpcore.ReadError(str(error)))
        except (aiohttp.ClientError, ValueError):
            self._used = False
            return None
        if exchange.is_large:
            return await asyncio.wrap_future(in_thread(exchange.reply))
        return exchange.reply()

    def _get(self, url: Any, exchange: _Exchange) -> Any:
        headers = {"authorization": f"Bearer {self._settings.api_key}", "accept": "application/json"}
        session = self._opened()
        return session.get(url, headers=headers, allow_redirects=False, trace_request_ctx=exchange)

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            assert self._transports is not None
            settings = self._settings
            traces = aiohttp.TraceConfig()
            traces.on_request_headers_sent.append(_begun)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._transports.context,
                    resolver=_resolver(settings.connect_timeout),
                    use_dns_cache=False,
                    # Longer than a server keeps it, perhaps: then aiohttp sends the read again.
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout
                ),
                # A cookie could carry to another host what the API has set.
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=wire.client_options(settings)["headers"],
                auto_decompress=False,
                trust_env=False,
                trace_configs=[traces],
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


async def _begun(_: object, context: Any, __: object) -> None:
    context.trace_request_ctx.begun()


class _Exchange:
    """Collect one response within its bounds.

    :param settings: have the bounds.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._sent = False
        self._response: aiohttp.ClientResponse | None = None
        self._body = bytearray()
        self._timeout = asyncio.timeout(settings.connect_seconds)

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Bound the exchange; raise what aiohttp says of time and of the network as httpcore says it."""
        import aiohttp

        try:
            async with self._timeout:
                yield
        except TimeoutError as error:
            late = httpcore.ReadTimeout if self._sent else httpcore.ConnectTimeout
            raise late("it took too long as a whole" if self._timeout.expired() else "timed out") from error
        except aiohttp.ClientConnectorError as error:
            raise httpcore.ConnectError(str(error.__cause__ or error)) from error
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            failed = httpcore.ReadError if self._sent else httpcore.ConnectError
            raise failed(str(error)) from error

    def begun(self) -> None:
        """Note that the request has left: however long connecting took, the response gets its time."""
        self._sent = True
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._settings.response_seconds)

    def begin(self, response: aiohttp.ClientResponse) -> None:
        """Take the response's status and headers."""
        self._response = response
        self._unpacking = Unpacking(
            self._body.extend,
            response.headers.get("content-encoding", ""),
            most_bytes=protocol.MAX_RESPONSE_BYTES,
            too_large=lambda: httpx.ReadError("the response is larger than any of the API's"),
        )
        self.add, self.end = self._unpacking.add, self._unpacking.end

    @property
    def is_large(self) -> bool:
        """Return whether reading what came would hold up the loop for others."""
        return len(self._body) > _LARGE

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
        return wire.no_reply(error, self._settings, sent=self._sent)


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
