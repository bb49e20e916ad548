"""Share one poller for each event loop and connection among all who wait there.

All triggers of a triggerer run on one loop, so a thousand waiting tasks share few connections. In
``dag.test()`` every trigger has a loop of its own, and a client must not outlive its loop: so the last user
closes it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakKeyDictionary

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.events import Event, Polled, RateLimited
from airflow_gpt_image.events.metrics import Metrics
from airflow_gpt_image.events.telling import Teller
from airflow_gpt_image.polling.poller import MOST_WORKERS, OnEnd, Poller, Wait
from airflow_gpt_image.polling.schedule import Schedule

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import AsyncGptImageClient
    from airflow_gpt_image.api.models import Generation


# Seconds between two tellings of what was polled: each poll on its own would cost more than it tells.
_TELL_EVERY: Final = 10.0

_log = logging.getLogger(__name__)


class SharedPoller:
    """Poll over one connection of Airflow's. Built by :func:`shared_poller` only."""

    def __init__(self, gpt_image_conn_id: str, schedule: Schedule) -> None:
        self._conn_id = gpt_image_conn_id
        self._schedule = schedule
        self._opening = asyncio.Lock()
        self._client: AsyncGptImageClient | None = None
        self._poller: Poller | None = None
        self._lags: list[float] = []
        # Triggers of all tasks share it, so it can't say which of them a poll was for.
        where = {"conn_id": gpt_image_conn_id, "hostname": socket.gethostname()}
        self._tell = Teller([Metrics(where)], _log)
        self._telling: asyncio.Task[None] | None = None
        self._users = 0
        self.outdated = False

    # Of its own, for what contextlib would build is kept by each of ten thousand waits.
    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            pollers = _pollers.get(asyncio.get_running_loop(), {})
            if pollers.get(self._conn_id) is self:
                del pollers[self._conn_id]
            await self.aclose()

    async def open(self) -> None:
        """Read the connection and build its client, unless somebody has.

        :raises GptImageError: when the connection can't be read or breaks a rule.
        """
        # Under a lock, so that a thousand triggers that start together ask for the connection once.
        async with self._opening:
            if self._poller is None:
                client = await self._build()
                self._poller = Poller(
                    client, schedule=self._schedule, renew=self._renew, on_any_end=self._see_end
                )
                telling = self._tell_now_and_then(self._poller)
                self._telling = asyncio.create_task(telling, context=contextvars.Context())

    async def _build(self) -> AsyncGptImageClient:
        from airflow_gpt_image.hooks.gpt_image import GptImageHook

        self._client = await GptImageHook(self._conn_id).aget_conn(at_once=MOST_WORKERS)
        return self._client

    async def _renew(self) -> AsyncGptImageClient | None:
        """Return a client for the connection as it is now, if that has changed."""
        from airflow_gpt_image.hooks.gpt_image import GptImageHook

        assert self._client is not None
        settings = await GptImageHook(self._conn_id).asettings()
        return await self._build() if settings != self._client.settings else None

    def start(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_end: OnEnd,
        on_poll: Callable[[str], object],
        on_unknown_status: Callable[[str], object],
        kind: str = "",
        since: float | None = None,
    ) -> Wait:
        """Wait for a generation, as :meth:`Poller.start` does; comes after :meth:`open`."""
        assert self._poller is not None
        return self._poller.start(
            generation_id,
            poll_interval=poll_interval,
            deadline=deadline,
            on_end=on_end,
            on_poll=on_poll,
            on_unknown_status=on_unknown_status,
            kind=kind,
            since=since,
        )

    def _see_end(self, generation: Generation | None, error: Exception | None) -> None:
        # The connection may have been corrected since this client was built (a new key), so the next user
        # builds a new one. Waits on this one end by themselves.
        if isinstance(error, GptImageError) and not error.retryable:
            self.outdated = True
        if generation is not None and generation.lag is not None:
            self._lags.append(generation.lag)

    async def aclose(self) -> None:
        """Stop polling and close what was opened."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._poller is not None:
            await self._poller.aclose()
            await self._tell_counts(self._poller)
        if self._client is not None:
            await self._client.aclose()

    async def _tell_now_and_then(self, poller: Poller) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY)
            await self._tell_counts(poller)

    async def _tell_counts(self, poller: Poller) -> None:
        """Tell of the polls since the last time."""
        polls, refused, in_flight = poller.take_counts()
        lags, self._lags = tuple(self._lags), []
        events: list[Event] = [Polled(polls, in_flight, lags)]
        if refused:
            events.append(RateLimited("poll", refused))
        # In a thread, for whoever takes metrics may look up a name first; the loop is every trigger's.
        await asyncio.to_thread(self._tell, *events)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedPoller]] = WeakKeyDictionary()
# What is known of durations is worth keeping for those who come after the last has left: some numbers.
_schedules: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Schedule]] = WeakKeyDictionary()


def shared_poller(gpt_image_conn_id: str) -> SharedPoller:
    """Return the running loop's poller for a connection, to be entered; the last who leaves closes it."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(gpt_image_conn_id)
    if poller is None or poller.outdated:
        schedules = _schedules.setdefault(asyncio.get_running_loop(), {})
        schedule = schedules.setdefault(gpt_image_conn_id, Schedule())
        poller = pollers[gpt_image_conn_id] = SharedPoller(gpt_image_conn_id, schedule)
    return poller
