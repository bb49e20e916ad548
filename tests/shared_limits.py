"""Workers that share one account's limit and know nothing of each other, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from airflow_gpt_image.api.pacing import Pacer
from tests.fake_clock import FakeClock

SENDERS = 64
LATENCY = (0.02, 0.1)
"""Shortest and longest seconds from a submit to its answer; the API decides halfway."""
SEEN_AFTER = 5.0
"""Longest seconds from a generation's end to when its worker knows."""


class Limit(Protocol):
    """What an account is allowed.

    :ivar per_second: submits that are accepted in the long run.
    """

    per_second: float

    def take(self, now: float) -> bool:
        """Accept a submit, or refuse it."""

    def wait(self, now: float) -> float:
        """Return the seconds until the next submit can be accepted, as far as is known."""

    def finished(self) -> None:
        """Hear that a generation has ended."""


class FixedWindow:
    """So many submits in each window of time; the windows are the server's, not the workers'."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds, self._window, self._taken = most, seconds, 0, 0
        self.per_second = most / seconds

    def take(self, now: float) -> bool:
        window = math.floor(now / self._seconds + 0.37)
        if window != self._window:
            self._window, self._taken = window, 0
        if self._taken == self._most:
            return False
        self._taken += 1
        return True

    def wait(self, now: float) -> float:
        return (self._window + 1 - 0.37) * self._seconds - now

    def finished(self) -> None: ...


class SlidingWindow:
    """So many submits in any stretch of time of this length."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._taken: deque[float] = deque()
        self.per_second = most / seconds

    def take(self, now: float) -> bool:
        while self._taken and self._taken[0] <= now - self._seconds:
            self._taken.popleft()
        if len(self._taken) == self._most:
            return False
        self._taken.append(now)
        return True

    def wait(self, now: float) -> float:
        return self._taken[0] + self._seconds - now

    def finished(self) -> None: ...


class TokenBucket:
    """A rate, and so many submits at once after a lull."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self.per_second, self._most, self._tokens, self._at = per_second, at_once, at_once, 0.0

    def take(self, now: float) -> bool:
        self._tokens = min(self._tokens + (now - self._at) * self.per_second, self._most)
        self._at = now
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        return (1 - self._tokens) / self.per_second

    def finished(self) -> None: ...


class InFlight:
    """So many generations in flight."""

    def __init__(self, most: int, duration: tuple[float, float]) -> None:
        self._most, self._under_way = most, 0
        self.per_second = most / (sum(duration) / 2)

    def take(self, now: float) -> bool:
        if self._under_way == self._most:
            return False
        self._under_way += 1
        return True

    def wait(self, now: float) -> float:
        return 1.0

    def finished(self) -> None:
        self._under_way -= 1


def exact(limit: Limit, now: float) -> float | None:
    """Return the Retry-After that tells how long it takes, in whole seconds."""
    return float(max(1, math.ceil(limit.wait(now))))


def none(limit: Limit, now: float) -> float | None:
    """Return no Retry-After."""
    return None


def always(seconds: float) -> Callable[[Limit, float], float | None]:
    """Return what gives the same Retry-After every time."""
    return lambda limit, now: seconds


@dataclass
class Worker:
    """A batch that never runs out of rows: times in seconds since the first one began."""

    pacer: Pacer
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)  # sent although a Retry-After forbade it
    told_until: float = -math.inf
    free: int = SENDERS
    alarm: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of the workers from a moment on."""

    use: float
    """accepted submits, as a share of those that are allowed"""
    least_share: float
    """what the worker that got least got, as a share of what each should get"""
    refused: float
    """refused submits, as a share of all"""
    workers: list[Worker]


def share(
    limit: Limit,
    retry_after: Callable[[Limit, float], float | None],
    *,
    starts: Sequence[float] = (0, 5, 10, 15, 20),
    seconds: float = 900.0,
    counted_from: float = 50.0,
    duration: tuple[float, float] = (10.0, 30.0),
    seed: int = 1,
    **pacing: float,
) -> Outcome:
    """
    Let workers submit as much as they can.

    :param starts: when each worker begins.
    :param counted_from: nothing before that counts.
    :param duration: of a generation, shortest and longest.
    :param pacing: arguments of the workers' pacers.
    """
    dice, clock, order = random.Random(seed), FakeClock(), count()
    events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def later(pause: float, do: Callable[..., None], *args: Any) -> None:
        heapq.heappush(events, (clock.elapsed() + pause, next(order), do, args))

    def ask(worker: Worker, alarm: int | None = None) -> None:
        if alarm not in (None, worker.alarm):
            return
        worker.alarm += 1
        while worker.free:
            if pause := worker.pacer.pause(clock.elapsed()):
                # As the batch does: it looks again after a second.
                later(min(pause, 1.0), ask, worker, worker.alarm)
                return
            worker.free -= 1
            if clock.elapsed() < worker.told_until:
                worker.early.append(clock.elapsed())
            half = dice.uniform(*LATENCY) / 2
            later(half, arrive, worker, half)

    def arrive(worker: Worker, half: float) -> None:
        now = clock.elapsed()
        if limit.take(now):
            worker.accepted.append(now)
            lasts = dice.uniform(*duration)
            later(lasts, limit.finished)
            later(lasts + dice.uniform(0, SEEN_AFTER), finished, worker)
            later(half, accepted, worker)
        else:
            worker.refused.append(now)
            later(half, refused, worker, retry_after(limit, now))

    def accepted(worker: Worker) -> None:
        worker.pacer.accepted(clock.elapsed())
        worker.free += 1
        ask(worker)

    def refused(worker: Worker, wished: float | None) -> None:
        worker.pacer.refused(clock.elapsed(), wished)
        worker.told_until = max(worker.told_until, clock.elapsed() + (wished or 0.0))
        worker.free += 1
        ask(worker)

    def finished(worker: Worker) -> None:
        worker.pacer.finished(clock.elapsed())
        ask(worker)

    workers = [
        Worker(Pacer(dice=random.Random(f"{seed} {number}").random, **pacing))
        for number in range(len(starts))
    ]
    for start, worker in zip(starts, workers, strict=True):
        later(start, ask, worker)
    while events[0][0] < seconds:
        at, _, do, args = heapq.heappop(events)
        clock.forward(at - clock.elapsed())
        do(*args)
    return _outcome(workers, limit.per_second, counted_from, seconds)


def _outcome(workers: list[Worker], per_second: float, begin: float, end: float) -> Outcome:
    accepted = [sum(at >= begin for at in worker.accepted) for worker in workers]
    refused = sum(sum(at >= begin for at in worker.refused) for worker in workers)
    return Outcome(
        use=sum(accepted) / (per_second * (end - begin)),
        least_share=min(accepted) / (sum(accepted) / len(workers)),
        refused=refused / (sum(accepted) + refused),
        workers=workers,
    )
