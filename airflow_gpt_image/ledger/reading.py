"""What is on record for a task that makes one image: both places read, siblings and other runs looked for.

1. Reading takes both places, and the record furthest along counts. A place that can't be read matters only
   when the other one isn't decisive; then it is an error that is retried, never "nothing there".
2. A folder that held records, as the store knows, and holds none now, is an error.
3. A clear of which no record tells is not a first try: only the author's word pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    LedgerError,
    RecordMissingError,
)
from airflow_gpt_image.ledger.destination import Listing, RecordsFolder, emptied_error
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import (
    GenerationFacts,
    Record,
    latest_versions,
    net_spent,
    redacted_request,
)
from airflow_gpt_image.ledger.siblings import take_from_siblings
from airflow_gpt_image.ledger.submitting import intent_digest, same_id_error
from airflow_gpt_image.ledger.task_state import (
    IMAGE_KEY,
    Document,
    ImageTaskState,
    TaskStateStore,
    ToldId,
    Waiting,
    told_key,
)
from airflow_gpt_image.ledger.timing import Clock, SystemClock, Timing
from airflow_gpt_image.log import Log


class LedgerReader:
    """
    What is on record for one task instance, read from both places.

    :param store: Airflow's task state store of the task instance.
    :param folder: has the task's records, too; None: the store alone has them.
    :param payer: this attempt.
    """

    def __init__(
        self,
        store: TaskStateStore,
        folder: RecordsFolder | None,
        payer: Payer,
        history: History,
        log: Log,
        *,
        clock: Clock = SystemClock(),
        timing: Timing = Timing(),
    ) -> None:
        self.payer = payer
        self.folder = folder
        self.history = history
        self.clock = clock
        self.timing = timing
        self._log = log
        self._store = store
        self._document = Document(store, IMAGE_KEY, ImageTaskState)
        self._state: ImageTaskState | None = None
        self._listing = Listing([], set())
        self._records: list[Record] = []
        self._folder_has: set[str] = set()
        self._errors: list[GptImageError] = []
        self._was_read = False
        self._store_is_read = False

    def read(self) -> None:
        """Read both places; whatever can't be read is remembered for :meth:`check_readable`."""
        self._was_read = True
        self._errors.clear()
        try:
            self._note(*self._read_store())
        except LedgerError as error:
            self._errors.append(error)
        if self.folder is not None:
            try:
                self._listing = self.folder.list()
                self._note(*self._own_files(self.folder))
            except DestinationError as error:
                self._errors.append(error)

    def _read_store(self) -> Iterable[Record]:
        self._store_is_read = False
        self._state = self._document.read()
        self._store_is_read = True
        return self._state.records if self._state is not None else ()

    def _note(self, *records: Record) -> None:
        self._records = latest_versions([*self._records, *records])

    def _own_files(self, folder: RecordsFolder) -> Iterable[Record]:
        own = [file for file in self._listing.files if file.is_of(self.payer)]
        self._folder_has = {file.path for file in own}
        return folder.read_all(own)

    @property
    def cleared(self) -> bool:
        """Return whether the task instance was cleared, as far as can be told."""
        known = self._state is not None and self._state.clear_epoch < self.payer.clear_epoch
        return known or self.history.cleared

    @property
    def maybe_cleared(self) -> bool:
        """Return whether the task instance was cleared, or a clear can't be excluded."""
        return self.cleared or self.history.maybe_cleared

    def check_readable(self) -> None:
        """
        Raise what kept a place from being read.

        :raises LedgerError: when it was the store.
        :raises DestinationError: when it was the folder.
        """
        if self._errors:
            raise self._errors[0]

    def find(self, fingerprint: str) -> Sequence[Record]:
        """
        Return what is on record about a request: this task instance's records, or after a clear its
        siblings'.

        A mapped list may have been shifted: then the record of what stands at this index now is under another
        one.
        """
        found: Sequence[Record] = [r for r in self._records if r.fingerprint == fingerprint]
        if self.folder is None:
            return found
        try:
            if all(record.state == "failed" for record in found):
                found = self._of_siblings(self.folder, fingerprint, found) or found
            return self.folder.verified(found)
        except DestinationError as error:
            self._errors.append(error)
            return [record.not_stored() if record.in_files else record for record in found]

    def _of_siblings(self, folder: RecordsFolder, fingerprint: str, failed: Sequence[Record]) -> list[Record]:
        if not self.history.mapped:
            return []
        others = [f for f in self._listing.files if f.fingerprint == fingerprint and not f.is_of(self.payer)]
        failed_at = max((record.payer.run_clears for record in failed), default=-1)
        read = folder.read_all(others)
        return take_from_siblings(read, self.payer, cleared=self.cleared, failed_at=failed_at)

    def sidecar(self, name: str, fingerprint: str) -> Record | None:
        """Return the record beside an image of this name, if its images are there, whoever stored them."""
        if self.folder is None:
            return None
        try:
            record = self.folder.read_sidecar(name, fingerprint)
            if record is None or record.state != "stored":
                return record
            return self.folder.inspect_images(record, name)
        except DestinationError as error:
            self._errors.append(error)
            return None

    def holder(self, name: str) -> Record | None:
        """
        Return the record beside an image of this name, whatever request it is about.

        :raises DestinationError: when it can't be read, or is no record.
        """
        return self.folder.read_sidecar(name) if self.folder is not None else None

    def check_is_ours(self, record: Record) -> None:
        """
        Refuse a generation whose id the API gave to another submit as well: whose it is, nobody knows.

        Of several submits with one id the first keeps it.

        :raises SubmissionUnknownError: when another one was first.
        :raises DestinationError: when the folder can't be read.
        """
        if self.folder is None or not self.history.mapped or not record.payer.same_task(self.payer):
            return
        mine = self.folder.path_of(record)
        listed = self.folder.list().files
        same_id = [f for f in listed if f.generation_id == record.generation_id and f.path != mine]
        others = [found for found in self.folder.read_all(same_id) if found.submitted_at is not None]
        first = min([record, *others], key=lambda each: (each.submitted_at or each.intended_at, each.slot))
        if first is not record:
            raise same_id_error(record.generation_id, first.payer)

    def find_shared(self, name: str, fingerprint: str, *, fresh_after: datetime) -> list[Record]:
        """
        Return what is on record under a name that follows from the request alone, so that every run looks
        there.

        :param name: of the image, without its ending.
        :param fresh_after: another run's generation that was submitted before is not waited for.
        """
        record = self.sidecar(name, fingerprint)
        if record is None or self.folder is None:
            return []
        if record.state == "stored" or record.payer.same_instance(self.payer):
            return [record]
        try:
            # The name holds the intent; the outcome is in the file of the attempt that paid.
            theirs = RecordsFolder(self.folder.folder, record.payer.task_digest)
            outcome = theirs.read_outcome(record) or record
        except DestinationError as error:
            self._errors.append(error)
            return []
        fresh = outcome.state == "submitted" and outcome.submitted_at and outcome.submitted_at >= fresh_after
        return [outcome] if fresh or outcome.may_be_under_way(self.clock.now()) else []

    @property
    def spent(self) -> tuple[Decimal, Decimal]:
        """Return the credits charged and refunded since the last clear."""
        return net_spent(self._records, self.payer)

    @property
    def waiting(self) -> Waiting | None:
        """Return what this task instance waits for, as it stands in the store."""
        return self._state.waiting if self._state is not None else None

    def own_record(self, fingerprint: str) -> Record | None:
        """Return what this very attempt has on record about a request."""
        own = (r for r in self._records if r.fingerprint == fingerprint and r.payer.same_attempt(self.payer))
        return next(own, None)

    def is_known(self, generation_id: str) -> bool:
        """Return whether an id is already on record for a submit of this task instance."""
        return any(record.generation_id == generation_id for record in self._records)

    def told_id(self, intent: Record) -> str | None:
        """
        Return which generation a submit became, as a callback told; None: none did.

        Whoever takes it has to check it.

        :raises LedgerError: when the store can't be read.
        """
        if not intent.payer.same_instance(self.payer):
            return None  # it is told in that one's store, which isn't to be had here
        told = Document(self._store, told_key(intent_digest(intent)), ToldId).read()
        return told.generation_id if told is not None else None

    # --- before anything is paid

    def check_nothing_is_missing(self, fingerprint: str, earlier: Record | None, *, regenerate: bool) -> None:
        """
        Refuse to pay where a record may be missing.

        :param earlier: what is on record about this request.
        :param regenerate: the author's word to pay for a new image after a clear.
        :raises DestinationError: when the folder held records and is empty now.
        :raises RecordMissingError: when the task was cleared, and nothing tells what it had paid for.
        """
        state, folder = self._state, self.folder
        if state is not None and folder is not None and self._is_emptied(state, folder):
            raise emptied_error(folder.address, "the record of what this task paid for")
        if self.history.resumed and not self._is_mine(earlier):
            raise self._missing(_WHY_RESUMED)
        if regenerate or not self.maybe_cleared:
            return
        was_here = state is not None or self._listing.has_trace_of(self.payer)
        if not was_here and not self._is_mine(earlier):
            raise self._missing(_WHY_GONE)
        # The record of what stands at this index now may be under another one.
        own_place = folder is None or self.history.own_folder
        position = self.cleared and self.history.mapped and own_place
        if position and self._records and all(r.fingerprint != fingerprint for r in self._records):
            raise self._missing(_WHY_SHIFTED)

    def _is_mine(self, record: Record | None) -> bool:
        return record is not None and record.payer.same_instance(self.payer)

    def _is_emptied(self, state: ImageTaskState, folder: RecordsFolder) -> bool:
        """Return whether the folder held this task instance's records, as the store knows, and holds none."""
        mine = [record for record in state.records if self._is_mine(record)]
        if state.records_at != folder.address or not mine or self._folder_has:
            return False
        # An intent that other runs shall find is in the sidecar alone.
        return not any(r.name and folder.read_sidecar(r.name, r.fingerprint) for r in mine)

    @staticmethod
    def _missing(why: str) -> RecordMissingError:
        return RecordMissingError(
            f"{why}\n"
            "A new image could be paid for a second time, so nothing was submitted.\n"
            "To pay for a new one, set on_clear='regenerate' and clear it again. To be spared this, give "
            "the task a destination (the same for every map index), or let [gpt_image] records in Airflow's "
            "configuration name a folder; and keep the task state when clearing (keep_task_state)."
        )


