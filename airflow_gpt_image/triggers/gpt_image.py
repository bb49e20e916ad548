"""Wait for generations, and emit one event. Nothing is paid here, and no prompt and no secret is carried."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.callbacks import POLL_INTERVAL
from airflow_gpt_image.errors import GenerationNotFoundError, GenerationTimeoutError, GptImageError
from airflow_gpt_image.log import REPORT_EVERY
from airflow_gpt_image.polling.shared import shared_poller
from airflow_gpt_image.triggers.tally import SoFar, Tally

if TYPE_CHECKING:
    from airflow_gpt_image.api.models import Generation
    from airflow_gpt_image.polling.poller import Wait
    from airflow_gpt_image.polling.shared import SharedPoller

MOST_IDS: Final = 1_000

# Arguments and events are kept in columns of 64 kB on MySQL, the arguments a third longer for being
# encrypted.
_MAX_BYTES: Final = 44_000

# A trigger that fires while the worker that deferred is still leaving can make the scheduler fail the try.
# The worker's supervisor notices its task's end at the latest after its own [workers] min_heartbeat_interval
# (5 s by default); then the scheduler has to be told. Seen: with 5 s in all, deferrals now and then lost
# their try.
_SCHEDULER_GRACE: Final = 5.0

STUCK: Final = (
    "Deferred: from here on it waits in the triggerer, and holds no worker.\n"
    "If it stays so and no line follows within a minute or two, no triggerer runs.\n"
    "Start one (airflow triggerer), or give the task deferrable=False."
)
"""What is said before a task defers: a deployment without a triggerer says nothing itself."""

# Waits that are begun in one turn of the loop.
_STARTED_AT_ONCE: Final = 100
# Seconds after the moment from which on a callback wakes the task.
_FIRST_POLL_AFTER: Final = 2.0

CALLBACK_EVENT: Final = {"reason": "callback"}
"""What wakes a task in the trigger's place. It says nothing of the generation, for a callback is a hint."""

# Airflow's own limit on the deferral comes later than ours, so that our error, which says more, wins.
_DEFERRAL_MARGIN: Final = 120.0


def first_that_fit(generation_ids: Iterable[str]) -> list[str]:
    """Return as many of the ids, from the first on, as one trigger takes."""
    taken: list[str] = []
    bytes_left = _MAX_BYTES
    for generation_id in islice(generation_ids, MOST_IDS):
        bytes_left -= _stored_bytes(generation_id)
        if bytes_left < 0:
            break
        taken.append(generation_id)
    return taken


def _stored_bytes(generation_id: str) -> int:
    # As JSON, and two for what separates it from the next one.
    return len(json.dumps(generation_id)) + 2


def defer_grace_seconds() -> float:
    """Return the seconds from a defer to the first poll: until the worker has surely gone."""
    from airflow.sdk.configuration import conf

    return float(conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)) + _SCHEDULER_GRACE


def relaxed(poll_interval: float) -> tuple[float, float]:
    """Return the ``poll_interval`` and ``pause`` of a :meth:`GptImageTrigger.deferral` that a callback ends.

    The first poll finds what ended before a callback may wake the task; it comes a little after that moment,
    so that nothing falls in between.
    """
    return max(poll_interval, POLL_INTERVAL), defer_grace_seconds() + _FIRST_POLL_AFTER


class WaitedEvent(BaseModel):
    """Hold what the trigger emits: a hint. Whoever receives it reads the generations again from the API.

    :param reason: ``finished``: enough of them are, which is all unless the trigger's ``enough`` says less;
        ``deadline``: some weren't in time; ``error``: polling can't help any more, ``message`` says why;
        ``callback``: not the trigger ended the wait, but the API's notification.
    :param generation_ids: those that are known to be finished, by their status.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Literal["finished", "deadline", "error", "callback"]
    generation_ids: dict[str, list[str]] = Field(default_factory=dict, max_length=8)
    message: str | None = None

    @classmethod
    def read(cls, event: object) -> Self | None:
        """Return the event if it is the trigger's; None if not: a task can be woken by others too."""
        try:
            return cls.model_validate(event)
        except ValidationError:
            return None

    @classmethod
    def told(cls, event: object) -> str:
        """Return in a few words what woke a task."""
        read = cls.read(event)
        if read is None:
            return "not by the trigger."
        counts = [f"{len(ids):,} {status}" for status, ids in read.generation_ids.items()]
        words = {"finished": "the wait is over", "deadline": "the time is over", "error": "the wait failed"}
        words["callback"] = "the API called back"
        line = ": ".join([words[read.reason], ", ".join(counts)] if counts else [words[read.reason]])
        return f"{line}.\n{read.message}" if read.message else f"{line}."


