"""After a clear of a mapped task: what a request that stands at this map index now had under another one.

A mapped list may have been put in another order, or have grown at its front.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import Record, latest_versions


def take_from_siblings(
    records: Iterable[Record], payer: Payer, *, cleared: bool, failed_at: int = -1
) -> list[Record]:
    """
    Return what one other map index has on record about a request; nothing when none has anything.

    :param records: about this request, of other map indexes.
    :param payer: who asks.
    :param cleared: that its task instance was cleared.
    :param failed_at: how often anything in the run had been cleared when its own submit failed, if it did.
    """
    others: defaultdict[int, list[Record]] = defaultdict(list)
    for record in latest_versions(records):
        # One that was paid for since the last clear may be an equal request's, beside this one. So may one
        # that was there when this one failed: only a later clear can have moved the request that failed to
        # there.
        clears = record.payer.run_clears
        if record.state != "failed" and clears > failed_at and (cleared or clears < payer.run_clears):
            others[record.slot.map_index].append(record)
    # An intent may have been accepted, too: what is unknown under one index is so under every other one.
    paid = [index for index in others if any(record.state != "intent" for record in others[index])]
    indexes = sorted(paid or others)
    # Of several equal ones each index takes another, as far as that goes.
    return others[indexes[max(0, payer.map_index) % len(indexes)]] if indexes else []
