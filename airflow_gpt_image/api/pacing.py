"""Decide how fast to submit, and how much may be in flight, against limits that aren't documented.

One account's limits may be a rate, a number for each window of time, or a bound on what is in flight, and
other workers may use them up at the same time. All that a worker hears of is which of its submits are
accepted. So it feels its way, as TCP does (additive increase, multiplicative decrease):

1. The rate doubles every half a second until the first refusal.
2. A refusal lowers it, once for all the submits that were under way: they were sent at the old rate.
3. From there it grows by ``rate ** 0.65`` in equal times, and faster the longer nothing is refused.
4. Where all refusals come at nearly the same rate, nobody else is at work: growth and falls become smaller.
5. After a time in which everything was refused, the rate falls further: it had used up a window of time.
6. A refusal at the lowest rate is no matter of the rate. It is taken for a bound on what is in flight: as
   many as there are; one more is tried now and then, and at once when a generation of ours has finished.

Why workers end at equal rates: a growth that is less than proportional to the rate favours the slower ones,
and of refusals that come at random each worker gets a share that is proportional to its rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

LEAST_RATE: Final = 0.2
"""Submits per second: as often as one generation is polled. No number of refusals has fewer tried."""

# Seconds in which the rate doubles until the first refusal, and what that takes.
_DOUBLING: Final = 0.5
_FIRST_FALL: Final = 0.4
# What a fall takes, and what a second adds to a rate of one a second. The larger both are, the sooner workers
# are level; the smaller, the less often one that is alone is refused.
_FALL: Final = 0.1
_GROWTH: Final = 0.02
# Between 0, a growth that is the same for all rates, and 1, a proportional one that evens nothing out. A
# smaller one has slow workers refused more often.
_EXPONENT: Final = 0.65
# Seconds without a refusal in which the growth doubles, so that a limit that was raised is found.
_QUIET: Final = 10.0
# The growth is divided by the caution, the fall by its square root.
_MORE_CAUTION: Final = 1.2
_LESS_CAUTION: Final = 1.5
_MOST_CAUTION: Final = 16.0
# Seconds, and intervals at the rate, for which a refusal may shut a worker out before it counts as rule 5 has
# it; and how much of the share of time that it was shut out the rate falls then.
_SHORT_SHUT: Final = 2.0
_SHORT_SHUT_INTERVALS: Final = 4.0
_SHUT_FALL: Final = 0.5
# One accepted submit is worth the time that it takes at the rate, no more than so many seconds.
_MOST_WORTH: Final = 20.0
# Seconds until another submit is tried beyond the bound on what is in flight.
_PROBE: Final = 10.0
# Seconds after a fall in which submits sent before it excuse a refusal. More than a refusal takes; not many,
# for a submit the pacer never hears of again counts as under way.
_LONGEST_ANSWER: Final = 5.0
# Seconds held when the server names none, and what they are multiplied with by each further refusal until a
# submit is accepted.
_SHORTEST_HOLD: Final = 1.0
_LONGEST_HOLD: Final = 6.0
_LONGER_HOLD: Final = 1.4
# Shares by which a pause may be longer than it has to be, drawn each time, so that workers come at random and
# not always one right behind the other; and seconds that a hold is longer at most.
_LATE_PLACE: Final = 0.05
_LATE_HOLD: Final = 0.1
_LATEST_HOLD: Final = 5.0
# Places that use is averaged over: with fewer, senders that come at random look busy too often.
_MEMORY: Final = 32


class Pacer:
    """Say when the next submit may go, for all senders of a worker together. It has no lock.

    Every ``now`` is in monotonic seconds.

    :param first_rate: submits per second to begin with.
    :param least: submits per second, above 0; no number of refusals lowers the rate further.
    :param most: submits per second; no number of acceptances raises the rate further.
    :param dice: a number in [0, 1) each time it is called.
    :raises ValueError: unless ``least <= first_rate <= most``; any method, when a time is no finite number.
    """

    def __init__(
        self,
        *,
        first_rate: float = 2.0,
        least: float = LEAST_RATE,
        most: float = 200.0,
        dice: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < least <= first_rate <= most < math.inf:
            raise ValueError(
                f"least={least!r}, first_rate={first_rate!r}, most={most!r}: must be submits per second, "
                "above 0, finite, and in this order."
            )
        self._least, self._most, self._rate, self._dice = least, most, first_rate, dice
        self._last_place = self._held_until = self._told_until = self._bygone_until = -math.inf
        self._late = 0.0  # share of an interval that the next place is later
        self._hold = _SHORTEST_HOLD
        self._use = 0.5  # share of the latest places that somebody was waiting for; undecided at first
        self._under_way = 0  # sent since the fall, not answered
        self._bygone = 0  # sent before the fall, not answered
        self._refused_rate: float | None = None  # None until the first refusal
        self._fallen = False  # nothing was accepted since the fall
        self._caution = 1.0
        self._quiet = 0.0  # seconds' worth of submits accepted since the fall
        self._opened_at: float | None = None  # when the first submit went, or was accepted after a fall
        self._shut_at: float | None = None  # when the fall was, until a submit is accepted
        self._shut_for = 0.0  # seconds that falls shut this worker out lately, beyond the short ones
        self._in_flight = 0
        self._bound: int | None = None  # on what is in flight; None: none is known
        self._probe_at = -math.inf

    @property
    def rate(self) -> float:
        """Return the submits per second that are aimed at now."""
        return self._rate

    @property
    def bound(self) -> int | None:
        """Return how many may be in flight as far as refusals tell; None when they are a matter of rate."""
        return self._bound

    def pause(self, now: float) -> float:
        """Return 0.0 and take the next place when a submit may go now, else the seconds until to ask again.

        Ask again earlier when a generation finishes. An unused place is not kept: after a hold or a pause one
        submit goes at once, the next an interval later. Kept places would go as a burst, and a burst is
        refused however low the rate.
        """
        _finite("now", now)
        interval = 1 / self._rate
        ready = self._held_until
        replaces = self._bound is not None and self._sent < self._bound
        if not replaces:
            ready = max(ready, self._last_place + interval * (1 + self._late), self._probe_at)
        if now < ready:
            return ready - now
        if not replaces:
            self._use += ((now - ready <= interval) - self._use) / _MEMORY
            self._last_place, self._late = now, _LATE_PLACE * self._dice()
        if self._opened_at is None:
            self._opened_at = now
        self._under_way += 1
        return 0.0

    def held(self, now: float) -> float:
        """Return the seconds from ``now`` that all senders wait, also one that has its place; 0.0: none."""
        return max(self._held_until - _finite("now", now), 0.0)

    def resumed(self, generations: int) -> None:
        """Count generations that are in flight from before."""
        self._in_flight += generations

    def finished(self, now: float) -> None:
        """Record that a generation in flight has finished, or isn't watched any more."""
        _finite("now", now)
        self._in_flight = max(self._in_flight - 1, 0)
        if self._bound is not None:
            self._held_until = min(self._held_until, max(self._told_until, now))

    def accepted(self, now: float) -> None:
        """Record that a submit was accepted, and is in flight. The rate grows if at least half is used."""
        self.passed(now, in_flight=1)

    def passed(self, now: float, *, in_flight: int = 0) -> None:
        """Record that a submit met no limit, though it may have been refused for another reason.

        :param in_flight: 1 when it is in flight now, else 0.
        """
        news = self._is_news(_finite("now", now))
        self._in_flight += in_flight
        beyond = self._bound is not None and self._in_flight > self._bound
        if beyond:
            self._bound = self._in_flight
        if not news:
            return
        self._hold, self._fallen = _SHORTEST_HOLD, False
        if self._shut_at is not None:
            self._reopen(now, self._shut_at)
        # What replaces a finished generation says nothing of the rate.
        if self._use >= 0.5 and (self._bound is None or beyond):
            self._grow()

    def refused(self, now: float, retry_after: float | None) -> None:
        """Record that a submit met a limit. All senders wait, and the rate falls unless it just has.

        :param retry_after: seconds, however many; one that ends before the hold there is doesn't shorten it.
            None when the server named none.
        """
        if retry_after is not None and _finite("retry_after", retry_after) < 0:
            raise ValueError(f"retry_after={retry_after!r}: must be seconds, 0 or more, or None.")
        if self._is_news(_finite("now", now)):
            if self._rate <= self._least:
                self._bound = max(min(self._in_flight, self._bound or self._in_flight), 1)
                self._probe_at = now + _PROBE * (1 + self._dice() / 2)
            if not self._fallen:
                self._fall(now)
            hold, self._hold = self._hold, min(self._hold * _LONGER_HOLD, _LONGEST_HOLD)
            self._bygone, self._under_way = self._under_way, 0
            self._bygone_until = now + _LONGEST_ANSWER
        else:
            hold = _SHORTEST_HOLD
        wait = hold if retry_after is None else retry_after
        if retry_after is not None:
            self._told_until = max(self._told_until, now + retry_after)
        late = min(wait * _LATE_HOLD, _LATEST_HOLD) * self._dice()
        self._held_until = max(self._held_until, now + wait + late)

    # --- the rate

    def _grow(self) -> None:
        worth = min(1 / self._rate, _MOST_WORTH)
        if self._refused_rate is None:
            rate = self._rate * 2 ** min(worth / _DOUBLING, 1.0)
        else:
            self._quiet += worth
            faster = 2 ** min(self._quiet / _QUIET, 10.0)
            slower = self._caution * (1 + self._shut_for)
            growth = _GROWTH * self._rate**_EXPONENT * faster / slower * worth
            rate = self._rate + min(growth, self._rate / 2)
        self._rate = min(rate, self._most)
        if self._rate > 2 * self._least:
            self._bound, self._probe_at = None, -math.inf

    def _fall(self, now: float) -> None:
        fall = _FALL / math.sqrt(self._caution)
        if self._refused_rate is None:
            fall = _FIRST_FALL
        elif self._rate >= self._refused_rate * (1 - fall / 2):
            self._caution = min(self._caution * _MORE_CAUTION, _MOST_CAUTION)
        else:
            self._caution = max(self._caution / _LESS_CAUTION, 1.0)
        self._refused_rate = self._rate
        self._rate = max(self._rate * (1 - fall), self._least)
        self._quiet, self._fallen, self._shut_at = 0.0, True, now

    def _reopen(self, now: float, shut_at: float) -> None:
        """Lower the rate as a time in which everything was refused asks for."""
        opened_at = shut_at if self._opened_at is None else self._opened_at
        shut = max(now - shut_at - _SHORT_SHUT - _SHORT_SHUT_INTERVALS / self._rate, 0.0)
        self._shut_for += (shut - self._shut_for) / 4
        if shut:
            share = shut / (shut + max(shut_at - opened_at, 0.0))
            self._rate = max(self._rate * (1 - _SHUT_FALL * share), self._least)
        self._opened_at, self._shut_at = now, None

    # --- the responses

    @property
    def _sent(self) -> int:
        return self._in_flight + self._under_way + self._bygone

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
