"""Serve both clients with what they need of httpx: building one, sending a call, reading a body.

Also says what a failure proves: whether a request can have reached the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from airflow_gpt_image import __version__
from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.protocol import NoResponse, Response
from airflow_gpt_image.api.settings import ClientSettings, load_ca_bundle
from airflow_gpt_image.api.steps import Fetch, FileResponse
from airflow_gpt_image.api.text import quote_url, single_line
from airflow_gpt_image.errors import ImageRefusedError, InvalidSettingsError

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
FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, ValueError)

# A host that isn't found, or is none (UnicodeError is a ValueError).
LOOK_UP_FAILURES: Final = (OSError, httpx.InvalidURL, ValueError)

# A host that sends endlessly slowly holds a worker slot: a whole image may take so many read timeouts.
_IMAGE_READS: Final = 5

_TOO_SLOW: Final = "the response took too long as a whole"
_TOO_LARGE: Final = "the response is larger than any of the API's"


def client_options(settings: ClientSettings) -> dict[str, Any]:
    """Return what both kinds of httpx client are built with."""
    verify = load_ca_bundle(settings.verify) if isinstance(settings.verify, str) else settings.verify
    return {
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "limits": httpx.Limits(max_connections=100, keepalive_expiry=_KEEPALIVE_SECONDS),
        "verify": verify,
        "proxy": settings.proxy,
        # A proxy of the environment is not asked for this machine's own address: over plain http it would see
        # the key.
        "trust_env": not settings.on_this_machine,
        "follow_redirects": False,
        # A cookie could carry to the file host what the API has set, and a junk one fails every later call.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Uncompressed, so that a few bytes can't become a gigabyte: sizes are counted as they arrive.
        "headers": {
            "user-agent": f"airflow-provider-gpt-image/{__version__}",
            "accept-encoding": "identity",
        },
    }


def with_certificates(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the certificates read, which takes longer than all else of building a client.

    So two clients that are built with them read the certificates once.
    """
    context = httpx.create_ssl_context(verify=options["verify"], trust_env=options["trust_env"])
    return {**options, "verify": context}


def proxy_of(url: str, settings: ClientSettings) -> str | None:
    """Return the proxy an image is fetched through: the connection's, else the environment's, else None."""
    if settings.proxy is not None or settings.on_this_machine:
        return settings.proxy
    parts = urlsplit(url)
    proxies = getproxies()
    return (
        None
        if proxy_bypass(parts.hostname or "")
        else proxies.get(parts.scheme.lower()) or proxies.get("all")
    )


def file_options(settings: ClientSettings, proxy: str | None) -> dict[str, Any]:
    """Return what a client that fetches images is built with.

    It uses the given proxy and no other: without one it connects to the address that was checked. No
    connection is kept, for two hosts at one address would share it.
    """
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    return {**client_options(settings), "proxy": proxy, "trust_env": False, "limits": limits}


def fetch_options(step: Fetch) -> dict[str, Any]:
    """Return the request for an image: to the address that was checked, in the name of the host."""
    url = httpx.URL(step.url)
    if step.address is None:
        return {"method": "GET", "url": url}
    return {
        "method": "GET",
        "url": url.copy_with(host=step.address),
        "headers": {"host": url.netloc.decode("ascii")},
        "extensions": {"sni_hostname": url.raw_host.decode("ascii")},
    }


def look_up_arguments(url: str) -> tuple[str, int]:
    """Return the host and port to look up for an address."""
    parsed = httpx.URL(url)
    return parsed.raw_host.decode("ascii"), parsed.port or (443 if parsed.scheme == "https" else 80)


