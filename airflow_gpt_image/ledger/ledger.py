"""The records of a task that makes one image, in two places: Airflow's task state store, and a folder.

Neither place is trusted alone. Airflow 3.4 empties the store on a clear; the store is keyed by the map index,
which is a position; it can be away just when an answer comes; and a folder can be an unmounted one, or a
pod's own disk. How they are read, ``reading.py`` tells. They are written so:

1. An intent goes to every place before the POST, to the store last: that write is the fence.
2. What came of the POST is written until each place has it, or time is up; it has to reach one.
3. What could not be read is never written over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    LedgerError,
    ReplacedError,
)
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.payer import Payer, Slot
from airflow_gpt_image.ledger.reading import LedgerReader
from airflow_gpt_image.ledger.record import Record, latest_versions
from airflow_gpt_image.ledger.task_state import ImageTaskState, Waiting


class Ledger(LedgerReader):
    """The records of one task instance, read and written."""

    _pays = False
    _fenced_at = float("-inf")

    def write_intent(self, intent: Record, *, deadline: float, shared: str | None = None) -> bool:
        """
        Put an intent in every place, in the store last.

        :param deadline: until when this attempt will wait for the generation, in seconds since 1970.
        :param shared: a name under which other runs shall find it.
        :return: False when another run has just put its intent under that name, or an image is stored
            there; then nothing may be submitted.
        :raises DestinationError: when the folder doesn't take it.
        :raises LedgerError: when the store doesn't. Nothing may be submitted.
        """
        self._pays = True
        if self.folder is not None:
            try:
                if shared is None:
                    self.folder.write(intent)
                else:
                    intent = intent.model_copy(update={"name": shared})
                    holder = self.sidecar(shared, intent.fingerprint)
                    if holder is not None and holder.state == "stored":
                        return False  # this worker was frozen since it looked
                    self.keep(holder)
                    self.folder.write_sidecar(intent, shared)
                    kept = self.folder.read_sidecar(shared, intent.fingerprint)
                    if kept is not None and not kept.payer.same_instance(self.payer):
                        return False
            except DestinationError as error:
                # It may have been written nevertheless. If that can't be taken back, it is unknown.
                with suppress(DestinationError):
                    self.folder.write(intent.not_accepted(error, self.clock.now()))
                self._pays = False
                raise DestinationError(
                    f"{error.message}\nNothing was submitted: an image could not be stored there.\n"
                    "Make the destination writable, or give another one."
                ) from error
        waiting = Waiting(fingerprint=intent.fingerprint, generation_id=None, deadline=deadline, reused=False)
        try:
            self._write_store(intent, waiting)
        except LedgerError as error:
            # Of a write that failed nobody knows whether it was carried out.
            withdrawn = intent.not_accepted(error, self.clock.now())
            write = self._write_folder if self.folder is not None else self._write_store
            self._insist("taken back", [lambda: write(withdrawn)])
            raise
        self._note(intent)
        return True

    def keep(self, holder: Record | None) -> None:
        """
        Put a record whose place under a shared name is taken into its own task's records: it may be the only
        one. Not that of a worker that may be at work: it sees that its place is taken, and submits nothing.

        :raises DestinationError: when the folder doesn't take it.
        """
        if self.folder is None or holder is None or holder.payer.same_attempt(self.payer):
            return
        if not holder.may_be_under_way(self.clock.now()):
            RecordsFolder(self.folder.folder, holder.payer.task_digest).write(holder)

    def renew_fence(self, intent: Record) -> None:
        """
        Make sure, right before a POST, that this worker has not been replaced.

        :raises LedgerError: when it was, or that can't be told. Nothing may be submitted.
        """
        if self.clock.elapsed() - self._fenced_at <= self.timing.fence_valid:
            return
        later = self.clock.now() + (intent.answer_by - intent.intended_at)
        renewed = intent.model_copy(update={"answer_by": later})
        self._write_folder(renewed)
        self._write_store(renewed, self.waiting)

    def write_outcome(self, record: Record) -> None:
        """
        Put on record what came of a submit, in both places; again and again, until time is up.

        :raises LedgerError: when no place took it, or when this worker was replaced.
        """
        waiting = self.waiting
        if waiting is not None and waiting.fingerprint == record.fingerprint:
            waiting = waiting.model_copy(update={"generation_id": record.generation_id})
        self._note(record)
        writes: list[Callable[[], None]] = [lambda: self._write_store(record, waiting)]
        if self.folder is not None:
            writes.insert(0, lambda: self._write_folder(record))
        what = record.generation_id or record.state
        self._insist(f"put on record as {what}", writes)

    def write_stored(self, record: Record, names: Sequence[str], *, moved: bool = False) -> None:
        """
        Put on record that the images are where they belong: beside each image, then in the store.

        :param names: of the images, without their endings; empty when they stay where the API put them.
        :param moved: that they aren't where the record of the submit says, so that has to be put right.
        :raises DestinationError: when the folder doesn't take it.
        :raises LedgerError: when the store doesn't.
        """
        if self.folder is not None:
            for name in reversed(names):
                self.folder.write_sidecar(record, name)
            if moved or not names:
                self.folder.write(record)
        self._note(record)
        self._insist("put on record as stored", [lambda: self._write_store(record, self.waiting)])

    def wait_for(self, record: Record, *, deadline: float, reused: bool) -> None:
        """
        Put on record what this attempt waits for, unless that stands there already.

        :raises LedgerError: when the store doesn't take it.
        """
        waiting = Waiting(
            fingerprint=record.fingerprint,
            generation_id=record.generation_id,
            deadline=deadline,
            reused=reused,
        )
        if waiting != self.waiting:
            self._note_adoption(record)
            self._note(record)
            self._write_store(record, waiting)

    def _note_adoption(self, record: Record) -> None:
        """
        Note in the folder that this task instance paid for nothing, where it takes what another one paid for.

        Else a clear that empties the store would leave no trace of it. But what it did pay for stands in the
        store alone, perhaps.
        """
        if self.folder is None or record.payer.same_instance(self.payer):
            return
        if any(own.payer.same_instance(self.payer) and own.state != "failed" for own in self._records):
            self.restore()
            return
        if self._listing.has_trace_of(self.payer):
            return
        if self._state is None and self.maybe_cleared:
            return  # earlier attempts may have paid: that is what nobody knows
        try:
            self.folder.write_note(self.payer)
        except DestinationError as error:
            self._log.warning("It could not be noted that nothing is paid for: %s", error.message)

    def restore(self) -> None:
        """
        Put all that this task instance paid for back into the folder where it is missing there.

        All of it: after that the folder counts as one that has its records. The store has them, so it may
        fail.
        """
        for record in self._records:
            ours = record.payer.same_instance(self.payer) and record.state != "failed"
            if self.folder is None or not ours or self.folder.path_of(record) in self._folder_has:
                continue
            try:
                self.folder.write(record)
            except DestinationError as error:
                self._log.warning("The record is in Airflow's task state store alone: %s", error.message)

    def note_attempt(self) -> None:
        """Note that this attempt paid for nothing, where no record says so: a later clear can tell then."""
        if not self._was_read:
            self.read()
        unread = bool(self._errors) and not self.history.first_run  # before the first run there was nothing
        if unread or self._state is not None or self._records or self._pays:
            return
        if self.maybe_cleared and not self._listing.is_noted(self.payer):
            return  # earlier attempts may have paid: that is what nobody knows
        # Each place for itself: one that is away now may be the one that is left later.
        writes: list[Callable[[], None]] = [lambda: self._write(self._new_state(None, None))]
        if self.folder is not None:
            writes.append(partial(self.folder.write_note, self.payer))
        for write in writes:
            try:
                write()
            except GptImageError as error:
                self._log.warning("It could not be noted that nothing is paid for: %s", error.message)

    def _write_folder(self, record: Record) -> None:
        # What another run paid for is on record in its own place.
        if self.folder is not None and record.payer.same_task(self.payer):
            self.folder.write(record)

    def _write_store(self, record: Record, waiting: Waiting | None = None) -> None:
        self._write(self._new_state(record, waiting))

    def _new_state(self, record: Record | None, waiting: Waiting | None) -> ImageTaskState:
        records = [*self._records, *([record] if record is not None else [])]
        return ImageTaskState(
            clear_epoch=self.payer.clear_epoch,
            records_at=self.folder.address if self.folder is not None else None,
            # What failed before the last clear says nothing any more.
            records=tuple(
                each
                for each in latest_versions(records)
                if each.state != "failed" or each.payer.same_epoch(self.payer)
            ),
            waiting=waiting,
        )

    def _write(self, state: ImageTaskState) -> None:
        began = self.clock.elapsed()
        if not self._store_is_read:
            # It could not be read before, and what it has on record must not be lost.
            known = latest_versions([*self._read_store(), *state.records])
            state = state.model_copy(update={"records": tuple(known)})
        self._document.write(state)
        self._state, self._fenced_at = state, began

    def _insist(self, what: str, writes: list[Callable[[], None]]) -> None:
        """Carry out all writes, again and again; one that succeeds is enough in the end."""
        give_up_at = self.clock.elapsed() + self.timing.give_up_after
        taken = False
        replaced: ReplacedError | None = None
        failure: GptImageError | None = None
        while True:
            for write in list(writes):
                try:
                    write()
                except ReplacedError as error:
                    replaced, failure = error, error
                    writes.remove(write)
                    self._log.warning("It could not be %s in the task state store: %s", what, error.message)
                except (LedgerError, DestinationError) as error:
                    failure = error
                    self._log.warning("It could not be %s yet: %s", what, error.message)
                else:
                    taken = True
                    writes.remove(write)
            if replaced is not None and (taken or not writes):
                raise replaced
            if not writes:
                return
            if self.clock.elapsed() >= give_up_at:
                if taken:
                    self._log.warning("It was %s in one place of two.", what)
                    return
                raise LedgerError(f"It could not be {what}: {failure}") from failure
            self.clock.sleep(self.timing.retry_every)


def slot_of(payer: Payer) -> Slot:
    """Return the slot of a task that makes one image."""
    return Slot(map_index=payer.map_index)
