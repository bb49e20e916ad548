"""Build requests for httpx's transports, and collect what comes of them.

Also says what a failure proves: whether a request can have reached the API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

import httpcore
import httpx

from airflow_gpt_image import __version__
from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.network import Exchange
from airflow_gpt_image.api.replies import NoResponse, Response
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Fetch, FileResponse, Send
from airflow_gpt_image.api.text import QueryFilter, quote_url, single_line
from airflow_gpt_image.api.unpacking import Unpacking
from airflow_gpt_image.errors import ImageRefusedError

for name in QueryFilter.LOGGERS:
    logging.getLogger(name).addFilter(QueryFilter())

# Failures that come before the first byte of a request can leave: a submit that ends so is provably not
# accepted. A proxy that refuses its tunnel (ProxyError) has passed nothing on either.
_NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)

# httpcore's come from our own transports, httpx's from a request that can't be built and from a transport of
# somebody's own.
# ValueError: an address or a header that httpx, idna or the socket module can't encode.
FAILURES: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    ValueError,
)

# What may come besides a body: headers, interim responses, the framing of chunks, trailers.
_FRAMING_BYTES: Final = 1024 * 1024


def common_headers() -> dict[str, str]:
    """Return the headers that every request has."""
    return {"user-agent": f"airflow-provider-gpt-image/{__version__}", "accept-encoding": "identity"}


def _request(
    settings: ClientSettings,
    method: str,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    extensions: Mapping[str, Any],
    json: Mapping[str, Any] | None = None,
) -> httpx.Request:
    timeout = httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout)
    return httpx.Request(
        method,
        url,
        headers={**common_headers(), "accept": "*/*", "connection": "keep-alive", **headers},
        json=json,
        extensions={"timeout": timeout.as_dict(), **extensions},
    )


# All submits have one address, and an image's is asked for its host first: reading it takes a tenth of all
# that is done here.
_parsed = lru_cache(maxsize=64)(httpx.URL)


def look_up_arguments(url: str) -> tuple[str, int]:
    """Return the host and port to look up for an address."""
    parsed = _parsed(url)
    return parsed.raw_host.decode("ascii"), parsed.port or (443 if parsed.scheme == "https" else 80)


def no_response(error: Exception | None, settings: ClientSettings, *, sent: bool) -> NoResponse:
    """Say why no response came."""
    text = single_line(str(error).replace(settings.api_key, "***")) or "no details"
    return NoResponse(sent=sent, reason=f"{type(error).__name__}: {text.rstrip('.')}", at=time.time())


def no_reply(error: Exception | None, settings: ClientSettings, *, sent: bool) -> NoResponse:
    """Say why the API itself didn't respond, and whom was asked."""
    reply = no_response(error, settings, sent=sent)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConnectionRefusedError):
        cause = cause.__cause__ or cause.__context__
    # Only when the API is asked itself: a proxy that nobody runs is another matter.
    return replace(reply, where=settings.where, refused=cause is not None, local=settings.on_this_machine)


R_co = TypeVar("R_co", covariant=True)


class Receiver(Protocol[R_co]):
    """Take what comes of one exchange."""

    @property
    def exchange(self) -> Exchange:
        """Return the time and bytes that are left for it."""

    def begin(self, response: httpx.Response) -> Unpacking | None:
        """Take the response's status and headers; return what takes its body; None when nothing does."""

    @property
    def is_large(self) -> bool:
        """Return whether reading what came would hold up an event loop."""

    def reply(self, error: Exception | None = None) -> R_co:
        """Return what came of it.

        :param error: what it broke off with; None when it came to its end.
        """


