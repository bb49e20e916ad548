"""A model of Airflow, of a destination and of the API's books, for the real attempt and the real ledger.

Everything a worker does passes a numbered point before and after; there it may die, fail, be frozen while
other tries come and go, be cleared, or lose a place for a while.
"""

from __future__ import annotations

import binascii
import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

from airflow_gpt_image.api.downloads import Downloaded
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DestinationError,
    GenerationNotFoundError,
    GptImageError,
    RateLimitError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.history import payer_of
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.ledger.record import fingerprint
from airflow_gpt_image.ledger.timing import Timing
from airflow_gpt_image.single.attempt import ImageAttempt, ImageOptions
from airflow_gpt_image.storage.images import ImageFolder
from airflow_gpt_image.storage.names import OF_GENERATION, OF_REQUEST, Names
from tests.fake_clock import FakeClock
from tests.memory_folder import MemoryFolder

SETTINGS = ClientSettings(
    api_key="sk-live-0123456789abcdef", base_url="https://api.example.com", connect_timeout=2, read_timeout=10
)


class DiedError(BaseException):
    """The worker is dead: nothing of it runs on, so no ``except Exception`` may see this."""


class Silence:
    """A logger that keeps what it is told in one text."""

    def __init__(self) -> None:
        self.text = ""

    def info(self, event: str, /, *args: object) -> None:
        self.text += event % args

    warning = info


class Key(NamedTuple):
    """What a record is filed under."""

    map_index: int
    attempt: int
    fingerprint: str


@dataclass(eq=False)
class Charge:
    """
    One accepted submit in the API's books.

    :param told: that its id was on record, and nobody has emptied that place since.
    """

    id: str
    request: ImageRequest
    key: Key
    epoch: int
    status: str = "pending"
    told: bool = False

    @property
    def kept(self) -> Decimal:
        return Decimal(0) if self.status == "failed" else self.request.credits


@dataclass
class Trouble:
    """
    What befalls a worker.

    :param at: the point, such as ``after POST 1`` or ``before store set 2``.
    :param kind: ``die``, ``fail``, ``freeze`` (other tries come and go), ``clear``, ``shift``, or a place
        that is away: ``store``, ``folder``, ``both``.
    :param seconds: for how long a place is away.
    :param tries: what comes and goes meanwhile, as arguments of :meth:`World.a_try`.
    :param how: what the list of a mapped task becomes, with ``shift``.
    """

    at: str = "nowhere"
    kind: str = "die"
    seconds: float = 60.0
    how: str = "longer"
    tries: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Author:
    """What the author of the DAG decided."""

    on_clear: str = "reuse"
    on_unknown_submit: str = "fail"
    max_credits: Decimal | None = None
    place: str = "destination"
    reuse_destination: bool = False
    waits: bool = True

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
        self.clears = 0

    def shows_clear(self, retries: int) -> bool:
        return self.max_tries > retries


class World:
    """
    What outlives the workers.

    :param airflow: ``3.3`` or ``3.4``, which empties the store on a clear.
    :param prompts: of a mapped task, by map index.
    """

    def __init__(self, author: Author, *, airflow: str, retries: int = 2) -> None:
        self.author, self.airflow, self.retries = author, airflow, retries
        self.prompts, self.pictures = ["picture 1", "picture 2"], 2
        self.clock = FakeClock()
        self.files: dict[str, bytes] = {}
        self.instances: dict[int, Instance] = {}
        self.run_clears = 0
        self.charges: list[Charge] = []
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
        """As Airflow does it; with other ``retries`` than before it may not show in ``max_tries``."""
        self.run_clears += 1
        for index in map_indexes:
            instance = self.instance(index)
            if instance.try_number == 0:
                continue
            instance.max_tries = instance.try_number + self.retries
            instance.clears += 1
            instance.waiting = None
            if self.airflow == "3.4":
                with self._emptied(by_hand=not instance.shows_clear(self.retries)):
                    instance.store.clear()

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
        instance.try_number += 1
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


