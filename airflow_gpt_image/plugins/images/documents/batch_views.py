"""What is known of a batch, whether by its manifest or by what lies at its destination while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Self

from pydantic import ValidationError

from airflow_gpt_image.api.pricing import USD_PER_CREDIT
from airflow_gpt_image.batch.lease import KEY, BatchTaskState
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.plugins.images.documents import (
    batch_live,
    batch_looks,
    batch_manifest,
    batch_opening,
    foreign,
    papers,
)
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING, amount
from airflow_gpt_image.plugins.images.documents.batch_opening import Look
from airflow_gpt_image.plugins.images.documents.batch_rows import BatchRows, RowImage
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Status
from airflow_gpt_image.plugins.images.documents.sheets import Entry

# What a result calls its counts.
_COUNTS: Final[dict[str, str]] = {
    "all": "images",
    "done": "stored",
    "in_flight": "submitted",
    "failed": "failed",
    "unknown": "unknown",
    "not_sent": "not_submitted",
}
# A look that takes longer than a page waits is left a moment all the same: it may be there at once.
_SHORTEST_WAIT: Final = 0.05
_TWELVE: Final = Decimal("0.000000000001")


@dataclass(frozen=True)
class Summary:
    """A batch's counts, and its money in US dollars since its last clear."""

    counts: dict[str, int]
    paid: Decimal = NOTHING
    refunded: Decimal = NOTHING
    at_stake: Decimal = NOTHING
    seconds: float | None = None

    @property
    def status(self) -> Status:
        """Return one status for all: what wants a person first."""
        order: tuple[Status, ...] = ("unknown", "in_flight", "failed", "done")
        return next((status for status in order if self.counts[status]), "not_sent")

    @classmethod
    def nothing(cls, row: TaskRow) -> Self:
        """Return that of a batch of which nothing is known but what it told of its spending."""
        return cls(papers.counts(()), paid=amount(foreign.mapping(row.spent).get("usd")) or NOTHING)


@dataclass(frozen=True)
class BatchView:
    """
    A batch's images, as far as they are known.

    :param read: returns images of these indexes with all that is known of them.
    :param rate: images a second of late; None: nothing is made, or that isn't known.
    """

    entries: Sequence[Entry[int]]
    columns: list[str]
    summary: Summary
    read: Callable[[Sequence[int]], list[RowImage]]
    index_of: Callable[[str], int | None]
    rate: float | None = None
    notices: list[dict[str, Any]] = field(default_factory=list)


def of_row(row: TaskRow, context: Context, *, at_once: bool = True) -> BatchView | None:
    """
    Return what is known of a batch; None while there is nothing.

    :param at_once: return what was known before where it takes long to find out what is there by now; of a
        batch that has ended it is always waited for.
    :raises StillReadingError: when it takes long, and nothing was known before.
    :raises OutsideRootsError: when it is where this server may not look.
    :raises GptImageError: when it can't be read.
    """
    path = foreign.path(foreign.mapping(row.result).get("manifest"))
    if path is not None:
        return _by_manifest(row, batch_manifest.read(path, context))
    return _by_records(row, context, at_once=at_once)


def first_images(row: TaskRow, most: int, context: Context) -> tuple[list[RowImage], list[str]]:
    """Return a batch's first images and its columns; it raises as :func:`of_row`."""
    path = foreign.path(foreign.mapping(row.result).get("manifest"))
    if path is None:
        view = _by_records(row, context, at_once=True)
        if view is None:
            return [], []
        first = [entry.source for entry in view.entries if entry.status != "not_sent"][:most]
        return view.read(first), view.columns
    rows = batch_manifest.read_first(path, most, context)
    usd = _usd_per_credit(foreign.mapping(row.result))
    return [rows.read(index, usd) for index in range(len(rows.entries))], list(rows.columns)


def summary_of_result(row: TaskRow) -> Summary | None:
    """Return a batch's counts and money, as its result has them; None where there is none."""
    result = foreign.mapping(row.result)
    if not isinstance(result.get("manifest"), str):
        return None
    counts = {name: foreign.count(result.get(told)) or 0 for name, told in _COUNTS.items()}
    refunded = (amount(result.get("refunded")) or NOTHING) * _usd_per_credit(result)
    paid = amount(result.get("usd")) or NOTHING
    return Summary(counts, paid, refunded, seconds=foreign.seconds(result.get("seconds")))


def destination_of(row: TaskRow) -> str | None:
    """Return where a batch puts its images, as its attempts have it, else as it was rendered."""
    state = _state(row)
    told = (state.destination if state else None) or foreign.path(row.rendered.get("destination"))
    return told.rstrip("/") if told else None


def _by_manifest(row: TaskRow, rows: BatchRows) -> BatchView:
    usd = _usd_per_credit(foreign.mapping(row.result))
    told = summary_of_result(row) or Summary.nothing(row)
    stake = (
        sum((entry.price or NOTHING for entry in rows.entries if entry.status == "unknown"), NOTHING) * usd
    )
    counts = papers.counts(entry.status for entry in rows.entries)
    return BatchView(
        entries=rows.entries,
        columns=list(rows.columns),
        summary=Summary(counts, told.paid, told.refunded, stake, told.seconds),
        read=lambda indexes: [rows.read(index, usd) for index in indexes],
        index_of=rows.indexes.get,
    )


def _by_records(row: TaskRow, context: Context, *, at_once: bool) -> BatchView | None:
    begun = time.monotonic()
    state, destination = _state(row), destination_of(row)
    if state is None or destination is None or not state.published:
        return None
    payer = Payer(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index,
        loop_index=row.loop_index,
        clear_epoch=max(0, row.max_tries),
        attempt=max(0, row.try_number),
    )
    plan = state.checkpoint.plan if state.checkpoint else None
    there = batch_opening.open_destination(destination, payer, state.recorded, plan, context)
    if there is None:
        return None
    left = max(_SHORTEST_WAIT, context.patience - (time.monotonic() - begun))
    within = left if at_once and row.is_live else None
    look = batch_looks.look_at(there, payer, context.now, within=within)
    usd = batch_live.usd_per_credit(look)
    return BatchView(
        entries=look.entries,
        columns=list(there.rows.columns),
        summary=_summary(row, look, usd),
        read=lambda indexes: batch_live.read_images(there, look, indexes, usd),
        index_of=there.rows.indexes.get,
        rate=look.rate if row.is_live else None,
    )


def _summary(row: TaskRow, look: Look, usd: Decimal) -> Summary:
    told = amount(foreign.mapping(row.spent).get("usd"))
    by_names = sum((look.entries[index].price or NOTHING for index in look.own), NOTHING) * usd
    records = look.records.values()
    refunded = sum((record.credits * record.refunds for record in records), NOTHING) * usd
    unknown = (entry.price or NOTHING for entry in look.entries if entry.status == "unknown")
    return Summary(
        papers.counts(look.statuses),
        by_names if told is None else told,
        refunded,
        sum(unknown, NOTHING) * usd,
    )


def _state(row: TaskRow) -> BatchTaskState | None:
    try:
        return BatchTaskState.model_validate(row.kept.get(KEY))
    except (ValidationError, GptImageError, RecursionError):
        return None


def _usd_per_credit(result: Mapping[str, Any]) -> Decimal:
    """Return what a credit costs, by what a batch spent in both; else the vendor's price."""
    usd, charged = amount(result.get("usd")), amount(result.get("credits"))
    if not usd or not charged:
        return USD_PER_CREDIT
    return min(usd / charged, Decimal(1_000)).quantize(_TWELVE).normalize()
