"""Bound every exchange as a whole: how long it takes, from the look-up to the last byte, and what comes.

httpx's timeouts are for single reads and writes, so a server that sends a byte now and then is never too slow
for them. Here each operation gets no more than what is left of its exchange's time. httpcore calls us for
each: a look-up, a proxy's word, a handshake, the request, interim responses, headers, a body.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpcore

from airflow_gpt_image.api.blocking import look_up
from airflow_gpt_image.api.heads import Heads

T = TypeVar("T")
S = TypeVar("S", httpcore.NetworkStream, httpcore.AsyncNetworkStream)

_current: ContextVar[Exchange] = ContextVar("exchange")

# RFC 8305: when a host has several addresses, so long after one was asked the next one is asked, too.
_NEXT_ADDRESS_AFTER: Final = 0.25

_AT_ONCE: Final = 64 * 1024

_Errors = tuple[type[httpcore.TimeoutException], type[httpcore.NetworkError]]
_CONNECT: Final[_Errors] = (httpcore.ConnectTimeout, httpcore.ConnectError)
_READ: Final[_Errors] = (httpcore.ReadTimeout, httpcore.ReadError)
_WRITE: Final[_Errors] = (httpcore.WriteTimeout, httpcore.WriteError)

# Enough for a response of some hundred bytes in a few records, and less than half a second.
_LATE_LOOKS: Final = 8
_LATE_LOOK: Final = 0.05

_TOO_SLOW: Final = "it took too long as a whole"


class Exchange:
    """Hold what is left for one exchange; what is sent and received within ``with`` counts.

    :param seconds: how long it may take from now on.
    :param most_bytes: how many bytes may come, of whatever kind.
    """

    def __init__(self, *, seconds: float, most_bytes: int) -> None:
        self.allow(seconds)
        self._bytes_left = most_bytes
        self._late_looks_left = _LATE_LOOKS
        self.heads = Heads()
        self.connected: httpcore.NetworkStream | httpcore.AsyncNetworkStream | None = None

    def allow(self, seconds: float) -> None:
        """Set how long it may take from now on."""
        self._until = time.monotonic() + seconds

    @contextmanager
    def operation(self, timeout: float | None, errors: _Errors) -> Iterator[float]:
        """Yield how many seconds an operation may take, at most its own timeout.

        :param errors: raised when it takes longer or no time is left, and when it fails.
        """
        too_slow, failed = errors
        left = self._until - time.monotonic()
        if left <= 0:
            raise too_slow(_TOO_SLOW)
        try:
            yield left if timeout is None else min(timeout, left)
        except (TimeoutError, httpcore.TimeoutException) as error:
            over = time.monotonic() >= self._until
            raise too_slow(_TOO_SLOW if over else str(error) or "timed out") from error
        except OSError as error:  # on a loop httpcore passes ssl's on as they are
            raise failed(str(error)) from error

    @contextmanager
    def late_look(self, late: httpcore.ReadTimeout) -> Iterator[None]:
        """Let a read look once more, for a moment, for what came in time; raise the error when nothing did.

        A worker that was frozen finds its response waiting, and the time over. Only so many looks, for a
        server that drips has always just said something.
        """
        if self._late_looks_left == 0:
            raise late
        self._late_looks_left -= 1
        try:
            yield
        except (OSError, httpcore.TimeoutException, httpcore.NetworkError):
            raise late from None

    def keep(self, stream: S) -> S:
        """Keep the connection that was made, to be closed when it fails before httpcore knows of it."""
        self.connected = stream
        return stream

    def count(self, data: bytes) -> bytes:
        """Return what came, unless it is too much."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise httpcore.ReadError("far more came than any response needs")
        return data

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)


def close_connected() -> None:
    """Close the connection that was made for the present exchange, if there is one."""
    stream = _current.get().connected
    if isinstance(stream, httpcore.NetworkStream):
        stream.close()


async def aclose_connected() -> None:
    """Close the connection that was made for the present exchange, on an event loop."""
    stream = _current.get().connected
    if isinstance(stream, httpcore.AsyncNetworkStream):
        await stream.aclose()


