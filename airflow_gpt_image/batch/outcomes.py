"""What follows from a failure: a pure table; and when failures are so many that they aren't the items' fault.

==============================  ==============  ==============================================================
the error                       during          what becomes of the item
==============================  ==============  ==============================================================
StoppedError                    any             not_submitted
any other LedgerError           any             raise: this worker is out of date
scope account                   submit          not_submitted, and the batch stops
scope account                   wait, store     unsettled, and the batch stops
SubmissionUnknownError          submit          again, if the author wants that; else unknown
DestinationError                submit          again; in the end not_submitted, and the batch stops
DestinationError                store           again; in the end unsettled, and the batch stops
ConnectionFailedError           submit          again: it was never sent; in the end failed
any other                       submit          failed: not accepted, as far as a 500 or 503 tells
GenerationFailedError           wait            again, if that can help; in the end failed: it was refunded
late, or not known any more     wait            unsettled
any other                       wait, store     again, if that can help; in the end unsettled
==============================  ==============  ==============================================================
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from airflow_gpt_image.batch.phases import Phase
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DestinationError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    LedgerError,
    StoppedError,
    SubmissionUnknownError,
    UpstreamError,
)

During = Literal["submit", "wait", "store"]
Then = Literal["again", "failed", "unknown", "unsettled", "not_submitted", "raise"]

# Polling once more in this attempt changes nothing about them.
_LATE: Final = (GenerationTimeoutError, GenerationNotFoundError)


class Outcome(NamedTuple):
    """What becomes of an item, and whether the batch submits nothing more."""

    then: Then
    stops: bool = False

    @property
    def phase(self) -> Phase:
        """Return the phase that it leaves the item in."""
        if self.then == "again" or self.then == "raise":  # so that mypy sees what is left
            return "working"
        return self.then


def outcome_of(error: GptImageError, during: During, *, tries_left: bool, resubmit: bool) -> Outcome:
    """
    Return what follows from a failure: the table above.

    :param tries_left: whether the item may be tried again in this attempt.
    :param resubmit: whether to pay again where an earlier submit may have been accepted.
    """
    if isinstance(error, StoppedError):
        return Outcome("not_submitted")
    if isinstance(error, LedgerError):
        return Outcome("raise")
    if isinstance(error, GenerationFailedError):
        return Outcome("again" if tries_left and error.retryable else "failed")
    given_up: Then = "not_submitted" if during == "submit" else "unsettled"
    if error.scope == "account":
        return Outcome(given_up, stops=True)
    if isinstance(error, SubmissionUnknownError):
        return Outcome("again" if tries_left and resubmit else "unknown")
    if isinstance(error, DestinationError):
        return Outcome("again") if tries_left else Outcome(given_up, stops=True)
    if during == "submit":
        return Outcome("again" if tries_left and isinstance(error, ConnectionFailedError) else "failed")
    return Outcome(
        "again" if tries_left and error.retryable and not isinstance(error, _LATE) else "unsettled"
    )


class CircuitBreaker:
    """
    Count failures of submits without one that was accepted in between, and say when they are too many.

    Every method that counts returns whether the batch has to stop. An upstream error may be a prompt's fault,
    so more of them are needed; a lost response may have been paid for, so fewer.

    :param longest_refusal: seconds in which the rate limit may refuse everything.
    :param longest_hold: seconds that all senders may be held.
    """

    MOST_ITEMS: Final = 12
    MOST_SENDS: Final = 8
    MOST_UNKNOWN: Final = 5

    def __init__(self, *, longest_refusal: float, longest_hold: float) -> None:
        self._longest_refusal = longest_refusal
        self._longest_hold = longest_hold
        self._items: set[int] = set()
        self._sends = 0
        self._unknown = 0
        self._refused_since: float | None = None

    def accepted(self) -> None:
        """Count a submit that was accepted: all is well again."""
        self._items.clear()
        self._sends = self._unknown = 0
        self._refused_since = None

    def failed(self, index: int, error: GptImageError) -> bool:
        """Count an item's submit that was not accepted."""
        if not error.retryable:
            return False
        self._items.add(index)
        self._sends += not isinstance(error, UpstreamError)
        return len(self._items) >= self.MOST_ITEMS or self._sends >= self.MOST_SENDS

    def lost(self) -> bool:
        """Count a submit whose response was lost."""
        self._unknown += 1
        return self._unknown >= self.MOST_UNKNOWN

    def refused(self, now: float, held: float) -> bool:
        """Count a submit that the rate limit refused; both arguments are seconds, monotonic."""
        self._refused_since = now if self._refused_since is None else self._refused_since
        return held > self._longest_hold or now - self._refused_since > self._longest_refusal
