"""Batches on real components: side by side, at one place, killed, run again; the API's books judge them."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from stack.airflow import RunningTask
from stack.rest import ApiError
from tests.batches import latest
from tests.e2e.cases import print_table
from tests.e2e.conftest import House
from tests.object_store import Bucket, Disk
from tests.outages import frozen, is_gone, until

# So many runs at once are more than sqlite's one writer stands.
pytestmark = pytest.mark.one_database

PRICE = Decimal("4.7")


class Batch:
    """A batch's run, as its owner sees it: at the destination, in Airflow, and in the API's books."""

    def __init__(
        self, house: House, dag_id: str, *, prompts: list[str], place: Disk | Bucket, folder: Path
    ) -> None:
        self.house, self.dag_id, self.prompts, self.place = house, dag_id, prompts, place
        file = folder / f"rows-{house.next_number()}.jsonl"
        file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        conf = {"file": str(file), "prompts": prompts, "destination": place.destination}
        self.run_id = house.start(dag_id, prompts[0], **conf)

    def finish(self, timeout: float = 400) -> str:
        return self.house.finish(self.dag_id, self.run_id, timeout)

    def clear(self) -> None:
        self.house.airflow.clear(self.dag_id, self.run_id, ["images"])

    @property
    def result(self) -> dict[str, Any]:
        return self.house.airflow.xcom(self.dag_id, self.run_id, "images")

    @property
    def task(self) -> dict[str, Any]:
        return self.house.airflow.task_instance(self.dag_id, self.run_id, "images")

    def log(self) -> str:
        """Of all its tries so far."""
        found = []
        for number in range(1, self.task["try_number"] + 1):
            with suppress(ApiError):  # a try that only waited, and was taken up by the next one, has none
                found.append(self.house.log(self.dag_id, self.run_id, "images", number))
        return "\n".join(found)

    def charges(self) -> list[dict[str, Any]]:
        mine = set(self.prompts)
        charges = self.house.emulator.books()["charges"]
        return [charge for charge in charges if charge["request"].get("prompt") in mine]

    def paid(self) -> Counter[str]:
        """How often each prompt is paid for: what was refunded isn't."""
        return Counter(c["request"]["prompt"] for c in self.charges() if not c["refunded"])

    def manifest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.place.read("manifest.jsonl").splitlines()]

    def intents(self) -> set[str]:
        """The prompts of which the destination says that nobody knows whether they are paid for."""
        records = []
        for name in self.place.names():
            if name.startswith("records/") and "~" in name:
                with suppress(FileNotFoundError):
                    records.append(json.loads(self.place.read(name)))
        return {prompt for prompt, record in latest(records).items() if record["state"] == "intent"}

    def process(self) -> RunningTask | None:
        """The two processes of the task, if it is being executed and both are there."""
        identity = self.task["id"]
        for task in self.house.airflow.running_tasks():
            if task.task_instance_id == identity and task.supervisor and task.process:
                return task
        return None


def is_whole(batch: Batch) -> bool:
    """Every prompt is paid for once, and its image is at the destination, whole."""
    sizes = {image["path"]: image["bytes"] for line in batch.manifest() for image in line["images"]}
    names = {path: path.removeprefix(f"{batch.place.destination}/") for path in sizes}
    return (
        batch.paid() == Counter(batch.prompts)
        and [line["request"]["prompt"] for line in batch.manifest()] == batch.prompts
        and {line["status"] for line in batch.manifest()} == {"stored"}
        and all(len(batch.place.read(names[path])) == size for path, size in sizes.items())
        and len(sizes) == len(batch.prompts)
    )


