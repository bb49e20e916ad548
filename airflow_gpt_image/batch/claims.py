"""Whose destination it is: two tasks over one destination exclude each other.

Whoever comes writes a claim under a name of his own, and only then looks for others'. So of two that come at
the same time at least one sees the other, and gives way; at worst both do. That needs no exclusive creation,
which not every store has, only that a listing shows what was just written: whoever doesn't find his own claim
in it gives way, too.

Whoever holds it looks for others' no more as long as his claim stands: who comes later sees that, and goes.
So somebody who only tries can't drive away the one at work.

A claim ends by itself, so that a killed worker doesn't keep a destination for ever. The same task instance
takes its own claim again: its tries are kept apart by the lease in the task state store.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import DestinationTakenError
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder

CLAIMS: Final = "claims"

AT_WORK: Final = 600.0
"""Seconds that a claim holds beyond its last renewal; clocks of workers differ by less."""

# A claim that ended is let be for so long, for clocks differ.
_CLOCKS_DIFFER: Final = 60.0
_LARGEST: Final = 10_000

# The year 9999, which is as far as dates go.
_END_OF_TIME: Final = 253_000_000_000.0


class Owner(BaseModel):
    """A task instance, whatever its try."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @property
    def digest(self) -> str:
        """Tells it from every other one, in 64 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{quote(self.dag_id)}, run {quote(self.run_id)}, task {quote(self.task_id)}{mapped}"


class _Written(BaseModel):
    """A claim: ``until`` in seconds since 1970, ``mark`` tells this writing from every other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: Owner
    until: float = Field(ge=0, le=_END_OF_TIME)
    mark: str

    @property
    def data(self) -> bytes:
        """As it stands in the file."""
        return self.model_dump_json().encode()


class Claim:
    """One task instance's claim on a destination."""

    def __init__(self, folder: Folder, owner: Owner, log: Log) -> None:
        self._folder = folder
        self._owner = owner
        self._log = log
        self._name = f"{CLAIMS}/{owner.digest[:32]}.json"
        self._held: _Written | None = None

    def hold(self, until: float) -> None:
        """
        Take or renew it.

        :param until: seconds since 1970.
        :raises DestinationTakenError: when another task's claim stands, or the store doesn't show ours.
        :raises DestinationError: when the destination doesn't answer.
        """
        held = self._held is not None and self._held.until > time.time() and self._shows(self._held)
        ours = _Written(owner=self._owner, until=min(until, _END_OF_TIME), mark=uuid4().hex)
        self._folder.write(self._name, ours.data)
        there = self._folder.sizes(CLAIMS)
        if self._name not in there or not self._shows(ours):
            raise DestinationTakenError(
                f"{self._folder.address(self._name)} was written and can't be seen there. Either another try "
                "of this task is at work, or the store shows old listings, and can't keep two runs apart."
            )
        for name, size in there.items():
            if name != self._name and not held:
                self._give_way_to(name, size)
        self._held = ours

    def release(self) -> None:
        """Give the destination free."""
        self._held = None
        self._folder.remove(self._name)

    def _shows(self, claim: _Written) -> bool:
        return self._folder.read(self._name) == claim.data

    def _give_way_to(self, name: str, size: int) -> None:
        data = self._folder.read(name) if size <= _LARGEST else b""
        if data is None:
            return
        try:
            theirs = _Written.model_validate_json(data)
        except (ValidationError, RecursionError):
            self.release()
            raise DestinationTakenError(
                f"{self._folder.address(name)} is no claim of this release, so nobody knows whether another "
                "task is at work here. Remove it if none is."
            ) from None
        if theirs.until + _CLOCKS_DIFFER < time.time():
            self._log.warning("The claim of %s on this destination has ended; it is removed.", theirs.owner)
            self._folder.remove(name)
            return
        self.release()
        until = datetime.fromtimestamp(theirs.until, UTC).isoformat(timespec="seconds")
        raise DestinationTakenError(
            f"The destination is claimed until {until} at the latest, or until it is done, by "
            f"{theirs.owner}. Two tasks there would take each other's records for their own. Give each run a "
            "destination of its own, such as …/{{ ds }}, or let the next try come later; if that task is "
            f"gone for good, remove {self._folder.address(name)}."
        )
