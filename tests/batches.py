"""Batches as tests make them: plans and records without a task, and a task instance of the batch operator."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_gpt_image import datasets
from airflow_gpt_image.api.downloads import Patience
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import DEFAULT_PRICES
from airflow_gpt_image.batch import manifest, report
from airflow_gpt_image.batch.attempt import BatchAttempt
from airflow_gpt_image.batch.contact_sheet import About
from airflow_gpt_image.batch.filenames import FileNames
from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.batch.plan import Item, Plan
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.datasets import Row
from airflow_gpt_image.errors import GenerationFailedError, InvalidRequestError, UpstreamError
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.destination import ANY
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import GenerationFacts, ImageFile, Record, intend
from airflow_gpt_image.ledger.timing import Clock, SystemClock
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.storage.folders import open_folder
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
    requests: Iterable[Any],
    *,
    variants: int = 1,
    scope: str = ANY,
    map_index: int = -1,
    names: FileNames | None = None,
    **account: str,
) -> Plan:
    """A plan as it is drafted and read on the worker that begins."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the plan keeps it
    of = {"conn_id": "gpt_image_default", "host": "api.aivideoapi.ai", **account}
    options = {"variants": variants, "scope": scope, "map_index": map_index, "names": names}
    try:
        Plan.draft(rows_of(requests), into=file, **options, **of)  # type: ignore[arg-type]
    except InvalidRequestError:
        file.close()
        raise
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
            url=f"https://files.example.com/{item.index}-{index}.png",
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


def manifest_of(
    folder: Any, plan: Plan, entries: list[Entry], payer: Payer = ME, *, place: str = "", source: str = ""
) -> dict[str, Any]:
    """Write what a batch leaves behind, as its end does it; return the addresses."""
    budget = Budget(None, prices=DEFAULT_PRICES)
    result = report.result_of(entries, payer, DEFAULT_PRICES, budget)
    about = About(result, DEFAULT_PRICES, NOW, source)
    return manifest.write(folder, plan, entries, payer, about, place=place)


# Destinations in trouble

Meddle = Callable[..., object]


class MeddledFolder:
    """
    A destination whose acts a test meddles with.

    :param meddle: is called with the act (``write``, ``read``, ``sizes``, ``remove``), the name, and what is
        written, before each; what it raises, the act does. What it returns, if anything, is the act's result.
    """

    def __init__(self, folder: Any, meddle: Meddle) -> None:
        self._folder, self._meddle = folder, meddle

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._folder, name)
        if name not in ("write", "read", "sizes", "remove"):
            return act

        def meddled(*args: Any) -> Any:
            result = self._meddle(name, *args)
            return act(*args) if result is None else result

        return meddled


# A task instance

QUICK = Timing(
    takeover_wait=0.1,
    first_rate=100.0,
    item_pause=0.05,
    write_pause=0.05,
    insist=20.0,
    insist_withdrawn=0.5,
    patience=Patience(lasts=1.0, first_pause=0.05),
    idle=0.3,
    idle_each=0.0,
)
"""A batch that begins at a rate it would otherwise feel its way to, and doesn't wait long for the dead."""


