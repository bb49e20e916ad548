"""Hold how to reach the API: checked once, used by either client. The hook reads it from a connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, TypedDict
from urllib.parse import unquote, urlsplit

import httpx

from airflow_gpt_image.api.addresses import check_url
from airflow_gpt_image.api.certificates import load_ca_bundle
from airflow_gpt_image.api.hosts import is_ip_address, is_loopback, normalize_host
from airflow_gpt_image.api.pricing import DEFAULT_PRICES, Prices
from airflow_gpt_image.api.text import quote_setting
from airflow_gpt_image.errors import InvalidApiKeyError, InvalidSettingsError

DEFAULT_BASE_URL: Final = "https://api.aivideoapi.ai"
DEFAULT_MAX_IMAGE_BYTES: Final = 128 * 1024 * 1024

_KEY = re.compile(r"sk-[!-~]{1,509}")
_QUOTES: Final = "'\"`“”„‘’«»"
_HOSTS_RULE: Final = "It must be a list of bare host names in lower case."
# What a whole address of the API document ends with.
_OUR_PATHS = re.compile(r"/v1(?:/(?:images|tasks|credits)\b.*)?$")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252})")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Hold where the API is, the key, and the limits of every call.

    :param api_key: begins with ``sk-``. Shown in no repr, message or log.
    :param base_url: without the ``/v1``. Plain http only to this machine, unless ``allow_http``.
    :param connect_timeout: seconds for each step of connecting: the look-up of the name, the connection, the
        handshake. All of them together may take three times as long. Above 0, at most 300. Default 10.
    :param read_timeout: seconds without a byte of a response. From the first byte of a request to the last
        one of its response it may take twice as long; a whole image, with all redirects, five times. Above 0,
        at most 3,600. Default 60.
    :param proxy: address of an http(s) or socks5 proxy, which may carry a user and password. None: the
        environment's. Not with an API on this machine, which is reached without any.
    :param verify: True for the certificates that SSL_CERT_FILE or SSL_CERT_DIR of the environment names, else
        certifi's; False for no check; or the path of a CA bundle. It holds for the API, images and proxies.
    :param allow_http: send the key in clear to a host that isn't this machine, and to the proxy on the way.
        Default False.
    :param image_hosts: hosts images may come from besides public https ones, in lower case; compared as
        resolvers read them.
    :param max_image_bytes: largest image taken, in bytes. Default 128 MiB.
    :param rate_limit: submits per second that a batch makes at most, above 0, at most 200. None: as many as
        the API takes. Single submits aren't counted.
    :param prices: what a generation and a credit cost. Default: the API document's.
    :param origin: where the settings come from, for messages, such as ``connection 'gpt_image_default'``.
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
    rate_limit: float | None = None
    prices: Prices = DEFAULT_PRICES
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str) or not _KEY.fullmatch(self.api_key):
            raise _no_key(self.api_key)
        object.__setattr__(self, "base_url", _base_url(self.base_url, allow_http=self.allow_http))
        _seconds("connect_timeout", self.connect_timeout, most=300)
        _seconds("read_timeout", self.read_timeout, most=3600)
        check_proxy(self.proxy)
        if self.proxy is not None and self.on_this_machine:
            # Nor is the proxy's password shown.
            raise InvalidSettingsError(
                f"proxy is set, and the API is on this machine: base_url={quote_setting(self.base_url)}.\n"
                "The proxy would be sent the API key in clear, and its own loopback is another one.\n"
                "Remove the proxy, or give the API's address as other machines know it."
            )
        _flag("allow_http", self.allow_http)
        if isinstance(self.verify, str):
            load_ca_bundle(self.verify)
        elif not isinstance(self.verify, bool):
            raise _refused(
                "verify",
                self.verify,
                "is not valid",
                "It must be true, false, or the path of a CA bundle.",
                "Give one such as true.",
            )
        hosts = self.image_hosts
        if isinstance(hosts, str) or not isinstance(hosts, (tuple, list)):
            raise _refused("image_hosts", hosts, "is no list", _HOSTS_RULE, "Give ['files.example.com'].")
        for host in hosts:
            if not isinstance(host, str) or not (_HOST.fullmatch(host) or is_ip_address(host)):
                raise _refused(
                    "image_hosts", host, "is no host name", _HOSTS_RULE, "Give one such as files.example.com."
                )
        object.__setattr__(self, "image_hosts", tuple(map(normalize_host, self.image_hosts)))
        if (
            isinstance(self.max_image_bytes, bool)
            or not isinstance(self.max_image_bytes, int)
            or self.max_image_bytes < 1
        ):
            raise _refused(
                "max_image_bytes",
                self.max_image_bytes,
                "is not valid",
                "It must be a whole number of bytes above 0.",
                "Give one such as 134217728.",
            )
        if self.rate_limit is not None:
            _check_rate(self.rate_limit)
        if not isinstance(self.prices, Prices):
            raise _refused(
                "prices",
                self.prices,
                "is not valid",
                "It must be a Prices value.",
                "Give one such as Prices(credits_1k='4.7').",
            )

    @property
    def where(self) -> str:
        """Return whom is asked, for messages: the API's address, and where the settings come from."""
        return f"{self.base_url} ({self.origin})" if self.origin else self.base_url

    @property
    def connect_seconds(self) -> float:
        """Return how long it may take until a connection stands, with all its steps."""
        return 3 * self.connect_timeout

    @property
    def response_seconds(self) -> float:
        """Return how long a call may take once its connection stands."""
        return 2 * self.read_timeout

    @property
    def image_seconds(self) -> float:
        """Return how long one try to fetch an image may take, with all redirects."""
        return 5 * self.read_timeout

    @property
    def host(self) -> str:
        """Return the API's host, with the port where it isn't the scheme's own: whose account it is."""
        return urlsplit(self.base_url).netloc

    @property
    def on_this_machine(self) -> bool:
        """Return whether the API is on this machine's loopback, as the emulator is."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


def _no_key(given: object) -> InvalidApiKeyError:
    """Return the error about what can't be a key; it doesn't show it: people paste other secrets there."""
    text = given if isinstance(given, str) else ""
    fault, remedy = "can't be one", "Give the key as the API's dashboard shows it, from 'sk-' on."
    if not text.strip():
        fault, remedy = "is empty", "Put the key into the connection's password (API Key)."
    elif text.lower().startswith(("bearer", "authorization")):
        fault, remedy = (
            "begins with 'Bearer'",
            "Leave that word out: it is put before the key by itself.",
        )
    elif text[0] in _QUOTES or text[-1] in _QUOTES:
        fault, remedy = "stands in quotation marks", "Leave them out."
    return InvalidApiKeyError(
        f"The API key {fault}. Nothing was sent.\n"
        f"A key must start with 'sk-' and hold no white space.\n{remedy}",
        code="invalid_api_key",
    )


def _refused(name: str, value: object, fault: str, rule: str, remedy: str) -> InvalidSettingsError:
    return InvalidSettingsError(f"{name}={quote_setting(value)} {fault}.\n{rule}\n{remedy}")


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
    rate_limit: float | None
    prices: Prices
    origin: str


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
    real = f"The real API is {DEFAULT_BASE_URL}."
    try:
        check_url(url if isinstance(url, str) else repr(url), quote_setting)
    except ValueError as error:
        fault, rule, _ = str(error).split("\n")
        raise InvalidSettingsError(f"base_url: {fault}\n{rule}\n{real}") from None
    parts = urlsplit(url)
    scheme, path = parts.scheme.lower(), parts.path.rstrip("/")
    if parts.query or parts.fragment or "%" in parts.netloc or "@" in unquote(path):
        rule = "It may have no query, fragment or login."
        raise _refused("base_url", url, "has more than an address", rule, real)
    if _OUR_PATHS.search(path):
        rule = "Leave out the /v1 and what is behind it: each call adds its own."
        raise _refused("base_url", url, "leads into the API", rule, real)
    if scheme == "http" and not (allow_http is True or is_loopback(parts.hostname or "")):
        rule = "It would send the API key in clear to another machine."
        remedy = "Use https; or set allow_http if that is meant."
        raise _refused("base_url", url, "is plain http", rule, f"{remedy} {real}")
    try:
        # Without the scheme's own port, so that one account has one name; and as httpx will take it.
        netloc = httpx.URL(f"{scheme}://{parts.netloc}").netloc.decode("ascii").lower()
        _check_labels(parts.hostname or "")
    except (httpx.InvalidURL, ValueError):
        rule = "No name server could know it."
        raise _refused("base_url", url, "has a host that is no host name", rule, real) from None
    return f"{scheme}://{netloc}{path}"


def _check_labels(host: str) -> None:
    if not is_ip_address(host) and any(not 0 < len(label) < 64 for label in host.rstrip(".").split(".")):
        raise ValueError


def _seconds(name: str, value: object, *, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        rule = f"It must be a number of seconds above 0 and at most {most:g}."
        raise _refused(name, value, "is not valid", rule, "Give one such as 30.")


def _check_rate(value: object) -> None:
    # No batch can make more of them, and a rate of 0 would wait for ever.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 200:
        rule = "It must be a number of submits per second above 0 and at most 200."
        raise _refused("rate_limit", value, "is not valid", rule, "Give one such as 2, or leave it out.")


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _refused(name, value, "is not valid", "It must be true or false.", "Give one such as false.")


def check_proxy(proxy: object) -> None:
    """Refuse what can't be a proxy's address; None is none.

    :raises InvalidSettingsError: which doesn't show it: it may hold the proxy's password.
    """
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
        raise InvalidSettingsError(
            "A socks5 proxy needs a further package.\nIt isn't installed here.\npip install 'httpx[socks]'"
        )
    if not fine:
        raise InvalidSettingsError(
            "proxy must be an address.\n"
            "It is not shown, for it may hold a password.\n"
            "Give one such as http://proxy.example.com:3128."
        )
