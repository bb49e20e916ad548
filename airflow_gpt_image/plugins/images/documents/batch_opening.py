"""Open the destination of a batch that has no manifest yet: its plan, and what is known of it by now."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, Final

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.batch.plan import ITEMS, NAME, Item, Plan, copy_plan
from airflow_gpt_image.errors import DestinationError
from airflow_gpt_image.ledger.destination import ANY, RecordFile, RecordsFolder
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.plugins.images.documents.batch_rows import BatchRows
from airflow_gpt_image.plugins.images.documents.caches import Cache
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.folder_under_roots import (
    FolderUnderRoots,
    locate,
    open_under_roots,
)
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.plugins.images.documents.plan_bounds import require_bounded_plan
from airflow_gpt_image.plugins.images.documents.sheets import Entry
from airflow_gpt_image.plugins.images.documents.stores import version_of
from airflow_gpt_image.storage.folders import Folder

_THREADS_OF_STORE: Final = 16
_LARGEST_PLAN: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Look:
    """
    How far a batch was when it was looked at.

    :param at: when it was, in seconds of a monotonic clock.
    :param took: seconds that its listings took, which each look makes anew.
    :param entries: the images with what each was at, by the index in the plan; ``statuses`` likewise, and
        ``records``, of what isn't stored.
    :param own: indexes that this task instance was charged for since its last clear.
    :param rate: images a second of late; None: that isn't known yet.
    """

    at: float
    took: float
    entries: list[Entry[int]]
    statuses: list[Status]
    records: dict[int, Record]
    own: frozenset[int]
    rate: float | None


@dataclass
class Destination:
    """
    A batch's destination, and what is known of it by now.

    :param by_request: the items, by :func:`request_key`.
    :param changing: is notified when a look has ended; with it held, the three below are read and set.
    :param look: the latest look; None: there is none yet.
    :param looking: whether somebody looks.
    :param failed: why the last look found nothing.
    :param sizes: of the files among the images, as they were listed last.
    :param read: records that were read, by their files' names and sizes.
    :param retry_at: when those are read again that couldn't be, in seconds of a monotonic clock.
    :param seen: when how many were done, of late.
    """

    folder: Folder
    records: RecordsFolder
    plan: Plan
    rows: BatchRows
    by_request: Mapping[str, Item]
    changing: Condition = field(default_factory=Condition)
    look: Look | None = None
    looking: bool = False
    failed: Exception | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    read: dict[tuple[str, int], Record | None] = field(default_factory=dict)
    sidecars: dict[str, Record] = field(default_factory=dict)
    retry_at: float = 0.0
    seen: deque[tuple[float, int]] = field(default_factory=deque)


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
    folder = open_under_roots(root, context.roots)
    file = copy_plan(folder)
    require_bounded_plan(file)
    rows = BatchRows()

    def add(items: Sequence[Item], request: ImageRequest, given: Mapping[str, Any]) -> None:
        columns = {name: value for name, value in given.items() if name not in FIELDS}
        for item in items:
            asked = {"prompt": request.prompt, "aspect_ratio": request.aspect_ratio}
            line = {
                "row": item.row,
                "variant": item.slot.variant,
                "request": {**asked, "resolution": item.resolution},
                "data": columns,
                "credits": f"{item.credits:f}",
            }
            rows.add(line, json.dumps(line, separators=(",", ":")).encode())

    plan = Plan.read(file, each=add)
    rows.done()
    records = RecordsFolder(folder, scope or _scope_of(plan.items[0]))
    return Destination(folder, records, plan, rows, {request_key(item): item for item in plan.items})


def _scope_of(item: Item) -> str:
    """Return the scope that an item's name begins with, if it has one."""
    begin = item.name.removeprefix(f"{ITEMS}/").partition("-")[0]
    return begin if len(begin) == 12 else ANY


def request_key(about: Item | RecordFile) -> str:
    """Return what tells an item, or what a record's file is about, but for the map index."""
    return f"{about.fingerprint}-{about.slot.variant}-{about.slot.copy}"


def readers(folder: Folder) -> int:
    """
    Return how many threads read a folder's small files.

    A disk answers at once, and each file is a few calls for which a thread gives up the interpreter: sixteen
    that want it back take four times as long as one. A store answers after milliseconds.
    """
    return 1 if isinstance(folder, FolderUnderRoots) and folder.is_on_disk else _THREADS_OF_STORE
