"""Run what blocks in few threads, and don't keep a browser waiting for a store that never answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

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


async def answer_within(seconds: float, awaited: Awaitable[T]) -> T:
    """
    Return what something comes to.

    :raises RefusedError: when it takes longer than so many seconds.
    """
    try:
        return await asyncio.wait_for(awaited, seconds)
    except TimeoutError:
        raise RefusedError(SLOW) from None