@dataclass
class Places:
    """Where batches find their rows, and leave their images."""

    house: House
    folder: Path

    def prompts(self, about: str, count: int) -> list[str]:
        begin = self.house.prompt(about)
        return [f"{begin} {{{{ ds }}}} {number}" for number in range(count)]

    def disk(self) -> Disk:
        return Disk(self.folder / f"images-{self.house.next_number()}")

    def bucket(self) -> Bucket:
        name = f"batch-{self.house.next_number()}"
        self.house.store.client().create_bucket(Bucket=name)
        return Bucket(self.house.store.client(), name)

    def start(self, dag_id: str, prompts: list[str], place: Disk | Bucket, *faults: str) -> Batch:
        """Start a run; the faults are for its prompts only."""
        for fault in faults:
            self.house.emulator.fault(f"{fault};match={prompts[0].rpartition(' ')[0]}")
        return Batch(self.house, dag_id, prompts=prompts, place=place, folder=self.folder)


@pytest.fixture(scope="module")
def places(house: House, tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(house, tmp_path_factory.mktemp("batches"))


# What doesn't kill runs side by side, and each test judges its own.


@pytest.fixture(scope="module")
def examples(house: House, began: float) -> dict[str, str]:
    """Two of the examples, started: the one by its schedule, the other by hand."""
    house.emulator.fault("generation:failed=invalid_request;match=film character")
    house.airflow.wait_for_dag("content_pipeline")
    house.airflow.unpause("content_pipeline")
    [scheduled] = house.airflow.wait_for_runs("content_pipeline", count=1)
    return {"content_pipeline": scheduled, "fix_and_rerun": house.start("fix_and_rerun", "")}


@pytest.fixture(scope="module")
def ended(house: House, places: Places, examples: dict[str, str]) -> dict[str, Batch]:
    """Batches of every kind, at once, and ended."""
    shared, one_place = places.prompts("shared", 30), places.disk()
    spend_limit, no_credits = "submit:spend_limit_exceeded*3;after=20", "submit:402*40;after=20"
    # The last ones are slow: when the others are stored, waiting is all that is left, on a slow machine too.
    slow = "generation:takes=40;after={}".format
    kinds: dict[str, tuple[Any, ...]] = {
        "first at the place": ("batch_shared", shared, one_place, slow(28)),
        "second at the place": ("batch_shared", shared, one_place),
        "on a disk": ("batch", places.prompts("disk", 60), places.disk(), slow(45)),
        "on S3": ("batch_mapped_over", places.prompts("S3", 60), places.bucket(), slow(45)),
        "decorated": ("batch_decorated", places.prompts("decorated", 10), places.disk()),
        "limited": ("batch_spending", places.prompts("limited", 40), places.disk(), spend_limit),
        "timed out": ("batch_timed", places.prompts("timed", 30), places.disk()),
        "broke": ("batch", places.prompts("broke", 40), places.disk(), no_credits),
    }
    ended = {}
    for names in house.batches(list(kinds)):
        started = {name: places.start(*kinds[name]) for name in names}
        for batch in started.values():
            batch.finish()
        ended.update(started)
    return ended


def state(batch: Batch) -> str:
    return batch.house.airflow.run_state(batch.dag_id, batch.run_id)


@pytest.mark.parametrize("name", ["on a disk", "on S3"])
def test_a_batch_that_defers_ends_green_with_every_image_paid_for_once(
    ended: dict[str, Batch], name: str
) -> None:
    batch = ended[name]

    assert state(batch) == "success"
    assert is_whole(batch)
    assert "Waiting is all that is left" in batch.log()
    assert (batch.task["try_number"], batch.result["stored"], batch.result["charged"]) == (1, 60, "282")


def test_tasks_are_mapped_over_the_paths_of_a_manifest(ended: dict[str, Batch]) -> None:
    batch = ended["on S3"]

    sizes = [batch.house.airflow.xcom(batch.dag_id, batch.run_id, "sizes", index) for index in range(3)]

    lines = batch.manifest()
    assert sizes == [
        [image["bytes"] for line in lines if line["data"]["shelf"] == n for image in line["images"]]
        for n in range(3)
    ]


def test_a_function_returns_a_data_set_whose_prompts_nobody_renders(ended: dict[str, Batch]) -> None:
    batch = ended["decorated"]

    assert (state(batch), batch.result["stored"]) == ("success", 10)
    assert is_whole(batch)
    assert all("{{ ds }}" in prompt for prompt in batch.paid())


def test_two_runs_at_one_place_keep_out_of_each_others_way_and_pay_once_together(
    ended: dict[str, Batch],
) -> None:
    both = [ended["first at the place"], ended["second at the place"]]

    assert [state(batch) for batch in both] == ["success", "success"]
    assert all(is_whole(batch) for batch in both)
    assert sorted(batch.result["reused"] for batch in both) == [0, 30]
    refused = [batch for batch in both if "DestinationTakenError" in batch.log()]
    assert refused, "one of them came second"
    assert any("no retry is used up" in batch.log() for batch in refused)


def test_a_spend_limit_in_mid_run_is_waited_for_and_costs_only_what_is_missing(
    ended: dict[str, Batch],
) -> None:
    batch = ended["limited"]

    assert state(batch) == "success"
    assert is_whole(batch)
    assert batch.task["try_number"] == 1
    assert "no retry is used up" in batch.log()
    assert (batch.result["stored"], batch.result["charged"]) == (40, "188")


def test_an_execution_timeout_costs_a_retry_and_no_image(ended: dict[str, Batch]) -> None:
    batch = ended["timed out"]

    assert state(batch) == "success"
    assert is_whole(batch)
    assert batch.task["try_number"] > 1
    assert "AirflowTaskTimeout" in batch.log()
    assert batch.result["unknown"] == 0


def test_a_clear_pays_only_for_what_is_missing(ended: dict[str, Batch]) -> None:
    broke, whole = ended["broke"], ended["on a disk"]
    before = broke.paid()
    assert (state(broke), broke.task["try_number"]) == ("failed", 1)
    assert 0 < len(before) < 40
    broke.house.emulator.clear_faults()

    for batch in (broke, whole):
        batch.clear()

    assert (broke.finish(), whole.finish()) == ("success", "success")
    assert is_whole(broke)
    assert is_whole(whole)
    assert (broke.result["reused"], whole.result["reused"]) == (len(before), 60)
    assert Decimal(broke.result["charged"]) == PRICE * (40 - len(before))
    assert whole.result["charged"] == "0"


@pytest.fixture(scope="module")
def began(house: House) -> float:
    """When this Airflow's examples began: another one made the same pictures before."""
    return time.time()


def charged(house: House, word: str, since: float) -> Counter[str]:
    """Prompts with this word, and how often each was charged from then on, refunds included."""
    charges = [each for each in house.emulator.books()["charges"] if each["submitted_at"] > since]
    return Counter(c["request"]["prompt"] for c in charges if word in c["request"].get("prompt", ""))


def test_the_content_pipeline_publishes_the_pictures_of_its_articles(
    house: House, examples: dict[str, str], began: float
) -> None:
    run = "content_pipeline", examples["content_pipeline"]

    assert house.finish(*run) == "success"
    said = [house.airflow.xcom(*run, "publish", index) for index in range(3)]
    assert said == ["harvest: 2 pictures", "trains: 2 pictures", "templates: 2 pictures"]
    paid = charged(house, "editorial photo", began)
    assert len(paid) == 3
    assert set(paid.values()) == {2}


def test_what_failed_is_mended_and_only_that_is_paid_for_again(
    house: House, examples: dict[str, str], began: float
) -> None:
    run = "fix_and_rerun", examples["fix_and_rerun"]

    assert house.finish(*run) == "success"
    first, second = (house.airflow.xcom(*run, name) for name in ("first", "second"))
    assert (first["stored"], first["failed"], first["credits"]) == (2, 1, "9.4")
    assert (second["stored"], second["failed"], second["credits"]) == (1, 0, "4.7")
    assert charged(house, "teapot on white", began) | charged(house, "holding a teapot", began) == {
        "A red teapot on white": 1,
        "A famous film character holding a teapot": 1,
        "A cat holding a teapot": 1,
        "A blue teapot on white": 1,
    }


@pytest.fixture
def pool(house: House) -> None:
    """As the example says."""
    pool = {"name": "gpt_image", "slots": 4, "include_deferred": True}
    house.airflow.request("POST", "/api/v2/pools", json=pool)


def backfill(house: House, **options: Any) -> list[dict[str, Any]]:
    """Four dates, by Airflow's own backfill; its runs, ended."""
    body = {"dag_id": "catalogue_backfill", "from_date": "2026-01-01", "to_date": "2026-01-04", **options}
    number = house.airflow.request("POST", "/api/v2/backfills", json=body).json()["id"]
    until(lambda: house.airflow.request("GET", f"/api/v2/backfills/{number}").json()["completed_at"])
    answer = house.airflow.request("GET", "/api/v2/dags/catalogue_backfill/dagRuns")
    return [run for run in answer.json()["dag_runs"] if run["run_type"] == "backfill"]


@pytest.mark.soak
def test_a_backfill_of_dates_side_by_side_pays_once_for_each_and_another_one_for_nothing(
    house: House, pool: None, began: float
) -> None:
    house.airflow.wait_for_dag("catalogue_backfill")
    house.airflow.unpause("catalogue_backfill")

    first = backfill(house, max_active_runs=3)
    paid = charged(house, "model of 2026-01-0", began)
    second = backfill(house, max_active_runs=3, reprocess_behavior="completed")

    assert [run["state"] for run in (*first, *second)] == ["success"] * 8
    assert min(run["end_date"] for run in first) > sorted(run["start_date"] for run in first)[1]
    assert sorted(paid.values()) == [1] * 12
    assert min(run["start_date"] for run in second) > max(run["end_date"] for run in first)
    assert charged(house, "model of 2026-01-0", began) == paid
    results = [house.airflow.xcom("catalogue_backfill", run["dag_run_id"], "pictures") for run in second]
    assert [(result["reused"], result["charged"]) for result in results] == [(3, "0")] * 4


# Killed


@pytest.fixture
def limited(house: House) -> Iterator[None]:
    """The API takes a hundred submits in some seconds; however a test changes it, it is as before then."""
    house.emulator.settings(rate_limit=30)
    yield
    house.emulator.settings(rate_limit=None, duration="1-2")


class Killer:
    """
    Kills what works on a batch.

    :param batch: of which it also notes what was being submitted when a worker died.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.doubtful: set[str] = set()
        self.done: list[str] = []

    def kill(self, what: str, charges: int) -> None:
        """Kill it when the API has charged so much and it is there; the run's end spares it."""
        target = until(lambda: self._over() or self._target(what, charges))
        if target == "over":
            return
        moment = len(self.batch.charges())
        if what == "triggerer":
            self.batch.house.airflow.kill("triggerer")
            self.batch.house.airflow.restart("triggerer")
        else:
            dying = {"task": [target.process], "supervisor": [target.supervisor], "both": target[1:]}[what]
            for pid in dying:
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)
            # Without its supervisor it can't renew its lease, and ends by itself.
            until(lambda: is_gone(target.process))
            # A store may still be at its last writes; the next try reads them in 15 s.
            until(lambda: self._over() or self.batch.task["id"] != target.task_instance_id)
            self.doubtful |= self.batch.intents()
        self.done.append(f"{what} at {moment}")

    def _over(self) -> str:
        return "over" if state(self.batch) in ("success", "failed") else ""

    def _target(self, what: str, charges: int) -> Any:
        if len(self.batch.charges()) < charges:
            return None
        if what == "triggerer":
            return self.batch.task["state"] == "deferred"
        return self.batch.process()


