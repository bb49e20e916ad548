"""The operator for one image: pays at most once, waits without a worker slot, returns a small plain dict."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn

from airflow_gpt_image.operators.masking import MaskedOperator
from airflow_gpt_image.tasks.frames import few_frames
from airflow_gpt_image.tasks.links import FolderLink, GalleryLink, GenerationLink, ImageLink
from airflow_gpt_image.tasks.telling_lineage import TellsLineage

# The rest of the package is imported where it is used: a DAG file is parsed over and over, by processes that
# never run the task.
if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation, ImageRequest
    from airflow_gpt_image.ledger.ledger import Ledger
    from airflow_gpt_image.single.attempt import ImageAttempt
    from airflow_gpt_image.single.options import ImageOptions, OnClear, OnUnknownSubmit
    from airflow_gpt_image.storage.images import ImageFolder
    from airflow_gpt_image.tasks.lineage import TaskLineage

Reuse = Literal["run", "destination"]

_REQUEST_FIELDS: Final = (
    "prompt",
    "image_urls",
    "aspect_ratio",
    "resolution",
    "nsfw_checker",
    "callback_url",
)


class GptImageGenerateOperator(TellsLineage, MaskedOperator):
    """
    Make one image (or several, where the API returns several) and return where it is and what it cost.

    What isn't templated is checked while the DAG is parsed. A retry never pays for what was already paid for:
    it finds the generation again and waits for it, or takes its stored result.

    :param prompt: what to draw; at most 20,000 characters. (templated)
    :param image_urls: up to 16 reference images, in order: http(s) addresses, or objects on your own storage
        (``ObjectStoragePath`` or ``s3://conn_id@bucket/key``), which are signed for a while just before the
        submit. At least one of ``prompt`` and ``image_urls`` is required. (templated)
    :param reference_roots: the objects that may be signed although their addresses come from a template,
        another task or ``expand()``: a list of prefixes such as ``s3://conn_id@bucket/photos/``, of which
        scheme, connection id and bucket have to be the same and the path covers what is beneath it. An
        address that stands in the DAG file word for word needs none. Not templated, and never mapped.
    :param aspect_ratio: ``auto`` (1:1), one of the API's 15 ratios, or a pixel size of its table such as
        ``1881x836``. (templated)
    :param resolution: ``1k``, ``2k`` or ``4k``; None: the tier of an explicit pixel size, else 1k.
        (templated)
    :param nsfw_checker: the API's safety check. (templated)
    :param callback_url: http(s) address of your own that the API shall notify at the end. None: where
        ``[gpt_image] callback_base_url`` is set, Airflow itself is notified, and the task woken. (templated)
    :param destination: folder the images are stored in, each with a sidecar ``<name>.json``: on any store
        Airflow knows (``s3://conn_id@bucket/folder``, ``gs://``, ``abfs://``, an ``ObjectStoragePath``), or
        an absolute path or ``file://`` address that all workers share. It is made when it isn't there; one
        that can't be written is refused before anything is paid for, and the records of what is paid for lie
        there, too. None: they stay where the API put them, which is not for ever, and what is paid for stands
        in Airflow's task state alone, unless ``[gpt_image] records`` names a folder. (templated)
    :param filename: the images' names without their ending, of ``{generation_id}``, ``{fingerprint}``,
        ``{index}``, ``{dag_id}``, ``{run_id}``, ``{task_id}``, ``{map_index}`` and ``{slug}`` (a few words of
        the prompt), such as ``{run_id}/{slug}-{generation_id}``. Default ``{generation_id}-{index}``, with
        ``reuse="destination"`` ``{fingerprint}-{index}``. The ending follows from the image. (templated)
    :param strict_size: refuse an image of another pixel size than the API's table has for what was asked.
        Default False: it is kept, warned of, and the sidecar says so.
    :param reuse: ``run`` (default): what was paid for is reused within the same run and task;
        ``destination``: an image of the same request that any run stored at the destination, too.
    :param gpt_image_conn_id: the ``gpt_image`` connection. (templated)
    :param deferrable: wait in the triggerer; False: on the worker, holding its slot.
    :param wait_for_completion: False: return as soon as the generation is submitted, with its id.
    :param poll_interval: seconds from one poll to the next, or a ``timedelta``; above 0. At least 60 while
        a callback is expected.
    :param timeout: seconds to wait for the generation, or a ``timedelta``, from this try's first wait on;
        above 0. Its image may be ten minutes late after that.
    :param max_credits: how many credits this task instance may spend, net of refunds, since its last clear;
        more is refused before it is submitted. None: no bound.
    :param check_balance: ask for the account's balance first, and refuse when it doesn't suffice.
    :param on_clear: after a clear, ``reuse`` what was paid for (default), or ``regenerate``: pay for a new
        image, once for each clear. Where no record is left of what was paid for, ``reuse`` fails.
    :param on_unknown_submit: what to do when an earlier submit may or may not have been accepted: ``fail``
        (default), or ``resubmit``, which can pay twice.

    Raises the errors of :mod:`airflow_gpt_image.errors`. Returns (XCom)::

        {"generation_id", "status", "model",
         "images": [{"url", "path", "width", "height", "sha256", "bytes"}], "path", "url",
         "aspect_ratio", "resolution", "credits", "usd", "fingerprint", "created_at", "completed_at",
         "metadata", "reused", "spent": {"charged", "refunded", "usd"}}

    ``path`` and ``url`` are the first image's, for the next task. ``url`` is without its query where the
    image is stored; without a destination it is whole, and whoever reads the XCom can fetch the image. An
    image that isn't there yet is asked for again for ten minutes. The task's page links to its *Images* tab,
    image, folder and generation. Without a ``map_index_template`` a mapped task's indexes are called by the
    prompt's first words. Money is in decimal strings, times in ISO 8601 UTC. ``credits`` and ``usd`` are the
    image's price,
    ``spent`` what this task instance spent since its last clear; ``reused`` says that this try submitted
    nothing. The events of :class:`~airflow.sdk.Asset` outlets carry ``paths``, ``count``, ``credits``,
    ``usd``, ``fingerprint`` and ``generation_id``. A try that fails pushes ``spent`` as an XCom of its own.
    Tasks that set no ``retry_policy`` get a :class:`~airflow_gpt_image.retry_policy.GptImageRetryPolicy`.
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "destination", "filename", "gpt_image_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"image_urls": "json"}
    ui_color = "#f3e8ff"
    operator_extra_links = (GalleryLink(), ImageLink(), FolderLink(), GenerationLink())
    links: Mapping[str, str] = MappingProxyType({})
    _base_url = ""
    _latest: ImageAttempt | None = None

    def __init__(
        self,
        *,
        prompt: str | None = None,
        image_urls: Sequence[str | ObjectStoragePath] | None = None,
        aspect_ratio: str = "auto",
        resolution: str | None = None,
        nsfw_checker: bool | str = True,
        callback_url: str | None = None,
        reference_roots: Sequence[str | ObjectStoragePath] | None = None,
        destination: str | ObjectStoragePath | None = None,
        filename: str | None = None,
        strict_size: bool = False,
        reuse: Reuse = "run",
        gpt_image_conn_id: str = "gpt_image_default",
        deferrable: bool = True,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta = 5.0,
        timeout: float | timedelta = 3600.0,
        max_credits: float | str | Decimal | None = None,
        check_balance: bool = False,
        on_clear: OnClear = "reuse",
        on_unknown_submit: OnUnknownSubmit = "fail",
        **kwargs: Any,
    ) -> None:
        from airflow_gpt_image.tasks import checks

        super().__init__(**kwargs)
        self.prompt = prompt
        self.image_urls = image_urls
        self.aspect_ratio = aspect_ratio
        self.resolution = resolution
        self.nsfw_checker = nsfw_checker
        self.callback_url = callback_url
        self.reference_roots = reference_roots
        self.destination = destination
        self.filename = filename
        self.strict_size = strict_size
        self.reuse = reuse
        self.gpt_image_conn_id = gpt_image_conn_id
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.poll_interval: float = checks.seconds(poll_interval)
        self.timeout: float = checks.seconds(timeout)
        self.max_credits = max_credits
        self.check_balance = check_balance
        self.on_clear = on_clear
        self.on_unknown_submit = on_unknown_submit
        # Asked before it is rendered: a folder for each map index can't show where a shifted list's images
        # are.
        self._own_folder = "map_index" in str(destination)
        self._resumed = False
        if self.retry_policy is None:
            from airflow_gpt_image.retry_policy import GptImageRetryPolicy

            self.retry_policy = GptImageRetryPolicy()
        self._check_while_parsing()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what is known of a mapped task while the DAG is parsed; then do as every operator."""
        from airflow_gpt_image.operators import image_arguments
        from airflow_gpt_image.tasks import checks

        with checks.NamesTask(kwargs.get("task_id")):
            image_arguments.check(kwargs)
        return super().partial(**kwargs)

    @few_frames
    def execute(self, context: Context) -> dict[str, Any]:
        """Find out what is paid for, pay for what isn't, then wait."""
        from airflow_gpt_image.tasks import checks
        from airflow_gpt_image.tasks.labels import name_map_index

        checks.check_not_nested(self, context)
        with self._attempt(context) as attempt:
            request = self._request()
            name_map_index(context, request)
            result = attempt.begin(request)
            if result is None and not self.wait_for_completion:
                result = attempt.submitted_result()
            if result is None and self.deferrable:
                self._defer(attempt)
            if result is None:
                result = self._finish(attempt, attempt.wait(self.poll_interval))
            return self._publish_asset_events(context, result)

    @few_frames
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the trigger's event, which is a hint: the generation is read again from the API."""
        from airflow_gpt_image.tasks.labels import name_map_index
        from airflow_gpt_image.triggers.gpt_image import WaitedEvent

        self.log.info("Woken: %s", WaitedEvent.told(event))
        with self._attempt(context) as attempt:
            if attempt.resume():
                if attempt.request is not None:
                    self.show_request(attempt.request)
                    name_map_index(context, attempt.request)
                if (result := attempt.stored_result) is not None:
                    return self._publish_asset_events(context, result)
                generation = attempt.poll()
                if not generation.finished and time.time() < attempt.deadline:
                    self.log.info("Generation %s is %s; waiting on.", generation.id, generation.status)
                    self._defer(attempt)
                finished = generation if generation.finished else attempt.wait(self.poll_interval)
                return self._publish_asset_events(context, self._finish(attempt, finished))
        self.log.warning("The task state no longer says what this task waits for: it begins anew.")
        self._resumed = True
        return self.execute(context)

    def _publish_asset_events(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result, after the events of the outlets' assets have been told of it."""
        from airflow.sdk import Asset

        from airflow_gpt_image import results
        from airflow_gpt_image.tasks.links import image_links

        self.links = image_links(result, self.destination, self._base_url, context["ti"])
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(results.event_fields(result))
        return result

    def on_kill(self) -> None:
        """Say what becomes of it. Nothing can be cancelled remotely: the API has no call for it."""
        self.log.warning("Killed. A generation that was submitted goes on; the next try picks it up.")

    def lineage(self) -> TaskLineage:
        """Return what was read and stored, for OpenLineage."""
        from airflow_gpt_image.tasks import lineage

        if self._latest is None:
            return lineage.TaskLineage(inputs=lineage.addresses(self.image_urls))
        return lineage.of_record(self._latest.record, self._latest.folder)

    def show_request(self, request: ImageRequest) -> None:
        """Take what is waited for from its record, for the UI; here the templates give it, too."""

    def _request(self) -> ImageRequest:
        from airflow_gpt_image.api.models import ImageRequest
        from airflow_gpt_image.operators.image_arguments import rendered

        return ImageRequest(**rendered({name: getattr(self, name) for name in _REQUEST_FIELDS}))

    def _client(self) -> GptImageClient:
        from airflow_gpt_image.hooks.gpt_image import GptImageHook

        return GptImageHook(self.gpt_image_conn_id).get_conn()

    @contextmanager
    def _attempt(self, context: Context) -> Iterator[ImageAttempt]:
        """
        Build the attempt. However it fails, the spending is in XCom, and that nothing is paid for is on
        record.
        """
        from airflow_gpt_image.callbacks import configured
        from airflow_gpt_image.events.telling import task_teller
        from airflow_gpt_image.operators import ending
        from airflow_gpt_image.operators.image_arguments import names_of
        from airflow_gpt_image.single.attempt import ImageAttempt
        from airflow_gpt_image.single.context import ImageContext
        from airflow_gpt_image.tasks.pages import where_to_look

        images = self._images()
        ledger = self._ledger(context, images)
        with ending.watched(self, context) as ended:
            ended.on_failure(ledger.note_attempt)
            with self._client() as client:
                self._base_url = client.settings.base_url
                names = names_of(ledger.payer, self.filename, across_runs=self.reuse == "destination")
                tell = task_teller(self.log, ledger.payer, self.gpt_image_conn_id, each=True)
                given = (client, ledger, images, names, self._options(), self.log, configured(self.log), tell)
                self._latest = attempt = ImageAttempt(ImageContext(*given))
                ended.spent(lambda: attempt.spent)
                with attempt:
                    yield attempt
        if self.links:
            self.log.info("%s", where_to_look(context["ti"]))

    def _images(self) -> ImageFolder | None:
        from airflow_gpt_image.storage.folders import open_folder
        from airflow_gpt_image.storage.images import ImageFolder

        if self.destination is None:
            return None
        return ImageFolder(open_folder(self.destination), strict_size=self.strict_size)

    def _ledger(self, context: Context, images: ImageFolder | None) -> Ledger:
        from airflow.sdk.configuration import conf

        from airflow_gpt_image.ledger.destination import RecordsFolder
        from airflow_gpt_image.ledger.history import payer_of
        from airflow_gpt_image.ledger.ledger import Ledger
        from airflow_gpt_image.storage.folders import open_folder

        payer, history = payer_of(
            context, retries=self.retries, own_folder=self._own_folder, resumed=self._resumed
        )
        folder = images.folder if images is not None else None
        if folder is None and (records := conf.get("gpt_image", "records", fallback=None)):
            folder = open_folder(records.strip())
        if folder is None and conf.getboolean("state_store", "clear_on_success", fallback=False):
            self.log.warning(
                "[state_store] clear_on_success is on: a task that succeeded forgets what it paid for.\n"
                "Give the task a destination, or set [gpt_image] records."
            )
        records_folder = None if folder is None else RecordsFolder(folder, payer.task_digest)
        return Ledger(context["task_state_store"], records_folder, payer, history, self.log)

    def _options(self) -> ImageOptions:
        from airflow_gpt_image.single.options import ImageOptions
        from airflow_gpt_image.storage.references import NO_REFERENCES
        from airflow_gpt_image.tasks import checks

        return checks.options_of(
            self,
            ImageOptions,
            conn_id=self.gpt_image_conn_id,
            reuse_destination=self.reuse == "destination",
            max_credits=checks.credits(self.max_credits),
            references=self._references or NO_REFERENCES,
        )

    def _finish(self, attempt: ImageAttempt, generation: Generation) -> dict[str, Any]:
        result = attempt.finish_or_defer(generation, deferrable=self.deferrable)
        if not isinstance(result, dict):
            self._defer(attempt, pause=result)
        return result

    def _defer(self, attempt: ImageAttempt, *, pause: float = 0.0) -> NoReturn:
        """
        Wait in the triggerer.

        :param pause: seconds until an image that is late is asked for again; 0: for the generation.
        """
        from airflow_gpt_image.polling.schedule import kind_of
        from airflow_gpt_image.triggers.gpt_image import STUCK, GptImageTrigger, relaxed
        from airflow_gpt_image.triggers.tally import SoFar

        callback = None if pause else attempt.callback
        poll_interval = self.poll_interval
        deadline = attempt.late_deadline if pause else attempt.deadline
        if callback is not None:
            poll_interval, pause = relaxed(poll_interval)
        self.log.info("%s", STUCK)
        self.defer(
            **GptImageTrigger.deferral(
                [attempt.generation_id],
                gpt_image_conn_id=self.gpt_image_conn_id,
                poll_interval=poll_interval,
                deadline=deadline,
                now=time.time(),
                pause=pause,
                so_far=SoFar(since=attempt.since, callback=callback),
                kinds=[kind_of(attempt.request)],
            )
        )

    def _check_while_parsing(self) -> None:
        """Refuse what is wrong whatever the templates render to, and read which objects the author named."""
        from airflow_gpt_image.operators import image_arguments
        from airflow_gpt_image.tasks import checks

        with checks.naming(self):
            self._references = checks.references(self, self.reference_roots, "image_urls", self.image_urls)
            image_arguments.check({name: getattr(self, name) for name in image_arguments.CHECKED})
        checks.warn_of_braces(self.task_id, vars(self), "destination")
