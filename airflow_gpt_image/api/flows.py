"""What to do, step by step, as generators: they yield a step, the client carries it out and sends back what
came.

Every decision is here, once; the two clients only act. A flow gets the time from the replies, never from a
clock, so a test can drive it through an hour in a millisecond.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.models import Generation, ImageRequest, check_url
from airflow_gpt_image.api.protocol import Call, NoAnswer, Reply
from airflow_gpt_image.api.quoting import shown
from airflow_gpt_image.api.retrying import Retrying, parse_retry_after
from airflow_gpt_image.api.settings import ClientSettings, is_loopback
from airflow_gpt_image.errors import (
    DownloadError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    ImageExpiredError,
    ImageRefusedError,
    InvalidRequestError,
    UnreadableAnswerError,
)

T = TypeVar("T")

# A generation just submitted may not be readable everywhere at once; for so long "unknown id" is "not yet".
NOT_FOUND_GRACE: Final = 15.0

_MOST_REDIRECTS: Final = 5


@dataclass(frozen=True)
class Send:
    """Send a call to the API. Comes back: a Reply."""

    call: Call


@dataclass(frozen=True)
class Resolve:
    """Look up the host of an address.

    Comes back: its IP addresses, at least one; None when a proxy will look it up; or NoAnswer.
    """

    url: str


@dataclass(frozen=True)
class Fetch:
    """Get an image's bytes, without the API key; they are written to ``into`` when the status is 200.

    Comes back: a FileAnswer or NoAnswer.

    :param address: the IP address to connect to, whatever the host's name leads to by now; None: through the
        proxy.
    """

    url: str
    into: BinaryIO
    address: str | None


@dataclass(frozen=True)
class FileAnswer:
    """What the file host answered; ``received`` counts the bytes written, ``at`` is in seconds since 1970."""

    status: int
    headers: Mapping[str, str]
    received: int
    at: float


@dataclass(frozen=True)
class Sleep:
    """Do nothing for so many seconds. Comes back: the time, in seconds since 1970."""

    seconds: float


Step = Send | Resolve | Fetch | Sleep
Flow = Generator[Step, Any, T]


def submit(
    request: ImageRequest, retrying: Retrying, *, before_send: Callable[[], object] = lambda: None
) -> Flow[str]:
    """Submit, again only after an answer that says "not accepted" or when nothing left; the generation id.

    :param before_send: called right before each send; what it raises ends the flow with nothing sent.
    """
    return (yield from _sent(protocol.submission(request), protocol.read_submission, retrying, before_send))


def get(generation_id: str, retrying: Retrying, *, grace: float = 0.0) -> Flow[Generation]:
    """Read a generation once, again while that can help.

    :param grace: seconds that an unknown id may stay unknown, for one that was just submitted.
    """
    call = protocol.reading(generation_id)
    failures, waited = 0, 0.0
    while True:
        try:
            return (
                yield from _sent(call, lambda reply: protocol.read_generation(reply, generation_id), retrying)
            )
        except GenerationNotFoundError:
            if waited >= grace:
                raise
        failures += 1
        pause = retrying.backoff(failures)
        yield Sleep(pause)
        waited += pause


def balance(retrying: Retrying) -> Flow[Decimal]:
    """Read the account's credits."""
    return (yield from _sent(protocol.BALANCE, protocol.read_balance, retrying))


def _sent(
    call: Call,
    read: Callable[[Reply], T],
    retrying: Retrying,
    before_send: Callable[[], object] = lambda: None,
) -> Flow[T]:
    sends = 0
    while True:
        before_send()
        reply = yield Send(call)
        sends += 1
        try:
            return read(reply)
        except GptImageError as error:
            pause = retrying.pause_after(error, sends=sends)
            if pause is None:
                raise
        yield Sleep(pause)


def unheard() -> None:
    """What is called after a look when nobody wants to know."""


