"""Make thumbnails once, in few threads, and keep them within a bound."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from airflow_gpt_image.plugins.images.refusals import BUSY, Refusal, RefusedError

T = TypeVar("T")

# What each costs to remember beside its bytes: the key with its address, and its place.
_ENTRY_BYTES: Final = 1_000


class Thumbnails:
    """
    The thumbnails of this process. Of many who ask for one at the same time the first has it made.

    Pictures are read first, and drawn when they are there: so a store that hangs holds none of the threads
    that draw, and a store's pictures wait for those of the same store alone.

    Its methods belong to one event loop.

    :param threads: that draw. Each takes a core and the memory of a decoded picture.
    :param in_hand: pictures of one store that are read, or have been and wait for a thread.
    :param waiting: thumbnails of one store that are being made or wait for it. More are told to come again.
    :param kept_bytes: of thumbnails that are kept; the one that was asked for longest ago goes first.
    """

    def __init__(
        self,
        *,
        threads: int = 2,
        in_hand: int = 4,
        waiting: int = 256,
        kept_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gpt-image-thumbnails")
        self._in_hand = in_hand
        self._waiting = waiting
        self._kept_bytes = kept_bytes
        self._turns: dict[Hashable, asyncio.Semaphore] = {}
        self._waits: Counter[Hashable] = Counter()
        self._making: dict[Hashable, asyncio.Future[bytes]] = {}
        self._kept: OrderedDict[Hashable, bytes | Refusal] = OrderedDict()
        self._size = 0

    async def get(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        draw: Callable[[T], bytes],
        *,
        store: Hashable = "",
    ) -> bytes:
        """
        Return a thumbnail.

        :param key: the same for the same bytes of the same picture in the same size.
        :param read: gives the picture.
        :param draw: makes the thumbnail of it, in a thread.
        :param store: where the picture is.
        :raises RefusedError: what ``read`` or ``draw`` raised, or when too many are waiting.
        """
        kept = self._kept.get(key)
        if isinstance(kept, Refusal):
            raise RefusedError(kept)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        making = self._making.get(key)
        if making is None:
            if self._waits[store] >= self._waiting:
                raise RefusedError(BUSY)
            self._waits[store] += 1
            making = asyncio.ensure_future(self._make(store, read, draw))
            self._making[key] = making
            making.add_done_callback(lambda done: self._keep(key, store, done))
        # Who goes away doesn't take it from those who still wait.
        return await asyncio.shield(making)

    async def _make(
        self, store: Hashable, read: Callable[[], Awaitable[T]], draw: Callable[[T], bytes]
    ) -> bytes:
        async with self._turns.setdefault(store, asyncio.Semaphore(self._in_hand)):
            picture = await read()
            return await asyncio.get_running_loop().run_in_executor(self._pool, draw, picture)

    def _keep(self, key: Hashable, store: Hashable, made: asyncio.Future[bytes]) -> None:
        del self._making[key]
        self._waits[store] -= 1
        if made.cancelled():
            return
        error = made.exception()
        if error is None:
            self._add(key, made.result())
        elif isinstance(error, RefusedError) and error.refusal.status in (413, 415):
            # The same bytes will be the same again; a store that is away won't be.
            self._add(key, error.refusal)

    def _add(self, key: Hashable, value: bytes | Refusal) -> None:
        self._kept[key] = value
        self._size += _size(value)
        while self._size > self._kept_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._size -= _size(oldest)

    def close(self) -> None:
        """End the threads; what they are at is finished, what waits is not begun."""
        with suppress(RuntimeError):
            self._pool.shutdown(wait=False, cancel_futures=True)


def _size(value: bytes | Refusal) -> int:
    return _ENTRY_BYTES + (len(value) if isinstance(value, bytes) else 0)
