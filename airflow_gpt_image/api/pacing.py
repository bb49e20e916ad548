"""Decide how fast to submit against a limit that isn't documented.

The rate finds the limit as TCP does (RFC 9438, CUBIC):

1. Until the first refusal it doubles every second.
2. A refusal lowers it, once for all the submits that were under way: they were sent at the old rate.
3. From there it climbs, steeply at first, lingers just below where it was refused, and climbs on, faster and
   faster: most of the time it is close under the limit, and a limit that was raised is found in minutes.

What moves it is accepted submits, each worth the time one takes at the rate. A rate nobody uses doesn't grow.
"""

from __future__ import annotations

import math
from typing import Final

# Where it lingers, as a share of the refused rate. That one lies above the limit: a server that counts by the
# second takes some submits too many before it refuses, and the rate has gone on growing meanwhile.
_PLATEAU: Final = 0.95
# How far below the plateau a fall goes. TCP falls deeper, to share a line fairly; here a dip only costs time.
_DEPTH: Final = 0.1
# Seconds from a fall to the plateau, and about as many from there to the next refusal: even at two submits a
# second fewer than one in a hundred is refused.
_CLIMB: Final = 45.0
# Seconds after a fall in which submits sent before it excuse a refusal. More than a refusal takes; not many,
# for a submit the pacer never hears of again counts as under way.
_LONGEST_ANSWER: Final = 5.0
# Seconds held when the server names none: doubled by each fall, by the first too, until a submit is accepted.
_SHORTEST_HOLD: Final = 0.5
_LONGEST_HOLD: Final = 60.0
# Places that use is averaged over: with fewer, senders that come at random look busy too often.
_MEMORY: Final = 32


class Pacer:
    """Say when the next submit may go, for all senders of one event loop together. It has no lock.

    Every ``now`` is in monotonic seconds.

    :param first_rate: submits per second to begin with.
    :param least: submits per second, above 0; no number of refusals lowers the rate further.
    :param most: submits per second; no number of acceptances raises the rate further.
    :raises ValueError: unless ``least <= first_rate <= most``; any method, when a time is no finite number.
    """

    def __init__(self, *, first_rate: float = 10.0, least: float = 0.1, most: float = 200.0) -> None:
        if not 0 < least <= first_rate <= most < math.inf:
            raise ValueError(
                f"least={least!r}, first_rate={first_rate!r}, most={most!r}: must be submits per second, "
                "above 0, finite, and in this order."
            )
        self._least, self._most, self._rate = least, most, first_rate
        self._plateau: float | None = None  # submits per second; None until the first refusal
        self._climbed = 0.0  # seconds' worth of submits accepted since the fall
        self._last_place = self._held_until = self._bygone_until = -math.inf
        self._hold = _SHORTEST_HOLD
        self._use = 0.5  # share of the latest places that somebody was waiting for; undecided at first
        self._under_way = 0  # sent since the fall, not answered
        self._bygone = 0  # sent before the fall, not answered

    @property
    def rate(self) -> float:
        """Return the submits per second that are aimed at now."""
        return self._rate

    def pause(self, now: float) -> float:
        """Return 0.0 and take the next place when a submit may go now, else the seconds until to ask again.

        An unused place is not kept: after a hold or a pause one submit goes at once, the next an interval
        later. Kept places would go as a burst, and a burst is refused however low the rate.
        """
        interval = 1 / self._rate
        late = _finite("now", now) - max(self._last_place + interval, self._held_until)
        if late < 0:
            return -late
        self._last_place = now
        self._use += ((late <= interval) - self._use) / _MEMORY
        self._under_way += 1
        return 0.0

    def held(self, now: float) -> float:
        """Return the seconds from ``now`` that all senders wait, also one that has its place; 0.0: none."""
        return max(self._held_until - _finite("now", now), 0.0)

    def accepted(self, now: float) -> None:
        """Record that a submit was accepted. The rate grows if at least half of it is used.

        A submit refused for another reason than the rate has passed the limit, too, and is best reported
        here.
        """
        if not self._is_news(_finite("now", now)):
            return
        self._hold = _SHORTEST_HOLD
        if self._use < 0.5:
            return
        if self._plateau is None:
            # A submit is worth 1/rate seconds; where that is more than one, it still no more than doubles.
            rate = self._rate * 2 ** min(1 / self._rate, 1.0)
        else:
            self._climbed += 1 / self._rate
            rate = self._plateau * (1 + _DEPTH * (self._climbed / _CLIMB - 1) ** 3)
        self._rate = min(max(rate, self._least), self._most)

    def refused(self, now: float, retry_after: float | None) -> None:
        """Record that a submit met the rate limit. All senders wait, and the rate falls unless it just has.

        :param retry_after: seconds, however many; one that ends before the hold there is doesn't shorten it.
            None when the server named none.
        """
        if retry_after is not None and _finite("retry_after", retry_after) < 0:
            raise ValueError(f"retry_after={retry_after!r}: must be seconds, 0 or more, or None.")
        if self._is_news(_finite("now", now)):
            self._plateau = self._rate * _PLATEAU
            self._rate = max(self._plateau * (1 - _DEPTH), self._least)
            self._climbed = 0.0
            self._hold = min(self._hold * 2, _LONGEST_HOLD)
            self._bygone, self._under_way = self._under_way, 0
            self._bygone_until = now + _LONGEST_ANSWER
        self._held_until = max(self._held_until, now + (self._hold if retry_after is None else retry_after))

    def _is_news(self, now: float) -> bool:
        """Count a response, and return whether it is about the rate since the fall and not the one before.

        Responses name no submit; they are taken to come in the order of sending.
        """
        if self._bygone and now < self._bygone_until:
            self._bygone -= 1
            return False
        self._under_way = max(self._under_way - 1, 0)
        return now >= self._held_until


def _finite(name: str, seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError(f"{name}={seconds!r}: must be a finite number of seconds.")
    return seconds