class Worker:
    """One process of one try: what it sees of the world, and what befalls it."""

    def __init__(
        self,
        world: World,
        instance: Instance,
        trouble: Trouble,
        answer: str,
        ending: str,
        resumes: Worker | None = None,
    ) -> None:
        self.world, self.instance, self.trouble = world, instance, replace(trouble)
        self.answer, self.ending, self.resumes = answer, ending, resumes
        self.ti_id, self.attempt, self.max_tries = instance.ti_id, instance.try_number, instance.max_tries
        self.retries, self.run_clears = world.retries, world.run_clears
        self.request: ImageRequest | None = None
        self.identity = ""
        self.passed: Counter[str] = Counter()
        self.dead = False
        self.posted: bool | None = False
        self.error: GptImageError | None = None
        self.result: dict[str, Any] | None = None
        index = instance.map_index if instance.map_index >= 0 else "x"
        own = (f"-1-1-{index}~", f"/attempt-{index}.json")
        recorded = any(n.startswith("records/") and any(o in n for o in own) for n in world.files)
        self.found_nothing = not instance.store and not recorded
        folder = MemoryFolder(world.files, on_step=self._folder_step)
        self.folder = None if world.author.place == "nowhere" else folder
        self.client = Client(self)
        self.log = Silence()
        self.settings = SETTINGS
        world.workers.append(self)

    @property
    def replaced(self) -> bool:
        return self.ti_id != self.instance.ti_id

    # --- the task

    def run(self, request: ImageRequest, *, waits_here: bool = True, fails_early: bool = False) -> None:
        self.request, self.identity = request, fingerprint(request, conn_id="c", host=SETTINGS.host)
        try:
            self._run(request, waits_here=waits_here, fails_early=fails_early)
        except DiedError:
            pass
        except GptImageError as error:
            self.error = error
        self._check_id_on_record()

    def _check_id_on_record(self) -> None:
        """No id ends in a log alone, but where no place could take it."""
        charge, world = self.client.answered, self.world
        if charge is None or self.dead:
            return
        charge.told = charge.id in world.ids_on_record()
        if charge.told or charge.key in world.gone or charge.id in world.gone:
            return
        alone = world.author.place == "nowhere"
        assert (alone and self.replaced) or world.was_away_everywhere, "an id is on record nowhere"
        assert charge.id in self.log.text + str(self.error), "an id is not even in a log"

    def _run(self, request: ImageRequest, *, waits_here: bool, fails_early: bool) -> None:
        """What the operator does in ``execute``, and in the method that resumes it."""
        if fails_early:
            self._ledger(resumed=False).note_attempt()
            return
        if self.resumes is not None:
            with self._image_attempt(resumed=False) as attempt:
                if attempt.resume():
                    self.posted = self.resumes.posted
                    self.result = self._goes_on(attempt, request)
                    return
            self.posted = None  # whether this try posted before isn't known any more
        with self._image_attempt(resumed=self.resumes is not None) as attempt:
            result = attempt.begin(request)
            if result is None and not self.world.author.waits:
                result = attempt.submitted_result()
            elif result is None and waits_here:
                result = attempt.finish(attempt.wait(5.0))
            elif result is None and not self.replaced:
                self.instance.waiting = self, request
            self.result = result

    def _goes_on(self, attempt: ImageAttempt, request: ImageRequest) -> dict[str, Any] | None:
        if attempt.stored_result is not None:
            return attempt.stored_result
        generation = attempt.poll()
        if generation.finished:
            return attempt.finish(generation)
        self.instance.waiting = self, request
        return None

    def _ledger(self, *, resumed: bool) -> Ledger:
        context = {
            "ti": SimpleNamespace(
                id=self.ti_id,
                dag_id="posters",
                run_id="r",
                task_id="poster",
                map_index=self.instance.map_index,
                try_number=self.attempt,
                max_tries=self.max_tries,
            ),
            "dag_run": SimpleNamespace(clear_number=self.run_clears),
        }
        payer, history = payer_of(context, retries=self.retries, resumed=resumed)
        records = None if self.folder is None else RecordsFolder(self.folder, payer.task_digest)
        timing = Timing(retry_every=5.0)
        return Ledger(self, records, payer, history, self.log, clock=self.world.clock, timing=timing)

    def _image_attempt(self, *, resumed: bool) -> ImageAttempt:
        author = self.world.author
        options = ImageOptions(
            conn_id="c",
            timeout=3600,
            wait_for_completion=author.waits,
            reuse_destination=author.reuse_destination,
            on_clear=author.on_clear,
            on_unknown_submit=author.on_unknown_submit,
            max_credits=author.max_credits,
        )
        stores = self.folder is not None and author.place == "destination"
        images = ImageFolder(self.folder) if stores else None
        names = Names(OF_REQUEST if author.reuse_destination else OF_GENERATION)
        ledger = self._ledger(resumed=resumed)
        return ImageAttempt(self.client, ledger, images, names, options, self.log)

    # --- what befalls it

    def step(self, what: str, when: str) -> None:
        if self.dead:
            raise DiedError
        self.passed[f"{when} {what}"] += 1
        if self.trouble.at != f"{when} {what} {self.passed[f'{when} {what}']}":
            return
        self.trouble.at = "over"
        world, clock = self.world, self.world.clock
        if self.trouble.kind == "die":
            self.dead = True
            raise DiedError
        if self.trouble.kind == "fail" and what.startswith("store"):
            raise ConnectionError("the API server does not answer")
        if self.trouble.kind == "fail" and what.startswith("folder"):
            raise DestinationError("the store does not answer")
        if self.trouble.kind in ("store", "both"):
            world.store_back = clock.elapsed() + self.trouble.seconds
        if self.trouble.kind in ("folder", "both"):
            world.folder_back = clock.elapsed() + self.trouble.seconds
        long = (
            self.trouble.kind in ("store", "folder", "both")
            and self.trouble.seconds >= Timing().give_up_after
        )
        everywhere = self.trouble.kind == "both" or world.author.place == "nowhere"
        world.was_away_long |= long
        world.was_away_everywhere |= long and everywhere
        if self.trouble.kind == "clear":
            world.clear(self.instance.map_index)
            if world.airflow == "3.3":
                self.instance.ti_id = "cleared"
        if self.trouble.kind == "shift":
            world.shift(self.trouble.how)
        for each in self.trouble.tries:
            world.a_try(**{"map_index": self.instance.map_index} | each)

    def _folder_step(self, what: str, when: str, name: str) -> None:
        self.step(f"folder {what}", when)
        if when == "before" and self.world.clock.elapsed() < self.world.folder_back:
            raise DestinationError("the folder is away")

    # --- Airflow's accessor of the task state store

    def get(self, key: str, default: Any = None) -> Any:
        self.step("store get", "before")
        self._store_reachable()
        found = self.instance.store.get(key)
        self.step("store get", "after")
        # A replaced task instance is answered as if nothing were stored.
        return default if self.replaced or found is None else json.loads(found)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.step("store set", "before")
        self._store_reachable()
        if self.replaced:
            raise RuntimeError("TASK_STORE_NOT_FOUND: 404")
        self.instance.store[key] = json.dumps(value)
        self.step("store set", "after")

    def _store_reachable(self) -> None:
        if self.world.clock.elapsed() < self.world.store_back:
            raise ConnectionError("the API server does not answer")


