"""Say when to poll a generation next: by its age, and by how long others of its kind took.

1. Until some durations are known, polls come sooner for a young generation than for an old one, and at the
   latest every ``poll_interval``. Likewise at an age that hardly any generation was seen at.
2. From then on polls are close together at the ages at which many end, and further apart than
   ``poll_interval`` at those at which hardly any does: up to the age itself, or three poll_intervals while it
   is younger than that, but a minute at most. So an API that has become quicker is noticed.
3. All polls together are no more than polling every ``poll_interval`` would make. For each generation these
   moments are known from its first poll on, or from its submit where the first poll waits. Those that were
   left out are saved; a poll between two of them uses one that was saved, and without any the next moment is
   waited for.

Nothing here reads a clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.polling.durations import Durations

# Seconds between two polls of a generation, at least and at most, unless poll_interval itself is shorter or
# longer.
_SHORTEST: Final = 0.5
_LONGEST: Final = 60.0
# A young generation is polled when it is older by this share of its age.
_SHARE_OF_AGE: Final = 0.125
# Polls that are kept for later, and so many more for each wait: the savings of a long night are no reason to
# poll in bursts.
_MOST_SAVED: Final = 1_000
_MOST_SAVED_EACH: Final = 10
# Whoever polls may round the moments, by half of a tenth of poll_interval.
_ROUNDING: Final = 0.051


def kind_of(request: ImageRequest | None) -> str:
    """Return whose durations can be compared with a generation's: its tier, and what it is made from.

    :param request: None: unknown.
    """
    if request is None:
        return ""
    return f"{request.resolution} from images" if request.image_urls else request.resolution


class Schedule:
    """Share what is known of durations, and the savings of polls, among all waits on one connection.

    :param jitter: a number in [0, 1) each time it is called.
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self.jitter = jitter
        self._durations: dict[str, Durations] = {}
        self._saved = 0
        self.waits = 0

    def begin(self, poll_interval: float, *, kind: str = "", since: float | None = None) -> Pace:
        """Return what says when one generation is polled next.

        :param poll_interval: seconds, above 0.
        :param kind: as :func:`kind_of` has it; empty: unknown.
        :param since: when it was submitted, in seconds since 1970, for an API that doesn't tell.
        """
        durations = self._durations.setdefault(kind, Durations())
        return Pace(self, durations, poll_interval, since)

    def longest_pause(self, age: float, poll_interval: float, quickest: float) -> float:
        """Return the most seconds between two polls of a generation.

        :param quickest: seconds until the first few of those end that have reached its age.
        """
        patient = min(_LONGEST, max(age, 3 * poll_interval), quickest + poll_interval)
        return max(poll_interval, patient)

    def save(self, polls: int) -> None:
        """Keep polls that polling every ``poll_interval`` would have made."""
        self._saved = min(self._saved + polls, _MOST_SAVED + _MOST_SAVED_EACH * self.waits)

    def spend(self) -> bool:
        """Take one of the polls that were saved; return whether there was one."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Pace:
    """Say when one generation is polled next. Built by :meth:`Schedule.begin` only."""

    __slots__ = (
        "_begun",
        "_born",
        "_durations",
        "_moments",
        "_part",
        "_poll_interval",
        "_polled",
        "_schedule",
        "_since",
        "_sooner",
        "_spread",
    )

    def __init__(
        self, schedule: Schedule, durations: Durations, poll_interval: float, since: float | None
    ) -> None:
        self._schedule, self._durations = schedule, durations
        self._poll_interval, self._since = poll_interval, since
        self._begun: float | None = None  # when the moments are counted from
        self._born = 0.0  # when it was submitted, by the clock of this machine
        self._polled = False
        self._moments = 0  # that have passed
        self._sooner = False  # whether the next poll comes before the next of them
        self._spread = False  # whether it was set apart from those that were submitted with it
        self._part: int | None = None

    def first(self, now: float) -> float:
        """Return the seconds to the first poll of a generation whose submit's time is known.

        ``poll_interval`` after the submit, for nothing is finished right after it; later, when others of its
        kind took longer.

        :param now: in seconds since 1970.
        """
        interval = self._poll_interval
        age = self._age(now)
        soonest = max(0.0, interval - age)
        self._begin(now + soonest - interval, age + soonest - interval)
        best = self._durations.pause(age, interval, 0.5 + self._schedule.jitter())
        if best is None:
            return soonest
        self._spread = True
        most = self._schedule.longest_pause(age, interval, self._durations.quickest(age))
        return max(soonest, min(best, most))

    def pause(self, generation: Generation, now: float) -> float:
        """Return the seconds to the next poll of a generation that isn't finished.

        :param now: the time of the poll that says so, in seconds since 1970.
        """
        if not self._polled:
            age = self._told_age(generation, now)
            if self._begun is None:
                self._begin(now, age)
            self._born, self._polled = now - age, True
        assert self._begun is not None
        # A clock that was set back has passed nothing.
        moments = max(self._moments, int((now - self._begun) / self._poll_interval + _ROUNDING))
        passed, self._moments = moments - self._moments, moments
        self._schedule.save(passed if self._sooner else max(0, passed - 1))
        next_moment = self._begun + (moments + 1) * self._poll_interval - now
        rounding = _ROUNDING * self._poll_interval
        next_moment = min(next_moment, self._poll_interval + rounding)
        pause = self._best_pause(max(0.0, now - self._born))
        self._sooner = pause < next_moment - rounding and self._schedule.spend()
        return pause if self._sooner else max(pause, next_moment)

    def finish(self, generation: Generation, now: float) -> None:
        """Note that the generation is finished, by the latest poll."""
        self.leave()
        created, completed = generation.created_at, generation.completed_at
        if created is not None and completed is not None and completed >= created:
            self._durations.learn((completed - created).total_seconds(), now)
        if self._begun is None:
            return
        # The moments that passed before it ended, and the one that would have found it.
        ended = now - (self._seconds_over(generation) or now - self._begun)
        moments = max(self._moments, math.ceil((ended - self._begun) / self._poll_interval) - 1)
        self._schedule.save(moments - self._moments + self._sooner)

    def leave(self) -> None:
        """Note that it is not waited for any more."""
        if self._part is not None:
            self._durations.leave(self._part)
            self._schedule.waits -= 1
            self._part = None

    def _begin(self, begun: float, age: float) -> None:
        """Count the moments from a time on, at which it had an age."""
        self._begun = begun
        self._durations.see_first(age)

    def _best_pause(self, age: float) -> float:
        """Return the seconds to the next poll that would be best, whatever has been saved."""
        interval = self._poll_interval
        self._schedule.waits += self._part is None
        self._part = self._durations.move(self._part, age)
        # Those that were submitted together are not polled together.
        share = 1.0 if self._spread else 0.5 + self._schedule.jitter()
        best = self._durations.pause(age, interval, share)
        if best is None:
            best, most = age * _SHARE_OF_AGE, interval
        else:
            self._spread = True
            most = self._schedule.longest_pause(age, interval, self._durations.quickest(age))
        return min(max(best, min(_SHORTEST, interval)), most)

    def _seconds_over(self, generation: Generation) -> float | None:
        """Return for how many seconds it has been finished, at most; None: the API didn't tell."""
        told, completed = generation.told_at, generation.completed_at
        if told is None or completed is None or told < completed:
            return None
        # Both times may be cut to whole seconds.
        return (told - completed).total_seconds() + 1.0

    def _told_age(self, generation: Generation, now: float) -> float:
        created, told = generation.created_at, generation.told_at
        if created is not None and told is not None and told >= created:
            return (told - created).total_seconds()
        return self._age(now)

    def _age(self, now: float) -> float:
        return 0.0 if self._since is None else max(0.0, now - self._since)
