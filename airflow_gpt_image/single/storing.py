"""Store what one generation made: under names that nobody else has, and as the record says whose it is."""

from __future__ import annotations

from datetime import datetime

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.downloads import Patience
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.ledger.reading import same_id_error
from airflow_gpt_image.ledger.record import GenerationFacts, Record
from airflow_gpt_image.log import Log
from airflow_gpt_image.single.options import ImageOptions
from airflow_gpt_image.storage.images import ImageFile, ImageFolder
from airflow_gpt_image.storage.names import Names


class ImageStorer:
    """
    Stores the images of a task that makes one.

    :param images: where they are stored; None: they stay where the API put them.
    :param patience: how long one that doesn't arrive counts as late.
    """

    def __init__(
        self,
        client: GptImageClient,
        ledger: Ledger,
        images: ImageFolder | None,
        names: Names,
        options: ImageOptions,
        log: Log,
        patience: Patience,
    ) -> None:
        self.images = images
        self._patience = patience
        self._client = client
        self._ledger = ledger
        self._names = names
        self._options = options
        self._log = log

    def store(self, record: Record, generation: Generation) -> Record:
        """
        Store what a completed generation made, and put that on record.

        :raises DownloadError: when an image didn't arrive.
        :raises DestinationError: when the destination didn't take it.
        :raises SubmissionUnknownError: when the generation is another submit's, too.
        """
        facts = GenerationFacts.of(generation)
        if self.images is None:
            stored = record.stored([ImageFile(url=url) for url in generation.urls], facts, self._now())
            self._ledger.write_stored(stored, [])
            return stored
        stems = self._free_stems(record, generation)
        self._check_is_ours(record, stems[0])
        age = record.age_of_images(generation, self._now())
        files, warnings = self.images.fetch_all(
            self._client,
            generation,
            stems,
            record.request,
            self._log,
            age=age,
            # While it may be late, whoever waits for it asks again.
            retrying=Retrying(most_sends=1) if age < self._patience.lasts else None,
        )
        stored = record.stored(files, facts, self._now(), name=stems[0], warnings=warnings)
        self._ledger.write_stored(stored, stems, moved=stems[0] != record.name)
        return stored

    def _free_stems(self, record: Record, generation: Generation) -> list[str]:
        """
        Return the names of a generation's images, without their endings.

        A name without the generation's id may hold another image that somebody has been told of: another
        run's, if both submitted at the same moment, or another request's, if a mapped list was shifted. Then
        these get a name of their own.
        """
        prompt = record.request.prompt if record.request is not None else None
        names = self._names.of(record.fingerprint, generation.id, prompt)
        stems = [names.stem(index) for index in range(len(generation.urls))]
        anybodys = self._names.of(record.fingerprint, "none", prompt).stem(0) == stems[0]
        if not anybodys or self._may_replace(self._ledger.holder(stems[0]), record):
            return stems
        return [names.set_apart(stem) for stem in stems]

    def _may_replace(self, holder: Record | None, record: Record) -> bool:
        """Return whether an image may take the name of another one, whose record that is."""
        if holder is None or holder.generation_id == record.generation_id:
            return True
        if self._options.reuse_destination and self._options.regenerates(self._ledger):
            return True
        mapped = record.payer.map_index >= 0 and holder.fingerprint != record.fingerprint
        return holder.payer.same_instance(record.payer) and not mapped

    def _check_is_ours(self, record: Record, stem: str) -> None:
        """Refuse a generation that another submit has on record, too: the API gave one id to both."""
        self._ledger.check_is_ours(record)
        another = self._ledger.holder(stem)
        if another is None or another.generation_id != record.generation_id or another.request is None:
            return  # one without a request was fetched by a sensor, which doesn't know whose it is
        if not another.same_submit(record):
            raise same_id_error(record.generation_id, another)

    def _now(self) -> datetime:
        return self._ledger.clock.now()
