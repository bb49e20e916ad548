"""What happens to images, as values. Whoever sees something happen tells it once; listeners make of it what
they want: lines of the log, metrics.

An event holds no key, no prompt and no address. It is told after what it says is on record, so a worker that
dies in between leaves it untold: events may be too few by what one worker had in hand, and never count
anything twice. Money is what the records say, not what was told here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from airflow_gpt_image.log import span


@dataclass(frozen=True, slots=True)
class Submitted:
    """
    The API accepted a submit, which is paid for.

    :param size: aspect ratio or pixels, as they were asked for.
    """

    generation_id: str
    size: str
    resolution: str
    credits: Decimal
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Refused:
    """
    A submit was not accepted, or not sent: nothing is paid.

    :param code: the API's, or the class of an error that has none which it documents.
    """

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether a submit was accepted; it counts as paid for."""

    resolution: str
    credits: Decimal


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The API refused calls for their rate, which are sent again later."""

    call: Literal["submit", "poll"]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """
    A generation failed.

    :param code: as of :class:`Refused`.
    :param credits: what came back; 0 where somebody else had paid.
    """

    code: str
    credits: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Stored:
    """
    The images of one generation are where they belong.

    :param seconds: from the submit to here; None: somebody else submitted it.
    """

    images: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Reused:
    """A task's result has images that its task instance did not pay for since its last clear."""

    images: int


@dataclass(frozen=True, slots=True)
class Polled:
    """
    Generations were polled.

    :param polls: since this was told last.
    :param in_flight: how many generations are waited for now.
    :param lags: for each one that was found finished, seconds from its end to the poll, by the API's clock.
    """

    polls: int
    in_flight: int
    lags: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Progressed:
    """
    A batch is so far.

    :param done: how many nothing more is done for; ``failed`` of them have no image.
    :param rate: how many are done in a second.
    :param usd: dollars spent since the last clear, as text.
    """

    done: int
    total: int
    failed: int
    in_flight: int
    rate: float
    usd: str

    def __str__(self) -> str:
        """Return it for people, with the time that is left."""
        left = (
            f"about {span((self.total - self.done) / self.rate)} left"
            if self.rate > 0
            else "time left unknown"
        )
        counts = (
            f"{self.done:,} of {self.total:,} done ({self.failed:,} failed), {self.in_flight:,} in flight"
        )
        return f"{counts}, {self.rate:.1f}/s, ${self.usd}, {left}."


Event = Submitted | Refused | Unknown | RateLimited | Failed | Stored | Reused | Polled | Progressed

Tell = Callable[[Event], object]
"""Takes an event; it never raises."""


def ignore(event: Event) -> None:
    """Tell nobody."""
