"""Say when polls may go, by what the API answered to any of them.

What one response means for its own generation is decided by its flow; what it means for all waits over the
connection, here.
"""

from __future__ import annotations

import math
from typing import Final

from airflow_gpt_image.api.replies import NoResponse, Reply
from airflow_gpt_image.api.retrying import Retrying, parse_retry_after

# Seconds that one answer holds the polls of all, at most: one junk header is no reason to wait for a week.
_LONGEST_HOLD: Final = 600.0

# Seconds in which every wait has its turn while the API is down, and between two polls, at most.
_ROUND_WHILE_DOWN: Final = 30.0
_APART_WHILE_DOWN: Final = 1.0
_FIRST_APART: Final = 0.005


class PollLimits:
    """Judge every response to a poll over one connection.

    Every ``now`` is in seconds of the event loop's clock.

    :param retrying: how long a refusal that names no time holds the polls.
    :param workers: polls under way at the same time: so many failures may have one reason.
    """

    def __init__(self, retrying: Retrying, workers: int) -> None:
        self._retrying, self._workers = retrying, workers
        self._held_until = 0.0
        self._refusals = self._failures = 0
        self._polls = self._refused_polls = 0

    def judge(self, reply: Reply, now: float) -> None:
        """Take from what came of a poll what concerns all waits."""
        self._polls += 1
        self._failures = self._failures + 1 if is_failure(reply) else 0
        if isinstance(reply, NoResponse):
            return
        asked = parse_retry_after(reply.headers.get("retry-after"), now=reply.at)
        if reply.status == 429:
            self._refusals += 1
            self._refused_polls += 1
            seconds = self._retrying.backoff(self._refusals) if asked is None else asked
        elif reply.status == 503 and asked is not None:
            seconds = asked
        else:
            self._refusals = 0
            return
        self._held_until = max(self._held_until, now + min(seconds, _LONGEST_HOLD))

    def held(self, now: float) -> float:
        """Return the seconds that nothing is polled; 0: it may be."""
        return max(0.0, self._held_until - now)

    @property
    def answers(self) -> bool:
        """Return whether the API answered the last poll, and not with a 5xx."""
        return self._failures == 0

    @property
    def is_down(self) -> bool:
        """Return whether more polls failed, one after the other, than one reason explains."""
        return self._failures > self._workers

    def apart(self, waits: int) -> float:
        """Return the seconds between two polls of so many waits, at least: while the API is down, more and
        more, until each is polled twice a minute.
        """
        if not self.is_down:
            return 0.0
        rounds = min(self._failures // self._workers, 30)
        return min(math.ldexp(_FIRST_APART, rounds), _APART_WHILE_DOWN, _ROUND_WHILE_DOWN / max(waits, 1))

    def take_counts(self) -> tuple[int, int]:
        """Return the polls since this was called last, and those of them that were refused for the rate."""
        counts = self._polls, self._refused_polls
        self._polls = self._refused_polls = 0
        return counts


def is_failure(reply: Reply) -> bool:
    """Return whether the API didn't answer, or answered that it can't."""
    return isinstance(reply, NoResponse) or reply.status >= 500
