"""
See how far a batch is, before there is a manifest: by its plan, and by what lies at the destination.

The names of files tell nearly all of it: a sidecar means stored, a record with an id means submitted, one
without means that it was about to be. Only what isn't stored is read, and each record once. All who look
share one look. The next one is made when it is :data:`_AGE` old, or five times what its listings took, up to
:data:`_OLDEST`. On a store that takes seconds, so it is made in a thread of its own, and a page that can't
wait shows the one before.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final, cast

from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.plan import ITEMS
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.ledger.destination import RECORDS, RecordFile, RecordsFolder
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import LARGEST_RECORD, Record, furthest
from airflow_gpt_image.plugins.images.documents.batch_opening import Destination, Look, readers, request_key
from airflow_gpt_image.plugins.images.documents.batch_rows import STATUSES
from airflow_gpt_image.plugins.images.documents.folder_under_roots import FolderUnderRoots
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.storage.folders import Folder

# Given to a thread at a time: waking one costs as much as reading a file of a disk.
_AT_ONCE: Final = 16
_AGE: Final = 2.0
_OLDEST: Final = 20.0
_MOST_READ: Final = 20_000
"""Records that one look reads; the others wait for the next one."""

_RATE_WINDOW: Final = 60.0
_RETRY_AFTER: Final = 60.0

_looking = ThreadPoolExecutor(4, thread_name_prefix="gpt-image-looks")


class StillReadingError(Exception):
    """What lies at a destination is being read for the first time, and a page doesn't wait for it."""


def look_at(destination: Destination, payer: Payer, now: datetime, *, within: float | None) -> Look:
    """
    Return how far a batch is; where it takes too long to find out, how far it was.

    :param now: the time of day: a request that was sent a moment ago may still be answered.
    :param within: seconds to wait; None: until it is known.
    :raises StillReadingError: when it takes too long, and there was no look before.
    :raises DestinationError: when the destination can't be listed.
    """
    with destination.changing:
        last = destination.look
        if last is not None and time.monotonic() - last.at <= min(_OLDEST, max(_AGE, 5 * last.took)):
            return last
        if not destination.looking and destination.failed is None:
            _looking.submit(_look_and_tell, destination, payer, now)
            destination.looking = True
        destination.changing.wait_for(lambda: not destination.looking, within)
        if destination.failed is not None and not destination.looking:
            error, destination.failed = destination.failed, None
            raise error
        if destination.look is None:
            raise StillReadingError
        return destination.look


def _look_and_tell(destination: Destination, payer: Payer, now: datetime) -> None:
    look, failed = None, None
    try:
        look = _look(destination, payer, now)
    except Exception as error:  # noqa: BLE001  # whoever waits for it raises it
        failed = error
    with destination.changing:
        destination.look = look or destination.look
        destination.failed = failed
        destination.looking = False
        destination.changing.notify_all()


def _look(destination: Destination, payer: Payer, now: datetime) -> Look:
    begun = time.monotonic()
    items = destination.plan.items
    files: defaultdict[int, list[RecordFile]] = defaultdict(list)
    own = set()
    folder, scope = destination.folder, destination.records.scope
    with ThreadPoolExecutor(readers(folder), thread_name_prefix="gpt-image-records") as threads:
        # Stores list a thousand files at a time, one after the other: both folders side by side.
        listings = [threads.submit(folder.sizes, name) for name in (f"{RECORDS}/{scope}", ITEMS)]
        listed, sizes = (listing.result() for listing in listings)
        destination.sizes = sizes
        took = time.monotonic() - begun
        stored = {item.index for item in items if f"{item.name}.json" in sizes}
        for file in RecordsFolder(cast("Folder", _Listed(listed)), scope).list().files:
            item = destination.by_request.get(request_key(file))
            if item is None or item.slot.map_index not in (-1, file.slot.map_index):
                continue
            if file.is_of(payer) and file.clear_epoch == payer.clear_epoch and file.generation_id is not None:
                own.add(item.index)
            if item.index not in stored:
                files[item.index].append(file)
        records, unread = _read_records(destination, files, listed, threads)
    statuses: list[Status] = []
    for item in items:
        if item.index in stored:
            statuses.append("done")
        elif item.index in records:
            statuses.append(_status(records[item.index], item.index in unread, now))
        elif item.index in files:
            accepted = any(file.generation_id for file in files[item.index])
            statuses.append("in_flight" if accepted else "unknown")
        else:
            statuses.append("not_sent")
    refunded = {index for index, record in records.items() if record.net_charges <= 0}
    both = zip(destination.rows.entries, statuses, strict=True)
    entries = [entry if entry.status == status else entry._replace(status=status) for entry, status in both]
    ended = time.monotonic()
    rate = _rate(destination.seen, ended, len(stored))
    return Look(ended, took, entries, statuses, records, frozenset(own - refunded), rate)


