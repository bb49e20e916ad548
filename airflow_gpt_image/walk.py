"""How one image walks through a task: pay, wait, settle. Who waits, the operator decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image import results
from airflow_gpt_image.api import flows
from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.pricing import plain, usd
from airflow_gpt_image.errors import GenerationFailedError, GenerationNotFoundError, LedgerError
from airflow_gpt_image.ledger import Ledger, Record, Waiting, fingerprint
from airflow_gpt_image.log import Log
from airflow_gpt_image.paying import Rules, pay_once
from airflow_gpt_image.storage.landing import Landing
from airflow_gpt_image.storage.signing import signed


class Walk:
    """
    One try's walk, or the part of it after a deferral: both find in the ledger where they are.

    :param client: of the operator's connection.
    :param ledger: of the task instance.
    :param landing: where the images shall land.
    :param resumed: that this part comes after a deferral.
    """

    def __init__(
        self, client: GptImageClient, ledger: Ledger, *, landing: Landing, resumed: bool, log: Log
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._landing = landing
        self._log = log
        self._charged_before = ledger.spent.charged
        self._submitted = resumed and not ledger.waiting()[0].reused

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """However a try ends, the last line says what was spent; one that defers hasn't ended."""
        if isinstance(error, TaskDeferred):
            return
        spent = self._ledger.spent
        submitted = self._submitted or spent.charged > self._charged_before
        self._log.info(
            "Spent since the last clear: %s credits ($%s): %s charged, %s refunded. This try %s.",
            plain(spent.net),
            usd(spent.net),
            plain(spent.charged),
            plain(spent.refunded),
            "submitted" if submitted else "paid nothing",
        )

    def pay(
        self,
        request: ImageRequest,
        rules: Rules,
        *,
        conn_id: str,
        timeout: float,
        waits: bool,
        anybodys: bool,
    ) -> dict[str, Any] | None:
        """
        Pay for what isn't paid for; the result if it is stored already, None if there is something to wait
        for.

        :param timeout: seconds from now that may be waited.
        :param waits: whether this task will see how the generation ends. If not, it looks now, so that one
            that failed isn't taken for a paid one.
        :param anybodys: whether images of the same request that another run stored at the destination do.
        :raises GptImageError: as :func:`airflow_gpt_image.paying.pay_once`.
        """
        identity = fingerprint(request, conn_id=conn_id, host=self._client.settings.host)
        if anybodys and not (self._ledger.cleared and rules.on_clear == "regenerate"):
            self._take_anybodys(identity, request)

        def submission() -> Callable[[], str]:
            ready = signed(request, seconds=timeout)
            return lambda: self._client.submit(ready)

        record, reused = pay_once(self._ledger, identity, request, submission, rules, self._log)
        if reused and not waits and record.state == "submitted" and self._has_failed(identity, record):
            record, reused = pay_once(self._ledger, identity, request, submission, rules, self._log)
        if record.result is not None and (not waits or self._landing.holds(record.result)):
            return self._returned(record.result, reused=True)
        self._ledger.wait(Waiting(fingerprint=identity, deadline=time.time() + timeout, reused=reused))
        self._log.info(
            "Generation %s may take until %s. Whatever happens to this task, it goes on and stays on "
            "record: the next try picks it up.",
            record.generation_id,
            datetime.fromtimestamp(self.deadline, UTC).isoformat(timespec="seconds"),
        )
        return None

    @property
    def deadline(self) -> float:
        """When the wait ends, in seconds since 1970."""
        return self._ledger.waiting()[0].deadline

    @property
    def generation_id(self) -> str:
        """What is waited for."""
        generation_id = self._ledger.waiting()[1].generation_id
        if generation_id is None:
            raise LedgerError("The ledger has no generation id for what this task waits for.")
        return generation_id

    def look(self) -> Generation:
        """The generation as it is now."""
        try:
            return self._client.get(self.generation_id)
        except GenerationNotFoundError as error:
            raise _forgotten(error, self._ledger.waiting()[1]) from None

    def wait(self, poll_interval: float) -> Generation:
        """The finished generation, waited for on this worker; at the deadline it looks for the last time."""
        try:
            return self._client.wait_until(
                self.generation_id, poll_interval=poll_interval, deadline=self.deadline
            )
        except GenerationNotFoundError as error:
            raise _forgotten(error, self._ledger.waiting()[1]) from None

    def settle(self, generation: Generation) -> dict[str, Any]:
        """
        Store what a finished generation made, put on record how it ended, and return the result.

        :raises GenerationFailedError: when it failed and was refunded.
        :raises DownloadError: when an image didn't arrive; nothing is lost, and landing again costs nothing.
        :raises DestinationError: likewise, when the destination didn't take it.
        """
        waiting, record = self._ledger.waiting()
        try:
            flows.succeeded(generation)
        except GenerationFailedError as error:
            self._ledger.failed(waiting.fingerprint, error.message, now=datetime.now(UTC))
            raise
        made = results.of_generation(generation) | results.of_request(record.request, waiting.fingerprint)
        images = self._landing.land(self._client, generation, made, record.request, self._log)
        result = made | results.of_images(images)
        self._ledger.stored(waiting.fingerprint, result, now=datetime.now(UTC))
        return self._returned(result, reused=waiting.reused)

    def submitted(self) -> dict[str, Any]:
        """The result as far as it is known while nobody waits."""
        waiting, record = self._ledger.waiting()
        made = results.of_generation(Generation(id=self.generation_id, status="submitted"))
        made |= results.of_request(record.request, waiting.fingerprint) | results.of_images([])
        return self._returned(made, reused=waiting.reused)

    def _take_anybodys(self, fingerprint: str, request: ImageRequest) -> None:
        record = self._ledger.find(fingerprint)
        if record is not None and record.state != "failed":
            return
        result = self._landing.found(fingerprint, request, self._log)
        if result is not None:
            self._log.info("Generation %s is at the destination already.", result["generation_id"])
            self._ledger.found(fingerprint, request, result, now=datetime.now(UTC))

    def _has_failed(self, fingerprint: str, record: Record) -> bool:
        try:
            generation = self._client.get(record.generation_id or "")
        except GenerationNotFoundError as error:
            raise _forgotten(error, record) from None
        if generation.status == "failed":
            self._ledger.failed(fingerprint, "found failed", now=datetime.now(UTC))
        return generation.status == "failed"

    def _returned(self, result: dict[str, Any], *, reused: bool) -> dict[str, Any]:
        return result | results.of_try(reused=reused, spent=self._ledger.spent)


def _forgotten(error: GenerationNotFoundError, record: Record) -> GenerationNotFoundError:
    since = record.submitted_at or record.intended_at  # another run's has only the latter
    return GenerationNotFoundError(
        f"{error.message} It is on record as paid for since {since:%Y-%m-%d %H:%M:%S} UTC. To pay for "
        "a new one, clear the task with on_clear='regenerate'.",
        status=error.status,
        code=error.code,
        type=error.type,
        generation_id=record.generation_id,
        request_id=error.request_id,
    )
