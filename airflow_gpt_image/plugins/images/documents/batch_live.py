"""Show the images of a batch that has no manifest yet, as far as it was when it was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

from airflow_gpt_image.api.pricing import USD_PER_CREDIT
from airflow_gpt_image.batch.filenames import is_named_for
from airflow_gpt_image.batch.plan import ITEMS, NAME, Item, Plan
from airflow_gpt_image.batch.records import Identity
from airflow_gpt_image.errors import DestinationError, GptImageError
from airflow_gpt_image.ledger.destination import ANY, RECORDS, RecordFile, RecordsFolder, are_images_in
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import LARGEST_RECORD, Record, furthest
from airflow_gpt_image.plugins.images.documents.batch_rows import NO_IMAGE_YET, STATUSES, BatchRows, RowImage
from airflow_gpt_image.plugins.images.documents.caches import Cache
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.gallery import locate, open_gallery
from airflow_gpt_image.plugins.images.documents.image_facts import StoredImage
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.plugins.images.documents.plan_bounds import require_bounded_plan
from airflow_gpt_image.plugins.images.documents.sheets import Entry
from airflow_gpt_image.plugins.images.documents.stores import version_of
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.images import ImageFile

_THREADS: Final = 16
_AGE: Final = 2.0
_LARGEST_PLAN: Final = 256 * 1024 * 1024
_MOST_READ: Final = 2_000
"""Records that one look reads; the others wait for the next one. A batch has at most 1,000 in flight."""

_RATE_WINDOW: Final = 60.0
_RETRY_AFTER: Final = 60.0


@dataclass
class Destination:
    """
    A batch's destination, and what is known of it by now.

    :param sizes: of the files among the images, as they were listed last.
    :param read: records that were read, by their files' names and sizes.
    :param retry_at: when those are read again that couldn't be, in seconds of a monotonic clock.
    :param seen: when how many were done, of late.
    """

    folder: Folder
    records: RecordsFolder
    plan: Plan
    rows: BatchRows
    by_identity: dict[Identity, Item]
    lock: Lock = field(default_factory=Lock)
    look: Look | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    read: dict[tuple[str, int], Record | None] = field(default_factory=dict)
    sidecars: dict[str, Record] = field(default_factory=dict)
    retry_at: float = 0.0
    seen: deque[tuple[float, int]] = field(default_factory=deque)


@dataclass(frozen=True)
class Look:
    """
    How far a batch was when it was looked at.

    :param statuses: by the index in the plan; ``records`` likewise, of what isn't stored.
    :param own: indexes that this task instance was charged for since its last clear.
    :param rate: images a second of late; None: that isn't known yet.
    """

    at: float
    took: float
    statuses: list[Status]
    records: dict[int, Record]
    own: frozenset[int]
    rate: float | None


_kept: Cache[Destination] = Cache(20)


def open_destination(
    destination: str, payer: Payer, scope: str | None, plan_sha256: str | None, context: Context
) -> Destination | None:
    """
    Return a batch's destination; None while there is no plan of this batch.

    :param scope: of its records; None: the plan tells.
    :param plan_sha256: of the plan that is carried out; None: nobody told yet.
    :raises OutsideRootsError: when it may not be opened.
    :raises GptImageError: when it can't be read.
    """
    address = locate(f"{destination}/{NAME}", context.roots).address
    version = version_of(address, context)
    if version is None:
        return None
    if version.size > _LARGEST_PLAN:
        raise DestinationError(f"The plan is larger than {_LARGEST_PLAN:,} bytes, and isn't read.")
    root = address.removesuffix(f"/{NAME}")
    key = (address, version, payer.instance_digest, payer.clear_epoch, scope)
    found = _kept.get(key, lambda: _open(root, scope, context))
    return found if plan_sha256 in (None, found.plan.sha256) else None


def _open(root: str, scope: str | None, context: Context) -> Destination:
    folder = open_gallery(root, context.roots)
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
    try:
        folder.copy(NAME, file)
    except BaseException:
        file.close()
        raise
    require_bounded_plan(file)
    plan = Plan.read(file)
    rows = BatchRows()
    for item in plan.items:
        request, given = plan.row(item)
        asked = {"prompt": request.prompt, "aspect_ratio": request.aspect_ratio}
        line = {
            "row": item.row,
            "variant": item.slot.variant,
            "request": {**asked, "resolution": item.resolution},
            "data": {name: value for name, value in given.items() if name not in FIELDS},
            "credits": f"{item.credits:f}",
        }
        rows.add(line, json.dumps(line, separators=(",", ":")).encode())
    rows.done()
    records = RecordsFolder(folder, scope or _scope_of(plan.items[0]))
    return Destination(folder, records, plan, rows, {Identity.of(item): item for item in plan.items})


def _scope_of(item: Item) -> str:
    """Return the scope that an item's name begins with, if it has one."""
    begin = item.name.removeprefix(f"{ITEMS}/").partition("-")[0]
    return begin if len(begin) == 12 else ANY