class Client:
    """The API's client, with the books behind it."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.world, self.settings = worker, worker.world, SETTINGS

    def submit(self, request: ImageRequest, *, before_send: Any) -> str:
        worker, clock, answer = self.worker, self.world.clock, self.worker.answer
        if answer == "later":  # it never left, and is sent again after a pause
            before_send()
            clock.sleep(12)
        before_send()
        worker.step("POST", "before")
        worker.posted = True
        self._check_post()
        if answer == "refused":
            raise RateLimitError("m")
        if answer == "never left":
            raise ConnectionFailedError("m")
        if answer == "lost before":
            raise SubmissionUnknownError("m")
        clock.sleep(20 if answer == "slow" else 1)
        number = len(self.world.charges)
        key = Key(worker.instance.map_index, worker.attempt, worker.identity)
        charge = Charge(f"g{number}", request, key, worker.max_tries)
        charge.status = "failed" if worker.ending == "fails at once" else "pending"
        self.world.charges.append(charge)
        worker.step("POST", "after")
        if answer == "lost":
            raise SubmissionUnknownError("m")
        earlier = [c for c in self.world.charges[:-1] if c.told and c.key.map_index == key.map_index]
        if answer == "twice" and earlier:
            return earlier[-1].id
        worker.client.answered = charge
        if answer == "odd":
            raise SubmissionUnknownError("An id and an error at once.", generation_id=charge.id)
        return charge.id

    answered: Charge | None = None

    def _check_post(self) -> None:
        """What must hold before anything is sent, and what the author's word is used for."""
        worker, world = self.worker, self.world
        mine = Key(worker.instance.map_index, worker.attempt, worker.identity)
        for key, records in world.on_record().items():
            states = {record["state"] for record in records}
            if key != mine and key.fingerprint == mine.fingerprint and states == {"intent"}:
                world.doubts.setdefault(mine.fingerprint, set()).add(key)
        cleared = worker.max_tries > worker.retries and worker.attempt > 1
        assert world.author.regenerates or not cleared or not worker.found_nothing, (
            "silently paid after a clear"
        )

    def get(self, generation_id: str) -> Generation:
        self.worker.step("GET", "before")
        charge = next((c for c in self.world.charges if c.id == generation_id), None)
        if charge is None:
            raise GenerationNotFoundError("m")
        if charge.status == "pending" and self.worker.ending in ("completed", "failed"):
            charge.status = self.worker.ending
        return generation_of(charge)

    def wait_until(self, generation_id: str, **_: Any) -> Generation:
        if self.worker.ending not in ("completed", "failed"):
            self.worker.ending = "completed"
        return self.get(generation_id)

    def credits(self) -> Decimal:
        return Decimal(1000)

    def download(self, url: str, into: Any) -> Downloaded:
        self.worker.step("download", "before")
        data = png(url.rpartition("/")[2])
        into.write(data)
        return Downloaded(url, "image/png", len(data))


def generation_of(charge: Charge) -> Generation:
    fields: dict[str, Any] = {"id": charge.id, "status": charge.status}
    if charge.status == "completed":
        fields["output"] = {"urls": [f"https://files.example.com/{charge.id}"]}
    if charge.status == "failed":
        fields["error"] = {"code": "upstream_error", "message": "m", "type": "upstream_error"}
    return Generation.model_validate(fields)


def png(text: str) -> bytes:
    """A small picture that says which generation it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1024, 1024, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tEXt", b"id\0" + text.encode())
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
