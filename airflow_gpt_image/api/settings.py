"""Hold how to reach the API: checked once, used by either client. The hook reads it from a connection."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import urlsplit

import httpx

from airflow_gpt_image.api.addresses import check_url, is_ip_address, is_loopback
from airflow_gpt_image.api.pricing import DEFAULT_PRICES, Prices
from airflow_gpt_image.api.text import quote_path
from airflow_gpt_image.errors import InvalidApiKeyError, InvalidSettingsError

DEFAULT_BASE_URL: Final = "https://api.aivideoapi.ai"
DEFAULT_MAX_IMAGE_BYTES: Final = 128 * 1024 * 1024

_KEY = re.compile(r"sk-[!-~]{1,509}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252})")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Hold where the API is, the key, and the limits of every call.

    :param api_key: begins with ``sk-``. Shown in no repr, message or log.
    :param base_url: without the ``/v1``. Plain http only to this machine, unless ``allow_http``.
    :param connect_timeout: seconds until a connection stands; above 0, at most 300. Default 10.
    :param read_timeout: seconds without a byte of a response, and the bound of a whole API response; five
        times as long, that of a whole image. Above 0, at most 3,600. Default 60.
    :param proxy: address of an http(s) or socks5 proxy, which may carry a user and password. None: the
        environment's.
    :param verify: True for the system's certificates, False for no check, or the path of a CA bundle.
    :param allow_http: send the key in clear to a host that isn't this machine. Default False.
    :param image_hosts: hosts images may come from besides public https ones, in lower case.
    :param max_image_bytes: largest image taken, in bytes. Default 128 MiB.
    :param prices: what a generation and a credit cost. Default: the API document's.
    :raises InvalidApiKeyError: when the key can't be one.
    :raises InvalidSettingsError: naming the setting, its value, the rule and the remedy.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True
    allow_http: bool = False
    image_hosts: tuple[str, ...] = ()
    max_image_bytes: int = DEFAULT_MAX_IMAGE_BYTES
    prices: Prices = DEFAULT_PRICES

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str) or not _KEY.fullmatch(self.api_key):
            # The key itself is not shown, not even a part: people paste other secrets into the field.
            raise InvalidApiKeyError(
                "The API key can't be one: it must start with 'sk-' and hold no white space. "
                f"{InvalidApiKeyError.remedy} Nothing was sent.",
                code="invalid_api_key",
            )
        object.__setattr__(self, "base_url", _base_url(self.base_url, allow_http=self.allow_http))
        _seconds("connect_timeout", self.connect_timeout, most=300)
        _seconds("read_timeout", self.read_timeout, most=3600)
        _proxy(self.proxy)
        _flag("allow_http", self.allow_http)
        if isinstance(self.verify, str):
            load_ca_bundle(self.verify)
        elif not isinstance(self.verify, bool):
            raise _refused("verify", self.verify, "must be true, false, or the path of a CA bundle", "true")
        if isinstance(self.image_hosts, str) or not isinstance(self.image_hosts, (tuple, list)):
            raise _refused(
                "image_hosts", self.image_hosts, "must be a list of bare host names", "['files.example.com']"
            )
        for host in self.image_hosts:
            if not isinstance(host, str) or not (_HOST.fullmatch(host) or is_ip_address(host)):
                raise _refused(
                    "image_hosts", host, "must be bare host names in lower case", "files.example.com"
                )
        if (
            isinstance(self.max_image_bytes, bool)
            or not isinstance(self.max_image_bytes, int)
            or self.max_image_bytes < 1
        ):
            raise _refused(
                "max_image_bytes",
                self.max_image_bytes,
                "must be a whole number of bytes above 0",
                "134217728",
            )
        if not isinstance(self.prices, Prices):
            raise _refused("prices", self.prices, "must be a Prices value", "Prices(credits_1k='4.7')")

    @property
    def host(self) -> str:
        """Return the API's host, with the port where it isn't the scheme's own: whose account it is."""
        return urlsplit(self.base_url).netloc

    @property
    def on_this_machine(self) -> bool:
        """Return whether the API is on this machine's loopback, as the emulator is."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


def _refused(name: str, value: object, rule: str, example: str) -> InvalidSettingsError:
    return InvalidSettingsError(f"{name}={quote_path(value)} {rule}; for example {example}.")


class SettingsOptions(TypedDict, total=False):
    """List the fields of :class:`ClientSettings`, for the clients' keyword arguments."""

    base_url: str
    connect_timeout: float
    read_timeout: float
    proxy: str | None
    verify: bool | str
    allow_http: bool
    image_hosts: tuple[str, ...]
    max_image_bytes: int
    prices: Prices


