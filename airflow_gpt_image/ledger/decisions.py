"""What the records of a request say has to be done for it: the one table, for single images and batches.

=====================================  ==================================================================
the record that counts                 what follows
=====================================  ==================================================================
none                                   submit
stored, and its images are there       done
submitted                              attach: wait for it, and store what it made
failed                                 submit: nothing is paid for; but "failed" where it failed for good
                                       since the last clear, and is not to be tried again
intent, no id                          unknown: nobody can know; submit, if ``on_unknown_submit`` says so
=====================================  ==================================================================

With ``regenerate`` only what was done since the last clear counts: after a clear the first row applies, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import Record, furthest

Decision = Literal["submit", "attach", "done", "unknown", "failed"]


@dataclass(frozen=True)
class Policy:
    """
    What the author decided.

    :param regenerate: pay for a new image after a clear.
    :param resubmit_unknown: pay again where an earlier submit may have been accepted.
    :param retry_failed: submit again what failed for good since the last clear: a changed account or a
        patient author may make sense of it. A batch doesn't, or one bad prompt would be submitted in every
        try.
    """

    regenerate: bool = False
    resubmit_unknown: bool = False
    retry_failed: bool = False


class Verdict(NamedTuple):
    """A decision, and the record it follows from."""

    decision: Decision
    record: Record | None


def decide(records: Iterable[Record], payer: Payer, policy: Policy) -> Verdict:
    """
    Decide what has to be done for a request.

    :param records: all that is known of it, from wherever; a stored record's images have been looked for.
    :param payer: who asks.
    """
    if policy.regenerate:
        records = [record for record in records if record.payer.same_epoch(payer)]
    record = furthest(records)
    if record is None:
        return Verdict("submit", None)
    if record.state == "stored":
        return Verdict("done", record)
    if record.state == "submitted":
        return Verdict("attach", record)
    if record.state == "intent":
        return Verdict("submit" if policy.resubmit_unknown else "unknown", record)
    final = record.payer.same_epoch(payer) and record.failure is not None and record.failure.final
    return Verdict("failed" if final and not policy.retry_failed else "submit", record)
