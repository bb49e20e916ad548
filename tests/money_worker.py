"""One process of one try of a task: it runs the real attempt with the real ledger, and something befalls it.

Whatever it does passes a named point before and after. There it may die, fail, be frozen while other tries
come and go, be cleared, or lose a place for a while.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import DestinationError, GptImageError
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.history import payer_of
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.ledger.record import fingerprint
from airflow_gpt_image.ledger.timing import Timing
from airflow_gpt_image.single.attempt import ImageAttempt
from airflow_gpt_image.single.context import ImageContext
from airflow_gpt_image.single.options import ImageOptions
from airflow_gpt_image.storage.images import ImageFolder
from airflow_gpt_image.storage.names import OF_GENERATION, OF_REQUEST, Names
from tests.log_lines import Lines
from tests.memory_folder import MemoryFolder
from tests.money_api import SETTINGS, Client
from tests.task_instance import DiedError

if TYPE_CHECKING:
    from tests.money_world import Instance, World


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
        recorded = any(n.startswith("records/") and f"-1-1-{index}~" in n for n in world.files)
        notes = [json.loads(data) for n, data in world.files.items() if "/attempt-" in n]
        noted = any(note["map_index"] == instance.map_index for note in notes)
        self.found_nothing = not (instance.store or recorded or noted)
        folder = MemoryFolder(world.files, root=world.root, on_step=self._folder_step)
        self.folder = None if world.author.place == "nowhere" else folder
        self.client = Client(self)
        self.log = Lines()
        self.settings = SETTINGS
        world.workers.append(self)
        instance.last = self

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
        assert charge.id in str(self.log) + str(self.error), "an id is not even in a log"

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
            "task_reschedule_count": self.instance.reschedules,
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
        tell = self.world.events.append
        return ImageAttempt(ImageContext(self.client, ledger, images, names, options, self.log, tell=tell))

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
