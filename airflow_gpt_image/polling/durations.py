"""Know how long generations of one kind take, and how far apart polls are best at each age.

What is estimated is the share that ends in the next second of those that reached an age. Generations that
are still under way count with the age that they have reached: of many that were submitted together the
quickest end first, and without the others all would seem quick.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import Final

# Ages are told apart by whole seconds, which is the API's precision, and later by a twentieth.
_SECONDS: Final = 20
_GROWTH: Final = 1.05
_LAST: Final = 24 * 3600.0

# So many durations tell more than the age alone.
_ENOUGH: Final = 20
# An age that fewer have reached is one of which nothing is known.
_FEWEST: Final = 5
# One of thirty.
_FEW: Final = 1 / 30
# Polls are so much further apart than they may be on average: what is saved comes later than it is needed,
# and when nothing is left, some have close polls and others have none.
_APART: Final = 1.02
# Seconds. What is older than one to two of them is forgotten, as an API's pace changes; but not before there
# is enough that is younger.
_WINDOW: Final = 900.0


def _edges() -> tuple[float, ...]:
    edges = [float(second) for second in range(_SECONDS + 1)]
    while edges[-1] < _LAST:
        edges.append(edges[-1] * _GROWTH)
    return tuple(edges)


_EDGES: Final = _edges()
_PARTS: Final = len(_EDGES) - 1


def _part_of(age: float) -> int:
    return min(max(bisect_right(_EDGES, age) - 1, 0), _PARTS - 1)


class _Sum:
    """Hold a sum that grows with age, known at the edges."""

    def __init__(self) -> None:
        self.at_edges = [0.0]

    def add(self, more: float) -> None:
        self.at_edges.append(self.at_edges[-1] + more)

    def at(self, age: float) -> float:
        """Return the sum up to an age; all of it for one beyond the last edge."""
        part = _part_of(age)
        if part + 1 >= len(self.at_edges):
            return self.at_edges[-1]
        begin, end = self.at_edges[part], self.at_edges[part + 1]
        return begin + (end - begin) * (age - _EDGES[part]) / (_EDGES[part + 1] - _EDGES[part])

    def age_of(self, value: float) -> float:
        """Return the age at which the sum goes beyond a value; infinity when it never does."""
        part = bisect_right(self.at_edges, value) - 1
        if part + 1 >= len(self.at_edges):
            return math.inf
        begin, end = self.at_edges[part], self.at_edges[part + 1]
        return _EDGES[part] + (value - begin) / (end - begin) * (_EDGES[part + 1] - _EDGES[part])


class _Curve:
    """Hold what is known of each age, summed up from the age 0 on.

    For a number of polls, the expected lag of a detection is least when they are as far apart as one divided
    by the root of the share that ends in a second. That root is what an age is worth.

    :param ended: how many ended within each part.
    :param under_way: how many have got to it.
    """

    def __init__(self, ended: list[float], under_way: list[int]) -> None:
        self.worth, self.ended = _Sum(), _Sum()
        # On average, of all: seconds that one takes, and what these are worth.
        self.seconds, self.mean_worth = _Sum(), _Sum()
        counts = zip(reversed(ended), reversed(under_way), strict=True)
        reached = list(accumulate(end + still for end, still in counts))
        left = 1.0
        for part, reaching in enumerate(reversed(reached)):
            if reaching < _FEWEST:
                break
            width = _EDGES[part + 1] - _EDGES[part]
            # Who ends or is under way within a part was there for half of it, on average.
            there = max(reaching - (ended[part] + under_way[part]) / 2, reaching / 4)
            ending = ended[part] / there
            worth = math.sqrt(ending * width)
            here, left = left, left * math.exp(-ending)
            self.worth.add(worth)
            self.ended.add(ending)
            self.seconds.add((here + left) / 2 * width)
            self.mean_worth.add((here + left) / 2 * worth)
        self.last = _EDGES[len(self.worth.at_edges) - 1]

    def apart(self, first: float, poll_interval: float) -> float:
        """Return what lies between two polls, for as many as one every ``poll_interval`` from an age on."""
        seconds = self.seconds.at_edges[-1] - self.seconds.at(first)
        worth = self.mean_worth.at_edges[-1] - self.mean_worth.at(first)
        return _APART * worth * poll_interval / max(seconds, poll_interval)


class Durations:
    """Count the durations of the latest minutes, and the ages of those that are under way."""

    def __init__(self) -> None:
        self._recent = [0.0] * _PARTS
        self._older = [0.0] * _PARTS
        self._under_way = [0] * _PARTS
        self._since: float | None = None
        self._first_ages = [0.0, 0.0]  # their number and their sum
        self._new = 0
        self._curve: _Curve | None = None

    def see_first(self, age: float) -> None:
        """Take the age at which one was polled first."""
        number, total = self._first_ages
        # The latest count most.
        if number >= 1_000:
            number, total = number / 2, total / 2
        self._first_ages = [number + 1, total + age]

    def move(self, part: int | None, age: float) -> int:
        """Take the age that one has reached without an end.

        :param part: what was returned for it before; None: it is new.
        """
        if part is not None:
            self.leave(part)
        part = _part_of(age)
        self._under_way[part] += 1
        return part

    def leave(self, part: int) -> None:
        """Forget one that was under way.

        :param part: what :meth:`move` returned for it.
        """
        self._under_way[part] -= 1

    def learn(self, duration: float, now: float) -> None:
        """Take how long one took, by the API's own times.

        :param now: in seconds since 1970.
        """
        if self._since is None:
            self._since = now
        if abs(now - self._since) >= _WINDOW and sum(self._recent) >= _ENOUGH:
            self._older, self._recent, self._since = self._recent, [0.0] * _PARTS, now
        if duration == int(duration):
            # Both times were cut to whole seconds.
            self._recent[_part_of(duration - 0.5)] += 0.5
            self._recent[_part_of(duration + 0.5)] += 0.5
        else:
            self._recent[_part_of(duration)] += 1.0
        self._new += 1
        if self._new >= _ENOUGH:
            self._new = 0
            ended = [recent + older for recent, older in zip(self._recent, self._older, strict=True)]
            self._curve = _Curve(ended, self._under_way)

    def pause(self, age: float, poll_interval: float, share: float) -> float | None:
        """Return the seconds to the next poll that are best for one that has reached an age.

        As many polls on average as one every ``poll_interval``. None: too little is known of its age.

        :param share: of what lies between two polls, 1 by default.
        """
        curve = self._curve
        if curve is None or age >= curve.last:
            return None
        number, total = self._first_ages
        apart = curve.apart(total / max(number, 1), poll_interval)
        if apart <= 0:
            return None
        there = curve.worth.at(age) + apart * share
        known = curve.worth.at_edges[-1]
        if there >= known:
            return curve.last - age + (there - known) / apart * poll_interval
        return curve.worth.age_of(there) - age

    def quickest(self, age: float) -> float:
        """Return the seconds until one of thirty has ended, of those that have reached an age."""
        if self._curve is None:
            return 0.0
        return self._curve.ended.age_of(self._curve.ended.at(age) + _FEW) - age
