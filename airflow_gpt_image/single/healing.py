"""Take the id of a submit whose answer was lost from what its callback told."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.errors import GenerationNotFoundError, SubmissionUnknownError
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.single.context import ImageContext

# The API's clock tells when a generation began, ours when it was asked for.
_CLOCKS_DIFFER: Final = timedelta(minutes=10)


def take_told_id(context: ImageContext, intent: Record) -> bool:
    """
    Put on record which generation a submit became, if a callback told it and the API confirms it.

    A callback's word alone is a hint: the account has to have the generation, it has to be of the time of the
    submit, and no other submit's.

    :param intent: the record of a submit without an id.
    :return: whether its id is on record now.
    :raises LedgerError: when it can't be known what was told, or no place takes the record.
    :raises GptImageError: when the API can't be asked.
    """
    generation_id = context.ledger.told_id(intent)
    if generation_id is None:
        return False
    prompt = intent.request.prompt if intent.request is not None else None
    name = context.names.of(intent.fingerprint, generation_id, prompt).stem(0)
    found = intent.submitted(generation_id, intent.intended_at, name=name)
    why_not = _why_not(context, found)
    if why_not is not None:
        context.log.warning("A callback told the id %s, which is not taken: %s.", generation_id, why_not)
        return False
    context.ledger.write_outcome(found)
    context.log.info("The answer to the submit was lost; its callback told the id %s.", generation_id)
    return True


def _why_not(context: ImageContext, found: Record) -> str | None:
    """Return why a generation can't be the one that a record says."""
    if context.ledger.is_known(found.generation_id or ""):
        return "it is another submit's"
    try:
        context.ledger.check_is_ours(found)
        generation = context.client.get(found.generation_id or "")
    except SubmissionUnknownError:
        return "it is another submit's"
    except GenerationNotFoundError:
        return "the account has no such generation"
    return None if _is_of_its_time(found, generation) else "it was made at another time"


def _is_of_its_time(found: Record, generation: Generation) -> bool:
    created = generation.created_at
    return created is None or (
        found.intended_at - _CLOCKS_DIFFER <= created <= found.answer_by + _CLOCKS_DIFFER
    )
