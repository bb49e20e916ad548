"""The operator for one image: pays at most once, waits without a worker slot, returns a small plain dict."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn

from airflow.sdk import BaseOperator

# The rest of the package is imported where it is used: a DAG file is parsed over and over, by processes that
# never run the task.
if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation, ImageRequest
    from airflow_gpt_image.ledger import Current, Ledger, Record

# A trigger that fires while the worker that deferred is still leaving can make the scheduler fail the task.
_SECONDS_TO_LEAVE: Final = 5.0

# Airflow's own limit on the deferral comes later than ours, so that our error, which says more, wins.
_DEFERRAL_MARGIN: Final = timedelta(minutes=2)

_REQUEST_FIELDS: Final = (
    "prompt",
    "image_urls",
    "aspect_ratio",
    "resolution",
    "nsfw_checker",
    "callback_url",
)


class GptImageGenerateOperator(BaseOperator):
    """
    Make one image (or several, where the API returns several) and return where it is and what it cost.

    What isn't templated is checked while the DAG is parsed. A retry never pays for what was already paid for:
    it finds the generation again and waits for it, or takes its stored result.

    :param prompt: what to draw; at most 20,000 characters. (templated)
    :param image_urls: up to 16 http(s) addresses of reference images, in order. At least one of ``prompt``
        and ``image_urls`` is required. (templated)
    :param aspect_ratio: ``auto`` (1:1), one of the API's 15 ratios, or a pixel size of its table such as
        ``1881x836``. (templated)
    :param resolution: ``1k``, ``2k`` or ``4k``; None: the tier of an explicit pixel size, else 1k.
        (templated)
    :param nsfw_checker: the API's safety check. (templated)
    :param callback_url: http(s) address of your own that the API shall notify at the end. (templated)
    :param destination: folder the images are stored in: an absolute path or ``file://`` address on the
        worker, made when it isn't there. None: they stay where the API put them, which is not for ever.
        (templated)
    :param gpt_image_conn_id: the ``gpt_image`` connection. (templated)
    :param deferrable: wait in the triggerer; False: on the worker, holding its slot.
    :param wait_for_completion: False: return as soon as the generation is submitted, with its id.
    :param poll_interval: seconds from one look to the next; above 0.
    :param timeout: seconds to wait for the generation, from this try's first wait on; above 0.
    :param on_unknown_submit: what to do when an earlier submit may or may not have been accepted: ``fail``
        (default), or ``resubmit``, which can pay twice.

    Raises the errors of :mod:`airflow_gpt_image.api.errors`. Returns (XCom)::

        {"generation_id", "status", "model", "images": [{"url", "path", "width", "height", "sha256",
        "bytes"}],
         "aspect_ratio", "resolution", "credits", "usd", "fingerprint", "created_at", "completed_at",
         "reused", "metadata"}

    Money is in decimal strings, times in ISO 8601 UTC; ``reused`` says that this try submitted nothing.
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "destination", "gpt_image_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"image_urls": "json"}
    ui_color = "#f3e8ff"

    def __init__(
        self,
        *,
        prompt: str | None = None,
        image_urls: Sequence[str] | None = None,
        aspect_ratio: str = "auto",
        resolution: str | None = None,
        nsfw_checker: bool | str = True,
        callback_url: str | None = None,
        destination: str | None = None,
        gpt_image_conn_id: str = "gpt_image_default",
        deferrable: bool = True,
        wait_for_completion: bool = True,
        poll_interval: float = 5.0,
        timeout: float = 3600.0,
        on_unknown_submit: Literal["fail", "resubmit"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.image_urls = image_urls
        self.aspect_ratio = aspect_ratio
        self.resolution = resolution
        self.nsfw_checker = nsfw_checker
        self.callback_url = callback_url
        self.destination = destination
        self.gpt_image_conn_id = gpt_image_conn_id
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.on_unknown_submit = on_unknown_submit
        self._check_while_parsing()

    def execute(self, context: Context) -> dict[str, Any]:
        """Find out what was already paid for, pay for what wasn't, then wait."""
        from airflow_gpt_image.hooks.gpt_image import GptImageHook
        from airflow_gpt_image.ledger import Current, Ledger, fingerprint
        from airflow_gpt_image.storage import check_destination

        request = self._request()
        if self.destination is not None:
            check_destination(self.destination)
        ledger = Ledger(context["task_state_store"])
        with GptImageHook(self.gpt_image_conn_id).get_conn() as client:
            identity = fingerprint(request, conn_id=self.gpt_image_conn_id, host=client.settings.host)
            record = ledger.find(identity)
            if record is not None and record.state == "stored" and record.result is not None:
                self.log.info("Already stored: generation %s. Nothing is submitted.", record.generation_id)
                return {**record.result, "reused": True}
            reused = record is not None and record.state == "submitted"
            if record is None or not reused:
                record = self._submit(ledger, client, identity, request, record)
            else:
                self.log.info("Generation %s is already paid for; waiting for it.", record.generation_id)
            current = Current(fingerprint=identity, deadline=time.time() + self.timeout, reused=reused)
            ledger.begin(current)
            if not self.wait_for_completion:
                return self._result(record, None, [], reused=reused)
            if self.deferrable:
                self._defer(current, record)
            generation = client.wait_until(
                _id(record), poll_interval=self.poll_interval, deadline=current.deadline
            )
            return self._settle(ledger, client, current, record, generation)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the trigger's event, which is a hint: the generation is read again from the API."""
        from airflow_gpt_image.hooks.gpt_image import GptImageHook
        from airflow_gpt_image.ledger import Ledger

        self._log_event(event)
        ledger = Ledger(context["task_state_store"])
        current, record = ledger.current()
        with GptImageHook(self.gpt_image_conn_id).get_conn() as client:
            generation = client.get(_id(record))
            if not generation.finished and time.time() < current.deadline:
                self.log.info("Generation %s is %s; waiting on.", generation.id, generation.status)
                self._defer(current, record)
            if not generation.finished:
                # One last look, and the error that says what to do.
                generation = client.wait_until(
                    generation.id, poll_interval=self.poll_interval, deadline=current.deadline
                )
            return self._settle(ledger, client, current, record, generation)

    def _request(self) -> ImageRequest:
        from airflow_gpt_image.api.models import ImageRequest

        return ImageRequest(**_rendered({name: getattr(self, name) for name in _REQUEST_FIELDS}))

    def _submit(
        self,
        ledger: Ledger,
        client: GptImageClient,
        identity: str,
        request: ImageRequest,
        earlier: Record | None,
    ) -> Record:
        from airflow_gpt_image.api.errors import GptImageError, SubmissionUnknownError
        from airflow_gpt_image.api.pricing import plain, usd

        if earlier is not None and earlier.state == "intent":
            if self.on_unknown_submit == "fail":
                raise SubmissionUnknownError(
                    "An earlier try was about to submit this request at "
                    f"{earlier.intended_at:%Y-%m-%d %H:%M:%S} UTC, "
                    f"and no answer is on record. If it was accepted, it cost {plain(request.credits)} "
                    "credits "
                    f"(${usd(request.credits)}). {SubmissionUnknownError.remedy} To submit again regardless, "
                    "set "
                    "on_unknown_submit='resubmit', or delete the record in the task's state store."
                )
            self.log.warning("An earlier submit is unknown; submitting again, as on_unknown_submit says.")
        record = ledger.intend(identity, request, now=datetime.now(UTC))
        try:
            generation_id = client.submit(request)
        except SubmissionUnknownError:
            raise
        except GptImageError:
            ledger.withdraw(record)
            raise
        record = ledger.submitted(record, generation_id, now=datetime.now(UTC))
        self.log.info(
            "Submitted generation %s: %s, %s, %s credits ($%s).",
            generation_id,
            request.aspect_ratio,
            request.resolution,
            plain(request.credits),
            usd(request.credits),
        )
        return record

    def _defer(self, current: Current, record: Record) -> NoReturn:
        from airflow_gpt_image.triggers.gpt_image import GptImageTrigger

        now = time.time()
        self.defer(
            trigger=GptImageTrigger(
                gpt_image_conn_id=self.gpt_image_conn_id,
                generation_ids=[_id(record)],
                deadline=current.deadline,
                poll_interval=self.poll_interval,
                first_look_at=now + _SECONDS_TO_LEAVE,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, current.deadline - now)) + _DEFERRAL_MARGIN,
        )

    def _settle(
        self,
        ledger: Ledger,
        client: GptImageClient,
        current: Current,
        record: Record,
        generation: Generation,
    ) -> dict[str, Any]:
        """Store what a finished generation made, and put on record how it ended."""
        from airflow_gpt_image import storage
        from airflow_gpt_image.api import flows
        from airflow_gpt_image.api.errors import GenerationFailedError
        from airflow_gpt_image.api.models import GeneratedImage

        try:
            flows.succeeded(generation)
        except GenerationFailedError as error:
            ledger.failed(record, error.message, now=datetime.now(UTC))
            raise
        if self.destination is None:
            images = [GeneratedImage(url=url) for url in generation.urls]
        else:
            images, warnings = storage.store(client, generation, self.destination, record.request.sizes)
            for warning in warnings:
                self.log.warning(warning)
        result = self._result(
            record, generation, [image.model_dump(mode="json") for image in images], reused=current.reused
        )
        ledger.stored(record, result, now=datetime.now(UTC))
        for image in images:
            self.log.info("Image: %s", image.path or image.url)
        return result

    def _result(
        self, record: Record, generation: Generation | None, images: list[dict[str, Any]], *, reused: bool
    ) -> dict[str, Any]:
        from airflow_gpt_image.api.models import MODEL
        from airflow_gpt_image.api.pricing import plain, usd

        request = record.request
        return {
            "generation_id": record.generation_id,
            "status": generation.status if generation else "submitted",
            "model": (generation.model if generation else None) or MODEL,
            "images": images,
            "aspect_ratio": request.aspect_ratio,
            "resolution": request.resolution,
            "credits": str(plain(request.credits)),
            "usd": str(usd(request.credits)),
            "fingerprint": record.fingerprint,
            "created_at": _iso(generation.created_at if generation else None),
            "completed_at": _iso(generation.completed_at if generation else None),
            "reused": reused,
            "metadata": generation.output.metadata if generation else {},
        }

    def _log_event(self, event: Any) -> None:
        from pydantic import ValidationError

        from airflow_gpt_image.triggers.gpt_image import WaitedEvent

        try:
            told = WaitedEvent.model_validate(event)
        except ValidationError:
            self.log.warning("Woken by something that isn't the trigger's event; asking the API.")
        else:
            self.log.info("Woken: %s. %s", told.reason, told.message or "")

    def _check_while_parsing(self) -> None:
        """Refuse what is wrong whatever the templates render to.

        Costs an import, so only with something to check.
        """
        from airflow_gpt_image.api.errors import InvalidRequestError
        from airflow_gpt_image.api.models import ImageRequest, shown
        from airflow_gpt_image.storage import check_destination

        def refused(name: str, value: object, rule: str) -> InvalidRequestError:
            return InvalidRequestError(f"{name}={shown(value)} {rule}.")

        for name in ("poll_interval", "timeout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise refused(name, value, "must be a number of seconds above 0")
        if self.on_unknown_submit not in ("fail", "resubmit"):
            raise refused("on_unknown_submit", self.on_unknown_submit, "must be 'fail' or 'resubmit'")
        fields = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        known = {name: value for name, value in fields.items() if not _templated(value)}
        if known.get("prompt") is None and {"prompt", "image_urls"} - known.keys():
            known["prompt"] = "rendered later"
        ImageRequest(**_rendered(known))
        if self.destination is not None and not _templated(self.destination):
            check_destination(self.destination)


def _templated(value: object) -> bool:
    """Whether a value is only known once the task runs: a Jinja template, or the output of another task."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, (list, tuple)):
        return any(_templated(item) for item in value)
    # As Airflow's templater tells them apart: a path has a resolve() too, but another one.
    return hasattr(value, "resolve") and not isinstance(value, os.PathLike)


def _rendered(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as a request takes them: Jinja renders to text, also where a boolean or nothing is meant."""
    words = {"True": True, "False": False, "true": True, "false": False}
    if isinstance(fields.get("nsfw_checker"), str):
        fields["nsfw_checker"] = words.get(fields["nsfw_checker"].strip(), fields["nsfw_checker"])
    for name in ("resolution", "callback_url"):
        if fields.get(name) in ("", "None"):
            fields[name] = None
    return fields


def _id(record: Record) -> str:
    from airflow_gpt_image.ledger import LedgerUnreadableError

    if record.generation_id is None:
        raise LedgerUnreadableError("The ledger has no generation id for what this task waits for.")
    return record.generation_id


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
