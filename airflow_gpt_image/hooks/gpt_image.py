"""Turn a connection of type ``gpt_image`` into a client of the API, blocking or asynchronous."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_gpt_image.api.blocking import in_thread
from airflow_gpt_image.api.certificates import load_ca_bundle
from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import DEFAULT_BASE_URL, ClientSettings
from airflow_gpt_image.api.text import quote_setting
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GenerationNotFoundError,
    GptImageError,
    InvalidApiKeyError,
    InvalidSettingsError,
    IpNotAllowedError,
    UnreadableResponseError,
)

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient

DEFAULT_CONN_ID: Final = "gpt_image_default"

# No generation has this id. Asking for it shows whether the key is accepted, and costs nothing.
_UNUSED_ID: Final = "00000000-0000-0000-0000-000000000000"


class GptImageHook(BaseHook):
    """Turn a ``gpt_image`` connection into a client of the API.

    A connection of any other type is refused: its password is another company's key. Connection fields:

    - **Password**: the API key, ``sk-…``. Required. It is sent to the API's host and nowhere else.
    - **Host**: base URL without ``/v1``; default ``https://api.aivideoapi.ai``. Plain http only to this
      machine. A bare host name is taken with Schema (default https).
    - **Port**: of the host, unless Host names it; both may name the same one. Default: the scheme's own.
    - **Extra**, all optional, any other name is an error:
      ``connect_timeout`` and ``read_timeout`` in seconds (default 10 and 60), as in
      :class:`~airflow_gpt_image.api.settings.ClientSettings`; ``proxy``, an address (default: the
      environment's), which an API on this machine is never asked through; ``verify``, false for no
      certificate check; ``ca_bundle``, a path (default: what SSL_CERT_FILE or SSL_CERT_DIR of the environment
      names, else certifi's); ``image_hosts``, a list (or text separated by commas) of hosts images may come
      from besides public https ones, wherever they are; behind a proxy only names are checked, for the proxy
      looks them up; ``max_image_bytes`` (default 128 MiB); ``allow_http``, true to send the key in clear to
      a host that isn't this machine, and to a proxy on the way; ``rate_limit``, the submits per second that
      a batch makes at most (default: as many as the API takes); ``prices``, an object (or its JSON text) with
      any of ``1k``, ``2k`` and ``4k`` in credits and ``usd_per_credit``, such as ``{"1k": "4.7",
      "usd_per_credit": "0.005"}``, for an account whose prices aren't the API document's.

    :param gpt_image_conn_id: the connection's id.

    Every method raises :class:`InvalidSettingsError` when the connection doesn't exist or breaks a rule, and
    :class:`InvalidApiKeyError` when the password can't be a key; both before anything is sent.
    """

    conn_name_attr = "gpt_image_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "gpt_image"
    hook_name = "GPT Image"

    def __init__(self, gpt_image_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gpt_image_conn_id = gpt_image_conn_id

    def settings(self) -> ClientSettings:
        """Return what the connection says, checked."""
        try:
            connection = self.get_connection(self.gpt_image_conn_id)
        except AirflowNotFoundException:
            raise _missing(self.gpt_image_conn_id) from None
        return settings_of(connection)

    async def asettings(self) -> ClientSettings:
        """Return the connection's settings as :meth:`settings` does, for code on an event loop."""
        try:
            connection = await self.aget_connection(self.gpt_image_conn_id)
        except AirflowNotFoundException:
            # `dag.test()` runs triggers where Airflow's own asynchronous look-up sees no connection of the
            # database; the other one does.
            return await asyncio.wrap_future(in_thread(self.settings))
        # In a thread: a CA bundle is read, perhaps from a mount that is gone.
        return await asyncio.wrap_future(in_thread(partial(settings_of, connection)))

    def get_conn(self) -> GptImageClient:
        """Return a new client, to be closed by the caller: ``with hook.get_conn() as client``."""
        from airflow_gpt_image.api.client import GptImageClient

        return GptImageClient(self.settings())

    async def aget_conn(self, *, at_once: int = 16) -> AsyncGptImageClient:
        """Return a new client for the running event loop, to be closed by the caller.

        :param at_once: calls under way at the same time; the others wait.
        """
        settings = await self.asettings()
        # In a thread: the first client of a process imports httpx and reads certificates, which together take
        # longer than a triggerer's loop may be held up.
        return await asyncio.wrap_future(in_thread(partial(_async_client, settings, at_once)))

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the balance, and say which it is: works, bad key, IP not allowed, unreachable.

        The balance's shape is undocumented; where it can't be read, a documented call shows whether the key
        works.
        """
        from airflow_gpt_image.api.client import GptImageClient

        try:
            # Sent once, with a short timeout: a person is waiting for the response.
            settings = self.settings()
            settings = replace(settings, read_timeout=min(settings.read_timeout, 10.0))
            with GptImageClient(settings, retrying=Retrying(most_sends=1)) as client:
                return True, _read_balance(client)
        except InvalidApiKeyError as error:
            return False, f"Bad key: {error}"
        except IpNotAllowedError as error:
            return False, f"IP not allowed: {error}"
        except (ConnectionFailedError, UnreadableResponseError) as error:
            return False, f"Unreachable: {error}"
        except GptImageError as error:
            return False, str(error)


def _async_client(settings: ClientSettings, at_once: int) -> AsyncGptImageClient:
    from airflow_gpt_image.api.client import AsyncGptImageClient

    return AsyncGptImageClient(settings, at_once=at_once)


def _read_balance(client: GptImageClient) -> str:
    asked = f"Asked was {client.settings.where}."
    try:
        balance = client.credits()
    except UnreadableResponseError:
        with suppress(GenerationNotFoundError):
            client.get(_UNUSED_ID)
        return f"Works. The key is accepted; the balance can't be read. {asked}"
    usd = client.settings.prices.usd(balance)
    return f"Works. The balance is {plain(balance)} credits (${usd}). {asked}"


_CREATE: Final = "airflow connections add {} --conn-type gpt_image --conn-password sk-your-api-key"


def _missing(conn_id: str) -> InvalidSettingsError:
    return InvalidSettingsError(
        f"The connection {conn_id!r} does not exist, or Airflow can't read it.\n"
        "A task needs one of the type gpt_image, with the API key as its password.\n"
        f"Create it:\n{_CREATE.format(conn_id)}"
    )


def settings_of(connection: Connection) -> ClientSettings:
    """Read a connection's fields by name, against an allowlist; both clients are built from the result.

    :raises InvalidSettingsError: naming the connection, the field, its value, the rule and the remedy.
    :raises InvalidApiKeyError: when the password can't be a key.
    """
    conn_id = connection.conn_id
    name = _name_of(conn_id)
    conn_type = connection.conn_type or ""
    if conn_type != GptImageHook.conn_type:
        raise InvalidSettingsError(
            f"Connection {conn_id!r}: its type is {quote_setting(conn_type)}, not 'gpt_image'.\n"
            "Its password is meant for somebody else than this API, so nothing was sent.\n"
            "Name one of the type gpt_image (as a URI it begins with gpt-image://), or create it:\n"
            f"{_CREATE.format('gpt_image_default')}"
        )
    try:
        _refuse_misplaced_key(connection)
        options = _options(connection.extra)
        return ClientSettings(
            api_key=_api_key(connection), base_url=_base_url(connection), origin=name, **options
        )
    except (InvalidSettingsError, InvalidApiKeyError) as error:
        begin = f"{name[0].upper()}{name[1:]}"
        raise type(error)(f"{begin}: {error.message}", code=error.code) from None


# The id that Airflow gives to a connection while its form's "Test" is pressed.
_TRANSIENT_ID: Final = re.compile(r"[A-Za-z0-9]{8}")


def _name_of(conn_id: str) -> str:
    """Return what a connection is called in messages; one that is only tested has no name of its own."""
    transient = _TRANSIENT_ID.fullmatch(conn_id) and f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ
    return "this connection" if transient else f"connection {conn_id!r}"


# A key, also in quotation marks or behind a word or a scheme; a host has a dot in its name.
_KEY: Final = re.compile(r"(?i:bearer +|https?://)?[\"']?sk-[^\s./:]+[\"']?/?")


def _refuse_misplaced_key(connection: Connection) -> None:
    """
    Refuse a key in a field that isn't kept secret: a name server would be asked for it, and logs show it.

    :raises InvalidApiKeyError: which doesn't show it.
    """
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    in_extra = [text for pair in extra.items() for text in pair] if isinstance(extra, Mapping) else []
    fields = {"Host": [connection.host], "Schema": [connection.schema], "Extra": in_extra}
    for place, values in fields.items():
        if any(isinstance(value, str) and _KEY.fullmatch(value.strip()) for value in values):
            raise _key_in(place, f"the API key stands in {place}")


def _key_in(place: str, fault: str) -> InvalidApiKeyError:
    return InvalidApiKeyError(
        f"{fault}. Nothing was sent.\n"
        "The key is the connection's password, which Airflow keeps encrypted.\n"
        f"Move it from {place} to Password (API Key).",
        code="invalid_api_key",
    )


def _api_key(connection: Connection) -> str:
    password, login = (connection.password or "").strip(), (connection.login or "").strip()
    if not password and login:
        # Not shown, and looked at no further: it may be a key.
        raise _key_in("Login", "The API key is empty, and Login isn't")
    return password


# Behind a host; not within an IPv6 address, which stands in brackets.
_PORT: Final = re.compile(r"^(?:[^:\[\]@]+|\[[^\]]*\]):([0-9]{1,5})$")


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if not host:
        # 443 is what the form of Airflow 3.3 needs for its Test; any other port means a host that is missing.
        if connection.port not in (None, 0, 443):
            raise InvalidSettingsError(
                f"Port is {connection.port}, and Base URL is empty. Nothing was sent.\n"
                "A port belongs to a host; without one the API itself is asked, on its port 443.\n"
                "Fill in the Base URL, or give Port 443."
            )
        return DEFAULT_BASE_URL
    scheme, separator, rest = host.rpartition("://")
    scheme = scheme if separator else (connection.schema or "https")
    name, slash, path = rest.partition("/")
    own = _PORT.search(name)
    if connection.port and own and int(own[1]) != connection.port:
        raise InvalidSettingsError(
            f"Host names the port {own[1]}, and Port is {connection.port}.\n"
            "One of them is wrong, and nothing was sent.\n"
            "Give the port once, or the same one twice."
        )
    port = f":{connection.port}" if connection.port and not own else ""
    return f"{scheme}://{name}{port}{slash}{path}"


def _options(text: str | None) -> dict[str, Any]:
    # extra_dejson would read an extra that isn't JSON as empty, and silently drop a proxy or a CA bundle.
    try:
        extra = json.loads(text) if text and text.strip() else {}
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise InvalidSettingsError(
            "extra must be a JSON object.\n"
            "It holds the fields of the connection form.\n"
            'Leave it empty, or give one such as {"read_timeout": 60}.'
        )
    unknown = sorted(str(name) for name in extra if name not in _READERS)
    if unknown:
        raise InvalidSettingsError(
            f"extra has unknown fields: {', '.join(map(quote_setting, unknown))}.\n"
            f"{fill('Known are ' + ', '.join(_READERS) + '.', 95)}\n"
            "Leave them out, or name one of those."
        )
    # The form stores what was left empty as null or as an empty text.
    given = {name: value for name, value in extra.items() if value is not None and value != ""}
    options = {name: _READERS[name](value) for name, value in given.items()}
    ca_bundle = options.pop("ca_bundle", None)
    if ca_bundle is not None:
        if options.get("verify") is False:
            raise InvalidSettingsError(
                "extra sets ca_bundle and verify=false.\nThey contradict each other.\nSet one of them."
            )
        options["verify"] = ca_bundle
    return options


# A connection given as a URI has texts for everything. What can't be converted is passed on as it is:
# ClientSettings refuses it, naming the value and the rule.


def _number(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _integer(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _boolean(value: object) -> object:
    booleans = {"true": True, "false": False}
    return booleans.get(value.strip().lower(), value) if isinstance(value, str) else value


def _verify(value: object) -> object:
    # A path has its own field, so a text here can only be a mistyped true or false.
    verify = _boolean(value)
    if not isinstance(verify, bool):
        raise InvalidSettingsError(
            f"verify={quote_setting(value)} must be true or false.\n"
            "It says whether certificates are checked.\n"
            "A CA bundle goes into ca_bundle."
        )
    return verify


def _hosts(value: object) -> object:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        return value
    words = [item.strip().lower() if isinstance(item, str) else item for item in items]
    return tuple(word for word in words if word != "")


def _as_given(value: object) -> object:
    return value


def _ca_bundle(value: object) -> object:
    load_ca_bundle(value, name="ca_bundle")
    return value


_READERS: Final[dict[str, Callable[[object], object]]] = {
    "connect_timeout": _number,
    "read_timeout": _number,
    "proxy": _as_given,
    "verify": _verify,
    "ca_bundle": _ca_bundle,
    "image_hosts": _hosts,
    "max_image_bytes": _integer,
    "allow_http": _boolean,
    "rate_limit": _number,
    "prices": Prices.read,
}