def _status(record: Record, has_unread: bool, now: datetime) -> Status:
    # An intent whose id is in a file that can't be read was accepted all the same.
    under_way = (record.state == "intent" and has_unread) or record.may_be_under_way(now)
    return "in_flight" if under_way else STATUSES[manifest.status(record)]


class _Listed:
    """A folder of which nothing is known but what one listing told."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._sizes = sizes

    def sizes(self, folder: str) -> dict[str, int]:
        return self._sizes


def _read_records(
    destination: Destination,
    files: Mapping[int, Collection[RecordFile]],
    sizes: Mapping[str, int],
    threads: ThreadPoolExecutor,
) -> tuple[dict[int, Record], set[int]]:
    """
    Read the records of what isn't stored: each once, until its file has another size.

    :return: the record that counts, by index; and the indexes of which one with an id wasn't read.
    """
    if time.monotonic() > destination.retry_at:
        destination.retry_at = time.monotonic() + _RETRY_AFTER
        destination.read = {key: record for key, record in destination.read.items() if record is not None}
    every = [file for found in files.values() for file in found]
    accepted = {_attempt(file): file for file in every if file.generation_id is not None}
    # An intent tells nothing more once its id is on record, unless that one failed and was sent again.
    first = [file for file in every if file.generation_id is not None or _attempt(file) not in accepted]
    by_path = _read_new(destination, first, sizes, threads)
    again = [
        file
        for file in every
        if file.generation_id is None
        and (before := accepted.get(_attempt(file))) is not None
        and ((record := by_path.get(before.path)) is None or record.state == "failed")
    ]
    by_path |= _read_new(destination, again, sizes, threads)
    known = {(file.path, sizes[file.path]) for file in every}
    destination.read = {key: record for key, record in destination.read.items() if key in known}
    latest, unread = {}, set()
    for index, of_item in files.items():
        record = furthest(by_path[file.path] for file in of_item if file.path in by_path)
        if record is not None:
            latest[index] = record
        if any(file.generation_id and file.path not in by_path for file in of_item):
            unread.add(index)
    return latest, unread


def _attempt(file: RecordFile) -> tuple[object, ...]:
    return file.fingerprint, file.slot, file.payer, file.clear_epoch, file.attempt


def _read_new(
    destination: Destination,
    files: Sequence[RecordFile],
    sizes: Mapping[str, int],
    threads: ThreadPoolExecutor,
) -> dict[str, Record]:
    """Return records by their paths; those are read that weren't before."""
    new = [
        file
        for file in files
        if (file.path, sizes[file.path]) not in destination.read and sizes[file.path] <= LARGEST_RECORD
    ][:_MOST_READ]
    records = destination.records
    for file, record in zip(new, _read_side_by_side(records, new, threads), strict=True):
        destination.read[file.path, sizes[file.path]] = record
    found = {file.path: destination.read.get((file.path, sizes[file.path])) for file in files}
    return {path: record for path, record in found.items() if record is not None}


def _read_side_by_side(
    records: RecordsFolder, files: Sequence[RecordFile], threads: ThreadPoolExecutor
) -> Iterator[Record | None]:
    some = [files[begin : begin + _AT_ONCE] for begin in range(0, len(files), _AT_ONCE)]
    for read in threads.map(lambda part: _read_part(records, part), some):
        yield from read


def _read_part(records: RecordsFolder, files: Sequence[RecordFile]) -> Sequence[Record | None]:
    def read() -> Sequence[Record | None]:
        return [_read(records, file) for file in files]

    folder = records.folder
    try:
        return folder.together(read) if isinstance(folder, FolderUnderRoots) and folder.is_on_disk else read()
    except GptImageError:  # the disk doesn't answer in time
        return [None] * len(files)


def _read(records: RecordsFolder, file: RecordFile) -> Record | None:
    try:
        record = records.read(file)
        # The plan has the request.
        return None if record is None else record.model_copy(update={"request": None})
    except GptImageError:
        return None  # its name tells what it can


def _rate(seen: deque[tuple[float, int]], now: float, done: int) -> float | None:
    seen.append((now, done))
    while len(seen) > 2 and now - seen[0][0] > _RATE_WINDOW:
        seen.popleft()
    since, before = seen[0]
    return (done - before) / (now - since) if now > since and done > before else None