def unique_addresses(found: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the IP addresses of a look-up, each once, in the system's order of preference."""
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


SENDING: Final = "send_request_headers.started"
"""How the name of httpx's trace event ends that comes when the connection stands, before the first byte."""


def request_options(settings: ClientSettings, call: protocol.Call, trace: object = None) -> dict[str, Any]:
    """
    Return the request for a call to the API: the only one that carries the key.

    :param trace: httpx's ``trace`` extension: called for each step of the request.
    """
    return {
        "extensions": {} if trace is None else {"trace": trace},
        "method": call.method,
        "url": settings.base_url + call.path,
        "json": call.body,
        "headers": {"authorization": f"Bearer {settings.api_key}", "accept": "application/json"},
    }


def no_response(error: Exception, settings: ClientSettings, at: float) -> NoResponse:
    """Say why no response came, and whether the request can have left."""
    text = single_line(str(error).replace(settings.api_key, "***")) or "no details"
    return NoResponse(
        sent=not isinstance(error, _NEVER_SENT), reason=f"{type(error).__name__}: {text}", at=at
    )


class Body:
    """Collect a response's body, and stop when it can't be the API's: too large, or sent endlessly slowly."""

    def __init__(self, settings: ClientSettings) -> None:
        self._seconds = settings.read_timeout
        self._until: float | None = None
        self.bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        self.bytes += chunk
        # From the first byte of the body on: however long the API took to respond, its response is read.
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        if len(self.bytes) > protocol.MAX_RESPONSE_BYTES:
            raise httpx.ReadError(_TOO_LARGE)
        if time.monotonic() > self._until:
            raise httpx.ReadTimeout(_TOO_SLOW)

    def response(self, response: httpx.Response, settings: ClientSettings) -> Response:
        """Return the whole response, once its body has been added."""
        return protocol.parse_response(
            status=response.status_code,
            headers=_lower_case_headers(response),
            body=bytes(self.bytes),
            at=time.time(),
            api_key=settings.api_key,
        )


class File:
    """Write an image's bytes as they come, up to the largest size that is taken."""

    def __init__(self, step: Fetch, settings: ClientSettings) -> None:
        self._step = step
        self._most = settings.max_image_bytes
        self._until = time.monotonic() + _IMAGE_READS * settings.read_timeout
        self.received = 0

    def add(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.received > self._most:
            raise ImageRefusedError(
                f"The image at {quote_url(self._step.url)} is larger than {self._most:,} bytes "
                "(max_image_bytes)."
            )
        if time.monotonic() > self._until:
            raise httpx.ReadTimeout(_TOO_SLOW)
        self._step.into.write(chunk)

    def response(self, response: httpx.Response) -> FileResponse:
        """Return what the file host sent, once its bytes have been added."""
        return FileResponse(
            status=response.status_code,
            headers=_lower_case_headers(response),
            received=self.received,
            at=time.time(),
        )


def _lower_case_headers(response: httpx.Response) -> Mapping[str, str]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if "location" in response.extensions:
        headers["location"] = response.extensions["location"]
    return headers


def keep_location(response: httpx.Response) -> None:
    """Move a redirect's target to where httpx doesn't see it.

    Even when redirects are off, httpx prepares the next request, and fails over a junk address: after our
    POST was answered, as if it had never been sent.
    """
    location = response.headers.pop("location", None)
    if location is not None:
        response.extensions["location"] = location


async def akeep_location(response: httpx.Response) -> None:
    """Keep what :func:`keep_location` keeps, for the client on an event loop."""
    keep_location(response)


def require_uncompressed(response: httpx.Response) -> httpx.Response:
    """Return the response, unless it is compressed: then a few bytes could become a gigabyte."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx.DecodingError("the response is compressed, which was not asked for")
    return response


def build_client(build: Callable[[], T]) -> T:
    """Build an httpx client; what it can fail over is a proxy that only the environment names."""
    try:
        return build()
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise InvalidSettingsError(
            f"The environment's proxy can't be used ({type(error).__name__}). Mend HTTPS_PROXY or ALL_PROXY "
            "(socks needs: pip install 'httpx[socks]'), or set the connection's proxy."
        ) from None
