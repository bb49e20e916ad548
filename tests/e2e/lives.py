"""A line is something that happens to a paid generation, and what is due then: charges, images, a state.

Lines are played side by side, each by its own script, and compared in one table.
"""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.rest import ApiError, region_of
from tests import outages
from tests.e2e.cases import print_table
from tests.e2e.conftest import House


@dataclass(frozen=True)
class Due:
    """What the rules allow for.

    :param charges: by the API's books, refunds included.
    :param stored: images that are at the destination, whole, and that a result or a manifest names.
    :param state: the run's, in the end; of several runs in the order of their start.
    """

    charges: int
    stored: int
    state: str


@dataclass(frozen=True)
class Line:
    """One row of the table.

    :param what: what happens.
    :param dag_id: of ``dags/life.py``; its name says which way it goes.
    :param script: lets it happen.
    :param due: what must come out; several where more than one is right.
    :param faults: of the emulator, for this line's prompts only.
    :param shared: whether two results may name one image.
    """

    what: str
    dag_id: str
    script: Callable[[Life], None]
    due: Due | tuple[Due, ...]
    faults: tuple[str, ...] = ()
    shared: bool = False


@dataclass
class Life:
    """What a script needs: words for one line's runs, faults and files.

    :param wrong: what a script saw that the numbers don't show.
    """

    house: House
    line: Line
    folder: Path
    prompt: str
    runs: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    # Before

    @property
    def destination(self) -> Path:
        return self.folder / "images"

    @property
    def file(self) -> Path:
        return self.folder / "rows.jsonl"

    @property
    def task_id(self) -> str:
        return "images" if "batch" in self.line.dag_id else "image"

    def prompts(self, count: int) -> list[str]:
        return [f"{self.prompt} {number}" for number in range(count)]

    def fault(self, spec: str, row: int | None = None) -> None:
        """Let something go wrong for this line's prompts only, or for one of them."""
        self.house.emulator.fault(f"{spec};match={self.prompt}" + ("" if row is None else f" {row}"))

    def rows(self, prompts: Sequence[str]) -> None:
        """Write the data set of a batch."""
        self.file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

    def listed(self, items: Sequence[Any]) -> None:
        """Write what a mapped task is expanded over."""
        self.file.write_text(json.dumps(items))

    # Runs

    def start(self, dag_id: str | None = None, **conf: Any) -> str:
        """Start a run, of the line's DAG unless another is named."""
        dag_id = dag_id or self.line.dag_id
        conf = {"destination": str(self.destination), "file": str(self.file), **conf}
        run_id = self.house.start(dag_id, self.prompt, **conf)
        self.runs.append((dag_id, run_id))
        return run_id

    def finish(self, number: int = -1, timeout: float = 240) -> str:
        return self.house.finish(*self.runs[number], timeout=timeout)

    def task(self, number: int = -1, map_index: int = -1) -> dict[str, Any]:
        return self.house.airflow.task_instance(*self.runs[number], self.task_id, map_index)

    def wait_for(self, *states: str, number: int = -1, timeout: float = 120) -> str:
        """Wait until the task is in one of these states, and return which."""
        run = self.runs[number]
        found = self.house.airflow.wait_for_task(*run, self.task_id, set(states), timeout=timeout)
        return str(found["state"])

    def charged(self, count: int = 1, timeout: float = 90) -> None:
        """Wait until the API has accepted so many submits."""
        outages.charged(self.house.emulator, self.prompt, count, timeout)

    def clear(self, *task_ids: str, forget: bool = False) -> None:
        """Clear the run's tasks.

        :param forget: as Airflow 3.4 does, with the tasks' state store; on 3.3 it is emptied before.
        """
        airflow, (dag_id, run_id) = self.house.airflow, self.runs[-1]
        names = task_ids or (self.task_id,)
        if forget and airflow.version < (3, 4):
            for name in names:
                airflow.sql(
                    "delete from task_state_store where dag_id = :dag_id and run_id = :run_id "
                    "and task_id = :task_id",
                    {"dag_id": dag_id, "run_id": run_id, "task_id": name},
                )
        airflow.clear(dag_id, run_id, names, keep_task_state=not forget)

    @contextmanager
    def frozen_task(self) -> Iterator[int]:
        """Freeze both processes of the task that is being executed."""
        task = outages.running_task(self.house.airflow, self.task()["id"])
        with outages.frozen(task):
            yield task.process or 0

    def log(self) -> str:
        """Of all tries of all instances of all runs."""
        airflow, texts = self.house.airflow, []
        for dag_id, run_id in self.runs:
            for each in airflow.task_instances(dag_id, run_id):
                if each["task_id"].rpartition(".")[2] == self.task_id:
                    for number in range(1, (each["try_number"] or 0) + 1):
                        where = each["task_id"], number, each["map_index"], region_of(each)
                        texts.append(f"--- {where}\n{airflow.log(dag_id, run_id, *where)}")
        return "\n".join(texts)

    # After

    def charges(self) -> list[dict[str, Any]]:
        charges = self.house.emulator.books()["charges"]
        return [each for each in charges if (each["request"].get("prompt") or "").startswith(self.prompt)]

    def results(self) -> list[dict[str, Any]]:
        """The results of all instances of the task in all runs; nothing of those that have none."""
        found = []
        for dag_id, run_id in self.runs:
            for each in self.house.airflow.task_instances(dag_id, run_id):
                if each["task_id"].rpartition(".")[2] != self.task_id or each["state"] != "success":
                    continue
                try:
                    where = each["task_id"], each["map_index"]
                    found.append(self.house.airflow.xcom(dag_id, run_id, *where, region=region_of(each)))
                except ApiError as error:
                    if error.status_code != 404:
                        raise
        return found

    def images(self) -> list[dict[str, Any]]:
        """What results and manifests say of stored images."""
        if self.task_id == "image":
            return [image for result in self.results() for image in result["images"] if image["path"]]
        manifests = sorted(self.destination.rglob("manifest.jsonl"))
        lines = [json.loads(line) for path in manifests for line in path.read_text().splitlines()]
        return [image for line in lines if line["status"] == "stored" for image in line["images"]]

    def stored(self) -> int:
        """How many different images are where it is said that they are."""
        whole = set()
        for image in self.images():
            path = Path(image["path"])
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            if digest != image["sha256"]:
                self.wrong.append(f"{path.name} is another file than its result says")
            elif digest in whole and not self.line.shared:
                self.wrong.append("one image for two requests")
            whole.add(digest)
        return len(whole - {""})

    def seen(self) -> Due:
        states = [self.house.finish(*run) for run in self.runs]
        return Due(len(self.charges()), self.stored(), ",".join(states))


