"""Store what one generation made: under names that nobody else has, and as the record says whose it is."""

from __future__ import annotations

from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.ledger.record import GenerationFacts, Record
from airflow_gpt_image.ledger.submitting import same_id_error
from airflow_gpt_image.single.context import ImageContext
from airflow_gpt_image.storage.images import ImageFile


def store_images(context: ImageContext, record: Record, generation: Generation) -> Record:
    """
    Store what a completed generation made, and put that on record.

    :raises DownloadError: when an image didn't arrive.
    :raises DestinationError: when the destination didn't take it.
    :raises SubmissionUnknownError: when the generation is another submit's, too.
    """
    facts = GenerationFacts.of(generation)
    if context.images is None:
        stored = record.stored([ImageFile(url=url) for url in generation.urls], facts, context.now())
        context.ledger.write_stored(stored, [])
        return stored
    stems = _free_stems(context, record, generation)
    _check_is_ours(context, record, stems[0])
    age = record.age_of_images(generation, context.now())
    files, warnings = context.images.fetch_all(
        context.client,
        generation,
        stems,
        record.request,
        context.log,
        age=age,
        # While it may be late, whoever waits for it asks again.
        retrying=Retrying(most_sends=1) if age < context.patience.lasts else None,
    )
    stored = record.stored(files, facts, context.now(), name=stems[0], warnings=warnings)
    context.ledger.write_stored(stored, stems, moved=stems[0] != record.name)
    return stored


def _free_stems(context: ImageContext, record: Record, generation: Generation) -> list[str]:
    """
    Return the names of a generation's images, without their endings.

    A name without the generation's id may hold another image that somebody has been told of: another
    run's, if both submitted at the same moment, or another request's, if a mapped list was shifted. Then
    these get a name of their own.
    """
    prompt = record.request.prompt if record.request is not None else None
    names = context.names.of(record.fingerprint, generation.id, prompt)
    stems = [names.stem(index) for index in range(len(generation.urls))]
    anybodys = context.names.of(record.fingerprint, "none", prompt).stem(0) == stems[0]
    if not anybodys or _may_replace(context, context.ledger.holder(stems[0]), record):
        return stems
    return [names.set_apart(stem) for stem in stems]


def _may_replace(context: ImageContext, holder: Record | None, record: Record) -> bool:
    """Return whether an image may take the name of another one, whose record that is."""
    if holder is None or holder.generation_id == record.generation_id:
        return True
    if context.options.reuse_destination and context.regenerates:
        return True
    mapped = record.payer.map_index >= 0 and holder.fingerprint != record.fingerprint
    return holder.payer.same_instance(record.payer) and not mapped


def _check_is_ours(context: ImageContext, record: Record, stem: str) -> None:
    """Refuse a generation that another submit has on record, too: the API gave one id to both."""
    context.ledger.check_is_ours(record)
    another = context.ledger.holder(stem)
    if another is None or another.generation_id != record.generation_id or another.request is None:
        return  # one without a request was fetched by a sensor, which doesn't know whose it is
    if not another.same_submit(record):
        raise same_id_error(record.generation_id, another.payer)
