"""Batches as tests make them: plans and records without a task, and a task instance of the batch operator."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow.sdk import DAG

from airflow_gpt_image import datasets
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import DEFAULT_PRICES
from airflow_gpt_image.batch.attempt import BatchAttempt
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.errors import GenerationFailedError, UpstreamError
from airflow_gpt_image.ledger.destination import ANY
from airflow_gpt_image.ledger.record import GenerationFacts, ImageFile, Payer, Record, intend
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from tests.task_instance import TaskInstance

ME = Payer(dag_id="shop", run_id="r1", task_id="posters", clear_epoch=3, attempt=1, ti_id="t1")
ANOTHER = ME.model_copy(update={"run_id": "r0"})
LATER = ME.model_copy(update={"attempt": 2, "ti_id": "t2"})
CLEARED = ME.model_copy(update={"clear_epoch": 4, "attempt": 2, "run_clears": 1, "ti_id": "t2"})
PICTURE = b"\x89PNG, as far as a listing can tell"
NOW = datetime(2026, 4, 5, 10, 11, 48, tzinfo=UTC)


def rows_of(requests: Iterable[Any], **defaults: Any) -> list[Row]:
    """Rows of a data set without a mistake."""
    rows, bad = datasets.read(list(requests), defaults=defaults, open=open)  # type: ignore[arg-type]
    assert bad == []
    return rows


def plan_of(
    requests: Iterable[Any], *, variants: int = 1, scope: str = ANY, map_index: int = -1, **account: str
) -> Plan:
    """A plan as it is drafted and read on the worker that begins."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
    of = {"conn_id": "gpt_image_default", "host": "api.aivideoapi.ai", **account}
    Plan.draft(rows_of(requests), variants=variants, scope=scope, map_index=map_index, into=file, **of)
    return Plan.read(file)


def intent(item: Item, payer: Payer = ME, before: Record | None = None, **changes: Any) -> Record:
    """About to be submitted; its answer is lost by now, unless the changes say otherwise."""
    request = ImageRequest(prompt=f"item {item.index}", resolution=item.resolution)
    record = intend(
        request,
        item.fingerprint,
        item.slot,
        before=before,
        payer=payer,
        prices=DEFAULT_PRICES,
        now=NOW,
        answer_by=NOW + timedelta(minutes=2),
    )
    return record.model_copy(update=changes)


def submitted(item: Item, payer: Payer = ME) -> Record:
    return intent(item, payer).submitted(f"g{item.index}", NOW, name=item.name)


def stored(item: Item, payer: Payer = ME, *, count: int = 1) -> Record:
    """A record of images that the test has to put where it says."""
    images = [
        ImageFile(
            url=f"https://files.example.com/{item.index}-{index}.png?Signature=secret",
            name=f"{item.name}{f'~{index}' if index else ''}.png",
            width=1024,
            height=1024,
            sha256="0" * 64,
            bytes=len(PICTURE),
        )
        for index in range(count)
    ]
    return submitted(item, payer).stored(
        images, GenerationFacts(status="completed"), NOW + timedelta(seconds=12.5)
    )


def failed(item: Item, payer: Payer = ME, *, code: str = "invalid_request") -> Record:
    """The generation failed and was refunded; ``upstream_error`` is a code that may pass."""
    error = GenerationFailedError("The prompt was refused.", code=code, generation_id=f"g{item.index}")
    return submitted(item, payer).failed(error, NOW)


def late(item: Item, payer: Payer = ME) -> Record:
    """Paid for, and no image yet for a reason."""
    return submitted(item, payer).without_image(UpstreamError("The service is down.", code="upstream_error"))


# A task instance

QUICK = Timing(
    takeover_wait=0.1,
    first_rate=100.0,
    item_pause=0.05,
    write_pause=0.05,
    insist=20.0,
    insist_withdrawn=0.5,
)
"""A batch that begins at a rate it would otherwise feel its way to, and doesn't wait long for the dead."""


class BatchTask(TaskInstance):
    """
    A batch's task instance, run try by try; before each part of one the DAG is parsed and rendered anew.

    :param given: arguments of the operator; requests that are a function are what it returns inside the DAG.
    :param timing: of its attempts; None: as in production.
    """

    def __init__(
        self,
        destination: object,
        deferrable: bool,
        *,
        dag_id: str = "shop",
        task_id: str = "posters",
        timing: Timing | None = QUICK,
        **options: Any,
    ) -> None:
        super().__init__(self._operator, dag_id=dag_id, task_id=task_id, **options)
        self.folder = Path(str(destination))
        self.timing = timing
        self.given: dict[str, Any] = {
            "requests": ["a teapot", "a vase", "a chair"],
            "destination": str(destination),
            "deferrable": deferrable,
            "poll_interval": 0.05,
            "timeout": 20,
        }

    def _operator(self, **options: Any) -> GptImageBatchOperator:
        timing = self.timing

        class Operator(GptImageBatchOperator):
            def build_attempt(self, client: Any, context: Any) -> BatchAttempt:
                attempt = super().build_attempt(client, context)
                return attempt if timing is None else replace(attempt, timing=timing)

        with DAG(self.dag_id, schedule=None):
            given = self.given | options
            if callable(given["requests"]):
                given["requests"] = given["requests"]()
            operator = Operator(task_id=self.task_id, retries=self.retries, **given)
        operator.render_template_fields(self.context)
        return operator

    def begin(self, operator: Any = None, **options: Any) -> Any:
        """The first part of a try; with an operator that the test has made."""
        self.try_number += 1
        self.reschedules = 0
        self.ti_id, self.accessor = str(uuid4()), self.store.accessor()
        self.pushed.clear()
        return (operator or self.operator(**options)).execute(self.context)

    def retimed(self, **timing: float) -> None:
        """Let its attempts have other times."""
        self.timing = replace(self.timing or Timing(), **timing)  # type: ignore[arg-type]


def paid(api: Any) -> Counter[str]:
    """How often each prompt is paid for and was not refunded."""
    return Counter(c["request"]["prompt"] for c in api.books()["charges"] if not c["refunded"])


def assert_books_agree(result: dict[str, Any], *books: dict[str, Any]) -> None:
    """To the digit: the result with all that the books say, or with what they say beside earlier ones."""
    for name in ("charged", "refunded"):
        amounts = [Decimal(book[name]) for book in books]
        assert Decimal(result[name]) == amounts[-1] - sum(amounts[:-1])
    spent = Decimal(result["charged"]) - Decimal(result["refunded"])
    assert (Decimal(result["credits"]), Decimal(result["usd"])) == (spent, spent * Decimal("0.005"))
