"""Records in a folder: at a task's destination, or where Airflow's ``[gpt_image] records`` says.

::

    records/<task digest>/<request>~<payer>.json                    an intent
    records/<task digest>/<request>~<payer>~<generation id>.json    what became of it
    records/<task digest>/attempt-<task instance>.json              an attempt was here, and paid for nothing
    <name of the image>.json                                        a sidecar: the record of what is stored

``<request>`` is ``<fingerprint>-<variant>-<copy>-<map index>``, and ``<payer>`` ``<task instance>-<clear
epoch>-<attempt>``. Each attempt writes files of its own, so a late write of an earlier one replaces nothing
of a later one's. The id in the name shows at a listing alone that the API gave it to two submits.
What is stored is told by the sidecar, which comes last and is never replaced by anything but another stored
record.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from pydantic import ValidationError

from airflow_gpt_image.api.text import quote_path
from airflow_gpt_image.errors import DestinationError, DownloadError, GptImageError
from airflow_gpt_image.ledger.payer import Payer, Slot
from airflow_gpt_image.ledger.record import LARGEST_RECORD, Record, furthest
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.images import ImageFile
from airflow_gpt_image.storage.names import safe_part
from airflow_gpt_image.storage.pictures import KINDS, inspect_image

SizeOf = Callable[[str], int | None]

RECORDS: Final = "records"

ANY: Final = "any"
"""In place of a task's digest: records that every task at the destination may use."""


class RecordFile(NamedTuple):
    """What the name of a record's file tells."""

    path: str
    fingerprint: str
    slot: Slot
    payer: str
    clear_epoch: int
    attempt: int
    generation_id: str | None = None

    def is_of(self, payer: Payer) -> bool:
        """Return whether an attempt of the same task instance wrote it."""
        return self.payer == _told(payer)


_NAME: Final = re.compile(
    r"(?P<fingerprint>[0-9a-f]{64})-(?P<variant>\d{1,6})-(?P<copy>\d{1,6})-(?P<map_index>\d{1,9}|x)"
    r"~(?P<payer>[0-9a-f]{8})-(?P<epoch>\d{1,9})-(?P<attempt>\d{1,9})"
    r"(?:~(?P<generation_id>[A-Za-z0-9_-]{1,128}))?\.json"
)


def slot_text(slot: Slot) -> str:
    """Return a slot as names of files have it; ``x`` stands for a task that isn't mapped."""
    return f"{slot.variant}-{slot.copy}-{slot.map_index if slot.map_index >= 0 else 'x'}"


_NOTE: Final = re.compile(r"attempt-(?P<payer>[0-9a-f]{8})\.json")


class Listing(NamedTuple):
    """
    What is in a folder of records.

    :param notes: the task instances of which an attempt noted that it was here, as files tell them.
    """

    files: list[RecordFile]
    notes: set[str]

    def is_noted(self, payer: Payer) -> bool:
        """Return whether an attempt of the same task instance noted that it was here."""
        return _told(payer) in self.notes

    def has_trace_of(self, payer: Payer) -> bool:
        """Return whether any attempt of the same task instance left anything here."""
        return self.is_noted(payer) or any(file.is_of(payer) for file in self.files)