@contextmanager
def _look_up_errors(host: str, seconds: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise httpcore.ConnectTimeout(f"the look-up of {host} took longer than {seconds:.3g} s") from None
    except (OSError, ValueError) as error:  # ValueError: what is no name at all
        raise httpcore.ConnectError(f"{type(error).__name__}: {error}") from None


def resolve(host: str, port: int, seconds: float) -> tuple[str, ...]:
    """Return a host's IP addresses, at least one.

    :raises httpcore.ConnectError: or ConnectTimeout.
    """
    with _look_up_errors(host, seconds):
        return look_up(host, port).result(seconds)


async def aresolve(host: str, port: int, seconds: float) -> tuple[str, ...]:
    """Return a host's IP addresses as :func:`resolve` does, on an event loop."""
    with _look_up_errors(host, seconds):
        # Not wait_for, which on Python 3.11 forgets a cancellation that comes together with the answer.
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(look_up(host, port))


class Backend(httpcore.NetworkBackend):
    """Connect, from code that may block."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        operation = partial(_current.get().operation, timeout, _CONNECT)
        with operation() as seconds:
            addresses = resolve(host, port, seconds)
        failures: list[Exception] = []
        for address in addresses:
            try:
                with operation() as seconds:
                    connected = self._backend.connect_tcp(
                        address, port, seconds, local_address, socket_options
                    )
                    return _current.get().keep(_Stream(connected))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failures.append(error)
        raise failures[0]


class _Stream(httpcore.NetworkStream):
    """A connection as httpcore makes it, whose every operation counts."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return _current.get().heads.next_of(lambda: self.receive(max_bytes, timeout))

    def receive(self, max_bytes: int, timeout: float | None) -> bytes:
        exchange = _current.get()
        try:
            with exchange.operation(timeout, _READ) as seconds:
                data = self._stream.read(max_bytes, seconds)
        except httpcore.ReadTimeout as late:
            with exchange.late_look(late):
                data = self._stream.read(max_bytes, _LATE_LOOK)
        return exchange.count(data)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:  # the end of a request, which takes no time
            return
        # Not by the stream's own write, whose timeout begins anew with every piece that is taken.
        connection = self._stream.get_extra_info("socket")
        with _current.get().operation(timeout, _WRITE) as seconds:
            connection.settimeout(seconds)
            connection.sendall(buffer)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            if self.get_extra_info("ssl_object") is not None:
                return _InnerTls(self, ssl_context, server_hostname, timeout)
            with _current.get().operation(timeout, _CONNECT) as seconds:
                return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _InnerTls(httpcore.NetworkStream):
    """TLS within TLS: a host behind a proxy that is itself spoken to over TLS.

    httpcore's own would read a record, up to 16 KiB, with a timeout that begins anew with every byte.
    """

    def __init__(
        self,
        outer: _Stream,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float | None,
    ) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ssl_context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._carry_out(self._tls.do_handshake, timeout, httpcore.ConnectError)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        receive = partial(self._carry_out, partial(self._read, max_bytes), timeout, httpcore.ReadError)
        return _current.get().heads.next_of(receive)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._carry_out(partial(self._tls.write, buffer), timeout, httpcore.WriteError)

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def _read(self, max_bytes: int) -> bytes:
        try:
            return self._tls.read(max_bytes)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _carry_out(
        self, operation: Callable[[], T], timeout: float | None, failed: type[httpcore.NetworkError]
    ) -> T:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                data = self._outer.receive(_AT_ONCE, timeout)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError as error:
                raise failed(str(error)) from error
            else:
                self._flush(timeout)
                return result

    def _flush(self, timeout: float | None) -> None:
        if self._outgoing.pending:
            self._outer.write(self._outgoing.read(), timeout)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Connect, on an event loop."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        operation = partial(_current.get().operation, timeout, _CONNECT)

        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            with operation() as seconds:
                return _AsyncStream(
                    await self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
                )

        with operation() as seconds:
            addresses = await aresolve(host, port, seconds)
        stream = await first_connected([partial(connect, address) for address in addresses])
        return _current.get().keep(stream)


async def first_connected(
    attempts: list[Callable[[], Coroutine[Any, Any, httpcore.AsyncNetworkStream]]],
) -> httpcore.AsyncNetworkStream:
    """Return the first connection of several attempts, each begun soon after the one before it.

    :param attempts: at least one; used up.
    :raises Exception: what the first failed with, when all did.
    """
    failures: list[BaseException] = []
    under_way: set[asyncio.Task[httpcore.AsyncNetworkStream]] = set()
    try:
        while attempts or under_way:
            if attempts:
                under_way.add(asyncio.create_task(attempts.pop(0)()))
            done, under_way = await asyncio.wait(
                under_way,
                timeout=_NEXT_ADDRESS_AFTER if attempts else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                failure = attempt.exception()
                if failure is None:
                    under_way |= done - {attempt}
                    return attempt.result()
                failures.append(failure)
    finally:
        for attempt in under_way:
            if not attempt.cancel() and attempt.exception() is None:
                await attempt.result().aclose()
    raise failures[0]


class _AsyncStream(httpcore.AsyncNetworkStream):
    """As :class:`_Stream`, on an event loop, where httpcore's timeouts are for whole operations."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = _current.get()
        while (data := exchange.heads.take(await self._receive(exchange, max_bytes, timeout))) is None:
            pass
        return data

    async def _receive(self, exchange: Exchange, max_bytes: int, timeout: float | None) -> bytes:
        try:
            with exchange.operation(timeout, _READ) as seconds:
                data = await self._stream.read(max_bytes, seconds)
        except httpcore.ReadTimeout as late:
            with exchange.late_look(late):
                data = await self._stream.read(max_bytes, _LATE_LOOK)
        return exchange.count(data)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        with _current.get().operation(timeout, _WRITE) as seconds:
            await self._stream.write(buffer, seconds)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            with _current.get().operation(timeout, _CONNECT) as seconds:
                return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, seconds))
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
