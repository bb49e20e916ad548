"""What a batch task returns: a small plain dict of counts and money, for XCom; no row is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.plan import Item
from airflow_gpt_image.batch.records import Record
from airflow_gpt_image.batch.triage import Triage

_STATUSES: Final = ("stored", "failed", "unknown", "submitted", "not_submitted")


def of_records(items: Sequence[Item], records: Sequence[Record | None], *, by: str) -> dict[str, Any]:
    """
    What became of a plan's items, and what was paid for them.

    :param records: the items', in the same order.
    :param by: whose money is told; what others paid for is ``reused``.
    """
    states = Counter(map(manifest.status, records))
    known = [record for record in records if record is not None]
    own = [record for record in known if record.by == by]
    charged = sum((record.credits * record.charges for record in own), Decimal(0))
    refunded = sum((record.credits * record.refunds for record in own), Decimal(0))
    return {
        "rows": len({item.row for item in items}),
        "images": len(items),
        **{name: states[name] for name in _STATUSES},
        "reused": sum(record.state == "stored" and record.by != by for record in known),
        **_money(charged - refunded),
        "charged": str(plain(charged)),
        "refunded": str(plain(refunded)),
    }


def of_triage(items: Sequence[Item], triage: Triage) -> dict[str, Any]:
    """What would be done for a plan's items, and what that would cost."""
    return {
        "dry_run": True,
        "rows": len({item.row for item in items}),
        "images": len(items),
        "reused": len(triage.stored) + len(triage.attach),
        "to_pay": len(triage.pay),
        "failed": len(triage.failed),
        "unknown": len(triage.unknown),
        "tiers": triage.tiers(),
        **_money(triage.credits),
    }


def _money(credits: Decimal) -> dict[str, str]:
    return {"credits": str(plain(credits)), "usd": str(usd(credits))}
