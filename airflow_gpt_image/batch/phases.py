"""What a batch's items are at: each has one phase, and everything else is derived from that.

::

    to_submit ──> working ──> waiting ──> working ──> stored
    to_attach ───────────────────^  │        │
                     │              └────────┴──────> failed, unsettled
                     ├──> failed, unknown
                     └──> not_submitted

``working``: it is being submitted or stored, or pauses before it is tried again. ``waiting``: its generation
is polled, or its image is late. ``failed``: nothing is paid for, and it is not tried again in this attempt.
``unsettled``: it is paid for, and not waited for any more in this attempt. ``unknown``: nobody knows whether
it is paid for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, get_args

from airflow_gpt_image.batch.plan import Item
from airflow_gpt_image.ledger.record import Record

Phase = Literal[
    "to_submit",
    "to_attach",
    "working",
    "waiting",
    "stored",
    "failed",
    "unsettled",
    "unknown",
    "not_submitted",
]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

LOST: Final[tuple[Phase, ...]] = ("failed", "unsettled", "unknown")
"""Phases of items that have no image, and won't have one in this attempt."""


@dataclass(slots=True)
class Entry:
    """
    An item and what it is at.

    :param record: the one that counts, of those that are known.
    :param asked_at: when its image, which is late, is asked for again, in seconds of a monotonic clock; 0: it
        isn't late.
    :param found: the generation that was found finished by the worker that submitted it.
    """

    item: Item
    phase: Phase
    record: Record | None = None
    asked_at: float = 0.0
    found: str = ""


class ItemTable:
    """The items of a plan by their phases. Used by one thread."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._entries = [Entry(item, "not_submitted") for item in items]
        # In the order in which they came to it.
        self._by_phase: dict[Phase, dict[int, Entry]] = {phase: {} for phase in PHASES}
        self._by_phase["not_submitted"].update(enumerate(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def move(self, entry: Entry, phase: Phase, record: Record | None = None) -> None:
        """Put an item into a phase; with the record that counts from now on, if that changes."""
        if record is not None:
            entry.record = record
        if phase != entry.phase:
            index = entry.item.index
            del self._by_phase[entry.phase][index]
            entry.phase = phase
            self._by_phase[phase][index] = entry

    def count(self, *phases: Phase) -> int:
        """Return how many items are in these phases."""
        return sum(len(self._by_phase[phase]) for phase in phases)

    def entries(self, *phases: Phase) -> list[Entry]:
        """Return the items in these phases, in the order in which they came to them."""
        return [entry for phase in phases for entry in self._by_phase[phase].values()]

    def indexes(self, *phases: Phase) -> set[int]:
        """Return the indexes of the items in these phases."""
        return {index for phase in phases for index in self._by_phase[phase]}

    def first(self, phase: Phase) -> Entry | None:
        """Return the item that came first to a phase."""
        return next(iter(self._by_phase[phase].values()), None)

    def place(self, indexes: Iterable[int], phase: Phase) -> None:
        """Put items into a phase by their indexes."""
        for index in indexes:
            if index < len(self._entries):
                self.move(self._entries[index], phase)

    def at(self, indexes: Collection[int]) -> list[Entry]:
        """Return the items of these indexes, in the plan's order."""
        return [self._entries[index] for index in sorted(indexes) if index < len(self._entries)]

    @property
    def lost(self) -> int:
        """Return how many have no image, and won't have one in this attempt."""
        return self.count(*LOST)

    @property
    def done(self) -> int:
        """Return how many nothing more is done for in this attempt."""
        return self.count("stored", *LOST)

    def credits(self, phase: Phase) -> Decimal:
        """Return what the items in a phase cost together."""
        return sum((entry.item.credits for entry in self._by_phase[phase].values()), Decimal(0))
