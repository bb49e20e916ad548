"""Define what a flow can ask of a client: send, look up, fetch, sleep.

A flow is a generator. It yields a step, the client carries it out and sends back what came, until the flow
returns its result or raises. A flow gets the time from what comes back, never from a clock, so a test can
drive it through an hour in a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from airflow_gpt_image.api.replies import Call

T = TypeVar("T")


def do_nothing(*_: object) -> None:
    """Be called where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a call to the API. Comes back: a Reply.

    :param before_send: called when the connection stands, right before the first byte of the request; what it
        raises keeps the request back.
    """

    call: Call
    before_send: Callable[[], object] = do_nothing


@dataclass(frozen=True)
class Resolve:
    """Look up the host of an address.

    Comes back: its IP addresses, at least one; None when a proxy will look it up; or NoResponse.
    """

    url: str


@dataclass(frozen=True)
class Fetch:
    """Fetch an image without the API key; its bytes are written to ``into`` when the status is 200.

    Comes back: a FileResponse or NoResponse.

    :param address: the IP address to connect to, whatever the host's name leads to by now; None: through the
        proxy.
    :param seconds: how long it may take, from connecting to the last byte.
    """

    url: str
    into: BinaryIO
    address: str | None
    seconds: float


@dataclass(frozen=True)
class FileResponse:
    """Hold what a file host sent.

    :param received: how many bytes were written.
    :param at: when it was read, in seconds since 1970.
    :param seconds: how long it took.
    :param broken: what it broke off with, after a success's headers; None when it came to its end.
    """

    status: int
    headers: Mapping[str, str]
    received: int
    at: float
    seconds: float = 0.0
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for so many seconds. Comes back: the time, in seconds since 1970."""

    seconds: float


Step = Send | Resolve | Fetch | Sleep
Flow = Generator[Step, Any, T]
