"""Whose destination it is: two tasks at one destination exclude each other.

Each task instance has a lock file of its own under ``locks/``.

1. Whoever comes writes his lock, and only then looks for others'. Of two that come at the same time at least
   one sees the other's, and yields; at worst both do. No exclusive creation is needed, which not every store
   has; only that a listing shows what was just written. Whoever doesn't find his own lock in it yields, too.
2. Whoever holds the destination doesn't yield as long as his lock stands: who comes later sees it, and goes.
   So somebody who only tries can't drive away the one at work.
3. A lock whose owner has ended in Airflow, or that Airflow doesn't know, is removed. While Airflow can't be
   asked, or says anything else, it stands. If it was at work when it wrote its lock, its worker may be for
   some seconds more: the lease waits for it. A lock ends by itself ``lock_expires_after`` seconds after its
   last renewal.
4. A lock of the same task instance from another try is taken over. If that try was at work when it wrote it,
   it may still be: the lease waits for it. And a try that finds its own lock taken over stops.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.errors import DestinationTakenError
from airflow_gpt_image.ledger.payer import TaskInstance
from airflow_gpt_image.ledger.timing import Clock, SystemClock
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder

LOCKS: Final = "locks"

_LARGEST: Final = 10_000

# The year 9999, which is as far as dates go.
_END_OF_TIME: Final = 253_000_000_000.0

ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States in Airflow of a task instance that is not at work and won't be by itself."""


HasEnded = Callable[[TaskInstance], bool]
"""Tells whether a task instance has ended for certain."""


def ended_in_airflow(ti: Any) -> HasEnded:
    """
    Return the question to Airflow whether a task instance has ended, or isn't known to it.

    :param ti: the task instance that asks.
    """

    def has_ended(owner: TaskInstance) -> bool:
        try:
            states = ti.get_task_states(
                owner.dag_id, map_index=owner.map_index, task_ids=[owner.task_id], run_ids=[owner.run_id]
            )
            return all(state in ENDED for state in states.get(owner.run_id, {}).values())
        except Exception:  # noqa: BLE001  # whatever keeps it from answering: nobody knows
            return False

    return has_ended


class _LockFile(BaseModel):
    """
    A lock as it is written.

    :param ti_id: Airflow's id of the try that wrote it.
    :param at_work: that a worker wrote it that was to go on; False: its task was about to be deferred.
    :param until: when it ends by itself, in seconds since 1970.
    :param mark: tells this writing from every other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    owner: TaskInstance
    ti_id: str
    at_work: bool
    until: float = Field(ge=0, le=_END_OF_TIME)
    mark: str

    @property
    def data(self) -> bytes:
        return self.model_dump_json().encode()


class DestinationLock:
    """
    One task instance's lock on a destination.

    :param ti_id: Airflow's id of this try.
    """

    def __init__(
        self,
        folder: Folder,
        owner: TaskInstance,
        ti_id: str,
        log: Log,
        *,
        has_ended: HasEnded,
        timing: Timing = Timing(),
        clock: Clock = SystemClock(),
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._ti_id = ti_id
        self._log = log
        self._has_ended = has_ended
        self._timing = timing
        self._clock = clock
        self._name = f"{LOCKS}/{owner.instance_digest}.json"
        self._written: _LockFile | None = None
        self._held: _LockFile | None = None

    def acquire(self, *, until: float | None = None) -> bool:
        """
        Take the destination, or renew that.

        :param until: the task is about to be deferred until then, in seconds since 1970; None: it is at work.
        :return: whether another worker may still be at work for some seconds: another try of this task
            instance, or that of a task that was ended while it ran.
        :raises DestinationTakenError: when another task's lock stands, or the store doesn't show ours.
        :raises DestinationError: when the destination doesn't answer.
        """
        now = self._clock.now().timestamp()
        there = self._read(self._name)
        stands = self._held is not None and self._held.until > now and there == self._held
        earlier = there is not None and there.owner == self._owner and there.ti_id != self._ti_id
        if earlier and self._held is not None:
            raise self._taken_over()
        ours = _LockFile(
            owner=self._owner,
            ti_id=self._ti_id,
            at_work=until is None,
            until=min((now if until is None else until) + self._timing.lock_expires_after, _END_OF_TIME),
            mark=uuid4().hex,
        )
        self._written = ours
        self._folder.write(self._name, ours.data)
        sizes = self._folder.sizes(LOCKS)
        if self._name not in sizes or self._read(self._name) != ours:
            raise self._taken_over()
        others_at_work = [
            self._yield_to(name, size, now)
            for name, size in sizes.items()
            if name != self._name and not stands
        ]
        self._held = ours
        return (earlier and there is not None and there.at_work) or any(others_at_work)

    def check(self) -> None:
        """
        Refuse a POST at a destination that may be another task's by now: whoever slept has to renew first.

        :raises DestinationTakenError: when the lock has ended; nothing was submitted.
        """
        if self._held is None or self._held.until <= self._clock.now().timestamp():
            raise DestinationTakenError(
                f"The lock {self._folder.address(self._name)} has ended meanwhile,\n"
                "and another task may be at work there.\n"
                "This one submits nothing more."
            )

    def release(self) -> None:
        """Give the destination free, unless another try of this task instance has taken the lock over."""
        mine, self._held, self._written = self._written, None, None
        if mine is not None and self._read(self._name) == mine:
            self._folder.remove(self._name)

    def _read(self, name: str) -> _LockFile | None:
        data = self._folder.read(name)
        try:
            return None if data is None else _LockFile.model_validate_json(data[:_LARGEST])
        except (ValidationError, RecursionError):
            return None

    def _yield_to(self, name: str, size: int, now: float) -> bool:
        """Yield to another's lock, unless that has ended; return whether its owner may be at work."""
        data = self._folder.read(name) if size <= _LARGEST else b""
        if data is None:
            return False
        try:
            theirs = _LockFile.model_validate_json(data)
        except (ValidationError, RecursionError):
            self.release()
            raise DestinationTakenError(
                f"{self._folder.address(name)} is no lock of this release,\n"
                "so nobody knows whether another task is at work here.\n"
                "Remove it if none is."
            ) from None
        expired = theirs.until + self._timing.clock_difference < now
        if expired or self._has_ended(theirs.owner):
            self._log.warning("The lock of %s on this destination has ended; it is removed.", theirs.owner)
            self._folder.remove(name)
            # Airflow ends the worker of a task that was marked failed some seconds later.
            return theirs.at_work and not expired
        self.release()
        until = datetime.fromtimestamp(theirs.until, UTC).isoformat(timespec="seconds")
        raise DestinationTakenError(
            f"The destination is locked by {theirs.owner},\n"
            f"until that is done, or until {until} at the latest.\n"
            "Two tasks there would take each other's records for their own.\n"
            "Give each run its own destination, such as …/{{ run_id }}, or let the next try come later.\n"
            f"If that task is gone for good, remove {self._folder.address(name)}."
        )

    def _taken_over(self) -> DestinationTakenError:
        return DestinationTakenError(
            f"{self._folder.address(self._name)} was written and can't be seen there.\n"
            "Either another try of this task is at work, or the store shows old listings, and can't keep two "
            "runs "
            "apart.\n"
            "This one submits nothing more."
        )
