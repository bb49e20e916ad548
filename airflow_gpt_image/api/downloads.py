"""Fetch an image, as a flow: which address is asked, which redirects are followed, when it is tried again.

An image's address comes from the API and is not trusted: it may lead into a worker's own network. So the name
is checked, then every IP address that it leads to, and the connection goes to an address that was checked.

An image is paid for, and late is not gone: a host that says "not there" right after the generation was
completed may not have it yet. :class:`Patience` says how long that is believed, and only age makes an image
one that has expired.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import quote, urljoin

from airflow_gpt_image.api.addresses import check_image_url
from airflow_gpt_image.api.hosts import is_public
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying, parse_retry_after
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Fetch, FileResponse, Flow, Resolve, Sleep
from airflow_gpt_image.api.text import quote_url
from airflow_gpt_image.errors import DownloadError, ImageExpiredError, ImageRefusedError

_MAX_REDIRECTS: Final = 5

EXPIRES_AFTER: Final = 24 * 3600.0
"""Seconds from a generation's completion on after which an image that isn't there counts as gone.

The API document doesn't say how long result addresses live. Before that, "not there" can pass.
"""

# What file hosts say of a file that isn't there, or of a signed address whose time is over.
_NOT_THERE: Final = frozenset({400, 401, 403, 404, 410})

# Scheme and host.
_BEGIN: Final = re.compile(r"[^/?#]*://[^/?#]*")

# What may stand in an address as it is; "%" among it, for what is encoded already stays as it is.
_ADDRESS_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;=-._~"


@dataclass(frozen=True)
class Patience:
    """Hold how long an image that doesn't arrive counts as late.

    :param lasts: seconds from the generation's completion on.
    :param first_pause: seconds until it is asked for again; later half of its age, so that a dozen requests
        are enough.
    """

    lasts: float = 600.0
    first_pause: float = 1.0

    def pause(self, error: DownloadError, age: float) -> float | None:
        """Return the seconds until an image that didn't arrive is asked for again; None: it isn't late.

        Then it has been too long, the file host asks for more, or asking again can't help.

        :param age: seconds since the generation was completed.
        """
        pause = max(self.first_pause, age / 2, error.retry_after or 0.0)
        too_long = error.retry_after is not None and age + pause > self.lasts
        return None if not error.retryable or age >= self.lasts or too_long else pause


@dataclass(frozen=True)
class Downloaded:
    """Describe an image that arrived: the address it came from in the end, its type, its length."""

    url: str
    content_type: str
    bytes: int


def nothing_is_whole(_: BinaryIO) -> bool:
    """Take nothing that broke off."""
    return False


def download(
    url: str,
    into: BinaryIO,
    settings: ClientSettings,
    retrying: Retrying,
    *,
    age: float | None = None,
    whole: Callable[[BinaryIO], bool] = nothing_is_whole,
) -> Flow[Downloaded]:
    """Fetch an image into a seekable binary file, from its present position; again while that can help.

    :param age: seconds since its generation was completed; None: that isn't known.
    :param whole: asked when a response broke off: whether the file holds a whole image all the same, by its
        own bytes. A host that names a wrong length does so each time. By default nothing of it is taken.
    :raises ImageExpiredError: the host says that the image isn't there, and it is older than a day.
    :raises ImageRefusedError: an address on the way isn't taken, or the image is too large.
    :raises DownloadError: it didn't arrive whole, or isn't there (yet).
    """
    url = encode_address(url)
    start = into.tell()
    sends = 0
    while True:
        into.seek(start)
        into.truncate()
        try:
            downloaded, broken = yield from _follow_redirects(url, into, settings, sends, age)
            if broken is not None and not whole(into):
                raise DownloadError(f"The image at {quote_url(url)} did not arrive: {broken}.")
            return downloaded
        except DownloadError as error:
            sends += 1
            pause = retrying.pause_after(error, sends=sends)
            if pause is None:
                raise
        yield Sleep(pause)


def encode_address(url: str) -> str:
    """Return an address with the characters percent-encoded that can't stand in one: blanks, letters of other
    scripts, ``|``, ``"``. White space around it, a line's end among it, is left out.

    What is encoded already stays, to the byte: a signature is of the address as it is. So does the host, and
    what makes an address none at all: control characters, half a surrogate pair.
    """
    url = url.strip()
    begin = _BEGIN.match(url)
    path = url[begin.end() :] if begin else ""
    return url[: -len(path)] + quote(path, safe=_ADDRESS_CHARACTERS) if path.isprintable() and path else url


def _follow_redirects(
    url: str, into: BinaryIO, settings: ClientSettings, sends: int, age: float | None
) -> Flow[tuple[Downloaded, str | None]]:
    """Return what arrived, and what it broke off with, if it did."""
    seconds = settings.image_seconds
    for _ in range(_MAX_REDIRECTS + 1):
        address = yield from _resolve_checked(url, settings, sends)
        reply: FileResponse | NoResponse = yield Fetch(url, into, address, seconds)
        if isinstance(reply, NoResponse):
            raise DownloadError(f"The image at {quote_url(url)} did not arrive: {reply.reason}.")
        if reply.status not in (301, 302, 303, 307, 308):
            return _parse_file_response(url, reply, age), reply.broken
        seconds -= reply.seconds
        try:
            url = encode_address(urljoin(url, reply.headers.get("location", "")))
        except ValueError:
            raise ImageRefusedError(
                f"The image at {quote_url(url)} is behind a redirect to something that is no address."
            ) from None
    raise ImageRefusedError(f"The image at {quote_url(url)} is behind more than {_MAX_REDIRECTS} redirects.")


def _resolve_checked(url: str, settings: ClientSettings, sends: int) -> Flow[str | None]:
    """Return the IP address to fetch from; None behind a proxy, where only the name can be checked.

    Every address that the name leads to is checked. Otherwise a public name that leads inside, or does so at
    a second look-up, could make a worker read its own network.
    """
    allowed = check_image_url(
        url, allowed_hosts=settings.image_hosts, allow_loopback=settings.on_this_machine
    )
    found: tuple[str, ...] | NoResponse | None = yield Resolve(url)
    if isinstance(found, NoResponse):
        raise DownloadError(f"The image at {quote_url(url)} did not arrive: {found.reason}.")
    if found is None:
        return None
    inside = [address for address in found if not is_public(address)]
    if inside and not allowed:
        raise ImageRefusedError(
            f"The image at {quote_url(url)} is not fetched.\n"
            f"Its host is at {inside[0]}, which is no public address.\n"
            "If it is meant, list the host in the connection's image_hosts."
        )
    return found[sends % len(found)]  # another try asks another of them


def _parse_file_response(url: str, reply: FileResponse, age: float | None) -> Downloaded:
    if reply.status in _NOT_THERE and age is not None and age >= EXPIRES_AFTER:
        raise ImageExpiredError(
            f"The image at {quote_url(url)} isn't there any more: HTTP {reply.status}, "
            f"{age / 3600:,.0f} hours after it was completed.\n"
            "Result addresses do not live for ever.\n"
            "Set a destination, so that images are stored when they are made.",
            status=reply.status,
        )
    if reply.status != 200:
        what = "isn't there; it may be late" if reply.status in _NOT_THERE else "did not arrive"
        raise DownloadError(
            f"The image at {quote_url(url)} {what}: HTTP {reply.status}.",
            status=reply.status,
            retry_after=parse_retry_after(reply.headers.get("retry-after"), now=reply.at),
        )
    if not reply.received and reply.broken is None:
        raise DownloadError(f"The image at {quote_url(url)} did not arrive: the file host sent nothing.")
    return Downloaded(url=url, content_type=reply.headers.get("content-type", ""), bytes=reply.received)