def wait(
    generation_id: str,
    *,
    poll_interval: float,
    deadline: float,
    retrying: Retrying,
    on_look: Callable[[], None] = unheard,
) -> Flow[Generation]:
    """Look until the generation is finished; a look that fails for a passing reason doesn't end the wait.

    :param poll_interval: seconds from one look to the next.
    :param deadline: seconds since 1970; the last look is at the deadline.
    :param on_look: called after each look, whatever came of it.
    :raises GenerationTimeoutError: at the deadline; the generation goes on and can be waited for again.
    :raises GptImageError: at once, when looking again can't help.
    """
    call = protocol.reading(generation_id)
    _check_interval(poll_interval)
    failures = 0
    now = started = yield Sleep(0)
    while True:
        reply = yield Send(call)
        now = reply.at
        on_look()
        try:
            generation = protocol.read_generation(reply, generation_id)
        except GptImageError as error:
            too_early = isinstance(error, GenerationNotFoundError) and now - started < NOT_FOUND_GRACE
            if not error.retryable and not too_early:
                raise
            failures += 1
            seen = f"the last look failed ({error.message})"
            # The server's wish is kept here whatever its length: nobody is held up but this wait itself.
            pause = max(retrying.backoff(failures), error.retry_after or 0.0)
        else:
            if generation.finished:
                return generation
            failures = 0
            seen = f"its status is {generation.status!r}"
            pause = poll_interval
        if now >= deadline:
            raise GenerationTimeoutError(
                f"Generation {generation_id} was not finished by {_utc(deadline)}: {seen}. It is paid for "
                "and goes on; waiting for the same id again costs nothing.",
                generation_id=generation_id,
            )
        yield Sleep(min(pause, deadline - now))


def generate(
    request: ImageRequest, *, poll_interval: float, timeout: float, retrying: Retrying
) -> Flow[Generation]:
    """Submit, wait at most ``timeout`` seconds, and return the generation, completed and with images."""
    _check_interval(poll_interval)
    generation_id = yield from submit(request, retrying)
    now = yield Sleep(0)
    generation = yield from wait(
        generation_id, poll_interval=poll_interval, deadline=now + timeout, retrying=retrying
    )
    return succeeded(generation)


def _check_interval(seconds: float) -> None:
    # Before anything is paid for; zero would ask as fast as the machine can.
    if not 0 < seconds < math.inf:
        raise InvalidRequestError(
            f"poll_interval={seconds!r} must be a number of seconds above 0; for example 5."
        )


def succeeded(generation: Generation) -> Generation:
    """The same generation when it is completed and has images.

    :raises GenerationFailedError: when it failed; it was refunded.
    :raises UnreadableAnswerError: when it is completed without an image; reading it again may show one.
    """
    if generation.status == "failed":
        failure = generation.error
        message = protocol.one_line(failure.message) or "The API gave no reason."
        code = protocol.one_line(failure.code)
        raise GenerationFailedError(
            f"Generation {generation.id} failed: {message} ({code or 'without a code'}). It was refunded.",
            code=code,
            type=protocol.one_line(failure.type),
            generation_id=generation.id,
        )
    if not generation.urls:
        raise UnreadableAnswerError(
            f"Generation {generation.id} is {generation.status!r} but names no image.",
            generation_id=generation.id,
        )
    return generation


@dataclass(frozen=True)
class Downloaded:
    """An image that arrived: the address it finally came from, what the host called it, how many bytes."""

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
            return (yield from _followed(url, into, settings, sends))
        except DownloadError as error:
            sends += 1
            pause = retrying.pause_after(error, sends=sends)
            if pause is None:
                raise
        yield Sleep(pause)


