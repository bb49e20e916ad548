"""The records of a plan's items, as a batch reads them at its destination, and what it writes there.

An item is told by four facts: its fingerprint, its variant, its copy, and the map index of the task. After a
clear the first three suffice: a mapped list may have been put in another order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from decimal import Decimal
from itertools import chain
from threading import Lock
from typing import NamedTuple

from airflow_gpt_image.batch.filenames import StoredFiles, is_named_for
from airflow_gpt_image.batch.plan import ITEMS, Item
from airflow_gpt_image.ledger.destination import RecordFile, RecordsFolder, are_images_in
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import Record, latest_versions, net_spent
from airflow_gpt_image.ledger.siblings import take_from_siblings


class Identity(NamedTuple):
    """What tells an item from the others, but for the map index."""

    fingerprint: str
    variant: int
    copy: int

    @staticmethod
    def of(about: Item | RecordFile | Record) -> Identity:
        """Return what an item, a record or its file is about."""
        return Identity(about.fingerprint, about.slot.variant, about.slot.copy)


class BatchRecords:
    """
    The records of a plan's items, as far as they are read. May be used by many threads at once.

    :param threads: carry out what is read; stores answer slowly, and many at a time.
    :param cleared: that the task instance was cleared.
    :param adopts: that after a clear another map index's records may be taken.
    """

    def __init__(
        self, folder: RecordsFolder, threads: Executor, payer: Payer, *, cleared: bool, adopts: bool = True
    ) -> None:
        self.folder = folder
        self._threads = threads
        self._payer = payer
        self._cleared = cleared
        self._adopts = adopts
        self._known: dict[Identity, list[Record]] = {}
        self._payers: dict[Payer, Payer] = {}
        self._ids: set[str] = set()
        self._changing_ids = Lock()
        self.adopted = 0
        self.files = StoredFiles(folder.folder)

    # --- reading

    def load(self, items: Iterable[Item], *, with_spent: bool = False) -> None:
        """
        Read the records of these items: two listings, and one or two small files for each that has any.

        :param with_spent: read also what this task instance spent since its last clear on other items.
        :raises DestinationError: when one can't be read, or makes no sense.
        """
        items = list(items)
        listing = self.folder.list()
        files: defaultdict[Identity, list[RecordFile]] = defaultdict(list)
        for file in listing.files:
            files[Identity.of(file)].append(file)
            if file.generation_id is not None:
                self._ids.add(file.generation_id)
        sizes = self.files.refresh(ITEMS)
        # Of most items nothing is there, and a thread has nothing to read.
        found_of = [item for item in items if Identity.of(item) in files or f"{item.name}.json" in sizes]
        for record in chain.from_iterable(
            self._threads.map(lambda item: self._read(item, files, sizes), found_of)
        ):
            self.add(record)
        if with_spent:
            planned = set(map(Identity.of, items))
            others = [
                file for file in listing.files if Identity.of(file) not in planned and self._is_own(file)
            ]
            for found in self._threads.map(self.folder.read, others):
                if found is not None:
                    self.add(found)

    def _read(
        self, item: Item, files: Mapping[Identity, list[RecordFile]], sizes: Mapping[str, int]
    ) -> Sequence[Record]:
        """Read all that is on record about an item; what is stored is told by the sidecar alone."""
        about = files.get(Identity.of(item), [])
        own = [file for file in about if file.slot.map_index == item.slot.map_index]
        found = self._sidecar(item, about, sizes)
        if found and found[0].state == "stored":
            # What was paid for beside it since the last clear counts as spent.
            payer = found[0].payer
            own = [file for file in own if self._is_own(file) and file.attempt != payer.attempt]
        elif not found and not own and self._adopts:
            return self._of_siblings(about)
        return [*found, *self.folder.verified(self.folder.read_all(own), self.files.size)]

    def _of_siblings(self, files: Iterable[RecordFile]) -> Sequence[Record]:
        """Return what another map index had on record before a clear; each index takes another one's."""
        others = self.folder.read_all(files)
        taken = take_from_siblings(others, self._payer, cleared=self._cleared)
        found = self.folder.verified(taken, self.files.size)
        self.adopted += bool(found)
        return found

    def _sidecar(self, item: Item, about: Iterable[RecordFile], sizes: Mapping[str, int]) -> list[Record]:
        if f"{item.name}.json" not in sizes:
            return []
        record = self.folder.read_sidecar(item.name, item.fingerprint)
        if record is None:
            why = "it is about another request, or gone meanwhile"
            raise self.folder.not_a_record(f"{item.name}.json", why)
        record = record if are_images_in(record, ITEMS) else record.not_stored()
        payer = record.payer
        submit = (payer.clear_epoch, payer.attempt)
        if any(file.is_of(payer) and (file.clear_epoch, file.attempt) == submit for file in about):
            self.files.note_owner(record, item.name)
            return [self.folder.checked(record, self.files.size)]
        return self._foreign(item, record)

    def _foreign(self, item: Item, record: Record) -> list[Record]:
        """Return a sidecar of whose submit no record tells: anybody wrote it, and only its image counts."""
        its = record.state == "stored" and is_named_for(record, item.file or item.name, item.name)
        if not its or not self.folder.has_images(record, self.files.size):
            return []
        self.files.note_owner(record, item.name)
        images = tuple(image.model_copy(update={"url": ""}) for image in record.images)
        changes = {"charges": 0, "refunds": 0, "credits": item.credits, "images": images, "warnings": ()}
        return [record.model_copy(update=changes)]

    def _is_own(self, file: RecordFile) -> bool:
        return file.is_of(self._payer) and file.clear_epoch == self._payer.clear_epoch

    def of(self, item: Item) -> list[Record]:
        """Return all that is known about an item; nothing unless it was loaded."""
        return self._known.get(Identity.of(item), [])

    def add(self, record: Record) -> Record:
        """
        Take a record for known; return it as it is kept.

        It is kept without the request, which the plan has, without what only its file tells, and with a payer
        that many share: ten thousand of them stay in memory.
        """
        payer = self._payers.setdefault(record.payer, record.payer)
        record = record.model_copy(update={"request": None, "generation": None, "payer": payer})
        key = Identity.of(record)
        self._known[key] = latest_versions([*self._known.get(key, []), record])
        if record.generation_id is not None:
            self._ids.add(record.generation_id)
        return record

    def is_known(self, generation_id: str) -> bool:
        """Return whether an id is another submit's already; from now on it is."""
        with self._changing_ids:
            known = generation_id in self._ids
            self._ids.add(generation_id)
        return known

    def spent(self) -> tuple[Decimal, Decimal]:
        """Return the credits charged and refunded since the last clear, by the records that are read."""
        return net_spent(chain.from_iterable(self._known.values()), self._payer)

    # --- writing

    def write(self, record: Record) -> Record:
        """
        Put a record in its place; return it as it is kept.

        :raises DestinationError: when the destination doesn't take it.
        """
        self.folder.write(record)
        return self.add(record)

    def write_stored(self, record: Record, name: str) -> Record:
        """
        Put a stored record among the images; return it as it is kept.

        :raises DestinationError: when the destination doesn't take it.
        """
        self.folder.write_sidecar(record, name)
        self.files.note_owner(record, name)
        return self.add(record)
