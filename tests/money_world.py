"""A model of Airflow and of a destination, around workers that run the real attempt with the real ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import RateLimitError
from airflow_gpt_image.events import Event
from tests.fake_clock import FakeClock
from tests.money_api import Charge, Key
from tests.money_worker import Trouble, Worker


@dataclass
class Author:
    """
    What the author of the DAG decided.

    :param reschedules: that a rate limit is waited for in the same try.
    """

    on_clear: str = "reuse"
    on_unknown_submit: str = "fail"
    max_credits: Decimal | None = None
    place: str = "destination"
    reuse_destination: bool = False
    waits: bool = True
    reschedules: bool = False

    @property
    def regenerates(self) -> bool:
        return self.on_clear == "regenerate"


class Instance:
    """A task instance as Airflow has it."""

    def __init__(self, world: World, map_index: int) -> None:
        self.map_index = map_index
        self.try_number = 0
        self.max_tries = world.retries
        self.ti_id = ""
        self.store: dict[str, str] = {}
        self.waiting: tuple[Worker, ImageRequest] | None = None
        self.clears = self.reschedules = 0
        self.last: Worker | None = None

    def hides_clear(self, retries: int) -> bool:
        """Whether clears can't be told: the DAG's ``retries`` were raised by just the last try's number."""
        return self.clears > 0 and self.max_tries == retries


class World:
    """
    What outlives the workers.

    :param airflow: ``3.3`` or ``3.4``, which empties the store on a clear.
    :param prompts: of a mapped task, by map index.
    """

    def __init__(self, author: Author, *, airflow: str, retries: int = 2) -> None:
        self.author, self.airflow, self.retries = author, airflow, retries
        self.root = "memory://images"
        self.prompts, self.pictures = ["picture 1", "picture 2"], 2
        self.clock = FakeClock()
        self.files: dict[str, bytes] = {}
        self.instances: dict[int, Instance] = {}
        self.run_clears = 0
        self.charges: list[Charge] = []
        self.events: list[Event] = []
        self.workers: list[Worker] = []
        self.doubts: dict[str, set[Key]] = {}
        self.excused: set[Key] = set()
        self.gone: set[Key | str] = set()
        self.store_back = self.folder_back = 0.0
        self.tampered = self.was_away_long = self.was_away_everywhere = False

    # --- Airflow, and the people before it

    def instance(self, map_index: int = -1) -> Instance:
        return self.instances.setdefault(map_index, Instance(self, map_index))

    def clear(self, *map_indexes: int) -> None:
        """As Airflow does it; with other ``retries`` than before it shows in the run's count alone."""
        self.run_clears += 1
        for index in map_indexes:
            instance = self.instance(index)
            if instance.try_number == 0:
                continue
            instance.max_tries = instance.try_number + self.retries
            instance.clears += 1
            instance.waiting = None
            if self.airflow == "3.4":
                with self._emptied(by_hand=False):
                    instance.store.clear()

    def change_retries(self) -> None:
        """The DAG's author gives the task other ``retries``."""
        self.retries = (self.retries * 2 + 1) % 5
        for index, instance in self.instances.items():
            if instance.hides_clear(self.retries):
                gone = {key for key in self.gone if isinstance(key, Key)}
                self.excused |= {key for key in gone if key.map_index == index}

    def shift(self, how: str) -> None:
        """What a mapped task is expanded over has changed: upstream and all map indexes are cleared."""
        if how == "longer":
            self.pictures += 1
            self.prompts.insert(0, f"picture {self.pictures}")
        elif how == "shorter" and len(self.prompts) > 1:
            self.prompts.pop(0)
        else:
            self.prompts.reverse()
        self.clear(*self.instances)
        if self.airflow == "3.3":  # each is replaced at once, also where its worker goes on
            for instance in self.instances.values():
                instance.ti_id = "cleared"

    def empty(self, place: str, map_index: int = -1) -> None:
        """As a person does it, or a pod's own disk."""
        self.tampered = True
        with self._emptied(by_hand=True):
            if place == "store":
                self.instance(map_index).store.clear()
            else:
                self.files.clear()

    @contextmanager
    def _emptied(self, *, by_hand: bool) -> Iterator[None]:
        keys, ids = set(self.on_record()), self.ids_on_record()
        yield
        gone = keys - self.on_record().keys()
        self.gone |= gone | (ids - self.ids_on_record())
        if by_hand:
            self.excused |= gone
        for charge in self.charges:
            charge.told = charge.told and charge.id not in self.gone

    def on_record(self) -> dict[Key, list[dict[str, Any]]]:
        """What the two places hold, read by other means than ours."""
        found: dict[Key, list[dict[str, Any]]] = {}
        documents = [json.loads(data) for name, data in self.files.items() if name.endswith(".json")]
        for instance in self.instances.values():
            documents += [r for text in instance.store.values() for r in json.loads(text)["records"]]
        for record in documents:
            if "fingerprint" in record:
                payer = record["payer"]
                key = Key(payer["map_index"], payer["attempt"], record["fingerprint"])
                found.setdefault(key, []).append(record)
        return found

    def ids_on_record(self) -> set[str]:
        found = self.on_record().values()
        return {record["generation_id"] for records in found for record in records} - {None}

    # --- tries

    def a_try(
        self,
        *,
        happening: str,
        request: ImageRequest | None = None,
        answer: str,
        ending: str = "completed",
        waits_here: bool = False,
        pause: float = 1.0,
        trouble: Trouble = Trouble(),
        map_index: int = -1,
    ) -> Worker:
        map_index = map_index % len(self.prompts) if map_index >= 0 else -1
        instance = self.instance(map_index)
        if happening == "clear":
            self.clear(map_index)
        self.clock.sleep(pause)
        last = instance.last
        again = happening == "retry" and last is not None and isinstance(last.error, RateLimitError)
        if again and not last.replaced and self.author.reschedules:
            instance.reschedules += 1
        else:
            instance.try_number += 1
            instance.reschedules = 0
            instance.ti_id = f"ti-{map_index}-{instance.try_number}"
        instance.waiting = None
        worker = Worker(self, instance, trouble, answer, ending)
        request = request or ImageRequest(prompt=self.prompts[map_index])
        worker.run(request, waits_here=waits_here, fails_early=happening == "fails early")
        return worker

    def wake(self, map_index: int, *, ending: str, trouble: Trouble) -> Worker:
        instance = self.instance(map_index)
        assert instance.waiting is not None
        before, request = instance.waiting
        instance.waiting = None
        worker = Worker(self, instance, trouble, "accepted", ending, resumes=before)
        worker.run(request)
        return worker
