"""Addresses that the API notifies at a generation's end: signed, expiring, each of one submit of one task.

An address names the try of the task instance by Airflow's id of it, which no other try has, the submit by the
digest of its intent, and when it expires. Whoever has one can wake that task once, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self
from uuid import UUID

from airflow_gpt_image.api.addresses import check_url
from airflow_gpt_image.api.text import quote_host
from airflow_gpt_image.log import Log

PREFIX: Final = "/gpt-image-callbacks"
"""Where the receiver is, beneath the public base URL."""

POLL_INTERVAL: Final = 60.0
"""Seconds from one poll to the next, at least, while a callback is expected."""

_SHORTEST_SECRET: Final = 16

# After the task has stopped waiting a callback can still tell which generation a lost submit became.
_VALID_AFTER_TIMEOUT: Final = 24 * 3600.0

# Of the vendor's signature. Its clock and ours differ, and a delivery that is tried again is signed anew.
_SIGNATURE_VALID: Final = 300.0

_TOKEN: Final = re.compile(
    r"(?P<signed>1\.(?P<ti>[0-9a-f]{32})\.(?P<intent>[0-9a-f]{32})\.(?P<expires>[0-9]{1,12}))"
    r"\.(?P<signature>[A-Za-z0-9_-]{43})"
)


class Callback(NamedTuple):
    """
    What an address names.

    :param ti_id: Airflow's id of the try of the task instance.
    :param intent: the submit, as :func:`~airflow_gpt_image.ledger.submitting.intent_digest` has it.
    """

    ti_id: UUID
    intent: str


@dataclass(frozen=True)
class Callbacks:
    """
    What is configured of callbacks.

    :param base_url: public address of Airflow's API server.
    :param secrets: the first one signs, each of them verifies; so a secret can be replaced while tasks wait.
    :param vendor_secret: the API signs its notifications with it; None: it doesn't.
    """

    base_url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    vendor_secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, option: Callable[[str], str | None]) -> Self | None:
        """
        Return what the configuration says; None when it names no base URL.

        :param option: gives an option of the section ``[gpt_image]``.
        :raises ValueError: when it makes no sense, with the option, the rule and the remedy.
        """
        base_url = (option("callback_base_url") or "").strip().rstrip("/")
        if not base_url:
            return None
        try:
            check_url(base_url, quote_host)
        except ValueError as error:
            raise ValueError(f"[gpt_image] callback_base_url: {error}") from None
        if "?" in base_url or "#" in base_url:
            raise ValueError(
                f"[gpt_image] callback_base_url: {quote_host(base_url)} has a query or a fragment.\n"
                f"{PREFIX}/… is put behind it.\nGive the address without them."
            )
        # A command's output, as of callback_secret_cmd, ends with a newline.
        secrets = [text.strip() for text in (option("callback_secret") or "").split(",")]
        if any(len(secret) < _SHORTEST_SECRET for secret in secrets):
            raise ValueError(
                "[gpt_image] callback_secret is missing or too short.\n"
                f"Callback addresses are signed with it; it has at least {_SHORTEST_SECRET} characters.\n"
                "Set a random one, the same on workers and API servers, or unset callback_base_url."
            )
        vendor_secret = (option("callback_vendor_secret") or "").strip()
        return cls(base_url, tuple(secret.encode() for secret in secrets), vendor_secret.encode() or None)

    def address(self, callback: Callback, *, timeout: float, now: float) -> str:
        """
        Return the address for one submit.

        :param timeout: seconds that the task waits for the generation; the address is valid a day longer.
        :param now: seconds since 1970.
        """
        expires = int(now + timeout + _VALID_AFTER_TIMEOUT)
        signed = f"1.{callback.ti_id.hex}.{callback.intent}.{expires}"
        return f"{self.base_url}{PREFIX}/{signed}.{_signature(self.secrets[0], signed)}"

    def verify(self, token: str, *, now: float) -> Callback | None:
        """
        Return what the last part of an address names; None when we never gave it out, or it has expired.

        :param now: seconds since 1970.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        # Each of them, whichever fits: how long it takes tells nothing.
        fits = [
            hmac.compare_digest(_signature(secret, match["signed"]), match["signature"])
            for secret in self.secrets
        ]
        if not any(fits) or now >= int(match["expires"]):
            return None
        return Callback(UUID(match["ti"]), match["intent"])

    def verify_vendor(
        self, generation_id: str | None, timestamp: str | None, signature: str | None, *, now: float
    ) -> bool:
        """
        Return whether a notification is signed by the vendor, or needs not be.

        The API document tells of no signature. It is verified as sibling APIs make it: Base64 of the
        HMAC-SHA256 of ``<id>.<timestamp>``.

        :param generation_id: as the notification's body has it.
        :param timestamp: the header ``X-Webhook-Timestamp``: seconds since 1970.
        :param signature: the header ``X-Webhook-Signature``.
        """
        if self.vendor_secret is None:
            return True
        if generation_id is None or signature is None or not re.fullmatch(r"[0-9]{1,12}", timestamp or ""):
            return False
        told = f"{generation_id}.{timestamp}".encode()
        expected = base64.b64encode(hmac.digest(self.vendor_secret, told, hashlib.sha256))
        fits = hmac.compare_digest(expected, signature.strip().encode())
        return fits and abs(now - int(timestamp or "")) <= _SIGNATURE_VALID


def configured(log: Log) -> Callbacks | None:
    """
    Return what Airflow's configuration says of callbacks; None when they are off.

    A mistake there is logged and no reason to fail: without callbacks the task polls, and loses nothing.
    """
    from airflow.sdk.configuration import conf

    try:
        return Callbacks.read(lambda name: conf.get("gpt_image", name, fallback=None))
    except ValueError as error:
        log.warning("Callbacks are off.\n%s", error)
        return None


def _signature(secret: bytes, text: str) -> str:
    digest = hmac.digest(secret, f"gpt-image callback {text}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