def look_at(destination: Destination, payer: Payer, now: datetime) -> Look:
    """
    Return how far a batch is.

    :param now: the time of day: a request that was sent a moment ago may still be answered.
    :raises DestinationError: when the destination can't be listed.
    """
    with destination.lock:
        last = destination.look
        if last is None or time.monotonic() - last.at > max(_AGE, 5 * last.took):
            destination.look = last = _look(destination, payer, now)
        return last


def _look(destination: Destination, payer: Payer, now: datetime) -> Look:
    begun = time.monotonic()
    items = destination.plan.items
    files: defaultdict[int, list[RecordFile]] = defaultdict(list)
    own = set()
    records_folder = destination.records
    listed = destination.folder.sizes(f"{RECORDS}/{records_folder.scope}")
    for file in RecordsFolder(cast("Folder", _Listed(listed)), records_folder.scope).list().files:
        item = destination.by_identity.get(Identity.of(file))
        if item is None or item.slot.map_index not in (-1, file.slot.map_index):
            continue
        files[item.index].append(file)
        if file.is_of(payer) and file.clear_epoch == payer.clear_epoch and file.generation_id is not None:
            own.add(item.index)
    destination.sizes = sizes = destination.folder.sizes(ITEMS)
    stored = {item.index for item in items if f"{item.name}.json" in sizes}
    open_files = {index: found for index, found in files.items() if index not in stored}
    records, unread = _read_records(destination, open_files, listed)
    statuses: list[Status] = []
    for item in items:
        if item.index in stored:
            statuses.append("done")
        elif item.index in records:
            statuses.append(_status(records[item.index], item.index in unread, now))
        elif item.index in open_files:
            accepted = any(file.generation_id for file in open_files[item.index])
            statuses.append("in_flight" if accepted else "unknown")
        else:
            statuses.append("not_sent")
    refunded = {index for index, record in records.items() if record.net_charges <= 0}
    ended = time.monotonic()
    rate = _rate(destination.seen, ended, len(stored))
    return Look(ended, ended - begun, statuses, records, frozenset(own - refunded), rate)


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
    destination: Destination, files: Mapping[int, Collection[RecordFile]], sizes: Mapping[str, int]
) -> tuple[dict[int, Record], set[int]]:
    """
    Read the records of what isn't stored: each once, until its file has another size.

    :return: the record that counts, by index; and the indexes of which one with an id wasn't read.
    """
    wanted = {
        (file.path, sizes[file.path]): file
        for found in files.values()
        for file in found
        if sizes[file.path] <= LARGEST_RECORD
    }
    if time.monotonic() > destination.retry_at:
        destination.retry_at = time.monotonic() + _RETRY_AFTER
        destination.read = {key: record for key, record in destination.read.items() if record is not None}
    new = [key for key in wanted if key not in destination.read][:_MOST_READ]
    if new:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="gpt-image-records") as threads:
            found = threads.map(lambda key: _read(destination.records, wanted[key]), new)
            destination.read.update(zip(new, found, strict=True))
    destination.read = {key: record for key, record in destination.read.items() if key in wanted}
    by_path = {path: record for (path, _), record in destination.read.items() if record is not None}
    latest, unread = {}, set()
    for index, of_item in files.items():
        record = furthest(by_path[file.path] for file in of_item if file.path in by_path)
        if record is not None:
            latest[index] = record
        if any(file.generation_id and file.path not in by_path for file in of_item):
            unread.add(index)
    return latest, unread


