"""Say when to poll a generation next: by its age, and by how long others took that were made before it.

1. Until some durations are known, polls come sooner for a young generation than for an old one, and at the
   latest every ``poll_interval``.
2. From then on none comes before nearly the shortest known duration, and most come where most generations
   end.
3. All polls together are no more than polling every ``poll_interval`` would make. For each generation these
   moments are known from its first poll on. Of one that is still not finished, those that were left out are
   saved; a poll between two of them uses one that was saved, and without any the next moment is waited for.

The durations are the API's own: from ``created_at`` to ``completed_at``. Nothing here reads a clock.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from airflow_gpt_image.api.models import Generation

# So many durations tell more than the age alone; so many of the latest are kept, as an API's pace changes.
_ENOUGH: Final = 20
_MOST_KEPT: Final = 256
# The durations are cut into so many parts of equal number.
_PARTS: Final = 16
# So many of them, as a share, may be over before the first poll that is worth it.
_QUICKEST: Final = 0.03
# The API's times may be whole seconds, and a part that is narrower than that says nothing.
_PRECISION: Final = 1.0
_NARROWEST: Final = 0.25
# Seconds between two polls of a generation, at least, unless poll_interval itself is shorter.
_SHORTEST: Final = 0.5
# A young generation is polled when it is older by this share of its age.
_SHARE_OF_AGE: Final = 0.125
# Polls that are kept for later: the savings of a long night are no reason to poll in bursts.
_MOST_SAVED: Final = 1_000
# A timer may ring a moment early.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True)
class _Durations:
    """Hold how long generations took, cut into parts, and how far apart polls are best in each part.

    The expected lag of a detection, for a number of polls, is least when they are as far apart as the square
    root of (share that is not finished yet / share that finishes in a second).
    """

    edges: tuple[float, ...]
    spread: tuple[float, ...]
    polls: float
    mean: float

    @classmethod
    def of(cls, durations: list[float]) -> Self:
        known = sorted(durations)
        last = len(known) - 1
        edges = [known[round(part * last / _PARTS)] for part in range(_PARTS + 1)]
        # The few quickest don't make all others be polled for nothing.
        edges[0] = max(0.0, known[round(_QUICKEST * last)] - _PRECISION)
        edges[-1] += _PRECISION
        spread, polls = [], 0.0
        for part in range(_PARTS):
            width = max(edges[part + 1] - edges[part], _NARROWEST)
            unfinished = 1 - (part + 0.5) / _PARTS
            spread.append(math.sqrt(unfinished * _PARTS * width))
            polls += unfinished * width / spread[-1]
        return cls(tuple(edges), tuple(spread), polls, sum(known) / len(known))

    def pause(self, age: float, poll_interval: float, jitter: float) -> float:
        """Return the seconds to the next poll of a generation of that age."""
        part = bisect_right(self.edges, age) - 1
        if part >= _PARTS:
            return poll_interval
        # As many polls on average as one every poll_interval.
        scale = self.polls / max(self.mean / poll_interval, 1.0)
        apart = min(max(scale * self.spread[max(part, 0)], _SHORTEST), poll_interval)
        if part >= 0:
            return apart
        # Those that were submitted together are not polled together.
        return self.edges[0] - age + apart * (0.5 + jitter)


class Schedule:
    """Share what is known of durations, and the savings of polls, among all waits on one connection.

    :param jitter: a number in [0, 1) each time it is called.
    :param longest: seconds between two polls of a generation, at most, unless its ``poll_interval`` is
        longer. Default 60: polls are left out while none has ever been finished so soon.
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random, longest: float = 60.0) -> None:
        self._jitter, self._longest = jitter, longest
        self._seen: deque[float] = deque(maxlen=_MOST_KEPT)
        self._new = 0
        self._durations: _Durations | None = None
        self._saved = 0

    def learn(self, generation: Generation) -> None:
        """Remember how long a generation took, if the API told when it began and ended."""
        created, completed = generation.created_at, generation.completed_at
        if created is None or completed is None or completed < created:
            return
        self._seen.append((completed - created).total_seconds())
        self._new += 1
        if len(self._seen) >= _ENOUGH and (self._durations is None or self._new >= _ENOUGH):
            self._durations, self._new = _Durations.of(list(self._seen)), 0

    def begin(self, poll_interval: float) -> Pace:
        """Return what says when one generation is polled next.

        :param poll_interval: seconds, above 0.
        """
        return Pace(self, poll_interval)

    def pause(self, age: float, poll_interval: float) -> float:
        """Return the seconds to the next poll that would be best, whatever has been saved."""
        if self._durations is None:
            return min(max(age * _SHARE_OF_AGE, _SHORTEST), poll_interval)
        pause = self._durations.pause(age, poll_interval, self._jitter())
        # An API that became quicker is noticed.
        return min(pause, max(poll_interval, self._longest))

    def save(self, polls: int) -> None:
        """Keep polls that polling every ``poll_interval`` would have made."""
        self._saved = min(self._saved + polls, _MOST_SAVED)

    def spend(self) -> bool:
        """Take one of the polls that were saved; return whether there was one."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Pace:
    """Say when one generation is polled next. Built by :meth:`Schedule.begin` only."""

    def __init__(self, schedule: Schedule, poll_interval: float) -> None:
        self._schedule, self._poll_interval = schedule, poll_interval
        self._first: float | None = None
        self._moments = 0  # that have passed since the first poll
        self._sooner = False  # whether the next poll comes before the next of them

    def pause(self, generation: Generation, now: float) -> float:
        """Return the seconds to the next poll of a generation that isn't finished.

        :param now: the time of the poll that says so, in seconds since 1970.
        """
        if self._first is None:
            self._first = now
        # A clock that was set back has passed nothing.
        moments = max(self._moments, int((now - self._first) / self._poll_interval + _ROUNDING))
        passed, self._moments = moments - self._moments, moments
        self._schedule.save(passed if self._sooner else max(0, passed - 1))
        next_moment = self._first + (moments + 1) * self._poll_interval - now
        next_moment = min(next_moment, self._poll_interval)
        pause = self._schedule.pause(self._age(generation, now), self._poll_interval)
        self._sooner = pause < next_moment and self._schedule.spend()
        return pause if self._sooner else max(pause, next_moment)

    def finish(self, generation: Generation) -> None:
        """Note that the generation is finished, by the latest poll."""
        self._schedule.learn(generation)
        if self._sooner:
            # The next moment was still to come, and is not needed.
            self._schedule.save(1)

    def _age(self, generation: Generation, now: float) -> float:
        created, told = generation.created_at, generation.told_at
        if created is not None and told is not None and told >= created:
            return (told - created).total_seconds()
        return max(0.0, now - (now if self._first is None else self._first))
