"""Decide which addresses are taken: of reference images, of callbacks, of the API itself and of images."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import PurePath
from typing import Final
from urllib.parse import urlsplit

from airflow_gpt_image.api.hosts import can_be_public, is_loopback, normalize_host
from airflow_gpt_image.api.text import REDACTED_QUERY, quote, quote_url
from airflow_gpt_image.errors import ImageRefusedError

# Ours, not the document's: longer is a mistake (an inlined image), and every record carries the addresses.
_MAX_URL_CHARACTERS: Final = 8_192

OBJECT_SCHEMES: Final = ("s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl", "oss", "file")
"""Schemes of stores that Airflow's providers know, and of the disk, whose objects signing refuses."""

_OBJECT: Final = re.compile(r"[a-z0-9]+://[^/?#]*/[^?#]*[^/?#]")

_PICTURE: Final = re.compile(r"\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|heic)\s*$", re.IGNORECASE)


def is_object(url: str) -> bool:
    """Return whether an address names an object on a store, which has to be signed before it is submitted."""
    return url.partition("://")[0] in OBJECT_SCHEMES


def check_url(url: str, show: Callable[[str], str] = quote) -> str:
    """Refuse what is no absolute http(s) address, or has white space or a password in it.

    :param show: how the address stands in the message.
    :raises ValueError: saying what is wrong.
    """
    if len(url) > _MAX_URL_CHARACTERS:
        rule = f"An address has at most {_MAX_URL_CHARACTERS:,} characters."
        raise ValueError(
            f"{show(url)} is too long.\n{rule}\nGive one that leads to the content, not the content."
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        fault = "contains white space or a control character"
        raise ValueError(
            f"{show(url)} {fault}.\nAn address has neither.\nPercent-encode it (%20 for a space)."
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        fault, rule = "can't be read as an address", "It begins with http:// or https://, and a host."
        raise ValueError(f"{show(url)} {fault}.\n{rule}\nGive one like https://host/path.") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        fault, rule = "is no http(s) address", "It begins with http:// or https://, and a host."
        raise ValueError(f"{show(url)} {fault}.\n{rule}\nGive one like https://host/path.")
    if parts.username is not None:
        raise ValueError(
            f"The address on {host!r} contains a user name or password.\n"
            "It goes to the API and into records, and the password would go along.\n"
            "Give one without."
        )
    return url


def _on_this_machine(path: str) -> ValueError:
    name = path.replace("\\", "/").rpartition("/")[2]
    return ValueError(
        f"{quote(path)} is a file of this machine.\n"
        "The API reads reference images over the network.\n"
        f"Put it on a store, and give s3://conn_id@bucket/{quote(name)[1:-1]}, or an https address."
    )


def check_reference(url: object) -> None:
    """Refuse what can't be the address of a reference image: http(s), or an object's on a store.

    :raises ValueError: saying what is wrong.
    """
    if isinstance(url, PurePath):
        raise _on_this_machine(str(url))
    if not isinstance(url, str):
        raise ValueError(
            f"{quote(url)} must be a string.\nIt is an address of an image.\nGive one like https://host/path."
        )
    scheme, separator, rest = url.partition("://")
    if url.endswith(REDACTED_QUERY):
        raise ValueError(
            f"{quote(url)} has no signature any more.\n"
            "A batch leaves none behind in its files.\n"
            "Give the address as the data set had it, or sign it anew."
        )
    if not is_object(url):
        if not separator and _PICTURE.search(url):
            raise _on_this_machine(url)
        check_url(url)
    elif ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise ValueError(
            f"The {scheme} address contains a password.\n"
            "The address goes into records and messages, and the password would go along.\n"
            "Name a connection instead: s3://conn_id@bucket/key."
        )
    elif len(url) > _MAX_URL_CHARACTERS or not url.isprintable() or not _OBJECT.fullmatch(url):
        raise ValueError(
            f"{quote(url)} is not the address of an object.\n"
            "It names a bucket and a key, and has no query.\n"
            "Give one like s3://conn_id@bucket/key."
        )


def check_image_url(url: str, *, allowed_hosts: Collection[str], allow_loopback: bool) -> bool:
    """Refuse an address that an image may not be fetched from, by the address alone.

    Only https and no host that is local or numeric, with two exceptions.

    :param allowed_hosts: hosts, as ``normalize_host`` gives them, that may be anywhere and speak plain http.
    :param allow_loopback: whether this machine is such a host: when the API itself is on it.
    :return: whether it is such an exception, whose host may lead anywhere.
    :raises ImageRefusedError: when it may not be fetched.
    """
    try:
        check_url(url, quote_url)
        parts = urlsplit(url)
        host = normalize_host(parts.hostname or "")
    except ValueError as error:
        raise ImageRefusedError(f"An image's address is not taken: {error}") from None
    if host in allowed_hosts or (allow_loopback and is_loopback(host)):
        return True
    if parts.scheme.lower() != "https" or not can_be_public(host):
        raise ImageRefusedError(
            f"The image at {quote_url(url)} is not fetched.\n"
            "Images come over https from public hosts.\n"
            f"If {host!r} is meant, list it in the connection's image_hosts."
        )
    return False