def play(house: House, lines: Sequence[Line], folder: Path, *, at_once: int = 8) -> list[str]:
    """Play the lines side by side and print the table; the rows that aren't as they should be."""
    lives = [_life(house, line, folder) for line in lines]
    with ThreadPoolExecutor(min(at_once, house.at_once)) as pool:
        seen = list(pool.map(_seen, lives))
    return report(lives, seen)


def play_together(
    house: House, lines: Sequence[Line], folder: Path, happens: Callable[[], None]
) -> list[str]:
    """Start the lines' runs, let something happen to the whole Airflow when all are charged, and compare."""
    lives = [_life(house, line, folder) for line in lines]
    for life in lives:
        life.line.script(life)
    for life in lives:
        life.charged()
    happens()
    return report(lives, [_seen(life, played=True) for life in lives])


def report(lives: Sequence[Life], seen: Sequence[Due | None]) -> list[str]:
    """Print the table and the logs of the rows that are wrong; return those rows."""
    rows = [("case", "way", "charges", "due", "stored", "due", "state", "due", "ok")]
    wrong = []
    for life, found in zip(lives, seen, strict=True):
        dues = life.line.due if isinstance(life.line.due, tuple) else (life.line.due,)
        told = found or Due(len(life.charges()), 0, "?")
        ok = found in dues and not life.wrong
        rows.append(
            (
                *(life.line.what, life.line.dag_id.removeprefix("life_")),
                *(str(told.charges), " or ".join(str(due.charges) for due in dues)),
                *(str(told.stored), " or ".join(str(due.stored) for due in dues)),
                *(told.state, " or ".join(dict.fromkeys(due.state for due in dues))),
                " ".join(["yes" if ok else "NO", *life.wrong, *life.notes]),
            )
        )
        if not ok:
            wrong.append(" | ".join(rows[-1]))
            print(f"=== {life.line.what}, {life.line.dag_id}\n{_log(life)}")
    print_table(rows)
    return wrong


def _life(house: House, line: Line, folder: Path) -> Life:
    prompt = house.prompt(re.sub(r"[^\w ,:.()-]", "", line.what))
    own = folder / str(house.next_number())
    own.mkdir()
    life = Life(house, line, own, prompt)
    for fault in line.faults:
        life.fault(fault)
    return life


def _seen(life: Life, *, played: bool = False) -> Due | None:
    try:
        if not played:
            life.line.script(life)
        return life.seen()
    except Exception as error:  # noqa: BLE001  (the others go on, and the table says it)
        life.wrong.append(f"{type(error).__name__}: {str(error)[:120]}")
        print(f"=== {life.line.what}, {life.line.dag_id}\n{traceback.format_exc()}")
        return None


def _log(life: Life) -> str:
    try:
        return life.log()
    except Exception as error:  # noqa: BLE001  (a log that can't be had must not hide the table)
        return f"no log: {error}"