class BatchTask(TaskInstance):
    """
    A batch's task instance, run try by try; before each part of one the DAG is parsed and rendered anew.

    :param given: arguments of the operator; requests that are a function are what it returns inside the DAG.
    :param timing: of its attempts; None: as in production.
    :ivar expanded_over: arguments that the DAG gives to ``expand()``, and the others to ``partial()``.
    :ivar meddle: is called before each act on the destination; what it raises, the act does.
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
        self.meddle: Meddle | None = None
        self.clock: Clock = SystemClock()
        self.last: Any = None
        self.expanded_over: tuple[str, ...] = ()
        self.rescheduled = False
        self.given: dict[str, Any] = {
            "requests": ["a teapot", "a vase", "a chair"],
            "destination": str(destination),
            "deferrable": deferrable,
            "poll_interval": 0.05,
            "timeout": 300,
        }

    def _operator(self, **options: Any) -> GptImageBatchOperator:
        task = self

        class Operator(GptImageBatchOperator):
            def build_attempt(self, client: Any, context: Any) -> BatchAttempt:
                attempt = super().build_attempt(client, context)
                return replace(
                    attempt, timing=task.timing or Timing(), open_folder=task.open_folder, clock=task.clock
                )

        with DAG(self.dag_id, schedule=None):
            given = self.given | options
            if callable(given["requests"]):
                given["requests"] = given["requests"]()
            given |= {"task_id": self.task_id, "retries": self.retries}
            over = {name: given.pop(name) for name in self.expanded_over}
            if over:
                mapped = Operator.partial(**given).expand(**{name: [value] for name, value in over.items()})
                operator: Any = mapped.unmap(over)
            else:
                operator = Operator(**given)
        self.last = operator
        operator.render_template_fields(self.context)
        return operator

    @property
    def context(self) -> dict[str, Any]:
        return super().context | {"task": self.last}

    def run(self, **options: Any) -> Any:
        """One try: what it returns, or what it raises; also where Airflow schedules the same try again."""
        self.rescheduled = False
        try:
            return super().run(**options)
        except AirflowRescheduleException as wait:
            self.rescheduled = True
            raise (wait.__cause__ or wait) from None

    def next_try(self) -> None:
        """Another worker, with another id, on a store that no longer knows the one before."""
        self.try_number += 1
        self.reschedules = 0
        self.ti_id, self.accessor = str(uuid4()), self.store.accessor()
        self.pushed.clear()

    def begin(self, operator: Any = None, **options: Any) -> Any:
        """The first part of a try; with an operator that the test has made."""
        self.next_try()
        return (operator or self.operator(**options)).execute(self.context)

    def open_folder(self, destination: object) -> Any:
        """Its destination as its attempts see it."""
        folder = open_folder(destination)
        return folder if self.meddle is None else MeddledFolder(folder, self.meddle)

    def retimed(self, **timing: Any) -> None:
        """Let its attempts have other times."""
        self.timing = replace(self.timing or Timing(), **timing)


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


def latest(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of record documents the one that counts, by the prompt."""
    steps = ("intent", "submitted", "failed", "stored")

    def progress(record: dict[str, Any]) -> tuple[int, int, int]:
        return record["payer"]["attempt"], record["retries"], steps.index(record["state"])

    return {record["request"]["prompt"]: record for record in sorted(records, key=progress)}


def records_of(task: BatchTask) -> dict[str, dict[str, Any]]:
    """What is on record at the destination, by the prompt: what is stored, else the latest attempt's."""
    working = [json.loads(path.read_text()) for path in (task.folder / "records").glob("*/*~*.json")]
    sidecars = [json.loads(path.read_text()) for path in (task.folder / "items").glob("*.json")]
    return latest(working) | latest(sidecars)


def states_of(task: BatchTask) -> dict[str, str]:
    return {prompt: record["state"] for prompt, record in records_of(task).items()}


def lost_answer(task: BatchTask, api: Any, prompt: str = "a vase") -> tuple[Path, str, str]:
    """Return the file of an intent whose answer was lost, its text, and what it becomes if that arrives."""
    [generation_id] = [c["task_id"] for c in api.books()["charges"] if c["request"]["prompt"] == prompt]
    [path] = [path for path in (task.folder / "records").rglob("*~*.json") if prompt in path.read_text()]
    record = json.loads(path.read_text())
    assert record["state"] == "intent"
    id_of = {"generation_id": generation_id, "submitted_at": record["intended_at"]}
    arrived = record | id_of | {"state": "submitted", "failure": None}
    return path, json.dumps(record | {"failure": None}), json.dumps(arrived)


def assert_all_ids_are_on_record(task: BatchTask, api: Any) -> None:
    """What is accepted has its id at the destination."""
    accepted = {charge["request"]["prompt"]: charge["task_id"] for charge in api.books()["charges"]}
    known = {prompt: record["generation_id"] for prompt, record in records_of(task).items()}
    assert accepted
    assert {prompt: known.get(prompt) for prompt in accepted} == accepted


# What tests of the operator ask

SIXTY = [f"poster {number}" for number in range(60)]


TEN = [f"poster {number}" for number in range(10)]


def asked(api: Any) -> list[dict[str, Any]]:
    """What the API was asked for, by prompt."""
    requests = [charge["request"] for charge in api.books()["charges"]]
    return sorted(requests, key=lambda request: request.get("prompt", ""))


def images(task: BatchTask) -> int:
    return len(list((task.folder / "items").glob("*.png")))


def logged(lines: Any) -> list[str]:
    return [line["event"] % line.get("positional_args", ()) for line in lines]


def prompts(api: Any) -> list[str]:
    return [request["prompt"] for request in asked(api)]


def replaced_at(task: BatchTask, number: int) -> None:
    """Let a retry replace the task instance at a write of its lease, which comes before every submit."""
    task.retimed(renew_after=-1.0)

    def on_write(count: int) -> None:
        if task.try_number == 1 and count == number:
            task.store.replace()

    task.store.befalls = on_write


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {row["request"]["prompt"]: row["status"] for row in read_manifest(result["manifest"])}


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)
