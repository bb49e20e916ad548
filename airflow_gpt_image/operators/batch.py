"""The operator for a data set of prompts: one Airflow task, however many images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_gpt_image.operators.masking import MaskedOperator
from airflow_gpt_image.operators.rows import Rows
from airflow_gpt_image.tasks.frames import few_frames
from airflow_gpt_image.tasks.links import FolderLink, GalleryLink, ManifestLink
from airflow_gpt_image.tasks.telling_lineage import TellsLineage

# The rest of the package is imported where it is used: a DAG file is parsed over and over, by processes that
# never run the task.
if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.batch.attempt import BatchAttempt
    from airflow_gpt_image.batch.checkpoint import Deferral
    from airflow_gpt_image.batch.options import (
        BatchOptions,
        OnEmpty,
        OnInvalid,
        OnItemFailure,
        OnUnknownSubmit,
        Reuse,
    )
    from airflow_gpt_image.tasks.lineage import TaskLineage


class GptImageBatchOperator(TellsLineage, MaskedOperator):
    """
    Make images of a data set of prompts, and leave them at a destination with a manifest.

    Pays once for each image, whatever happens: retried, cleared, killed, with rows in another order or ten
    rows more, it finds what is paid for and pays for what is missing. It submits as fast as the API takes it,
    and gives its worker slot back when waiting is all that is left to do. It ends green only if nothing that
    is paid for could still be had.

    :param requests: a list of prompts, or of mappings with request fields (``prompt``, ``image_urls``,
        ``aspect_ratio``, ``resolution``, ``nsfw_checker``, ``callback_url``); a table of pandas, Polars or
        Arrow; an XCom of these; or the path of a ``.csv``, ``.tsv``, ``.jsonl`` (``.ndjson``) or ``.parquet``
        file, of a folder of such files, or a pattern, on the worker or any store that Airflow knows. Text may
        be compressed (``.gz``, ``.zst``). Other columns are kept as the row's data. At most 100,000 images.
        (a path is templated; rows are data, and never are)
    :param destination: folder for images, records and manifest: on any store Airflow knows, or an absolute
        path that all workers share. Two tasks can't work at one at the same time. Give a mapped task one that
        doesn't depend on the map index, or moves with the rows. Where map indexes share it, their manifests
        are in ``map-<index>/`` there; those of a Task Loop in ``iteration-<index>/``. (templated)
    :param variants: images for each row, 1 to 100.
    :param defaults: request fields for the rows that don't give them. (templated)
    :param columns: which column is which field, where it is called otherwise:
        ``{"image_urls": "photo", "prompt": "description"}``; None in place of a column: no column is that
        field, whatever is called like it.
    :param prompt_template: the prompt of every row, with names of its columns in braces, as Python's
        ``format`` has them: ``"{title}, studio photo on {background}"``. Nothing else may stand in braces,
        and Jinja doesn't render it. A row that lacks one of them is refused, as ``on_invalid`` says.
    :param filename: names of the images in ``items/`` at the destination, without their ending:
        ``"{sku}-{variant}"``. Parts are columns of the row, ``{row}`` (also ``{row:05d}``), ``{variant}``,
        ``{slug}`` (a few words of the prompt), ``{id}`` (a few digits, another for each image),
        ``{fingerprint}``, ``{dag_id}``, ``{run_id}``, ``{task_id}`` and ``{map_index}``; ``/`` makes folders.
        The ending follows from the image: a template that has one is refused, and a column's is left out.
        Two images with one name are refused before anything is paid for. An image that is stored stays where
        it is, whatever the template is later. None: ``{row:05d}-{slug}-{variant}-{id}``. (templated)
    :param limit: make the first so many rows alone, as a preview: 1 or more. The run without it pays for the
        others only (across runs with ``reuse="destination"``). None: all. (templated)
    :param sample: likewise so many rows, chosen from the whole data set; the same ones each time. (templated)
    :param on_empty: a data set without a row: ``fail`` (default), or ``skip`` the task.
    :param reference_roots: the objects on your own stores that rows may name in ``image_urls``: a list of
        prefixes such as ``s3://conn_id@bucket/photos/``, of which scheme, connection id and bucket have to be
        the same and the path covers what is beneath it. Any other object is a bad cell; only what
        ``defaults`` has in the DAG file, word for word, needs none. Not templated, and never mapped.
    :param max_in_flight: generations under way at a time, 1 to 1,000.
    :param reuse: ``run`` (default): what was paid for is reused within the same run and task;
        ``destination``: whatever is at the destination, also from other runs; ``never``: within the same run
        and task until that is cleared.
    :param on_invalid: rows that can't be requests: ``fail`` (default) before anything is paid for, or
        ``skip`` them. Either way ``invalid.jsonl`` at the destination has all that is wrong.
    :param on_item_failure: ``continue`` (default) when an image fails, or ``fail``: submit nothing more,
        store what is in flight, and fail.
    :param max_failures: how many images may fail: a count (``10``), or a share of all (``0.05``). More do as
        ``on_item_failure="fail"`` does. None: any number.
    :param item_retries: how often an image is tried again within a try where that can help, 0 to 10. Default
        2. A submit that met a server error is not: the task's ``retries`` do that.
    :param on_unknown_submit: an image whose submit may or may not have been accepted: ``fail`` (default), or
        ``resubmit``, which can pay twice.
    :param max_credits: how many credits this task instance may spend, net of refunds, since its last clear.
        More is refused before anything is submitted. None: no bound.
    :param check_balance: refuse when the account's balance doesn't suffice for all that is missing.
    :param dry_run: log and return what would be paid for, by tier; pay nothing, and write nothing but a note
        of that.
    :param gpt_image_conn_id: the ``gpt_image`` connection. (templated)
    :param deferrable: wait in the triggerer when waiting is all there is to do; False: on the worker.
    :param poll_interval: seconds from one poll of a generation to the next, or a ``timedelta``; above 0.
        Longer while more than 80 a second would be polled.
    :param timeout: seconds that one generation may take, or a ``timedelta``; above 0. It goes on, and the
        next try waits for it again.

    Raises the errors of :mod:`airflow_gpt_image.errors`. What concerns the account, the key or a limit stops
    the submitting at once, lets what is in flight be stored, and fails the task. Images that are paid for and
    not stored in the end raise an :class:`~airflow_gpt_image.errors.UnsettledImagesError`, which is tried
    again. Returns (XCom)::

        {"rows", "images", "invalid", "stored", "failed", "unknown", "submitted", "not_submitted", "reused",
         "credits", "usd", "charged", "refunded", "seconds", "errors", "manifest", "manifest_csv",
         "manifest_parquet", "metadata", "contact_sheet", "failures", "unsettled"}

    Counts are of images but for ``rows`` and ``invalid``; ``reused`` are those of the stored ones that this
    task instance didn't pay for since its last clear, and money, in decimal strings, is what it did pay since
    then. ``failed`` were refused or refunded, ``unknown`` may be paid for, ``submitted`` are, and have no
    image (yet). ``errors`` are those of images that aren't stored, the most frequent first and ten at most:
    ``{"code", "count", "row", "message"}`` each, with its first row; rarer ones together are ``(others)``.
    ``manifest`` is for :func:`~airflow_gpt_image.batch.manifest.read_manifest`; ``manifest_parquet`` (with
    the extra ``parquet``, else None) and ``metadata`` (for Hugging Face's ImageFolder; None without images)
    are the same for other tools, and ``contact_sheet`` shows the images to people; ``failures`` is the path
    of the rows that failed, ready to be mended and run again, and ``unsettled`` of those that are or may be
    paid for and have no image, each None when there are none; signatures of addresses and callbacks are
    taken out of them. An attempt that fails pushes what was spent since the last clear under the key
    ``spent``. Events of :class:`~airflow.sdk.Asset` outlets carry ``manifest``, ``stored``, ``failed``,
    ``credits`` and ``usd``. Tasks that set no ``retry_policy`` get a
    :class:`~airflow_gpt_image.retry_policy.GptImageRetryPolicy`.
    """

    template_fields: Sequence[str] = (
        "requests",
        "defaults",
        "destination",
        "filename",
        "limit",
        "sample",
        "gpt_image_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"requests": "json", "defaults": "json"}
    ui_color = "#f3e8ff"
    operator_extra_links = (GalleryLink(), ManifestLink(), FolderLink())
    links: Mapping[str, str] = MappingProxyType({})
    _result: Mapping[str, Any] | None = None

    def __init__(
        self,
        *,
        requests: object,
        destination: str | ObjectStoragePath,
        variants: int = 1,
        defaults: Mapping[str, Any] | None = None,
        columns: Mapping[str, str | None] | None = None,
        prompt_template: str | None = None,
        filename: str | None = None,
        limit: int | str | None = None,
        sample: int | str | None = None,
        reference_roots: Sequence[str | ObjectStoragePath] | None = None,
        max_in_flight: int = 500,
        reuse: Reuse = "run",
        on_invalid: OnInvalid = "fail",
        on_empty: OnEmpty = "fail",
        on_item_failure: OnItemFailure = "continue",
        max_failures: float | None = None,
        item_retries: int = 2,
        on_unknown_submit: OnUnknownSubmit = "fail",
        max_credits: float | str | Decimal | None = None,
        check_balance: bool = False,
        dry_run: bool = False,
        gpt_image_conn_id: str = "gpt_image_default",
        deferrable: bool = True,
        poll_interval: float | timedelta = 5.0,
        timeout: float | timedelta = 3600.0,
        **kwargs: Any,
    ) -> None:
        from airflow_gpt_image.tasks import checks

        super().__init__(**kwargs)
        self.requests: Any = Rows.of(requests)
        self.destination = destination
        self.variants = variants
        self.defaults = defaults
        self.columns = columns
        self.prompt_template = prompt_template
        self.filename = filename
        self.limit = limit
        self.sample = sample
        self.reference_roots = reference_roots
        self.max_in_flight = max_in_flight
        self.reuse = reuse
        self.on_invalid = on_invalid
        self.on_empty = on_empty
        self.on_item_failure = on_item_failure
        self.max_failures = max_failures
        self.item_retries = item_retries
        self.on_unknown_submit = on_unknown_submit
        self.max_credits = max_credits
        self.check_balance = check_balance
        # Not `dry_run`, which is a method of Airflow's.
        self.only_preview = dry_run
        self.gpt_image_conn_id = gpt_image_conn_id
        self.deferrable = deferrable
        self.poll_interval: float = checks.seconds(poll_interval)
        self.timeout: float = checks.seconds(timeout)
        # The template, before it is rendered: whether every map index has a folder of its own.
        self._own_folder = "map_index" in str(destination)
        self._shares_folder = not self._own_folder and self._is_given_once(destination)
        self._attempt: BatchAttempt | None = None
        if self.retry_policy is None:
            from airflow_gpt_image.retry_policy import GptImageRetryPolicy

            self.retry_policy = GptImageRetryPolicy()
        self._check_while_parsing(requests)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what is known of a mapped task while the DAG is parsed; then do as every operator."""
        from airflow_gpt_image.operators import batch_arguments
        from airflow_gpt_image.tasks import checks

        with checks.NamesTask(kwargs.get("task_id")):
            batch_arguments.check(kwargs)
        return super().partial(**kwargs)

    @few_frames
    def execute(self, context: Context) -> dict[str, Any]:
        """Read the data set, find out what is paid for, and work on the rest."""
        from airflow_gpt_image.tasks import checks

        checks.check_not_nested(self, context)
        return self._run(context)

    @few_frames
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the trigger's event, which is a hint: the records and the API are the truth."""
        from airflow_gpt_image.triggers.gpt_image import WaitedEvent

        self.log.info("Woken: %s", WaitedEvent.told(event))
        return self._run(context, resumed=True)

    def on_kill(self) -> None:
        """Submit nothing more. Nothing can be cancelled remotely; what is paid for stays on record."""
        if self._attempt is not None:
            self._attempt.interrupt()

    def build_attempt(self, client: GptImageClient, context: Context) -> BatchAttempt:
        """Return the attempt that a context belongs to."""
        from airflow_gpt_image.batch.attempt import BatchAttempt
        from airflow_gpt_image.batch.lock import ended_in_airflow
        from airflow_gpt_image.events.telling import task_teller
        from airflow_gpt_image.ledger.history import payer_of

        payer, history = payer_of(
            context,
            retries=self.retries,
            own_folder=self._own_folder,
            shares_folder=self._shares_folder,
        )
        return BatchAttempt(
            client=client,
            destination=self.destination,
            store=context["task_state_store"],
            payer=payer,
            history=history,
            options=self._options(),
            log=self.log,
            has_ended=ended_in_airflow(context["ti"]),
            tell=task_teller(self.log, payer, self.gpt_image_conn_id, each=False),
        )

    def _run(self, context: Context, *, resumed: bool = False) -> dict[str, Any]:
        """Do what there is to do. However it fails, what was spent is told, or that nothing was."""
        from airflow_gpt_image.operators import data_sets, ending

        with ending.watched(self, context) as ended:
            ended.on_failure(lambda: self.note_attempt(context))
            ended.on_failure(lambda: self._tell_where_to_look(context))
            with self._client() as client:
                rows, bad = ([], []) if resumed else data_sets.read(self)
                self._attempt = attempt = self.build_attempt(client, context)
                ended.spent(lambda: attempt.spent)
                if self.only_preview and not resumed:
                    preview = attempt.preview(rows, bad)
                    self.note_attempt(context)
                    return preview
                outcome = attempt.resume() if resumed else attempt.begin(rows, bad)
            if not isinstance(outcome, dict):
                raise self._deferred(outcome)
            self._publish_asset_events(context, outcome)
            return outcome

    def lineage(self) -> TaskLineage:
        """Return what was read and stored, for OpenLineage."""
        from airflow_gpt_image.operators import data_sets
        from airflow_gpt_image.tasks import lineage

        source = data_sets.source(self.requests)
        return lineage.of_batch(self._attempt, self._result, source=source, destination=self.destination)

    def note_attempt(self, context: Context) -> None:
        """Note that this attempt paid for nothing, where no record says so: a later clear can tell then."""
        from airflow_gpt_image.batch.missing import note_attempt
        from airflow_gpt_image.ledger.history import payer_of

        payer, history = payer_of(context, retries=self.retries)
        note_attempt(self.destination, context["task_state_store"], payer, history, self.reuse, self.log)

    def _publish_asset_events(self, context: Context, result: Mapping[str, Any]) -> None:
        from airflow.sdk import Asset

        from airflow_gpt_image.tasks.links import batch_links

        self._result = result
        self.links = batch_links(context["ti"])
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                fields = ("manifest", "stored", "failed", "credits", "usd")
                context["outlet_events"][outlet].extra.update({name: result[name] for name in fields})
        self._tell_where_to_look(context)

    def _tell_where_to_look(self, context: Context) -> None:
        """Let the log end with where the images are shown; without a plan there are none."""
        from airflow_gpt_image.tasks.pages import where_to_look

        if self._attempt is not None and self._attempt.plan is not None:
            self.log.info("%s", where_to_look(context["ti"]))

    def _is_given_once(self, destination: object) -> bool:
        """Return whether all map indexes have one destination: no XCom, and not what the DAG expands over."""
        from airflow_gpt_image.airflow_internals import partial_arguments

        partial = partial_arguments(self)
        one_text = isinstance(destination, str) or hasattr(destination, "protocol")  # an ObjectStoragePath
        return one_text and (partial is None or "destination" in partial)

    def _client(self) -> GptImageClient:
        from airflow_gpt_image.hooks.gpt_image import GptImageHook

        return GptImageHook(self.gpt_image_conn_id).get_conn()

    def _options(self) -> BatchOptions:
        from airflow_gpt_image.batch.options import BatchOptions
        from airflow_gpt_image.operators import data_sets
        from airflow_gpt_image.storage.references import NO_REFERENCES
        from airflow_gpt_image.tasks import checks

        return checks.options_of(
            self,
            BatchOptions,
            conn_id=self.gpt_image_conn_id,
            source=data_sets.source(self.requests),
            max_credits=checks.credits(self.max_credits),
            references=self.references or NO_REFERENCES,
        )

    def _deferred(self, deferral: Deferral) -> TaskDeferred:
        from airflow.sdk.exceptions import TaskDeferred

        from airflow_gpt_image.triggers.gpt_image import STUCK, GptImageTrigger, first_that_fit
        from airflow_gpt_image.triggers.tally import SoFar

        generation_ids = first_that_fit(deferral.generation_ids)
        self.log.info("%s", STUCK)
        enough = max(1, math.ceil(len(generation_ids) * deferral.share))
        return TaskDeferred(
            **GptImageTrigger.deferral(
                generation_ids,
                enough=enough,
                kinds=deferral.kinds[: len(generation_ids)],
                gpt_image_conn_id=self.gpt_image_conn_id,
                poll_interval=self.poll_interval,
                deadline=deferral.deadline,
                pause=deferral.pause,
                now=time.time(),
                so_far=SoFar(**deferral.so_far),
            )
        )

    def _check_while_parsing(self, requests: object) -> None:
        """Refuse what is wrong whatever the templates render to, and read which objects the author named."""
        from airflow_gpt_image.operators import batch_arguments
        from airflow_gpt_image.tasks import checks

        with checks.naming(self):
            self.references = checks.references(self, self.reference_roots, "defaults", self.defaults)
            given = {name: getattr(self, name) for name in batch_arguments.CHECKED}
            batch_arguments.check(given | {"requests": requests})
        checks.warn_of_braces(self.task_id, vars(self), "destination", "requests")
