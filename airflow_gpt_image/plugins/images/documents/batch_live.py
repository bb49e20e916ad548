"""Show the images of a batch that has no manifest yet, as far as it was when it was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

from airflow_gpt_image.api.pricing import USD_PER_CREDIT
from airflow_gpt_image.batch.filenames import is_named_for
from airflow_gpt_image.batch.plan import ITEMS
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.ledger.destination import are_images_in
from airflow_gpt_image.ledger.record import LARGEST_RECORD, Record
from airflow_gpt_image.plugins.images.documents.batch_opening import Destination, Look, readers
from airflow_gpt_image.plugins.images.documents.batch_rows import NO_IMAGE_YET, RowImage
from airflow_gpt_image.plugins.images.documents.image_facts import StoredImage
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.images import ImageFile


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