def drawn(seed: int) -> tuple[str, bool, list[tuple[str, int]]]:
    """A DAG, whether on S3, and what is killed after how many charges."""
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(1, 110), k=chance.choice([1, 2, 3])))
    kinds = [chance.choice(["task", "task", "both", "supervisor"]) for _ in moments]
    kills = [*zip(kinds, moments, strict=True), ("triggerer", chance.randrange(30, 100))]
    return (
        chance.choice(["batch", "batch_in_waves"]),
        chance.random() < 0.4,
        sorted(kills, key=lambda kill: kill[1]),
    )


TABLE = (
    *("seed", "DAG", "on", "killed", "seconds", "charges", "refunded", "stored"),
    *("being submitted", "unknown", "of them paid"),
)

SEEDS = [pytest.param(seed, marks=() if seed == 2 else pytest.mark.soak) for seed in range(20)]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_paid_twice_and_nothing_lost_whatever_is_killed(
    house: House, places: Places, limited: None, seed: int
) -> None:
    dag_id, on_s3, kills = drawn(seed)
    prompts = places.prompts(f"killed {seed}", 100)
    # The last ones are slow, so that the task defers for them.
    house.emulator.settings(duration=9)
    faults = ("generation:failed*3;after=20", "generation:takes=20;after=80", "submit:late=1")
    began = time.monotonic()
    batch = places.start(dag_id, prompts, places.bucket() if on_s3 else places.disk(), *faults)
    killer = Killer(batch)

    for what, charges in kills:
        killer.kill(what, charges)
    ended = batch.finish(240)

    paid, charges, result = batch.paid(), batch.charges(), batch.result
    lines = {line["request"]["prompt"]: line for line in batch.manifest()}
    unknown = {prompt for prompt in prompts if lines[prompt]["status"] == "unknown"}
    refunded = sum(charge["refunded"] for charge in charges)
    seen = (
        *(seed, dag_id, "S3" if on_s3 else "disk", ", ".join(killer.done), round(time.monotonic() - began)),
        *(len(charges), refunded, result["stored"]),
        *(len(killer.doubtful), len(unknown), len(unknown & paid.keys())),
    )
    print_table([TABLE, [str(each) for each in seen]])
    assert ended == "success", batch.log()
    assert max(paid.values()) == 1
    assert unknown <= killer.doubtful
    assert (result["stored"], result["unknown"]) == (100 - len(unknown), len(unknown))
    for prompt in set(prompts) - unknown:
        assert (lines[prompt]["status"], len(lines[prompt]["images"]), paid[prompt]) == ("stored", 1, 1)
    # The result takes what is unknown for charged, and not for refunded.
    told = [Decimal(result[name]) / PRICE for name in ("charged", "refunded")]
    assert len(charges) <= told[0] <= len(charges) + len(unknown)
    assert refunded - len(unknown) <= told[1] <= refunded
    assert Decimal(result["credits"]) == PRICE * (told[0] - told[1])


