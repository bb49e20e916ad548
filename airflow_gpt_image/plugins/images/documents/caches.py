"""Keep what takes long to make, within bounds; and make it once, however many ask at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """
    The values that were asked for last. May be used by many threads at once.

    :param most: how much all of them may weigh together, in whatever unit they are weighed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._weight = 0

    def get(self, key: Hashable, make: Callable[[], V], weigh: Callable[[V], int] = lambda value: 1) -> V:
        """Return the value of a key; it is made by the first who asks, while the others wait."""
        with self._lock:
            if (known := self._find(key)) is not None:
                return known[0]
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if (known := self._find(key)) is not None:
                    return known[0]
            try:
                value = make()
                self._keep(key, value, weigh(value))
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def peek(self, key: Hashable) -> V | None:
        """Return the value of a key if it is kept."""
        with self._lock:
            known = self._find(key)
        return None if known is None else known[0]

    def _find(self, key: Hashable) -> tuple[V, int] | None:
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
        return known

    def _keep(self, key: Hashable, value: V, weight: int) -> None:
        with self._lock:
            self._weight += weight - self._kept.pop(key, (value, 0))[1]
            self._kept[key] = (value, weight)
            # The newest stays, however much it weighs: else it would be made again for every page of it.
            while self._weight > self._most and len(self._kept) > 1:
                _, (_, lost) = self._kept.popitem(last=False)
                self._weight -= lost
