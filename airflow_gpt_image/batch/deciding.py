"""What the records say has to be done for each item of a plan, at the beginning and again at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from airflow_gpt_image.batch.context import BatchContext
from airflow_gpt_image.batch.phases import Entry, ItemTable, Phase
from airflow_gpt_image.errors import DestinationError
from airflow_gpt_image.ledger.decisions import Decision, decide
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.log import span

PHASE_OF: Final[dict[Decision, Phase]] = {
    "submit": "to_submit",
    "attach": "to_attach",
    "done": "stored",
    "failed": "failed",
    "unknown": "unknown",
}


def merge_stranded(context: BatchContext, *, write: bool = True) -> None:
    """Take what an attempt could only put into the task state store, and put it where it belongs."""
    lease, records = context.lease, context.records
    for record in lease.state.stranded:
        if context.options.reuse == "never" and not record.payer.same_epoch(context.payer):
            continue
        records.add(record)
        if not write:
            continue
        try:
            records.write(record)
        except DestinationError as error:
            context.log.warning("A record is in the task state store alone: %s", error.message)
        else:
            lease.forget_stranded(record)


def decide_phases(context: BatchContext, table: ItemTable, entries: Iterable[Entry]) -> None:
    """Put items into the phases that follow from their records."""
    payer, options, now = context.payer, context.options, context.now()
    for entry in entries:
        decision, record = decide(context.records.of(entry.item), payer, options.policy)
        phase = PHASE_OF[decision]
        if decision == "submit" and record is not None and record.state == "intent":
            # A deferral, or a try that Airflow schedules again, gives no item more tries than it has.
            had_its_tries = record.payer.same_attempt(payer) and record.retries >= options.item_retries
            if had_its_tries or record.may_be_under_way(now):  # whose answer is waited for
                phase = "unknown"
        table.move(entry, phase, record)


def reconsider_unknown(context: BatchContext, table: ItemTable) -> bool:
    """
    Read again what is unknown: an earlier worker may have had its responses while this one was at work.

    What may still be under way is waited for.

    :return: whether there is something to do now.
    """
    logged = False
    while doubtful := _of_earlier_attempts(table, context.payer):
        context.records.load(entry.item for entry in doubtful)
        now, stop = context.now(), context.stop
        decide_phases(context, table, doubtful)
        if stop.error is not None:
            table.place((entry.item.index for entry in doubtful if entry.phase == "to_submit"), "unknown")
        if any(entry.phase in ("to_attach", "to_submit") for entry in doubtful):
            return True
        ends = [
            entry.record.answer_by
            for entry in table.entries("unknown")
            if entry.record is not None and entry.record.may_be_under_way(now)
        ]
        if not ends or stop.error is not None:
            return False
        if not logged:
            logged = True
            context.log.info(
                "An earlier try may still be at its submits (%d); their answers are waited for, %s at most.",
                len(ends),
                span((max(ends) - now).total_seconds()),
            )
        context.clock.sleep(context.timing.write_pause)
    return False


def _of_earlier_attempts(table: ItemTable, payer: Payer) -> Sequence[Entry]:
    """Return the unknown items but those that this attempt itself made so: nobody else has their answers."""
    unknown = table.entries("unknown")
    return [entry for entry in unknown if entry.record and not entry.record.payer.same_attempt(payer)]
