"""Store what one generation made: under names that nobody else has, and as the record says whose it is."""

from __future__ import annotations

from collections.abc import Sequence

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
    stems, spares = _names(context, record, generation)
    _check_is_ours(context, record, stems[0])
    age = record.age_of_images(generation, context.now())
    files, warnings = context.images.fetch_all(
        context.client,
        generation,
        stems,
        record.request,
        context.log,
        spares=spares,
        age=age,
        # While it may be late, whoever waits for it asks again.
        retrying=Retrying(most_sends=1) if age < context.patience.lasts else None,
    )
    stored_as = [(file.name or "").rpartition(".")[0] for file in files]
    stored = record.stored(files, facts, context.now(), name=stored_as[0], warnings=warnings)
    context.ledger.write_stored(
        stored, _names_of_sidecars(context, stems, stored_as), moved=stored_as[0] != record.name
    )
    return stored


def _names(
    context: ImageContext, record: Record, generation: Generation
) -> tuple[Sequence[str], Sequence[str] | None]:
    """
    Return the names for a generation's images, without their endings; and others in case those are taken.

    A name without the generation's id may hold another image that somebody has been told of: another run's,
    also one that is stored at this very moment, or another request's, if a mapped list was shifted. Then
    these get names of their own. Only an image is replaced that this task instance made before and nobody
    else was told of.
    """
    prompt = record.request.prompt if record.request is not None else None
    names = context.names.of(record.fingerprint, generation.id, prompt)
    stems = [names.stem(index) for index in range(len(generation.urls))]
    anybodys = context.names.of(record.fingerprint, "none", prompt).stem(0) == stems[0]
    holder = context.ledger.holder(stems[0]) if anybodys else None
    shared = context.options.reuse_destination
    replaces = holder is not None and holder.state == "stored" and _may_replace(holder, record, shared=shared)
    if anybodys and not replaces:
        return stems, [names.set_apart(stem) for stem in stems]
    return stems, None


def _may_replace(holder: Record, record: Record, *, shared: bool) -> bool:
    """
    Return whether an image may take the place of another one, whose record that is.

    :param shared: that other runs look there, and may have been told of it.
    """
    mapped = record.payer.map_index >= 0 and holder.fingerprint != record.fingerprint
    own = holder.payer.same_instance(record.payer) and not mapped
    return holder.generation_id == record.generation_id or (own and not shared)


def _names_of_sidecars(
    context: ImageContext, stems: Sequence[str], stored_as: Sequence[str]
) -> Sequence[str]:
    """
    Return what the sidecars are called: as the images.

    And as the image would have been called, where other runs look, unless another one's record is there that
    isn't to be replaced.
    """
    if stored_as[0] == stems[0]:
        return stored_as
    holder = context.ledger.holder(stems[0])
    told = holder is not None and holder.state == "stored" and not context.regenerates
    if told or not context.options.reuse_destination:
        return stored_as
    context.ledger.keep(holder)
    return [stems[0], *stored_as]


def _check_is_ours(context: ImageContext, record: Record, stem: str) -> None:
    """Refuse a generation that another submit has on record, too: the API gave one id to both."""
    context.ledger.check_is_ours(record)
    another = context.ledger.holder(stem)
    if another is None or another.generation_id != record.generation_id or another.request is None:
        return  # one without a request was fetched by a sensor, which doesn't know whose it is
    if not another.same_submit(record):
        raise same_id_error(record.generation_id, another.payer)