def settings_of(
    given: ClientSettings | None, api_key: str | None, options: SettingsOptions
) -> ClientSettings:
    """
    Return the settings that a client is given, whole or in single fields.

    :raises InvalidSettingsError: when it is given both.
    """
    if given is None:
        return ClientSettings(api_key=api_key or "", **options)
    if api_key is not None or options:
        raise InvalidSettingsError("Give settings, or api_key and single options; not both.")
    return given


def _base_url(url: str, *, allow_http: bool) -> str:
    try:
        check_url(url if isinstance(url, str) else repr(url))
    except ValueError as error:
        raise InvalidSettingsError(
            f"The API's base URL is not valid: {error} The real API is {DEFAULT_BASE_URL}."
        ) from None
    parts = urlsplit(url)
    scheme, path = parts.scheme.lower(), parts.path.rstrip("/")
    if parts.query or parts.fragment or path.endswith("/v1"):
        raise _refused(
            "base_url", url, "must have no query or fragment, and leave out the /v1", DEFAULT_BASE_URL
        )
    if scheme == "http" and not (allow_http is True or is_loopback(parts.hostname or "")):
        raise _refused(
            "base_url",
            url,
            "would send the API key in clear to another machine. Use https, or say allow_http if that is "
            "meant",
            DEFAULT_BASE_URL,
        )
    try:
        # Without the scheme's own port, so that one account has one name; and as httpx will take it.
        netloc = httpx.URL(f"{scheme}://{parts.netloc}").netloc.decode("ascii").lower()
        _check_labels(parts.hostname or "")
    except (httpx.InvalidURL, ValueError):
        raise _refused("base_url", url, "has a host that is no host name", DEFAULT_BASE_URL) from None
    return f"{scheme}://{netloc}{path}"


def _check_labels(host: str) -> None:
    if not is_ip_address(host) and any(not 0 < len(label) < 64 for label in host.rstrip(".").split(".")):
        raise ValueError


def _seconds(name: str, value: object, *, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise _refused(name, value, f"must be a number of seconds above 0 and at most {most:g}", "30")


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _refused(name, value, "must be true or false", "false")


def load_ca_bundle(ca_bundle: object, *, name: str = "verify") -> ssl.SSLContext:
    """Read a CA bundle: the path of a PEM file, or of a folder of them ending in ``/``.

    :param name: the setting's name in a message.
    :raises InvalidSettingsError: when it can't be read.
    """
    example = "the path of an existing CA bundle: a PEM file, or a folder ending in '/'"
    if not isinstance(ca_bundle, str) or not ca_bundle:
        raise _refused(name, ca_bundle, f"must be {example}", "/etc/ssl/certs/ca.pem")
    folder = ca_bundle.endswith("/")
    try:
        # A folder that isn't there is no error to the ssl module, only one that trusts nobody.
        if folder and not Path(ca_bundle).is_dir():
            raise FileNotFoundError(ca_bundle)
        return ssl.create_default_context(
            cafile=None if folder else ca_bundle, capath=ca_bundle if folder else None
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; ValueError: a NUL in the path
        raise _refused(
            name,
            ca_bundle,
            f"can't be read ({type(error).__name__}). It must be {example}",
            "/etc/ssl/certs/ca.pem",
        ) from None


def _proxy(proxy: object) -> None:
    if proxy is None:
        return
    try:
        fine = isinstance(proxy, str) and proxy.isprintable() and " " not in proxy
        scheme = httpx.Proxy(str(proxy)).url.scheme if fine else ""
        parts = urlsplit(str(proxy))
        fine = fine and bool(parts.hostname) and parts.port != 0
    except (httpx.InvalidURL, ValueError):
        scheme, fine = "", False
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise InvalidSettingsError("A socks5 proxy needs a further package: pip install 'httpx[socks]'.")
    if not fine:
        # Not shown: it may hold the proxy's password.
        raise InvalidSettingsError(
            "proxy must be an address such as http://proxy.example.com:3128; it is not shown."
        )