def _followed(url: str, into: BinaryIO, settings: ClientSettings, sends: int) -> Flow[Downloaded]:
    for _ in range(_MOST_REDIRECTS + 1):
        address = yield from _checked_address(url, settings, sends)
        reply: FileAnswer | NoAnswer = yield Fetch(url, into, address)
        if isinstance(reply, NoAnswer):
            raise DownloadError(f"The image at {bare(url)} did not arrive: {reply.reason}.")
        if reply.status not in (301, 302, 303, 307, 308):
            return _arrived(url, reply)
        try:
            url = urljoin(url, reply.headers.get("location", ""))
        except ValueError:
            raise ImageRefusedError(
                f"The image at {bare(url)} is behind a redirect to something that is no address."
            ) from None
    raise ImageRefusedError(f"The image at {bare(url)} is behind more than {_MOST_REDIRECTS} redirects.")


def _checked_address(url: str, settings: ClientSettings, sends: int) -> Flow[str | None]:
    """
    The IP address to fetch from, after the rules have been asked of the name and of all it leads to.

    Otherwise a public name that leads inside, or does so at the second look-up, could make a worker read its
    own network. Behind a proxy the name is all that can be checked.
    """
    allowed = check_image_url(url, settings)
    found: tuple[str, ...] | NoAnswer | None = yield Resolve(url)
    if isinstance(found, NoAnswer):
        raise DownloadError(f"The image at {bare(url)} did not arrive: {found.reason}.")
    if found is None:
        return None
    inside = [address for address in found if not is_public(address)]
    if inside and not allowed:
        raise ImageRefusedError(
            f"The image at {bare(url)} is not fetched: its host is at {inside[0]}, which is no public "
            "address. If it is meant, list the host in the connection's image_hosts."
        )
    return found[sends % len(found)]  # another try asks another of them


def _arrived(url: str, reply: FileAnswer) -> Downloaded:
    if reply.status in (401, 403, 404, 410):
        # File hosts of signed addresses say 403 for one whose time is over.
        raise ImageExpiredError(
            f"The image at {bare(url)} isn't there (any more): HTTP {reply.status}. Result addresses do not "
            "live for ever; set a destination so that images are stored when they are made.",
            status=reply.status,
        )
    if reply.status != 200:
        raise DownloadError(
            f"The image at {bare(url)} did not arrive: HTTP {reply.status}.",
            status=reply.status,
            retry_after=parse_retry_after(reply.headers.get("retry-after"), now=reply.at),
        )
    return Downloaded(url=url, content_type=reply.headers.get("content-type", ""), bytes=reply.received)


def check_image_url(url: str, settings: ClientSettings) -> bool:
    """Whether an image may be fetched from there, by the address alone; no name is resolved.

    Only https and no host that is local or numeric, except for hosts that the connection lists, and for this
    machine when the API itself is on it.

    :return: whether it is such an exception, which may be anywhere.
    :raises ImageRefusedError: when it may not.
    """
    try:
        check_url(url, bare)
        parts = urlsplit(url)
        # As a resolver will see it: full-width digits and dots become plain ones.
        host = unicodedata.normalize("NFKC", parts.hostname or "").lower().rstrip(".")
    except ValueError as error:
        raise ImageRefusedError(f"An image's address is not taken: {error}") from None
    if host in settings.image_hosts or (settings.on_this_machine and is_loopback(host)):
        return True
    if parts.scheme.lower() != "https" or not _public(host):
        raise ImageRefusedError(
            f"The image at {bare(url)} is not fetched: images come over https from public hosts. "
            f"If {host!r} is meant, list it in the connection's image_hosts."
        )
    return False


def _public(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        # Resolvers also take 127.1, 2130706433 and 0x7f.1 for addresses; no public name ends so.
        last = host.rpartition(".")[2]
        return not (last[:1].isdigit() or last == "localhost")
    return is_public(host)


# Forms of IPv6 that carry an IPv4 address, and lead where that leads.
_NAT64: Final = ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where it wraps another one."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def bare(url: str) -> str:
    """An address for a message: without its query, which may hold a signature."""
    return shown(url.partition("?")[0], 200)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
