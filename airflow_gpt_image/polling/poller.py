"""Drive many waits over one connection: one heap of due times, and few workers.

Each wait is the flow that the clients drive, too; while it sleeps it costs a place in a heap, and no task. A
flow decides what a response means for its generation. For all of them:

1. A refusal for the rate (429), or a Retry-After, holds all polls (see ``limits.py``). A wait whose deadline
   comes before is polled at its deadline.
2. While the API doesn't answer, or answers with a 5xx, polls are further and further apart, up to one round
   of all waits in half a minute (likewise). The first answer ends that.
3. When the API refuses a poll for another reason, or is down, the connection may have been corrected: if so,
   polls go on with the corrected one, and that refusal ends no wait.
4. While polls are overdue although the API answers, more are under way at the same time.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.replies import NoResponse, Reply
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.steps import Flow, Send, Sleep, do_nothing
from airflow_gpt_image.polling.limits import PollLimits, is_failure
from airflow_gpt_image.polling.schedule import Pace, Schedule

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import AsyncGptImageClient
    from airflow_gpt_image.api.models import Generation

# Polls under way at the same time: as few as are enough, for each costs a connection. An API that takes long
# to answer needs more, or polls would be late: twice as many while polls are overdue by so many seconds. Not
# while it doesn't answer, nor when the loop itself is late or busy, which more polls would only make worse.
_WORKERS: Final = 16
MOST_WORKERS: Final = 256
_OVERDUE: Final = 0.25
_LOOK_AFTER: Final = 0.05
_LOOP_IS_LATE: Final = 0.025
_LOOP_IS_BUSY: Final = 0.7

# Each time that a loop wakes up costs as much as several polls. So moments at which polls are due are rounded
# to those of a grid: so coarse that some dozens are begun together, but a tenth of poll_interval at most.
_TOGETHER: Final = 60
_COARSEST: Final = 0.1

# Waits that are put off, in one turn of the loop.
_AT_ONCE: Final = 100

# Seconds between two looks at the connection, which cost a query of the database each.
_RENEW_EVERY: Final = 30.0

OnEnd = Callable[["Generation | None", Exception | None], object]


class Wait:
    """A wait for one generation. Built by :meth:`Poller.start` only."""

    __slots__ = ("begun", "cancelled", "context", "deadline", "flow", "on_end", "pace", "poll_interval")

    def __init__(
        self, flow: Flow[Generation], pace: Pace, *, deadline: float, poll_interval: float, on_end: OnEnd
    ) -> None:
        self.flow, self.pace, self.on_end = flow, pace, on_end
        self.deadline, self.poll_interval = deadline, poll_interval
        # What is logged about it goes to the log of whoever waits.
        self.context = contextvars.copy_context()
        self.begun = self.cancelled = False

    def cancel(self) -> None:
        """Stop waiting; nobody is told of an end."""
        self.cancelled = True
        self.pace.leave()


class Poller:
    """Poll for all waits on one event loop over one connection.

    :param client: sends the polls. It is not closed here, unless ``renew`` has replaced it.
    :param schedule: says when to poll next.
    :param retrying: how far apart failed polls are.
    :param workers: polls under way at the same time, at most, while they are in time.
    :param renew: returns another client when the connection has changed, else None; called at most once in
        half a minute.
    :param on_any_end: called before each wait's own ``on_end``, as that is.
    """

    def __init__(
        self,
        client: AsyncGptImageClient,
        *,
        schedule: Schedule | None = None,
        retrying: Retrying = Retrying(),
        workers: int = _WORKERS,
        renew: Callable[[], Awaitable[AsyncGptImageClient | None]] | None = None,
        on_any_end: OnEnd = do_nothing,
    ) -> None:
        self._client, self._retrying, self._most = client, retrying, workers
        self._schedule = schedule or Schedule()
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Wait]] = []
        self._number = 0
        self._open = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._limits, self._next_start = PollLimits(retrying, workers), 0.0
        self._limit, self._answered = workers, False
        self._looking: asyncio.TimerHandle | None = None
        self._sending: Counter[AsyncGptImageClient] = Counter()
        self._renew, self._on_any_end = renew, on_any_end
        self._renewing: asyncio.Task[None] | None = None
        self._renewed_at = -_RENEW_EVERY

    def start(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_end: OnEnd,
        on_poll: Callable[[str], object] = do_nothing,
        on_unknown_status: Callable[[str], object] = flows.warn,
        seconds: float | None = 0.0,
        kind: str = "",
        since: float | None = None,
    ) -> Wait:
        """Wait for a generation as :func:`airflow_gpt_image.api.flows.wait` does, from now on.

        :param on_end: called once, with the generation or with the error that ended the wait.
        :param seconds: until the first poll; None: as the schedule has it, for which ``since`` is known.
        :param kind: as :func:`airflow_gpt_image.polling.schedule.kind_of` has it; empty: unknown.
        :param since: when it was submitted, in seconds since 1970; None: unknown.
        """
        pace = self._schedule.begin(poll_interval, kind=kind, since=since)
        flow = flows.wait(
            generation_id,
            poll_interval=poll_interval,
            deadline=deadline,
            retrying=self._retrying,
            on_poll=on_poll,
            on_unknown_status=on_unknown_status,
            pause_before_next=pace.pause,
        )
        wait = Wait(flow, pace, deadline=deadline, poll_interval=poll_interval, on_end=on_end)
        self._open += 1
        if seconds is None:
            seconds = self._rounded(pace.first(time.time()), poll_interval)
        self._put(wait, self._loop.time() + seconds)
        return wait

    async def wait(
        self,
        generation_id: str,
        *,
        poll_interval: float,
        deadline: float,
        on_poll: Callable[[str], object] = do_nothing,
        on_unknown_status: Callable[[str], object] = flows.warn,
        seconds: float | None = 0.0,
        kind: str = "",
        since: float | None = None,
    ) -> Generation:
        """Wait as :meth:`start` does, and return the generation.

        :raises GptImageError: what ended the wait.
        """
        ended: asyncio.Future[Generation] = self._loop.create_future()

        def on_end(generation: Generation | None, error: Exception | None) -> None:
            if ended.done():
                return
            if generation is not None:
                ended.set_result(generation)
            else:
                ended.set_exception(error or RuntimeError(f"The wait for {generation_id} has no end."))

        wait = self.start(
            generation_id,
            poll_interval=poll_interval,
            deadline=deadline,
            on_end=on_end,
            on_poll=on_poll,
            on_unknown_status=on_unknown_status,
            seconds=seconds,
            kind=kind,
            since=since,
        )
        try:
            return await ended
        finally:
            wait.cancel()

    def take_counts(self) -> tuple[int, int, int]:
        """Return the polls since this was called last, those refused for the rate, and the waits by now."""
        return *self._limits.take_counts(), self._open

    async def aclose(self) -> None:
        """Let go of everything."""
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        self._heap.clear()
        self._open = 0
        tasks = [*self._workers, *([self._renewing] if self._renewing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- when

    def _put(self, wait: Wait, due: float) -> None:
        self._push(wait, due)
        self._wake()

    def _push(self, wait: Wait, due: float) -> None:
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, wait))

    def _wake(self) -> None:
        """Have as many workers as are needed now, and come again when the next poll is due."""
        # All in one turn of the loop: each turn costs a look at all connections.
        while len(self._workers) < self._limit and (wait := self._take()) is not None:
            # In a context of its own: what it does is no single trigger's.
            worker = self._loop.create_task(self._work(wait), context=contextvars.Context())
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended)
        if not self._heap:
            return
        now = self._loop.time()
        if len(self._workers) >= self._limit:
            if self._overdue(now) and self._looking is None:
                self._looking = self._loop.call_later(_LOOK_AFTER, self._look, now, time.thread_time())
            return
        due = max(self._heap[0][0], self._next_start)
        if self._timer is None or self._timer.when() > due or self._timer.when() <= now:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._ring)

    def _rounded(self, seconds: float, poll_interval: float) -> float:
        """Return the seconds until a moment near one, at which others are polled, too."""
        grid = poll_interval * min(_COARSEST, _TOGETHER / max(self._open, 1))
        if seconds < 2 * grid:
            return seconds
        now = self._loop.time()
        return round((now + seconds) / grid) * grid - now

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    def _overdue(self, now: float) -> bool:
        """Return whether polls are overdue although the API answers."""
        return bool(self._heap) and self._heap[0][0] + _OVERDUE <= now and self._limits.answers

    def _look(self, since: float, cpu: float) -> None:
        """Allow more workers if polls are still overdue, and the API is what takes so long."""
        self._looking = None
        now = self._loop.time()
        in_time = now - since - _LOOK_AFTER < _LOOP_IS_LATE
        idle = time.thread_time() - cpu < _LOOP_IS_BUSY * (now - since)
        if self._overdue(now) and self._answered and in_time and idle:
            self._limit = min(2 * self._limit, MOST_WORKERS)
        self._answered = False
        self._wake()

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        # It found nothing to do, so fewer are enough.
        self._limit = max(self._most, self._limit - 1)
        if not worker.cancelled():
            self._wake()

    def _take(self) -> Wait | None:
        """Return the next wait that may be polled now."""
        for _ in range(_AT_ONCE):
            now = self._loop.time()
            if not self._heap or max(self._heap[0][0], self._next_start) > now:
                return None
            wait = heapq.heappop(self._heap)[2]
            if wait.cancelled:
                self._open -= 1
                continue
            held = self._limits.held(now)
            left = wait.deadline - time.time()
            if held > 0 and left > 0:
                # Not all in the instant in which the hold ends: that would be refused again.
                self._push(wait, now + min(held + random.random() * wait.poll_interval, left))
                continue
            self._next_start = now + self._limits.apart(self._open)
            return wait
        # The loop's others have their turn; whoever ends here is followed by another worker.
        return None

    # --- what

    async def _work(self, wait: Wait | None) -> None:
        while wait is not None:
            await self._poll(wait)
            wait = self._take()
            self._wake()

    async def _poll(self, wait: Wait) -> None:
        came: object = time.time() if wait.begun else None
        wait.begun = True
        while not wait.cancelled:
            try:
                step = wait.context.run(wait.flow.send, came)
                if isinstance(step, Send):
                    came = await self._send(step)
                    continue
            except StopIteration as end:
                wait.pace.finish(end.value, time.time())
                self._end(wait, end.value, None)
                return
            except Exception as error:  # noqa: BLE001 - a wait must end for whoever waits, whatever it met
                wait.pace.leave()
                self._end(wait, None, error)
                return
            if isinstance(step, Sleep) and step.seconds > 0:
                self._put(wait, self._loop.time() + self._rounded(step.seconds, wait.poll_interval))
                return
            came = time.time()
        self._open -= 1

    async def _send(self, step: Send) -> Reply:
        client = self._client
        self._sending[client] += 1
        try:
            reply = await client.send(step)
        finally:
            self._sending[client] -= 1
            await self._close_if_replaced(client)
        self._limits.judge(reply, self._loop.time())
        self._answered = self._answered or not is_failure(reply)
        if self._renew is not None:
            if isinstance(reply, NoResponse) or reply.status >= 500:
                # In the meantime the others are polled as they are.
                if self._limits.is_down:
                    self._begin_renewal()
            elif 400 <= reply.status < 500 and reply.status != 429:
                if client is self._client and (renewing := self._begin_renewal()) is not None:
                    await asyncio.wait([renewing])
                if client is not self._client:
                    return await self._send(step)
        return reply

    async def _close_if_replaced(self, client: AsyncGptImageClient) -> None:
        if client is not self._client and not self._sending[client]:
            del self._sending[client]
            # What its connections meet at their end concerns no wait.
            with suppress(Exception):
                await client.aclose()

    def _begin_renewal(self) -> asyncio.Task[None] | None:
        """Look whether the connection has changed, unless that was done a moment ago."""
        if self._renewing is None and self._loop.time() - self._renewed_at >= _RENEW_EVERY:
            self._renewing = self._loop.create_task(self._do_renew(), context=contextvars.Context())
        return self._renewing

    async def _do_renew(self) -> None:
        assert self._renew is not None
        try:
            # A connection that can't be read now is no reason to end a wait.
            with suppress(Exception):
                before, self._client = self._client, await self._renew() or self._client
                await self._close_if_replaced(before)
        finally:
            self._renewing, self._renewed_at = None, self._loop.time()

    def _end(self, wait: Wait, generation: Generation | None, error: Exception | None) -> None:
        self._open -= 1
        self._on_any_end(generation, error)
        wait.on_end(generation, error)
