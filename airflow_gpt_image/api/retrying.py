"""Decide whether to send a call again, and when. Nothing here sleeps: the clients do.

Retry-After is honoured up to a cap, because the caller holds a worker slot meanwhile; beyond the cap the
error is raised with ``retry_after`` set, and Airflow's own retry does the waiting.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from airflow_gpt_image.errors import GptImageError, UpstreamError

# A Retry-After beyond a week is junk, and would overflow a timedelta further on.
_LONGEST_RETRY_AFTER: Final = 7 * 24 * 3600.0
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds to wait of a Retry-After header: a number, or an HTTP date; junk means None.

    :param now: the time of the response, in seconds since 1970; a date is relative to it.
    """
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _LONGEST_RETRY_AFTER)
    moment = parse_http_date(value)
    return None if moment is None else min(max(0.0, moment - now), _LONGEST_RETRY_AFTER)


# Responses that come within a second have the same date.
@lru_cache(maxsize=4)
def parse_http_date(value: str | None) -> float | None:
    """Return the seconds since 1970 of a header that is an HTTP date; junk means None."""
    try:
        date = parsedate_to_datetime(value or "")
        # HTTP dates are UTC; in the old form that doesn't say so, too.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True)
class Retrying:
    """Hold how often one call is sent, and how long apart.

    :param most_sends: how often a call is sent at most, the first time included.
    :param most_upstream_sends: the same for an upstream error, which may well be the prompt's fault.
    :param first_pause: seconds; doubled from send to send.
    :param longest_pause: seconds.
    :param retry_after_cap: seconds of Retry-After that are waited for in place.
    :param jitter: a number in [0, 1) each time it is called.
    """

    most_sends: int = 4
    most_upstream_sends: int = 2
    first_pause: float = 0.5
    longest_pause: float = 8.0
    retry_after_cap: float = 20.0
    jitter: Callable[[], float] = random.random

    def backoff(self, failures: int) -> float:
        """Return the seconds to pause after the n-th failure in a row: exponential, the upper half random."""
        # ldexp overflows long after any pause has reached its cap.
        whole = min(math.ldexp(self.first_pause, min(failures - 1, 60)), self.longest_pause)
        return whole * (0.5 + self.jitter() / 2)

    def pause_after(self, error: GptImageError, *, sends: int) -> float | None:
        """Return the seconds to wait before sending the same call again; None: don't send it."""
        few = isinstance(error, UpstreamError) and sends >= self.most_upstream_sends
        if not error.retryable or few or sends >= self.most_sends:
            return None
        if error.retry_after is None:
            return self.backoff(sends)
        if error.retry_after > self.retry_after_cap:
            return None
        # At least what was asked for; the jitter keeps a thousand tasks from coming back in the same instant.
        return error.retry_after + self.jitter() * self.first_pause
