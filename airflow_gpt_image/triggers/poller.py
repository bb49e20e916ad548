"""One client for each event loop and connection, shared by all triggers that wait there.

All triggers of a triggerer run on one loop, so a thousand waiting tasks share one pool of connections, and
ask few at a time. In ``dag.test()`` every trigger has a loop of its own, and a client must not outlive its
loop: so the last one out closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_gpt_image.errors import GptImageError

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import AsyncGptImageClient
    from airflow_gpt_image.api.settings import ClientSettings


class Poller:
    """Looks at generations over one connection. Made by :func:`shared_poller` only."""

    def __init__(self, gpt_image_conn_id: str) -> None:
        self._conn_id = gpt_image_conn_id
        self._opening = asyncio.Lock()
        self._client: AsyncGptImageClient | None = None
        self.users = 0
        self.outdated = False

    async def finished(self, generation_id: str, *, poll_interval: float, deadline: float) -> str:
        """
        Wait until a generation is completed or failed, and return which.

        :raises GptImageError: as :func:`airflow_gpt_image.api.flows.wait`.
        """
        client = await self._opened()
        try:
            generation = await client.wait_until(
                generation_id, poll_interval=poll_interval, deadline=deadline
            )
        except GptImageError as error:
            # The connection may have been mended since this client was made (a new key): whoever comes next
            # makes a new one. Those who wait on this one end by themselves.
            self.outdated = self.outdated or not error.retryable
            raise
        return generation.status

    async def _opened(self) -> AsyncGptImageClient:
        # Under a lock, so that a thousand triggers that start together ask for the connection once.
        async with self._opening:
            if self._client is None:
                from airflow_gpt_image.hooks.gpt_image import GptImageHook

                settings = await GptImageHook(self._conn_id).asettings()
                # In a thread: the first client of a process imports httpx and reads certificates, which
                # together take longer than a triggerer's loop may be held up.
                self._client = await asyncio.to_thread(_made, settings)
            return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _made(settings: ClientSettings) -> AsyncGptImageClient:
    from airflow_gpt_image.api.client import AsyncGptImageClient

    return AsyncGptImageClient(settings)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_poller(gpt_image_conn_id: str) -> AsyncIterator[Poller]:
    """The poller of the running loop for a connection; closed when the last one leaves it."""
    here = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = here.get(gpt_image_conn_id)
    if poller is None or poller.outdated:
        poller = here[gpt_image_conn_id] = Poller(gpt_image_conn_id)
    poller.users += 1
    try:
        yield poller
    finally:
        poller.users -= 1
        if poller.users == 0:
            if here.get(gpt_image_conn_id) is poller:
                del here[gpt_image_conn_id]
            await poller.aclose()
