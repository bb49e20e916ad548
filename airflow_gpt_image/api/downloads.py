"""Fetch an image, as a flow: which address is asked, which redirects are followed, when it is tried again.

An image's address comes from the API and is not trusted: it may lead into a worker's own network. So the name
is checked, then every IP address that it leads to, and the connection goes to an address that was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import urljoin

from airflow_gpt_image.api.addresses import check_image_url
from airflow_gpt_image.api.hosts import is_public
from airflow_gpt_image.api.protocol import NoResponse
from airflow_gpt_image.api.retrying import Retrying, parse_retry_after
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.steps import Fetch, FileResponse, Flow, Resolve, Sleep
from airflow_gpt_image.api.text import quote_url
from airflow_gpt_image.errors import DownloadError, ImageExpiredError, ImageRefusedError

_MAX_REDIRECTS: Final = 5


@dataclass(frozen=True)
class Downloaded:
    """Describe an image that arrived: the address it came from in the end, its type, its length."""

    url: str
    content_type: str
    bytes: int


def download(url: str, into: BinaryIO, settings: ClientSettings, retrying: Retrying) -> Flow[Downloaded]:
    """Fetch an image into a seekable binary file, from its present position; again while that can help.

    :raises ImageExpiredError: the host says that the image isn't there.
    :raises ImageRefusedError: an address on the way isn't taken, or the image is too large.
    :raises DownloadError: it didn't arrive whole.
    """
    start = into.tell()
    sends = 0
    while True:
        into.seek(start)
        into.truncate()
        try:
            return (yield from _follow_redirects(url, into, settings, sends))
        except DownloadError as error:
            sends += 1
            pause = retrying.pause_after(error, sends=sends)
            if pause is None:
                raise
        yield Sleep(pause)


def _follow_redirects(url: str, into: BinaryIO, settings: ClientSettings, sends: int) -> Flow[Downloaded]:
    seconds = settings.image_seconds
    for _ in range(_MAX_REDIRECTS + 1):
        address = yield from _resolve_checked(url, settings, sends)
        reply: FileResponse | NoResponse = yield Fetch(url, into, address, seconds)
        if isinstance(reply, NoResponse):
            raise DownloadError(f"The image at {quote_url(url)} did not arrive: {reply.reason}.")
        if reply.status not in (301, 302, 303, 307, 308):
            return _parse_file_response(url, reply)
        seconds -= reply.seconds
        try:
            url = urljoin(url, reply.headers.get("location", ""))
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
            f"The image at {quote_url(url)} is not fetched: its host is at {inside[0]}, which is no public "
            "address. If it is meant, list the host in the connection's image_hosts."
        )
    return found[sends % len(found)]  # another try asks another of them


def _parse_file_response(url: str, reply: FileResponse) -> Downloaded:
    if reply.status in (401, 403, 404, 410):
        # File hosts of signed addresses say 403 for one whose time is over.
        raise ImageExpiredError(
            f"The image at {quote_url(url)} isn't there (any more): HTTP {reply.status}. Result addresses do "
            "not live for ever; set a destination so that images are stored when they are made.",
            status=reply.status,
        )
    if reply.status != 200:
        raise DownloadError(
            f"The image at {quote_url(url)} did not arrive: HTTP {reply.status}.",
            status=reply.status,
            retry_after=parse_retry_after(reply.headers.get("retry-after"), now=reply.at),
        )
    return Downloaded(url=url, content_type=reply.headers.get("content-type", ""), bytes=reply.received)
