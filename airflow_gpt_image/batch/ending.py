"""How an attempt of a batch ends: with its manifest, and with an error where images are missing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.batch import manifest, manifest_parquet, report
from airflow_gpt_image.batch.checkpoint import Checkpoint
from airflow_gpt_image.batch.contact_sheet import About
from airflow_gpt_image.batch.context import BatchContext
from airflow_gpt_image.batch.missing import refuse_missing
from airflow_gpt_image.batch.phases import Entry, ItemTable
from airflow_gpt_image.errors import ItemsFailedError, UnsettledImagesError
from airflow_gpt_image.events import Reused
from airflow_gpt_image.ledger.record import furthest
from airflow_gpt_image.log import span


def finish(context: BatchContext, table: ItemTable, begun: Checkpoint, place: str) -> dict[str, Any]:
    """
    Write what became of the items, and return the task's result.

    :param begun: what was known when the attempt began, or after its last deferral.
    :param place: where in the destination the manifest goes.
    :raises GptImageError: what stopped the submitting.
    :raises UnsettledImagesError: when images are paid for and not stored.
    :raises DestinationError: when images or records are gone that were there.
    """
    _read_rest(context, table)
    entries, prices, folder = list(table), context.prices, context.folder
    result = {
        **report.result_of(entries, context.payer, prices, context.budget),
        "invalid": begun.invalid,
        "seconds": round(context.now().timestamp() - begun.began, 1),
    }
    about = About(result, prices, context.now(), context.options.source)
    result |= manifest.write(folder, context.plan, entries, context.payer, about, place=place)
    if result["manifest_parquet"] is None:
        installed = manifest_parquet.is_installed()
        context.log.info("%s", manifest_parquet.BROKEN if installed else manifest_parquet.ABSENT)
    manifest.write_summary(folder, result, about, place=place)
    context.plan.redact(context.folder)
    context.lease.release()
    context.lock.release()
    context.log.info("%s", _told(result))
    losses = _losses(result, context.options.max_failures)
    if losses is not None:
        context.log.warning("%s", losses)
    unsettled = _unsettled_error(entries, prices, result["unsettled"])
    if unsettled is not None:
        context.log.warning("%s", unsettled.message)
    error = context.stop.error
    if isinstance(error, ItemsFailedError):
        # What was being submitted when the batch stopped, and wasn't sent, is no failure.
        failed = [entry.record for entry in entries if manifest.status(entry.record) == "failed"]
        failures = [record.failure for record in failed if record and record.failure]
        passing = unsettled is not None or any(failure.retryable for failure in failures)
        error.retryable = passing  # type: ignore[misc]  # as that of what failed
    if error is not None:
        raise error
    if unsettled is not None:
        raise unsettled
    context.tell(Reused(result["reused"]))
    return result


def _told(result: dict[str, Any]) -> str:
    """Return what became of the batch, for people: in lines that can be seen whole."""
    counts = (
        f"{result['stored']:,} stored ({result['reused']:,} reused), {result['failed']:,} failed, "
        f"{result['unknown']:,} unknown, {result['not_submitted']:,} not submitted"
    )
    return (
        f"Done: {counts}; {span(result['seconds'])}.\n"
        f"Spent since the last clear: ${result['usd']}; "
        f"credits: {result['charged']} charged, {result['refunded']} refunded.\n"
        f"Manifest: {result['manifest']}"
    )


def _losses(result: dict[str, Any], most: float | None) -> str | None:
    """Return what there is to say of images that are missing; None when none is."""
    unsettled = result["unknown"] + result["submitted"]
    if not (result["failed"] or unsettled or result["not_submitted"]):
        return None
    counts = {
        "failed": result["failed"],
        "paid for or unknown": unsettled,
        "not submitted": result["not_submitted"],
    }
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    lines = [f"{result['images'] - result['stored']:,} of {result['images']:,} images are missing: {told}."]
    if result["failures"] is not None:
        lines.append(f"Mend these rows and run them again:\n{result['failures']}")
    if result["unsettled"] is not None:
        lines.append(f"A retry or a clear looks for these:\n{result['unsettled']}")
    lines.append(f"How many may fail is said by max_failures, which is {most!r} here.")
    return "\n".join(lines)


def _read_rest(context: BatchContext, table: ItemTable) -> None:
    """Read the records of what was settled before a deferral."""
    rest = [entry for entry in table if entry.record is None]
    context.records.load(entry.item for entry in rest)
    for entry in rest:
        entry.record = furthest(context.records.of(entry.item))
    stored = table.entries("stored")
    gone = [entry for entry in stored if entry.record is None or entry.record.state != "stored"]
    refuse_missing(context.folder, len(gone))


def _unsettled_error(
    entries: Sequence[Entry], prices: Prices, rows: str | None
) -> UnsettledImagesError | None:
    records = [entry.record for entry in entries if entry.record and entry.record.state == "submitted"]
    if not records:
        return None
    cost = sum((record.credits for record in records), Decimal(0))
    images = f"{len(records):,} image{'s are' if len(records) > 1 else ' is'}"
    return UnsettledImagesError(
        f"{images} paid for and not stored: {plain(cost):,} credits (${prices.usd(cost):,}).\n"
        "The next try waits for them, and fetches them for nothing; so does a clear.\n"
        f"Their rows: {rows}"
    )