class GptImageTrigger(BaseTrigger):
    """Wait until generations are completed or failed, holding no worker slot.

    A poll that fails for a passing reason doesn't end the wait; only the deadline does, or an error that
    waiting can't mend.

    :param gpt_image_conn_id: connection to poll with.
    :param generation_ids: 1 to 1,000 of them.
    :param deadline: when to give up, in seconds since 1970: wall-clock, so that a triggerer that takes over
        from another one keeps it.
    :param poll_interval: seconds from one poll to the next.
    :param enough: wake as soon as so many are finished, 1 to all of them; all by default. Those that aren't
        known any more or weren't in time count too, for there is nothing left to wait for.
    :param first_poll_at: seconds since 1970. Some seconds after the defer: a trigger that fires while the
        worker is still leaving makes the scheduler fail the task.
    :param so_far: how far the task is, for its log; as :class:`~airflow_gpt_image.triggers.tally.SoFar`. Of a
        single generation it also has the age, where the API doesn't tell it.
    :param kinds: what the generations are, in their order: pairs of a kind, as
        :func:`~airflow_gpt_image.polling.schedule.kind_of` has it, and how many are of it. They only say when
        to poll, so what can't be read there is no reason not to wait.
    :param later: what a newer release says besides; a triggerer that isn't updated yet waits all the same.
    :param report_every: seconds between two lines in the log. Not kept: a triggerer that takes over has the
        default.
    """

    def __init__(
        self,
        *,
        gpt_image_conn_id: str,
        generation_ids: Sequence[str],
        deadline: float,
        poll_interval: float,
        first_poll_at: float = 0.0,
        enough: int | None = None,
        so_far: Mapping[str, Any] | None = None,
        kinds: Sequence[Sequence[Any]] = (),
        report_every: float = REPORT_EVERY,
        **later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not 1 <= len(generation_ids) <= MOST_IDS:
            raise ValueError(f"{len(generation_ids)} generation ids; a trigger takes 1 to {MOST_IDS:,}.")
        size = sum(map(_stored_bytes, generation_ids))
        if size > _MAX_BYTES:
            raise ValueError(
                f"The generation ids take {size:,} bytes; a trigger takes at most {_MAX_BYTES:,}."
            )
        if enough is not None and not 1 <= enough <= len(generation_ids):
            raise ValueError(
                f"enough={enough!r} must be 1 to {len(generation_ids):,}, the number of generation ids; "
                "None means all of them."
            )
        self.gpt_image_conn_id = gpt_image_conn_id
        self.generation_ids = list(generation_ids)
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.first_poll_at = first_poll_at
        self.enough = enough
        self.so_far = dict(so_far) if so_far is not None else None
        self.kinds = kinds
        self._report_every = report_every

    @classmethod
    def deferral(
        cls,
        generation_ids: Sequence[str],
        *,
        gpt_image_conn_id: str,
        poll_interval: float,
        deadline: float,
        now: float,
        enough: int | None = None,
        so_far: SoFar | None = None,
        pause: float = 0.0,
        kinds: Sequence[str] = (),
        method_name: str = "execute_complete",
    ) -> dict[str, Any]:
        """Return the arguments for a ``defer`` that waits for generations and goes on in the method named.

        :param kinds: of each generation; none: unknown.
        :param pause: seconds until the first poll, at least: for one that is completed, whose image is late.
        """
        kinds = kinds if len(kinds) == len(generation_ids) else [""] * len(generation_ids)
        # Those of one kind stand together, so that there are few pairs, however many generations.
        order = sorted(range(len(kinds)), key=kinds.__getitem__)
        trigger = cls(
            gpt_image_conn_id=gpt_image_conn_id,
            generation_ids=[generation_ids[index] for index in order],
            kinds=[[kind, count] for kind, count in sorted(Counter(kinds).items())],
            deadline=deadline,
            poll_interval=poll_interval,
            first_poll_at=now + max(pause, defer_grace_seconds()),
            enough=enough,
            so_far=so_far.model_dump(mode="json", exclude_none=True) if so_far is not None else None,
        )
        seconds_left = max(pause, deadline - now, 0.0) + _DEFERRAL_MARGIN
        return {"trigger": trigger, "method_name": method_name, "timeout": timedelta(seconds=seconds_left)}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the database keeps, in plain text: ids, numbers and the connection's id."""
        return (
            "airflow_gpt_image.triggers.gpt_image.GptImageTrigger",
            {
                "gpt_image_conn_id": self.gpt_image_conn_id,
                "generation_ids": self.generation_ids,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "first_poll_at": self.first_poll_at,
                "enough": self.enough,
                "so_far": self.so_far,
                "kinds": self.kinds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Emit one :class:`WaitedEvent` as plain JSON."""
        enough = self.enough or len(self.generation_ids)
        count = len(self.generation_ids)
        few = "" if enough == count else f" (of which {enough:,} are enough)"
        tally = Tally(self.logger(), count, now=time.time(), so_far=self._told)
        tally.begin(f"The triggerer waits for {_counted(self.generation_ids)}{few}.")
        waits: list[Wait] = []
        self._report_later(tally)
        # All in one frame, for ten thousand may be kept at the same time.
        try:
            # Who begins within a fifth of a second begins together: each time that a loop wakes up costs.
            await asyncio.sleep(max(0.0, math.ceil(self.first_poll_at * 5) / 5 - time.time()))
            async with shared_poller(self.gpt_image_conn_id) as poller:
                try:
                    await poller.open()
                except GptImageError as error:
                    tally.give_up(self.generation_ids[0], error)
                else:
                    over = asyncio.get_running_loop().create_future()
                    await self._start_all(waits, poller, tally, over)
                    await over
        finally:
            for wait in waits:
                wait.cancel()
            self._reports.cancel()
        tally.end()
        event = self._event(tally, enough)
        yield TriggerEvent(event.model_dump(mode="json", exclude_none=True))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Log that the generations go on.

        Nothing is cancelled: the API has no call for it, and Airflow sometimes calls this without cause.
        """
        so_far = self._told()
        if so_far is not None and so_far.callback is not None:
            # Airflow calls this after a callback, too, and doesn't say so.
            self.logger().info("The wait was ended by a callback, or from outside.")
            return
        self.logger().warning(
            "The task was ended from outside.\nIt is paid for, goes on and stays on record: %s.",
            _counted(self.generation_ids),
        )

    def _event(self, tally: Tally, enough: int) -> WaitedEvent:
        if tally.finished_count >= enough:
            return WaitedEvent(reason="finished", generation_ids=tally.finished)
        timeouts = [failure for failure in tally.failures if isinstance(failure, GenerationTimeoutError)]
        others = [failure for failure in tally.failures if not isinstance(failure, GenerationTimeoutError)]
        reason: Literal["deadline", "error"] = "error" if others else "deadline"
        message = (others or timeouts)[0].message[:1000]
        return WaitedEvent(reason=reason, generation_ids=tally.finished, message=message)

    def _told(self) -> SoFar | None:
        """Return how far the task was, as the database has it; junk there is no reason not to wait."""
        try:
            return SoFar.model_validate(self.so_far)
        except ValidationError:
            return None

    def _kinds(self) -> Iterator[str]:
        """Return the kind of each generation, and then nothing but the empty one, which is unknown."""
        with suppress(TypeError, ValueError):
            for kind, count in self.kinds:
                yield from repeat(str(kind), min(int(count), MOST_IDS))
        yield from repeat("")

    def _report_later(self, tally: Tally) -> None:
        # No task of its own, which would cost ten times as much.
        loop = asyncio.get_running_loop()
        self._reports = loop.call_later(self._report_every, self._report, tally)

    def _report(self, tally: Tally) -> None:
        if tally.settled < len(self.generation_ids):
            self.logger().info("%s", tally.line(time.time()))
            self._report_later(tally)

    async def _start_all(
        self, waits: list[Wait], poller: SharedPoller, tally: Tally, over: asyncio.Future[None]
    ) -> None:
        """Start to wait. It is over when enough is settled, or when no other can be polled either."""
        so_far = self._told()
        single = len(self.generation_ids) == 1 and so_far is not None and not so_far.total
        for generation_id, kind in zip(self.generation_ids, self._kinds(), strict=False):
            if over.done():
                return
            waits.append(
                poller.start(
                    generation_id,
                    poll_interval=self.poll_interval,
                    deadline=self.deadline,
                    on_end=partial(self._settle, waits, tally, over, generation_id),
                    on_poll=tally.see,
                    on_unknown_status=tally.warn,
                    kind=kind,
                    since=so_far.since if single and so_far is not None else None,
                )
            )
            if len(waits) % _STARTED_AT_ONCE == 0:
                # The triggerer's loop is everybody's.
                await asyncio.sleep(0)

    # No function inside the other, which would keep half a kilobyte for each of ten thousand waits.
    def _settle(
        self,
        waits: list[Wait],
        tally: Tally,
        over: asyncio.Future[None],
        generation_id: str,
        generation: Generation | None,
        error: Exception | None,
    ) -> None:
        """Take the end of one generation's wait."""
        if over.done():
            return
        if generation is not None:
            tally.finish(generation_id, generation.status)
        elif not isinstance(error, GptImageError):
            over.set_exception(error or RuntimeError(f"The wait for {generation_id} has no end."))
            return
        else:
            tally.give_up(generation_id, error)
        # Another error concerns the connection or the account, so every other poll would meet it too.
        passing = error is None or isinstance(error, (GenerationTimeoutError, GenerationNotFoundError))
        if tally.settled >= (self.enough or len(self.generation_ids)) or not passing:
            over.set_result(None)
            # Now, for until the trigger has its turn others would be polled in vain.
            for wait in waits:
                wait.cancel()


def _counted(generation_ids: Sequence[str]) -> str:
    """Return which generations these are in a few words: one by its id, several by their number."""
    if len(generation_ids) == 1:
        return f"generation {generation_ids[0]}"
    return f"{len(generation_ids):,} generations, from {generation_ids[0]} on"
