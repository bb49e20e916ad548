"""A batch of thousands of images at a destination, put there by the code of a worker, without an API."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from PIL import Image

from airflow_gpt_image.api.pricing import DEFAULT_PRICES
from airflow_gpt_image.batch import manifest, report
from airflow_gpt_image.batch.contact_sheet import About
from airflow_gpt_image.batch.lease import KEY, BatchTaskState
from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.batch.plan import NAME, Item
from airflow_gpt_image.errors import GenerationFailedError
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import GenerationFacts, ImageFile, Record, intend
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import plan_of

SIDE = 1024
_THREADS = 8
_STYLES = (
    "front view, studio light, on white",
    "on a wooden table, soft daylight",
    "from above, hard shadow",
)


class LargeBatch:
    """
    A batch of a run, from its plan to its manifest.

    :param images: of its plan; each row makes one.
    :ivar records: what counts of each image, by its index.
    """

    def __init__(self, destination: str, images: int, *, dag_id: str, run_id: str, task_id: str) -> None:
        self.payer = Payer(dag_id=dag_id, run_id=run_id, task_id=task_id, clear_epoch=3, attempt=1)
        self.folder = open_folder(destination)
        self.destination = destination
        self._scope = self.payer.task_digest
        self._folder_of_records = RecordsFolder(self.folder, self._scope)
        self.plan = plan_of((_row(number) for number in range(images)), scope=self._scope)
        self.records: dict[int, Record] = {}

    def begin(self) -> None:
        """Put the plan there."""
        self.plan.publish(self.folder)

    def submit(self, indexes: Iterable[int]) -> None:
        """Put their intents and their generations' ids on record."""
        self._each(self._submitted, indexes)

    def lose(self, indexes: Iterable[int]) -> None:
        """Put their intents on record, an hour old: no answer came."""
        self._each(lambda item: [self._intent(item, age=timedelta(hours=1))], indexes)

    def fail(self, indexes: Iterable[int]) -> None:
        """Put on record that their generations failed, and were refunded."""
        error = GenerationFailedError("The prompt was refused.", code="invalid_request", generation_id="g")
        self._each(
            lambda item: [*self._submitted(item), self._submitted(item)[1].failed(error, _now())], indexes
        )

    def store(self, indexes: Iterable[int], picture: Callable[[int], bytes | None]) -> None:
        """
        Put their images and sidecars there; whichever aren't submitted are that, too.

        :param picture: gives an image's bytes by its index; None: it is described, and its file left out.
        """

        def write(item: Item) -> Record:
            if item.index not in self.records:
                self._write(self._submitted(item))
            data = picture(item.index)
            if data is not None:
                self.folder.write(f"{item.file}.png", data)
            made = self._stored(item, data)
            self._folder_of_records.write_sidecar(made, item.name)
            return made

        self._each_with(write, indexes)

    def describe(self, indexes: Iterable[int]) -> None:
        """Take them for stored, for the manifest alone: of a batch that has ended nothing else is read."""
        self.records.update((index, self._stored(self.plan.items[index], None)) for index in indexes)

    def finish(self) -> dict[str, Any]:
        """Put the manifest and what stands beside it there; return the task's result."""
        entries = [Entry(item, "stored", self.records.get(item.index)) for item in self.plan.items]
        result = report.result_of(entries, self.payer, DEFAULT_PRICES, self._budget())
        about = About(result, DEFAULT_PRICES, _now())
        addresses = manifest.write(self.folder, self.plan, entries, self.payer, about)
        return {**result, "seconds": 300.0, **addresses}

    def task_state(self) -> dict[str, Any]:
        """Return what its attempts keep in Airflow's task state store while it runs."""
        state = BatchTaskState(
            clear_epoch=self.payer.clear_epoch,
            open=True,
            destination=self.destination,
            published=True,
            recorded=self._scope,
        )
        return {KEY: state.model_dump(mode="json")}

    def rewrite(self) -> None:
        """Write the plan, and the manifest if there is one, anew: who has read them reads them again."""
        for name in (NAME, manifest.JSONL):
            data = self.folder.read(name)
            if data is not None:
                self.folder.write(name, data)

    def _budget(self) -> Budget:
        charged = sum((record.credits * record.charges for record in self.records.values()), Decimal(0))
        refunded = sum((record.credits * record.refunds for record in self.records.values()), Decimal(0))
        return Budget(None, charged, refunded, prices=DEFAULT_PRICES)

    def _intent(self, item: Item, age: timedelta = timedelta(seconds=20)) -> Record:
        at = _now() - age
        given = {"before": None, "payer": self.payer, "prices": DEFAULT_PRICES, "now": at}
        request = self.plan.request(item)
        until = at + timedelta(minutes=2)
        return intend(request, item.fingerprint, item.slot, **given, answer_by=until)  # type: ignore[arg-type]

    def _submitted(self, item: Item) -> list[Record]:
        intent = self._intent(item)
        generation_id = f"{random.Random(item.index).getrandbits(128):032x}"
        return [intent, intent.submitted(generation_id, intent.intended_at, name=item.name)]

    def _stored(self, item: Item, data: bytes | None) -> Record:
        sha256 = hashlib.sha256(data or b"").hexdigest()
        facts = {"width": SIDE, "height": SIDE, "sha256": sha256, "bytes": len(data or b"") or 1_000_000}
        url = f"https://files.example.com/{item.index}.png"
        image = ImageFile(url=url, name=f"{item.file}.png", **facts)
        return self._submitted(item)[1].stored([image], GenerationFacts(status="completed"), _now())

    def _write(self, records: Iterable[Record]) -> Record:
        for record in records:
            self._folder_of_records.write(record)
        return record

    def _each(self, make: Callable[[Item], Iterable[Record]], indexes: Iterable[int]) -> None:
        self._each_with(lambda item: self._write(make(item)), indexes)

    def _each_with(self, write: Callable[[Item], Record], indexes: Iterable[int]) -> None:
        indexes = list(indexes)
        items = [self.plan.items[index] for index in indexes]
        with ThreadPoolExecutor(_THREADS) as threads:
            self.records.update(zip(indexes, threads.map(write, items), strict=True))


def pictures(count: int) -> Iterator[bytes]:
    """Yield PNG files of coloured clouds, each another one, as large and as hard to decode as photographs."""
    for seed in range(count):
        clouds, picture = random.Random(seed), Image.new("RGB", (SIDE, SIDE))
        for cells, share in ((8, 1.0), (32, 0.35), (128, 0.2), (512, 0.12), (1024, 0.04)):
            noise = Image.frombytes("RGB", (cells, cells), clouds.randbytes(cells * cells * 3))
            picture = Image.blend(picture, noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC), share)
        file = io.BytesIO()
        picture.save(file, "PNG")
        yield file.getvalue()


def _row(number: int) -> dict[str, str]:
    prompt = f"A product photo of article {number}, {_STYLES[number % 3]}, 85 mm, shallow depth of field"
    return {
        "prompt": prompt,
        "aspect_ratio": "1:1",
        "sku": f"SKU-{number:05}",
        "category": f"category {number % 40}",
        "price": f"{number % 90}.90",
    }


def _now() -> datetime:
    return datetime.now(UTC)
