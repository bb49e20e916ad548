"""What became of a data set, at the destination: the manifest, and the rows that have no image.

They follow from the records and can be written anew at any time; each appears in one step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote_path
from airflow_gpt_image.batch import manifest_csv, manifest_parquet, metadata
from airflow_gpt_image.batch.columns import caption_of, columns_of
from airflow_gpt_image.batch.contact_sheet import About, ContactSheet, name_of
from airflow_gpt_image.batch.manifest_csv import CsvManifest
from airflow_gpt_image.batch.manifest_parquet import ParquetManifest
from airflow_gpt_image.batch.metadata import Metadata
from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.batch.plan import Plan
from airflow_gpt_image.datasets import BadCell, as_line
from airflow_gpt_image.errors import DestinationError, GptImageError, InvalidRequestError
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.reading import is_reused
from airflow_gpt_image.ledger.record import Record, redacted_request
from airflow_gpt_image.storage.folders import Folder, open_file
from airflow_gpt_image.storage.images import ImageFile

JSONL: Final = "manifest.jsonl"
CSV: Final = manifest_csv.NAME
PARQUET: Final = manifest_parquet.NAME
METADATA: Final = metadata.NAME
CONTACT_SHEET: Final = name_of(1)
SUMMARY: Final = "summary.json"
FAILURES: Final = "failures.jsonl"
UNSETTLED: Final = "unsettled.jsonl"
INVALID: Final = "invalid.jsonl"

# No line of ours is as long, and a file without line ends shall not fill the memory.
_LONGEST_LINE: Final = 64 * 1024 * 1024
# Objects, lists and what is in them. A row has a million characters at most, and a line one row; in memory
# each of these takes thirty times what it has in the file.
_MOST_PARTS: Final = 1_500_000
_CHUNK: Final = 1024 * 1024


NOT_SENT: Final = frozenset({"StoppedError", "TaskInterruptedError", "RateLimitError"})
"""Failures of submits that were not accepted because the batch had stopped, not because of the item."""


def place_of(payer: Payer, history: History) -> str:
    """
    Return the folder within the destination that a task instance's manifest goes to: "" or one of its own.

    The map indexes of a task, and the iterations of a Task Loop, can share a destination one after the other.
    Each has to find its own manifest afterwards: ``map-3/``, ``iteration-2/`` or ``iteration-2-map-3/``.
    """
    looped = [] if payer.loop_index is None else [f"iteration-{payer.loop_index}"]
    mapped = [f"map-{payer.map_index}"] if history.mapped and history.shares_folder else []
    return f"{'-'.join(looped + mapped)}/" if looped or mapped else ""


def write(
    folder: Folder,
    plan: Plan,
    entries: Sequence[Entry],
    payer: Payer,
    about: About,
    *,
    place: str = "",
) -> dict[str, str | None]:
    """
    Write all of them, in one pass over the items.

    :param entries: every item, with the record that counts.
    :param payer: what others paid for, or the same task instance before its last clear, is ``reused``.
    :param about: the batch as a whole. Its source isn't removed: it may be an earlier ``failures.jsonl``.
    :param place: where in the destination: of :func:`place_of`.
    :return: their addresses, as the task's result has them; None for one that isn't there: one without
        rows, the Parquet file where pyarrow isn't installed, and ``metadata.jsonl`` in a place of its own,
        from where its readers find no image.
    :raises DestinationError: when the destination doesn't take them.
    """
    columns = columns_of(plan)
    with ExitStack() as drafts:
        lines, table, typed, images = (
            drafts.enter_context(folder.draft(place + name)) for name in (JSONL, CSV, PARQUET, METADATA)
        )
        csv = CsvManifest(table, columns)
        parquet = ParquetManifest(typed, columns) if manifest_parquet.is_installed() else None
        described = Metadata(images, columns)
        sheet = ContactSheet(
            lambda name, page: folder.write(place + name, page),
            about,
            payer,
            len(entries),
            caption=caption_of(columns),
            up="../" * place.count("/"),
        )
        for entry in entries:
            told, files = line(folder, plan, entry, payer), _files(entry)
            lines.write(_json(told))
            csv.add(told)
            if parquet is not None:
                parquet.add(told)
            if not place:
                described.add(told, files)
            sheet.add(told, files)
        csv.close()
        sheet.close()
        made = drafts.enter_context(parquet.table()) if parquet is not None else None
        addresses = {
            "manifest": folder.publish(lines, place + JSONL),
            "manifest_csv": folder.publish(table, place + CSV),
            "manifest_parquet": _put(folder, made, place + PARQUET),
            "metadata": _put(folder, images if described.images else None, place + METADATA),
            "contact_sheet": sheet.address,
        }
    _remove_pages(folder, place, sheet.pages + 1)
    return {
        **addresses,
        "failures": _write_rows(folder, place + FAILURES, plan, entries, about.source, "failed"),
        "unsettled": _write_rows(
            folder, place + UNSETTLED, plan, entries, about.source, "unknown", "submitted"
        ),
    }


def write_summary(folder: Folder, result: Mapping[str, Any], about: About, *, place: str = "") -> None:
    """
    Write the task's result beside the manifest, for those who have no XCom: a task that fails returns none.

    The counts and errors of a batch stand here, and not in the manifest: each of its lines is an image, and
    so they are to every tool that reads it.
    """
    told = {"version": 1, "written": about.now.isoformat(), **result}
    folder.write(place + SUMMARY, json.dumps(told, ensure_ascii=False, indent=2).encode() + b"\n")


def _put(folder: Folder, draft: Any, name: str) -> str | None:
    """Put a draft in its place; without one take away what an earlier try put there."""
    if draft is not None:
        return folder.publish(draft, name)
    folder.remove(name)
    return None


def _remove_pages(folder: Folder, place: str, page: int) -> None:
    """
    Take away the pages of an earlier try of more images, from a page on.

    The last one first: where that breaks off, the next try still finds the others by counting.
    """
    end = page
    while folder.size(place + name_of(end)) is not None:
        end += 1
    for number in reversed(range(page, end)):
        folder.remove(place + name_of(number))


def _files(entry: Entry) -> list[str]:
    """Return the names of an item's stored images, relative to the destination."""
    record = entry.record
    if record is None or record.state != "stored":
        return []
    return [image.name for image in record.images if image.name is not None]


