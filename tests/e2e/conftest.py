"""A real Airflow for each database, with the emulator as its API; both until the last of these tests."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack import postgres
from stack.airflow import ScratchAirflow
from stack.demo import DAGS as EXAMPLES
from stack.processes import sigterm_as_exit
from tests.e2e import airflow_3_4
from tests.object_store import CONN_ID, ObjectStore, object_store

KEY = "sk-e2e-Secret-never-to-be-seen-4711"

T = TypeVar("T")

_numbers = itertools.count(1)


class House:
    """What a test needs: the Airflow, the emulator, and words for what happens between them."""

    def __init__(
        self, airflow: ScratchAirflow, emulator: EmulatorServer, store: ObjectStore, *, at_once: int
    ) -> None:
        self.airflow, self.emulator, self.store, self.at_once = airflow, emulator, store, at_once

    def prompt(self, about: str) -> str:
        """A prompt nobody else uses: by it the books tell the cases apart."""
        return f"{about} #{self.next_number()}."

    def next_number(self) -> int:
        """A number nobody else has."""
        return next(_numbers)

    def start(self, dag_id: str, prompt: str, **conf: Any) -> str:
        """Start a run; its id."""
        self.airflow.wait_for_dag(dag_id)
        self.airflow.unpause(dag_id)
        books_url = f"{self.emulator.url}/_emulator/books"
        return self.airflow.trigger(dag_id, conf={"prompt": prompt, "books_url": books_url, **conf})

    def charges(self, prompt: str) -> list[Mapping[str, Any]]:
        """What the API's own books say was charged for a prompt, refunded or not."""
        return [entry for entry in self.emulator.books()["charges"] if entry["request"]["prompt"] == prompt]

    def finish(self, dag_id: str, run_id: str, timeout: float = 180) -> str:
        return self.airflow.wait_for_run(dag_id, run_id, timeout=timeout)

    def batches(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """As many at a time as this Airflow's database stands."""
        for start in range(0, len(items), self.at_once):
            yield items[start : start + self.at_once]

    def log(self, dag_id: str, run_id: str, task_id: str = "image", try_number: int = 1) -> str:
        return self.airflow.log(dag_id, run_id, task_id, try_number)


@pytest.fixture(scope="package")
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(keys=[KEY], duration="1-2", credits=100_000) as server:
        yield server


@pytest.fixture(scope="package")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture(scope="package", params=["sqlite", "postgres", "airflow_3_4"])
def house(request: pytest.FixtureRequest, emulator: EmulatorServer, store: ObjectStore) -> Iterator[House]:
    if request.param == "postgres" and not postgres.available():
        pytest.skip("no PostgreSQL server on this machine")
    is_3_4 = request.param == "airflow_3_4"
    database = "sqlite" if is_3_4 else request.param
    home = Path(tempfile.mkdtemp(prefix="gpt-image-e2e-"))
    dags = home / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags)
    shutil.copytree(EXAMPLES, dags / "examples")
    images = home / "images"
    env = {
        # A submit whose worker died is unknown when its answer can't come any more: here after 37 seconds.
        # Answers that are late are so by twelve seconds at most.
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(connect_timeout=2, read_timeout=13),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(images),
        "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(images),
        f"AIRFLOW_CONN_{CONN_ID.upper()}": store.airflow_connection(),
        **(airflow_3_4.with_our_package(home / "provider") if is_3_4 else {}),
    }
    try:
        with (
            sigterm_as_exit(),
            ScratchAirflow(
                home / "airflow",
                dags_folder=dags,
                database=database,
                env=env,
                parallelism=6,
                python=airflow_3_4.python() if is_3_4 else None,
            ) as airflow,
        ):
            # sqlite has one writer: with more runs at once Airflow itself fails over its lock.
            yield House(airflow, emulator, store, at_once=4 if database == "sqlite" else 24)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    In ``make test`` they run on one database, PostgreSQL if it is there; in ``make soak`` on both.

    ``make compat`` runs each of its Airflows on sqlite. Those that are marked so run on Airflow 3.4, too, or
    only there, with ``make browser``.
    """
    main = "postgres" if postgres.available() else "sqlite"
    kept = []
    for item in items:
        parameters = getattr(item, "callspec", None)
        house = parameters.params.get("house") if parameters else None
        only_3_4 = item.get_closest_marker("only_3_4") is not None
        if house == "airflow_3_4":
            item.add_marker(airflow_3_4.needs_airflow_3_4)
            item.add_marker(pytest.mark.soak)
            if only_3_4 or item.get_closest_marker("on_3_4"):
                kept.append(item)
            continue
        second = house not in (None, main)
        if second:
            item.add_marker(pytest.mark.soak)
        if not (only_3_4 or (second and item.get_closest_marker("one_database"))):
            kept.append(item)
    items[:] = kept


@pytest.fixture(autouse=True)
def no_faults_left(emulator: EmulatorServer) -> Iterator[None]:
    yield
    emulator.clear_faults()