class RecordsFolder:
    """
    The records of one task in one run, or of everybody, in a folder. May be used by many threads at once.

    :param folder: what the images' names and the records' folder are relative to.
    :param scope: the task's digest, or :data:`ANY`.
    """

    def __init__(self, folder: Folder, scope: str) -> None:
        self.folder = folder
        self.scope = scope

    @property
    def address(self) -> str:
        """Return where the folder is."""
        return self.folder.address("")

    def list(self) -> Listing:
        """
        List the records that there are, by the names of their files alone.

        :raises DestinationError: when the folder can't be listed.
        """
        files, notes = [], set()
        for path in self.folder.sizes(f"{RECORDS}/{self.scope}"):
            name = path.rpartition("/")[2]
            if match := _NAME.fullmatch(name):
                slot = Slot(int(match["variant"]), int(match["copy"]), _index(match["map_index"]))
                numbers = int(match["epoch"]), int(match["attempt"])
                rest = (*numbers, match["generation_id"])
                files.append(RecordFile(path, match["fingerprint"], slot, match["payer"], *rest))
            elif match := _NOTE.fullmatch(name):
                notes.add(match["payer"])
        return Listing(files, notes)

    def read(self, file: RecordFile) -> Record | None:
        """
        Read a record; None when it is gone by now.

        :raises DestinationError: when it can't be read, or is no record of what its name says.
        """
        record = self._read(file.path)
        if record is not None and (record.fingerprint, record.slot) != (file.fingerprint, file.slot):
            raise self.not_a_record(file.path, "it is about another request")
        return record

    def read_all(self, files: Iterable[RecordFile]) -> Sequence[Record]:
        """
        Read those of these records that are still there.

        :raises DestinationError: when one can't be read, or is no record of what its name says.
        """
        return [record for file in files if (record := self.read(file)) is not None]

    def read_outcome(self, record: Record) -> Record | None:
        """
        Return what the attempt that paid put on record in this folder about the same request, if it did.

        :raises DestinationError: when it can't be read, or is no record.
        """
        begin = self.path_of(record.model_copy(update={"generation_id": None})).removesuffix(".json")
        files = [file for file in self.list().files if file.path.startswith((f"{begin}.", f"{begin}~"))]
        return furthest(self.read_all(files))

    def write(self, record: Record) -> None:
        """
        Put a record in its place.

        :raises DestinationError: when the folder doesn't take it.
        """
        self.folder.write(self.path_of(record), _document(record))

    def write_note(self, payer: Payer) -> None:
        """
        Note that an attempt was here and paid for nothing: a later clear then knows that no record is
        missing.

        :raises DestinationError: when the folder doesn't take it.
        """
        text = payer.model_dump_json(indent=1)
        self.folder.write(f"{RECORDS}/{self.scope}/attempt-{_told(payer)}.json", text.encode())

    def path_of(self, record: Record) -> str:
        """Return the name of a record's file: it belongs to the attempt that paid."""
        payer = record.payer
        request = f"{record.fingerprint}-{slot_text(record.slot)}"
        attempt = f"{_told(payer)}-{payer.clear_epoch}-{payer.attempt}"
        known = f"~{record.generation_id}" if record.generation_id is not None else ""
        return f"{RECORDS}/{self.scope}/{request}~{attempt}{known}.json"

    def read_sidecar(self, name: str, fingerprint: str | None = None) -> Record | None:
        """
        Read the record beside an image; None when there is none, or it is about another request.

        :param name: the image's name without its ending.
        :param fingerprint: of the request; None: whichever it is.
        :raises DestinationError: when it can't be read, or is no record.
        """
        record = self._read(f"{name}.json")
        return record if record is not None and fingerprint in (None, record.fingerprint) else None

    def write_sidecar(self, record: Record, name: str) -> None:
        """
        Put a stored record beside an image of this name.

        :raises DestinationError: when the folder doesn't take it.
        """
        self.folder.write(f"{name}.json", _document(record))

    def has_images(self, record: Record, size: SizeOf | None = None) -> bool:
        """
        Return whether a stored record's images are there, each with all its bytes.

        :param size: tells a file's size in bytes, or None; the folder itself is asked by default.
        """
        size = size or self.folder.size
        return bool(record.images) and all(
            image.name is not None and image.bytes is not None and size(image.name) == image.bytes
            for image in record.images
        )

    def checked(self, record: Record, size: SizeOf | None = None) -> Record:
        """Return a stored record as not stored where its images are gone; else the record."""
        gone = record.state == "stored" and not self.has_images(record, size)
        return record.not_stored() if gone else record

    def verified(self, records: Iterable[Record], size: SizeOf | None = None) -> Sequence[Record]:
        """
        Return what is stored as not stored where its images are gone; and beside what is submitted what its
        sidecar tells, for that comes last.

        :param size: as :meth:`has_images` takes it.
        :raises DestinationError: when the folder doesn't answer, or has something else for a sidecar.
        """
        found = []
        for record in records:
            if record.in_files:
                record = self.checked(record, size)
            found.append(record)
            if record.state == "submitted" and record.name is not None:
                there = size is None or size(f"{record.name}.json") is not None
                sidecar = self.read_sidecar(record.name, record.fingerprint) if there else None
                # The API may have given its id to another run's submit, too, whose image has that name.
                if sidecar and sidecar.same_submit(record) and sidecar.generation_id == record.generation_id:
                    found += self._with_images(record, sidecar, record.name, size)
        return found

    def _with_images(
        self, record: Record, sidecar: Record, name: str, size: SizeOf | None
    ) -> Sequence[Record]:
        """Return a record with the images of its sidecar; nothing where that has none that are there."""
        if sidecar.state != "stored":
            return []
        if size is None:
            whole = self.inspect_images(sidecar, name)
        else:  # of thousands of images: too many bytes to be looked at
            near = are_images_in(sidecar, name.partition("/")[0])
            whole = sidecar if near and self.has_images(sidecar, size) else None
        if whole is None:
            return []
        # What was asked for, and what was paid, the record itself says.
        taken = ("state", "images", "generation", "settled_at", "warnings")
        return [record.model_copy(update={field: getattr(whole, field) for field in taken})]

    def inspect_images(self, record: Record, name: str) -> Record | None:
        """
        Return a sidecar with its images as they are by their own bytes; None when they aren't there, whole.

        Whoever wrote the sidecar is believed nothing about them.

        :param name: of the sidecar, without its ending.
        :raises DestinationError: when one can't be read.
        """
        if not is_beside(record, name) or not self.has_images(record):
            return None
        try:
            return record.model_copy(update={"images": tuple(map(self._inspect, record.images))})
        except DownloadError:
            return None

    def _inspect(self, image: ImageFile) -> ImageFile:
        name = image.name or ""
        with tempfile.TemporaryFile() as file:
            self.folder.copy(name, file)
            picture = inspect_image(file, self.folder.address(name))
        width, height = picture.size
        facts = {"width": width, "height": height, "sha256": picture.sha256, "bytes": picture.bytes}
        return image.model_copy(update=facts)

    def _read(self, path: str) -> Record | None:
        data = self.folder.read(path)
        if data is None:
            return None
        try:
            if len(data) > LARGEST_RECORD:
                raise ValueError("it is too large")
            record = Record.model_validate_json(data)
            # One that failed has an id if it was accepted, and none if it wasn't.
            if record.state != "failed" and (record.generation_id is None) != (record.state == "intent"):
                raise ValueError("its state and its generation id contradict each other")
        except (ValidationError, GptImageError, ValueError, RecursionError) as error:
            raise self.not_a_record(path, type(error).__name__) from None
        return record

    def not_a_record(self, path: str, why: str) -> DestinationError:
        """Return the error about a file that should be a record, and isn't the one it should be."""
        # Not taken for "nothing there", which would pay again.
        return DestinationError(
            f"{quote_path(self.folder.address(path))} is no record of this release ({why}).\n"
            "Without it nobody knows what is paid for.\n"
            "Mend it, or remove it, and the image is paid for anew."
        )