_WHY_GONE: Final = (
    "This task was cleared, or may have been, and no record tells what it had paid for before: Airflow 3.4 "
    "deletes a task's state on a clear, and so does every success with [state_store] clear_on_success."
)
_WHY_SHIFTED: Final = (
    "This task was cleared, and what stands at this map index now is another request than before: its record "
    "may be under another index, where it can't be looked for."
)
_WHY_RESUMED: Final = (
    "This task was waiting for an image that it had paid for, and no record tells any more which: somebody "
    "removed the task's state meanwhile."
)


def as_anothers(record: Record, request: ImageRequest, prices: Prices) -> Record:
    """
    Return what is believed of a record that another run, or anybody, left where every run looks.

    Which generation it is, who submitted it and when, and its images. What was asked for and what that costs
    is known here; addresses and texts are nobody's word.
    """
    price, paid, told = prices.credits(request.resolution), record.state != "stored", record.generation
    facts = GenerationFacts(
        status="completed",
        created_at=told.created_at if told else None,
        completed_at=told.completed_at if told else None,
    )
    changes = {
        "request": redacted_request(request),
        "credits": price,
        "usd": prices.usd(price),
        "charges": int(paid),
        "refunds": 0,
        "retries": 0,
        "generation": None if paid else facts,
        "images": tuple(image.model_copy(update={"url": ""}) for image in record.images),
        "warnings": (),
    }
    return record.model_copy(update=changes)


def is_reused(record: Record | None, payer: Payer) -> bool:
    """Return whether an image is stored that this task instance didn't pay for since its last clear."""
    return record is not None and record.state == "stored" and not record.payer.same_epoch(payer)
