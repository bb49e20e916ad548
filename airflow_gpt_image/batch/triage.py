"""What is on record decides what has to be done for each item, and what that costs.

==================================  ======================================================================
on record                           what follows
==================================  ======================================================================
nothing                             pay
stored, and the images are there    done: nothing
submitted                           attach: wait for it, and store what it made
failed (it was refunded)            pay; but not if it failed for good in an earlier try of the same run
intent, no id                       unknown: nobody can know; pay, if ``on_unknown_submit`` says so
==================================  ======================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from airflow_gpt_image.api.pricing import CREDITS, plain, usd
from airflow_gpt_image.api.sizes import Resolution
from airflow_gpt_image.batch.plan import Item
from airflow_gpt_image.batch.records import Record

Verdict = Literal["stored", "attach", "pay", "failed", "unknown"]


def verdict(record: Record | None, *, by: str, resubmit: bool) -> Verdict:
    """What an item's record says: the table above.

    :param by: who asks: a task instance since its last clear.
    """
    if record is None:
        return "pay"
    if record.state == "stored":
        return "stored"
    if record.state == "submitted":
        return "attach"
    if record.state == "intent":
        return "pay" if resubmit else "unknown"
    for_good = record.by == by and record.error is not None and not record.error.retryable
    return "failed" if for_good else "pay"


@dataclass
class Triage:
    """The items of a plan by what has to be done for them."""

    stored: list[Item] = field(default_factory=list)
    attach: list[Item] = field(default_factory=list)
    pay: list[Item] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)
    unknown: list[Item] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        find: Callable[[Item], Record | None],
        *,
        by: str,
        resubmit: bool,
        stored: Collection[int] = (),
        failed: Collection[int] = (),
    ) -> Triage:
        """
        Sort items by their records.

        :param stored: indexes of items that are known to be stored without a look; ``failed`` likewise.
        """
        triage = cls()
        for item in items:
            if item.index in stored:
                triage.stored.append(item)
            elif item.index in failed:
                triage.failed.append(item)
            else:
                getattr(triage, verdict(find(item), by=by, resubmit=resubmit)).append(item)
        return triage

    @property
    def credits(self) -> Decimal:
        """What paying for the rest costs, exactly."""
        return sum((item.credits for item in self.pay), Decimal(0))

    def tiers(self) -> dict[str, dict[str, Any]]:
        """What is to be paid for, by tier: images, credits, US dollars; money in decimal strings."""
        counts: Counter[Resolution] = Counter(item.resolution for item in self.pay)
        return {
            tier: {
                "images": counts[tier],
                "credits": str(plain(price * counts[tier])),
                "usd": str(usd(price * counts[tier])),
            }
            for tier, price in CREDITS.items()
        }

    def table(self, *, rows: int) -> str:
        """The plan for people: what is there, what is to be paid, and what it costs, by tier."""
        there, total = len(self.stored) + len(self.attach), self.credits
        images = there + len(self.failed) + len(self.unknown) + len(self.pay)
        all_of_them = {"images": len(self.pay), "credits": plain(total), "usd": usd(total)}
        lines = [
            _ROW.format(tier, cost["images"], cost["credits"], cost["usd"])
            for tier, cost in {**self.tiers(), "all": all_of_them}.items()
        ]
        head = (
            f"{rows:,} rows, {images:,} images: {there:,} paid for already, {len(self.pay):,} to pay for, "
            f"{len(self.failed):,} failed before, {len(self.unknown):,} unknown."
        )
        return "\n".join([head, _ROW.format("tier", "images", "credits", "US dollars"), *lines])


_ROW: Final = "{:<5}{:>10}{:>14}{:>14}"