def is_beside(record: Record, name: str) -> bool:
    """
    Return whether a sidecar's images are those beside it: its first one has its name, the others its number.

    Each may have its generation's id behind its name, where another image had that name already. A sidecar
    that somebody else wrote could name any other image of the folder.
    """
    apart = f"~{safe_part(record.generation_id or '')}"
    for index, image in enumerate(record.images):
        stem, _, kind = (image.name or "").rpartition(".")
        stem = stem.removesuffix(apart)
        same = stem == name if index == 0 else _numberless(stem, index) == _numberless(name, index)
        if not same or kind not in KINDS:
            return False
    return True


def are_images_in(record: Record, folder: str) -> bool:
    """Return whether a sidecar's images are in a folder, or beneath it, under names that images have."""
    for image in record.images:
        first, *others = (image.name or "").split("/")
        kind = others[-1].rpartition(".")[2] if others else ""
        if first != folder or kind not in KINDS or not {"", ".", ".."}.isdisjoint(others):
            return False
    return True


def _numberless(stem: str, index: int) -> str:
    return re.sub(r"\d+", "0", stem.removesuffix(f"~{index}"))


def _told(payer: Payer) -> str:
    """Return what tells a task instance in the names of files."""
    return payer.instance_digest[:8]


def emptied_error(address: str, held: str, now: str = "is empty now") -> DestinationError:
    """Return the error about a folder that held what tells what is paid for, and doesn't any more."""
    return DestinationError(
        f"{address} held {held}, and {now}.\n"
        "Paying again could pay twice.\n"
        "Is it mounted, and the same on every worker? Bring it back, and the next try goes on."
    )


def _index(text: str) -> int:
    return -1 if text == "x" else int(text)


def _document(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()
