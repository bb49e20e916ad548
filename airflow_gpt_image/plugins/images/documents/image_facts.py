"""
Tell what became of one image out of a task instance's result and records.

========================  ==================  ============================================================
the task instance         its record          status
========================  ==================  ============================================================
returned images           any                 done
succeeded                 stored              done: its result isn't in Airflow's database
returned none             any                 in flight: the task doesn't wait for it
anything                  intent, refused     unknown: it may be paid for
anything                  intent, recent      in flight: it is being sent
unfinished                submitted           in flight
ended                     submitted           failed: paid for and not stored, a clear fetches it
ended, or about to retry  failed              failed: refunded, or never charged
at work again             failed              not sent: Airflow tries it again
ended without success     none                failed: nothing was sent
anything else             none                not sent
========================  ==================  ============================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.ledger.record import Record, furthest
from airflow_gpt_image.ledger.task_state import IMAGE_KEY, ImageTaskState
from airflow_gpt_image.plugins.images.documents import foreign
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING, amount
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.storage.images import ImageFile

_MOST_IMAGES: Final = 100
_FAILED: Final = frozenset({"failed", "up_for_retry", "upstream_failed"})


@dataclass(frozen=True)
class StoredImage:
    """
    One image of a result.

    :param path: where it is stored; None: nowhere, and it is at ``url`` as long as the API keeps it.
    :param version: the beginning of its SHA-256.
    """

    path: str | None
    url: str | None
    width: int | None
    height: int | None
    bytes: int | None
    version: str | None

    @classmethod
    def parse(cls, given: object) -> StoredImage:
        """Read an image as results and manifests describe it."""
        fields = foreign.mapping(given)
        sha256 = foreign.text(fields.get("sha256"), 64)
        return cls(
            path=foreign.path(fields.get("path")),
            url=foreign.path(fields.get("url")),
            width=foreign.count(fields.get("width")) or None,
            height=foreign.count(fields.get("height")) or None,
            bytes=foreign.count(fields.get("bytes")),
            version=sha256[:16] if sha256 and sha256.isalnum() and sha256.isascii() else None,
        )


@dataclass(frozen=True)
class ImageFacts:
    """
    What became of one image.

    :param price: of one charge, in US dollars; ``paid``: what this one came to by now.
    :param spent: what the task instance spent since its last clear; None: nobody told.
    :param sent: whether the API has, or may have, been asked for it.
    :param since: when it was sent.
    :param why: where there is no image, what happened, in the API's or our own words.
    :param records_at: the folder that has its record, too; None: Airflow's task state store alone.
    """

    status: Status
    images: tuple[StoredImage, ...] = ()
    prompt: str | None = None
    ratio: str | None = None
    tier: str | None = None
    price: Decimal | None = None
    credits: Decimal | None = None
    paid: Decimal = NOTHING
    spent: Decimal | None = None
    refunded: bool = False
    reused: bool = False
    seconds: float | None = None
    since: datetime | None = None
    finished: datetime | None = None
    generation_id: str | None = None
    code: str | None = None
    why: str | None = None
    sent: bool = False
    connection: str | None = None
    records_at: str | None = None

    @property
    def kept(self) -> bool:
        """Return whether its images are stored anywhere of the user's own."""
        return any(image.path for image in self.images)


def of_row(row: TaskRow, now: datetime) -> ImageFacts:
    """Return what became of the image of a task instance that makes one."""
    state = _state(row)
    result = foreign.mapping(row.result)
    record = _record(state, result)
    rendered = row.rendered
    facts: dict[str, Any] = {
        "prompt": _prompt(record, rendered),
        "connection": foreign.text(rendered.get("gpt_image_conn_id"), 200),
        "records_at": foreign.path(rendered.get("destination")) or (state.records_at if state else None),
        "spent": _spent(row),
        "ratio": foreign.text(result.get("aspect_ratio") or rendered.get("aspect_ratio"), 20),
        "tier": foreign.text(result.get("resolution") or rendered.get("resolution"), 20),
        "price": amount(result.get("usd")),
        "credits": amount(result.get("credits")),
        "generation_id": foreign.text(result.get("generation_id"), 200),
        "finished": row.ended,
    }
    if record is not None:
        facts |= _of_record(record)
    images = tuple(StoredImage.parse(image) for image in foreign.items(result.get("images"), _MOST_IMAGES))
    if not images and record is not None and record.state == "stored":
        # Its task doesn't push what it returns, or Airflow's XCom backend keeps that elsewhere.
        images = tuple(_recorded(image, state) for image in record.images[:_MOST_IMAGES])
    if images and row.state == "success":
        return ImageFacts(**{**facts, **_of_result(result, facts), "status": "done", "images": images})
    if facts["generation_id"] and row.state == "success":
        return ImageFacts(**{**facts, "status": "in_flight", "sent": True, "paid": facts["price"] or NOTHING})
    return ImageFacts(**{**facts, **_unfinished(row, record, facts, now)})


