"""Run what blocks in few threads, and don't keep a browser waiting for a store that never answers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock, local
from typing import Any, Final, TypeVar

from airflow_gpt_image.plugins.images.refusals import SLOW, RefusedError

T = TypeVar("T")

ANSWER_WITHIN: Final = 30.0
"""Seconds. Ours: a store that is away may hold a thread for minutes, until its own client gives up."""


class Threads:
    """
    A few threads, and a bound on the wait for them.

    :param count: calls at the same time; more wait for their turn.
    :param name: what they are called in a list of threads.
    :param seconds: until a call is given up. One that hasn't begun never will; one that has, ends unheard.
    """

    def __init__(self, count: int, name: str, *, seconds: float = ANSWER_WITHIN) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._seconds = seconds

    async def run(self, work: Callable[[], T]) -> T:
        """
        Return what a call comes to, made in a thread.

        :raises RefusedError: when it takes too long.
        """
        made = asyncio.get_running_loop().run_in_executor(self._pool, work)
        return await answer_within(self._seconds, made)


class StoreThreads:
    """
    Threads for each disk and store by itself: one that hangs holds its own, and no others.

    A call that takes too long is given up, but its thread is held until the store lets it go. While all of a
    store's threads are held like that, it isn't asked: who wants something of it is told so at once.

    :param count: of threads for each.
    :param seconds: until a call is given up.
    """

    def __init__(self, count: int, name: str, *, seconds: float = ANSWER_WITHIN) -> None:
        self._count = count
        self._name = name
        self._seconds = seconds
        self._lock = Lock()
        self._pools: dict[Hashable, ThreadPoolExecutor] = {}
        self._held: dict[Hashable, dict[object, float]] = {}
        self._asked: set[Hashable] = set()
        self._own = local()

    async def run(self, store: Hashable, work: Callable[[], T]) -> T:
        """
        Return what a call to a store comes to.

        :param store: tells it from others. There are as many as there are roots.
        :raises RefusedError: when it takes too long.
        """
        return await answer_within(self._seconds, asyncio.wrap_future(self.begin(store, work)))

    def call(self, store: Hashable, work: Callable[[], T]) -> T:
        """
        Return what a call to a store comes to, as :meth:`run` does, to a thread that waits for it.

        A call within a call is made in the same thread: it belongs to what is waited for.
        """
        if getattr(self._own, "store", None) == store:
            return work()
        asked = self.begin(store, work)
        try:
            return asked.result(self._seconds)
        except (TimeoutError, CancelledError):
            if asked.done() and not asked.cancelled():
                raise  # it is the store's own
            asked.cancel()
            raise RefusedError(SLOW) from None

    def begin(self, store: Hashable, work: Callable[[], T]) -> Future[T]:
        """
        Have a call made without waiting for it.

        :raises RefusedError: when the store hangs.
        """
        with self._lock:
            held = self._held.setdefault(store, {})
            late = time.monotonic() - self._seconds
            if sum(since < late for since in held.values()) >= self._count:
                raise RefusedError(SLOW)
            if store not in self._pools:
                self._pools[store] = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            return self._pools[store].submit(self._work, store, held, work)

    def _work(self, store: Hashable, held: dict[object, float], work: Callable[[], T]) -> T:
        call: Any = object()
        self._own.store = store
        with self._lock:
            held[call] = time.monotonic()
        try:
            return work()
        finally:
            with self._lock:
                del held[call]
                is_first = store not in self._asked
                self._asked.add(store)
            if is_first:
                leave_alone_what_is_loaded()


def leave_alone_what_is_loaded() -> None:
    """
    Keep Python's full collections from looking at what is in memory now: Airflow, or a store's library.

    They look at each object of the process, which takes hundreds of milliseconds of an API server, in which
    nothing is answered. What is loaded stays as long as the process does.
    """
    gc.freeze()


async def answer_within(seconds: float, awaited: Awaitable[T]) -> T:
    """
    Return what something comes to.

    :raises RefusedError: when it takes longer than so many seconds.
    """
    try:
        return await asyncio.wait_for(awaited, seconds)
    except TimeoutError:
        raise RefusedError(SLOW) from None