class Sending:
    """Send a call to the API: know whether anything left, and collect the response.

    :param traced: whether the transport tells each step of a request, as ours do.
    """

    def __init__(self, step: Send, settings: ClientSettings, *, traced: bool) -> None:
        self._step, self._settings, self._traced = step, settings, traced
        self._begun = False
        # Not the response itself, which knows its request, whose trace knows this: the three would stay until
        # the garbage is collected.
        self._head: tuple[int, Mapping[str, str]] | None = None
        self._body = bytearray()
        self.exchange = Exchange(
            seconds=settings.connect_seconds, most_bytes=protocol.MAX_RESPONSE_BYTES + _FRAMING_BYTES
        )

    def request(self, trace: object) -> httpx.Request:
        """Return the request: the only one that carries the key.

        :param trace: httpx's ``trace`` extension, which calls :meth:`trace`.
        """
        call = self._step.call
        return _request(
            self._settings,
            call.method,
            _parsed(self._settings.base_url + call.path),
            json=call.body,
            headers={"authorization": f"Bearer {self._settings.api_key}", "accept": "application/json"},
            extensions={"trace": trace},
        )

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Notice that the connection stands and the request's first byte is about to leave."""
        # A proxy's CONNECT is no request of ours.
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self._step.before_send()
            self._begun = True
            # However long connecting took, the response gets its time.
            self.exchange.allow(self._settings.response_seconds)
            self.exchange.heads.expect()

    def begin(self, response: httpx.Response) -> Unpacking:
        """Take the response's status and headers; return what takes its body."""
        self._head = response.status_code, _lower_case_headers(response)
        return Unpacking(
            self._body.extend,
            response.headers.get("content-encoding", ""),
            most_bytes=protocol.MAX_RESPONSE_BYTES,
            too_large=lambda: httpx.ReadError("the response is larger than any of the API's"),
        )

    @property
    def is_large(self) -> bool:
        """Return whether reading what came would hold up an event loop."""
        return len(self._body) > protocol.LARGE_RESPONSE_BYTES

    def reply(self, error: Exception | None = None) -> Response | NoResponse:
        """Return what came of it.

        A response that breaks off after its document is a response all the same: a wrong Content-Length or
        trailers without an end are no reason to lose an id.

        :param error: what it broke off with; None when it came to its end.
        """
        if self._head is not None:
            status, headers = self._head
            response = protocol.parse_response(
                status=status,
                headers=headers,
                body=bytes(self._body),
                at=time.time(),
                api_key=self._settings.api_key,
                complete=error is None and not self.exchange.heads.mended,
            )
            if error is None or response.document is not None:
                return response
        # A transport of somebody's own doesn't say whether anything left, but some errors do.
        sent = self._begun if self._traced else not isinstance(error, _NEVER_SENT)
        return no_reply(error, self._settings, sent=sent)


class Fetching:
    """Fetch an image: write its bytes as they come, up to the largest size that is taken."""

    def __init__(self, step: Fetch, settings: ClientSettings) -> None:
        self._step, self._settings = step, settings
        self._started = time.monotonic()
        self._received = 0
        self._response: httpx.Response | None = None
        # Twice, for small chunks have as much framing as content.
        self.exchange = Exchange(
            seconds=step.seconds, most_bytes=2 * settings.max_image_bytes + _FRAMING_BYTES
        )
        if step.address is not None:  # through a proxy its own word comes first: see heads.py
            self.exchange.heads.expect()

    def request(self) -> httpx.Request:
        """Return the request: to the address that was checked, in the name of the host."""
        url = _parsed(self._step.url)
        if self._step.address is None:
            return _request(self._settings, "GET", url, headers={}, extensions={})
        return _request(
            self._settings,
            "GET",
            url.copy_with(host=self._step.address),
            headers={"host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )

    def begin(self, response: httpx.Response) -> Unpacking | None:
        """Take the response's status and headers; return what takes its body; None when it is no image's."""
        self._response = response
        if response.status_code != 200:
            return None
        return Unpacking(
            self._write,
            response.headers.get("content-encoding", ""),
            most_bytes=self._settings.max_image_bytes,
            too_large=self._too_large,
        )

    @property
    def is_large(self) -> bool:
        """Return False: an image isn't read here, whatever its size."""
        return False

    def reply(self, error: Exception | None = None) -> FileResponse | NoResponse:
        """Return what came of it.

        :param error: what it broke off with; None when it came to its end.
        """
        lost = no_response(error, self._settings, sent=True) if error is not None else None
        if lost is not None and (self._response is None or self._response.status_code != 200):
            return lost
        assert self._response is not None
        return FileResponse(
            status=self._response.status_code,
            headers=_lower_case_headers(self._response),
            received=self._received,
            at=time.time(),
            seconds=time.monotonic() - self._started,
            broken=lost.reason if lost is not None else None,
        )

    def _write(self, data: bytes) -> None:
        self._received += len(data)
        self._step.into.write(data)

    def _too_large(self) -> ImageRefusedError:
        return ImageRefusedError(
            f"The image at {quote_url(self._step.url)} is larger than "
            f"{self._settings.max_image_bytes:,} bytes (max_image_bytes)."
        )


def _lower_case_headers(response: httpx.Response) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