@pytest.mark.soak
@pytest.mark.parametrize("wakes", ["while its successor pays", "when its successor is done"])
def test_a_worker_that_was_frozen_pays_for_nothing_and_changes_nothing_when_it_wakes(
    house: House, places: Places, limited: None, wakes: str
) -> None:
    house.emulator.settings(duration=9)
    prompts = places.prompts("frozen", 100)
    batch = places.start("batch", prompts, places.disk(), "submit:late=1", "generation:failed*5;after=5")
    task = until(lambda: len(batch.charges()) > 70 and batch.process())
    with frozen(task):
        doubtful, charges = batch.intents(), len(batch.charges())
        if wakes == "while its successor pays":
            until(lambda: batch.task["id"] != task.task_instance_id and len(batch.charges()) > charges + 5)
        else:
            assert batch.finish() == "success"
    until(lambda: is_gone(task.process))

    assert batch.finish() == "success"
    assert batch.task["try_number"] == 2
    charges = len(batch.charges())
    batch.clear()
    assert batch.finish() == "success"
    assert len(batch.charges()) == charges
    unknown = {line["request"]["prompt"] for line in batch.manifest() if line["status"] == "unknown"}
    print(f"{len(unknown)} unknown, {len(doubtful)} were being submitted, {charges} charges.")
    assert unknown <= doubtful
    assert batch.result["stored"] == 100 - len(unknown)
    assert batch.paid().keys() | unknown == set(prompts)
    assert max(batch.paid().values()) == 1