def write_invalid(folder: Folder, bad: Iterable[BadCell], *, place: str = "") -> str:
    """Write down what is wrong with rows that can't be requests; return its address."""
    lines = (_json({**_shown(cell)._asdict(), "message": str(cell)}) for cell in bad)
    return folder.write(place + INVALID, b"".join(lines))


def _shown(cell: BadCell) -> BadCell:
    # Whoever knows its path can call it.
    return cell._replace(value="") if cell.column == "callback_url" else cell


def status(record: Record | None) -> str:
    """
    Return what an item's record comes to.

    ``stored``; ``failed``: nothing is paid for; ``unknown``: it may be; ``submitted``: it is, and there is no
    image (yet), for the reason its error tells; ``not_submitted``: also when it was about to be, and the
    batch stopped.
    """
    if record is None:
        return "not_submitted"
    if record.state == "intent":
        return "unknown"
    failure = record.failure
    not_sent = failure and (failure.scope in ("account", "storage") or failure.error in NOT_SENT)
    if record.state == "failed" and record.net_charges == 0 and not_sent:
        return "not_submitted"
    return record.state


def line(folder: Folder, plan: Plan, entry: Entry, payer: Payer) -> dict[str, Any]:
    """Return an item's line of ``manifest.jsonl``."""
    item, record = entry.item, entry.record
    request, given = plan.row(item)
    stored = record is not None and record.state == "stored"
    images = [_described(folder, image) for image in record.images] if record else []
    failure = record.failure if record and not stored else None
    paid = record is not None and record.state != "failed"
    return {
        "row": item.row,
        "variant": item.slot.variant,
        "status": status(record),
        "request": redacted_request(request).model_dump(mode="json", exclude={"callback_url"}),
        "data": {name: value for name, value in given.items() if name not in FIELDS},
        "generation_id": record.generation_id if record else None,
        "paths": [image["path"] for image in images],
        "images": images,
        "error": failure.error if failure else None,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "credits": str(plain(record.credits)) if record and paid else "0",
        "seconds": record.seconds if record else None,
        "reused": is_reused(record, payer),
        "fingerprint": item.fingerprint,
    }


