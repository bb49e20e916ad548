"""Wait for what another task, another DAG or a person submitted. The sensor never pays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_gpt_image.tasks.frames import few_frames
from airflow_gpt_image.tasks.links import FolderLink, GalleryLink, GenerationLink, ImageLink
from airflow_gpt_image.tasks.telling_lineage import TellsLineage

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation
    from airflow_gpt_image.errors import DownloadError
    from airflow_gpt_image.ledger.record import Record
    from airflow_gpt_image.storage.folders import Folder
    from airflow_gpt_image.tasks.lineage import TaskLineage

# Seconds that the id may be unknown: this task may start a second after the one that submitted.
_NOT_FOUND_GRACE: Final = 5.0

# The key in the task state store of the unknown status that was warned of.
_STATUS_TOLD: Final = "gpt_image_status_told"


class GptImageSensor(TellsLineage, BaseSensorOperator):
    """Wait until a generation is completed, and store its images.

    For what ``GptImageGenerateOperator(wait_for_completion=False)`` returned, or anybody else submitted with
    the same account.

    :param generation_id: the id the API gave (its ``taskId``); or the result of the task that submitted it,
        such as ``submit.output``, which has it. (templated)
    :param destination: folder the images are stored in, as of the operator; None: they aren't. (templated)
    :param gpt_image_conn_id: the ``gpt_image`` connection. (templated)
    :param deferrable: wait in the triggerer; False: poke or reschedule, as ``mode`` says.
    :param poke_interval: seconds from one poll to the next, or a ``timedelta``. Default 5 when deferrable,
        else Airflow's 60.
    :param timeout: seconds to wait, or a ``timedelta``. Default 3,600.

    Returns (XCom) the ``generation_id``, ``status``, ``model``, ``images``, ``path``, ``url``,
    ``created_at``, ``completed_at`` and ``metadata`` of the operator's result. The request and its cost are
    known only to the task that submitted it.

    :raises GenerationFailedError: when it failed.
    :raises GenerationNotFoundError: when the account has no such generation.
    :raises GenerationTimeoutError: after ``timeout``, when deferrable; else Airflow's
        ``AirflowSensorTimeout``.
    """

    template_fields: Sequence[str] = ("generation_id", "destination", "gpt_image_conn_id")
    ui_color = "#f3e8ff"
    operator_extra_links = (GalleryLink(), ImageLink(), FolderLink(), GenerationLink())
    links: Mapping[str, str] = MappingProxyType({})
    _stored: tuple[Record | None, Folder | None] = (None, None)

    def __init__(
        self,
        *,
        generation_id: str | Mapping[str, Any],
        destination: str | None = None,
        gpt_image_conn_id: str = "gpt_image_default",
        deferrable: bool = True,
        poke_interval: float | timedelta | None = None,
        timeout: float | timedelta = 3600.0,
        **kwargs: Any,
    ) -> None:
        interval = poke_interval if poke_interval is not None else (5.0 if deferrable else 60.0)
        super().__init__(poke_interval=interval, timeout=timeout, **kwargs)
        self.generation_id = generation_id
        self.destination = destination
        self.gpt_image_conn_id = gpt_image_conn_id
        self.deferrable = deferrable
        if self.retry_policy is None:
            from airflow_gpt_image.retry_policy import GptImageRetryPolicy

            self.retry_policy = GptImageRetryPolicy()
        self._check_while_parsing()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what is known of a mapped task while the DAG is parsed; then do as every operator."""
        from airflow_gpt_image.tasks import checks

        with checks.NamesTask(kwargs.get("task_id")):
            check_arguments(kwargs)
        return super().partial(**kwargs)

    @few_frames
    def execute(self, context: Context) -> Any:
        """Poll once; defer while it isn't finished."""
        from airflow_gpt_image.tasks import checks

        checks.check_not_nested(self, context)
        check_arguments({"generation_id": self.generation_id, "destination": self.destination}, rendered=True)
        if not self.deferrable:
            return super().execute(context)
        deadline = time.time() + self.timeout
        with self._client() as client:
            generation = self._poll(client)
            if not generation.finished:
                self._defer(deadline, generation)
            return self._store_or_defer(context, client, generation, deadline)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once, on the worker."""
        from airflow_gpt_image.errors import DownloadError
        from airflow_gpt_image.log import span

        with self._client() as client:
            generation = self._poll(client)
            if not generation.finished:
                age = "" if generation.created_at is None else f", {span(_age(generation))} old"
                self.log.info("Generation %s is %s%s.", generation.id, generation.status, age)
                self._warn_of_unknown_status(context, generation)
                return PokeReturnValue(is_done=False)
            try:
                return PokeReturnValue(is_done=True, xcom_value=self._store(context, client, generation))
            except DownloadError as error:
                if self._pause_while_late(generation, error) is None:
                    raise
                self.log.warning("%s\nIt is asked for again at the next poke.", error.message)
                return PokeReturnValue(is_done=False)

    @few_frames
    def execute_complete(self, context: Context, event: Any = None, deadline: float | None = None) -> Any:
        """Go on after the trigger's event, which is a hint: the generation is read again from the API."""
        deadline = time.time() + self.timeout if deadline is None else deadline
        with self._client() as client:
            generation = self._poll(client)
            if not generation.finished and time.time() < deadline:
                self._defer(deadline, generation)
            if not generation.finished:
                # Polls once more, and raises the error that says what to do.
                generation = client.wait_until(
                    self._id,
                    poll_interval=1.0,
                    deadline=deadline,
                    on_unknown_status=lambda text: self.log.warning("%s", text),
                )
            return self._store_or_defer(context, client, generation, deadline)

    def lineage(self) -> TaskLineage:
        """Return what was stored, for OpenLineage."""
        from airflow_gpt_image.tasks import lineage

        return lineage.of_record(*self._stored)

    def _check_while_parsing(self) -> None:
        """Refuse what is wrong whatever the templates render to."""
        from airflow_gpt_image.tasks import checks

        with checks.naming(self):
            check_arguments({"generation_id": self.generation_id, "destination": self.destination})
        checks.warn_of_braces(self.task_id, vars(self), "destination")

    def _client(self) -> GptImageClient:
        from airflow_gpt_image.hooks.gpt_image import GptImageHook

        return GptImageHook(self.gpt_image_conn_id).get_conn()

    def _poll(self, client: GptImageClient) -> Generation:
        return client.get(self._id, grace=_NOT_FOUND_GRACE)

    @property
    def _id(self) -> str:
        return str(_id_in(self.generation_id))

    def _store(self, context: Context, client: GptImageClient, generation: Generation) -> dict[str, Any]:
        from airflow_gpt_image import results
        from airflow_gpt_image.api import flows
        from airflow_gpt_image.errors import GenerationFailedError
        from airflow_gpt_image.events import Failed, Stored
        from airflow_gpt_image.events.telling import code_of, task_teller
        from airflow_gpt_image.ledger.destination import RecordsFolder
        from airflow_gpt_image.ledger.history import payer_of
        from airflow_gpt_image.ledger.record import foreign_record
        from airflow_gpt_image.storage.folders import open_folder
        from airflow_gpt_image.storage.images import ImageFile, ImageFolder
        from airflow_gpt_image.storage.names import OF_GENERATION, Names

        payer, _ = payer_of(context, retries=self.retries)
        tell = task_teller(self.log, payer, self.gpt_image_conn_id, each=False)
        try:
            flows.succeeded(generation)
        except GenerationFailedError as error:
            tell(Failed(code_of(error)))
            raise
        if self.destination is None:
            images = [ImageFile(url=url) for url in generation.urls]
            result = results.of_record(foreign_record(generation, images, payer, datetime.now(UTC)), None)
            return self._told(context, result, client)
        folder = open_folder(self.destination)
        names = Names(OF_GENERATION).of("none", generation.id, None)
        stems = [names.stem(index) for index in range(len(generation.urls))]
        files, warnings = ImageFolder(folder).fetch_all(
            client, generation, stems, None, self.log, age=generation.age
        )
        record = foreign_record(generation, files, payer, datetime.now(UTC), name=stems[0], warnings=warnings)
        sidecars = RecordsFolder(folder, payer.task_digest)
        for stem in reversed(stems):
            known = sidecars.read_sidecar(stem)
            # Who paid for it knows more than this task.
            if known is None or known.generation_id != generation.id or known.request is None:
                sidecars.write_sidecar(record, stem)
        self._stored = record, folder
        tell(Stored(len(files), None))
        result = results.of_record(record, folder)
        return self._told(context, result, client)

    def _told(self, context: Context, result: dict[str, Any], client: GptImageClient) -> dict[str, Any]:
        """Return the result, after the log and the links say what it is."""
        from airflow_gpt_image import results
        from airflow_gpt_image.tasks.links import image_links
        from airflow_gpt_image.tasks.pages import where_to_look

        results.log_done(self.log, result, price="nothing paid by this task", seconds=None)
        self.links = image_links(result, self.destination, client.settings.base_url, context["ti"])
        self.log.info("%s", where_to_look(context["ti"]))
        return result

    def _store_or_defer(
        self, context: Context, client: GptImageClient, generation: Generation, deadline: float
    ) -> dict[str, Any]:
        """Store the images; one that is late is asked for again, and meanwhile no worker slot is held."""
        from airflow_gpt_image.api.downloads import Patience
        from airflow_gpt_image.errors import DownloadError

        try:
            return self._store(context, client, generation)
        except DownloadError as error:
            pause = self._pause_while_late(generation, error)
            if pause is None or time.time() > deadline + Patience().lasts:
                raise
            self.log.warning("%s\nIt is asked for again in %.0f s.", error.message, pause)
            self._defer(deadline, generation, pause=pause)

    def _pause_while_late(self, generation: Generation, error: DownloadError) -> float | None:
        from airflow_gpt_image.api.downloads import Patience

        # Of a generation without times nobody knows whether it is late.
        return None if generation.age is None else Patience().pause(error, generation.age)

    def _warn_of_unknown_status(self, context: Context, generation: Generation) -> None:
        """Say once that a status is unknown, also where each poke is another process."""
        from airflow_gpt_image.api import flows

        warning, store = flows.unknown_status(generation), context["task_state_store"]
        if warning is None:
            return
        # To say it twice is better than not at all, or than to fail over it.
        with suppress(Exception):
            if store.get(_STATUS_TOLD) == generation.status:
                return
        self.log.warning("%s", warning)
        with suppress(Exception):
            store.set(_STATUS_TOLD, generation.status)

    def _defer(self, deadline: float, generation: Generation, *, pause: float = 0.0) -> NoReturn:
        from airflow_gpt_image.triggers.gpt_image import STUCK, GptImageTrigger
        from airflow_gpt_image.triggers.tally import SoFar

        self.log.info("%s", STUCK)
        deferral = GptImageTrigger.deferral(
            [self._id],
            gpt_image_conn_id=self.gpt_image_conn_id,
            poll_interval=self.poke_interval,
            deadline=deadline + pause,
            now=time.time(),
            pause=pause,
            so_far=SoFar(since=time.time() - _age(generation)),
        )
        self.defer(**deferral, kwargs={"deadline": deadline})


def check_arguments(given: Mapping[str, Any], *, rendered: bool = False) -> None:
    """
    Refuse arguments that can't be right; those that aren't given are others' say.

    :param rendered: whether templates are rendered; else what is one passes.
    :raises InvalidRequestError: with the value, the rule and the remedy.
    """
    from airflow_gpt_image.api.rules import check_generation_id
    from airflow_gpt_image.tasks import checks

    generation_id, destination = _id_in(given.get("generation_id")), given.get("destination")
    if "generation_id" in given and (rendered or not checks.templated(generation_id)):
        try:
            check_generation_id(generation_id)
        except ValueError as error:
            from airflow_gpt_image.errors import InvalidRequestError

            raise InvalidRequestError(f"generation_id: {error}") from None
    if destination is not None:
        checks.require_destination(destination, rendered=rendered)


def _id_in(given: object) -> object:
    """Return the id that is given: itself, or in the result of the task that submitted it."""
    return given.get("generation_id", given) if isinstance(given, Mapping) else given


def _age(generation: Generation) -> float:
    """Return for how many seconds a generation has been made by the API's clock; 0 when it gives none."""
    if generation.told_at is None or generation.created_at is None:
        return 0.0
    return max(0.0, (generation.told_at - generation.created_at).total_seconds())
