"""What a batch tells: the plan's table and the progress for people, the result for XCom."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image import results
from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.api.sizes import RESOLUTIONS, Resolution
from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.error_counts import count_errors
from airflow_gpt_image.batch.phases import Entry, ItemTable
from airflow_gpt_image.events import Progressed
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.reading import is_reused

_STATUSES: Final = ("stored", "failed", "unknown", "submitted", "not_submitted")
_ROW: Final = "{:<5}{:>10}{:>14}{:>14}"
_PROGRESS_WINDOW: Final = 60.0


def money(credits: Decimal, prices: Prices) -> dict[str, str]:
    """Return an amount in credits and in US dollars, as decimal strings."""
    return {"credits": str(plain(credits)), "usd": str(prices.usd(credits))}


def result_of(entries: Sequence[Entry], payer: Payer, prices: Prices, budget: Budget) -> dict[str, Any]:
    """
    Return what became of a plan's items, and what was paid since the last clear.

    :param payer: what others paid for, or the same task instance before its last clear, is ``reused``.
    """
    states = Counter(manifest.status(entry.record) for entry in entries)
    reused = sum(is_reused(entry.record, payer) for entry in entries)
    return {
        "rows": len({entry.item.row for entry in entries}),
        "images": len(entries),
        **{name: states[name] for name in _STATUSES},
        "reused": reused,
        **money(budget.spent, prices),
        **results.spent_fields(budget.charged, budget.refunded, prices),
        "errors": count_errors(entries),
    }


def preview_of(table: ItemTable, prices: Prices) -> dict[str, Any]:
    """Return what would be done for a plan's items, and what that would cost."""
    return {
        "dry_run": True,
        "rows": len({entry.item.row for entry in table}),
        "images": len(table),
        "reused": table.count("stored", "to_attach"),
        "to_pay": table.count("to_submit"),
        "failed": table.count("failed"),
        "unknown": table.count("unknown"),
        "tiers": _tiers(table, prices),
        **money(table.credits("to_submit"), prices),
    }


def plan_table(table: ItemTable, prices: Prices, *, rows: int) -> str:
    """Return the plan for people: what is there, what is to be paid, and what it costs, by tier."""
    there, to_pay, total = (
        table.count("stored", "to_attach"),
        table.count("to_submit"),
        table.credits("to_submit"),
    )
    lines = [
        _ROW.format(tier, cost["images"], cost["credits"], cost["usd"])
        for tier, cost in {**_tiers(table, prices), "all": {"images": to_pay, **money(total, prices)}}.items()
    ]
    head = (
        f"{rows:,} rows, {len(table):,} images: {there:,} paid for already, {to_pay:,} to pay for, "
        f"{table.count('failed'):,} failed before, {table.count('unknown'):,} unknown."
    )
    return "\n".join([head, _ROW.format("tier", "images", "credits", "US dollars"), *lines])


def _tiers(table: ItemTable, prices: Prices) -> dict[str, dict[str, Any]]:
    counts: Counter[Resolution] = Counter(entry.item.resolution for entry in table.entries("to_submit"))
    return {
        tier: {"images": counts[tier], **money(prices.credits(tier) * counts[tier], prices)}
        for tier in RESOLUTIONS
    }


class Progress:
    """
    How far a batch is, for people who watch the task's log.

    :param now: in seconds, of any clock that only goes forward; likewise in the line.
    """

    def __init__(self, table: ItemTable, prices: Prices, *, now: float) -> None:
        self._table = table
        self._prices = prices
        self._recent = deque([(now, table.done)])

    def at(self, budget: Budget, *, now: float) -> Progressed:
        """Return what is done, failed, in flight, and spent since the last clear, and the rate by now."""
        table, done = self._table, self._table.done
        self._recent.append((now, done))
        while len(self._recent) > 2 and now - self._recent[0][0] > _PROGRESS_WINDOW:
            self._recent.popleft()
        since, before = self._recent[0]
        return Progressed(
            done=done,
            total=len(table),
            failed=table.lost,
            in_flight=table.count("waiting"),
            rate=(done - before) / max(now - since, 0.001),
            usd=f"{self._prices.usd(budget.spent):,}",
        )
