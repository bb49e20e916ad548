"""Share one client for each event loop and connection among all triggers that wait there.

All triggers of a triggerer run on one loop, so a thousand waiting tasks share one pool of connections, with
few calls at a time. In ``dag.test()`` every trigger has a loop of its own, and a client must not outlive its
loop: so the last user closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_gpt_image.errors import GptImageError

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import AsyncGptImageClient


class Poller:
    """Poll generations over one connection. Built by :func:`shared_poller` only."""

    def __init__(self, gpt_image_conn_id: str) -> None:
        self._conn_id = gpt_image_conn_id
        self._opening = asyncio.Lock()
        self._client: AsyncGptImageClient | None = None
        self.users = 0
        self.outdated = False

    async def wait_until_finished(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_poll: Callable[[str], object],
        on_unknown_status: Callable[[str], object],
    ) -> str:
        """Wait until a generation is completed or failed, and return which.

        :param on_poll: called after each poll, with what came of it.
        :param on_unknown_status: called once for each status that the API document doesn't know.
        :raises GptImageError: as :func:`airflow_gpt_image.api.flows.wait`.
        """
        client = await self._open()
        try:
            generation = await client.wait_until(
                generation_id,
                poll_interval=poll_interval,
                deadline=deadline,
                on_poll=on_poll,
                on_unknown_status=on_unknown_status,
            )
        except GptImageError as error:
            # The connection may have been corrected since this client was built (a new key), so the next user
            # builds a new one. Waits on this one end by themselves.
            self.outdated = self.outdated or not error.retryable
            raise
        return generation.status

    async def _open(self) -> AsyncGptImageClient:
        # Under a lock, so that a thousand triggers that start together ask for the connection once.
        async with self._opening:
            if self._client is None:
                from airflow_gpt_image.hooks.gpt_image import GptImageHook

                self._client = await GptImageHook(self._conn_id).aget_conn()
            return self._client

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if self._client is not None:
            await self._client.aclose()


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_poller(gpt_image_conn_id: str) -> AsyncIterator[Poller]:
    """Return the running loop's poller for a connection; it is closed when the last user leaves."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(gpt_image_conn_id)
    if poller is None or poller.outdated:
        poller = pollers[gpt_image_conn_id] = Poller(gpt_image_conn_id)
    poller.users += 1
    try:
        yield poller
    finally:
        poller.users -= 1
        if poller.users == 0:
            if pollers.get(gpt_image_conn_id) is poller:
                del pollers[gpt_image_conn_id]
            await poller.aclose()