def _described(folder: Folder, image: ImageFile) -> dict[str, Any]:
    return image.located(folder).model_dump(mode="json")


def read_manifest(path: object) -> Iterator[dict[str, Any]]:
    """
    Yield the lines of a ``manifest.jsonl``, one for each image, in the data set's order.

    :param path: of the file, or of the folder it is in: on this machine or any store Airflow knows; the
        batch task's result has it under ``manifest``.
    :return: dicts with ``row``, ``variant``, ``status`` (``stored``, ``failed``, ``unknown``, ``submitted``
        or ``not_submitted``), ``request``, ``data`` (the row's other columns), ``generation_id``, ``paths``,
        ``images``, ``error``, ``error_code``, ``error_message``, ``credits``, ``seconds`` from submit to
        stored image, ``reused`` and ``fingerprint``.
    :raises InvalidRequestError: when there is none, or it is no manifest.
    :raises DestinationError: when it can't be read, which may pass.
    """
    return (entry for _, entry in read_lines(path))


def read_lines(
    path: object, *, opened: Callable[[str], BinaryIO] = open_file
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """
    Yield the lines of a ``manifest.jsonl`` as :func:`read_manifest` does, each behind its bytes.

    :param opened: opens the file.
    """
    address = str(path)
    if not address.endswith(".jsonl"):
        address = f"{address.rstrip('/')}/{JSONL}"
    number = 0
    for number, text in enumerate(_lines_of(address, opened), 1):
        yield text, _entry(text, number, address)
    if not number:
        raise InvalidRequestError(f"{quote_path(address)} is empty, and a manifest never is. {_REMEDY}")


def _lines_of(address: str, opened: Callable[[str], BinaryIO]) -> Iterator[bytes]:
    """Yield the lines of a file; of one above the limit no more than shows it, and then no others."""
    rest = b""
    try:
        with opened(address) as file:
            # Not readline(limit): fsspec's files take no limit there.
            while len(rest) <= _LONGEST_LINE and (chunk := file.read(_CHUNK)):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
    except GptImageError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InvalidRequestError(f"There is no manifest at {quote_path(address)}. {_REMEDY}") from error
    except Exception as error:  # each store has errors of its own kind
        raise DestinationError(f"{quote_path(address)} could not be read: {type(error).__name__}.") from error
    if rest:
        yield rest[:_LONGEST_LINE]


def _entry(text: bytes, number: int, address: str) -> dict[str, Any]:
    try:
        if sum(text.count(part) for part in b"{[,") > _MOST_PARTS:
            raise ValueError("too many parts")
        entry = json.loads(text)
        if isinstance(entry, dict) and {"row", "status", "paths"} <= entry.keys():
            return entry
    except (ValueError, RecursionError):
        pass
    raise InvalidRequestError(f"Line {number} of {quote_path(address)} is none of a manifest's. {_REMEDY}")


_REMEDY: Final = (
    "Give the path of a manifest.jsonl that a batch wrote, or of its folder: the task's result has it under "
    "'manifest'."
)


def _write_rows(
    folder: Folder, name: str, plan: Plan, entries: Iterable[Entry], source: str, *statuses: str
) -> str | None:
    """Write the rows that have an image of these statuses, each once and as it was given, but for secrets."""
    rows = {entry.item.row: entry.item for entry in entries if status(entry.record) in statuses}
    if not rows:
        if folder.address(name) != source:
            folder.remove(name)
        return None
    with folder.draft(name) as draft:
        for item in rows.values():
            draft.write(_json(as_line(plan.given(item))))
        return folder.publish(draft, name)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