def _read(records: RecordsFolder, file: RecordFile) -> Record | None:
    try:
        return records.read(file)
    except GptImageError:
        return None  # its name tells what it can


def _rate(seen: deque[tuple[float, int]], now: float, done: int) -> float | None:
    seen.append((now, done))
    while len(seen) > 2 and now - seen[0][0] > _RATE_WINDOW:
        seen.popleft()
    since, before = seen[0]
    return (done - before) / (now - since) if now > since and done > before else None


def usd_per_credit(look: Look) -> Decimal:
    """Return what a credit costs, as the records that were read have it."""
    priced = (record for record in look.records.values() if record.credits and record.usd)
    record = next(priced, None)
    return record.usd / record.credits if record is not None else USD_PER_CREDIT


def read_images(destination: Destination, look: Look, indexes: Iterable[int], usd: Decimal) -> list[RowImage]:
    """Return some images with all that is known of them; the sidecars of those that are stored are read."""
    indexes = list(indexes)
    names = [destination.plan.items[index].name for index in indexes if look.statuses[index] == "done"]
    new = [name for name in names if name not in destination.sidecars]
    if new:
        with ThreadPoolExecutor(
            readers(destination.folder), thread_name_prefix="gpt-image-sidecars"
        ) as threads:
            found = threads.map(lambda name: _sidecar(destination, name), new)
            read = dict(zip(new, found, strict=True))
        # One that couldn't be read is tried again with the next page.
        destination.sidecars.update({name: record for name, record in read.items() if record is not None})
    return [_image(destination, look, index, usd) for index in indexes]


def _sidecar(destination: Destination, name: str) -> Record | None:
    if destination.sizes.get(f"{name}.json", 0) > LARGEST_RECORD:
        return None
    try:
        return destination.records.read_sidecar(name)
    except GptImageError:
        return None


def _image(destination: Destination, look: Look, index: int, usd: Decimal) -> RowImage:
    item, status = destination.plan.items[index], look.statuses[index]
    image = destination.rows.read(index, usd)
    record = destination.sidecars.get(item.name) if status == "done" else look.records.get(index)
    changes: dict[str, Any] = {"status": status, "sent": status != "not_sent"}
    charged = image.facts.price if image.facts.price is not None else Decimal(0)
    changes["paid"] = charged if status in ("done", "in_flight") and index in look.own else Decimal(0)
    changes["reused"] = status == "done" and index not in look.own
    if record is not None:
        changes |= {
            "generation_id": record.generation_id,
            "since": record.submitted_at or record.intended_at,
            "seconds": record.seconds,
            "finished": record.settled_at,
            "refunded": record.refunds > 0 and record.net_charges == 0,
        }
        if status == "done" and are_images_in(record, ITEMS) and is_named_for(record, item.file, item.name):
            changes["images"] = tuple(_stored(destination.folder, each) for each in record.images)
        elif record.failure is not None:
            changes |= {
                "code": record.failure.code or record.failure.error,
                "why": record.failure.message[:500],
            }
    if status == "in_flight" and changes.get("why"):
        changes["why"] = NO_IMAGE_YET
    return replace(image, facts=replace(image.facts, **changes))


def _stored(folder: Folder, image: ImageFile) -> StoredImage:
    path = None if image.name is None else folder.address(image.name)
    version = image.sha256[:16] if image.sha256 else None
    return StoredImage(path, None, image.width, image.height, image.bytes, version)