def _state(row: TaskRow) -> ImageTaskState | None:
    try:
        return ImageTaskState.model_validate(row.kept.get(IMAGE_KEY))
    except (ValidationError, GptImageError, RecursionError):
        return None


def _record(state: ImageTaskState | None, result: Mapping[str, Any]) -> Record | None:
    """Return the record that counts: the result's, else that of the latest request."""
    if state is None:
        return None
    records: Sequence[Record] = state.records
    if generation_id := result.get("generation_id"):
        return furthest(record for record in records if record.generation_id == generation_id)
    latest = max(records, key=lambda record: record.intended_at, default=None)
    request = latest.fingerprint if latest else None
    return furthest(record for record in records if record.fingerprint == request)


def _recorded(image: ImageFile, state: ImageTaskState | None) -> StoredImage:
    """Return an image as its record has it: beside the records, if it was stored at all."""
    folder = state.records_at if state is not None else None
    path = None if folder is None or image.name is None else f"{folder.rstrip('/')}/{image.name}"
    # Records keep no signature, without which an address may lead nowhere.
    url = None if "?" in image.url else image.url
    version = image.sha256[:16] if image.sha256 else None
    return StoredImage(foreign.path(path), foreign.path(url), image.width, image.height, image.bytes, version)


def _prompt(record: Record | None, rendered: Mapping[str, Any]) -> str | None:
    # Airflow cuts rendered fields, and replaces secrets in them: the record has it whole.
    if record is not None and record.request is not None:
        return foreign.text(record.request.prompt, foreign.LONGEST_PROMPT)
    return foreign.text(rendered.get("prompt"), foreign.LONGEST_PROMPT)


def _of_record(record: Record) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "seconds": record.seconds,
        "since": record.submitted_at or record.intended_at,
        "generation_id": record.generation_id,
        "paid": record.usd * max(0, record.net_charges),
        "refunded": record.refunds > 0 and record.net_charges == 0,
        "sent": record.charges > 0,
    }
    if record.request is not None:
        facts |= {"ratio": record.request.aspect_ratio, "tier": record.request.resolution}
        facts |= {"price": record.usd, "credits": record.credits}
    if record.settled_at is not None:
        facts["finished"] = record.settled_at
    if record.failure is not None:
        facts |= {
            "code": foreign.text(record.failure.code, 200) or foreign.text(record.failure.error, 200),
            "why": foreign.text(record.failure.message),
        }
    return facts


def _of_result(result: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    begun, ended = foreign.moment(result.get("created_at")), foreign.moment(result.get("completed_at"))
    # A try that found its own image again submitted nothing, and the task has paid all the same.
    reused = result.get("reused") is True and not facts["spent"]
    took = None if begun is None or ended is None else foreign.seconds((ended - begun).total_seconds())
    return {
        "reused": reused,
        "seconds": facts.get("seconds") or took,
        "since": facts.get("since") or begun,
        "paid": NOTHING if reused else facts["price"] or NOTHING,
        "refunded": False,
        "code": None,
        "why": None,
        "sent": True,
    }


def _unfinished(
    row: TaskRow, record: Record | None, facts: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return what a task instance without a result has come to: the rest of the table above."""
    if record is None:
        failed = row.state in _FAILED and row.state != "upstream_failed"
        why = "The task failed before anything was sent. Its log says why." if failed else _waits(row)
        return {"status": "failed" if failed else "not_sent", "why": why}
    match record.state:
        case "intent":
            under_way = row.is_live and record.may_be_under_way(now)
            return {"status": "in_flight" if under_way else "unknown", "why": facts.get("why")}
        case "failed":
            if row.is_live and row.state != "up_for_retry":
                return {
                    "status": "not_sent",
                    "why": f"It failed, and is tried again.\n{facts.get('why') or ''}".strip(),
                }
            return {"status": "failed"}
        case "submitted" | "stored":
            if row.is_live:
                return {"status": "in_flight", "why": None, "code": None}
            why = facts.get("why") or "The task ended before the image was stored."
            return {"status": "failed", "why": why}


def _waits(row: TaskRow) -> str:
    return {
        "skipped": "Airflow skipped this task.",
        "upstream_failed": "A task before this one failed, so this one did not run.",
        "removed": "This task is no longer in the Dag.",
        "success": "The task succeeded without a result.",
    }.get(row.state or "", "Not sent yet.")


def _spent(row: TaskRow) -> Decimal | None:
    told = foreign.mapping(row.result).get("spent") or row.spent
    return amount(foreign.mapping(told).get("usd"))
