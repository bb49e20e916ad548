"""Generations on the real components of a row: charged as due, and charged nothing more by a clear."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ScratchAirflow
from stack.processes import free_port
from stack.rest import region_of
from tests.compat.environments import run

_HERE = Path(__file__).parent
_RUN_SECONDS = 120
_PROVIDER = "airflow-provider-gpt-image"
_DECORATORS = ["gpt_image", "gpt_image_batch"]
_HOOK = "airflow_gpt_image.hooks.gpt_image.GptImageHook"


class Case(NamedTuple):
    """
    A DAG of ``dags/smoke.py``.

    :param dag_id: Its id.
    :param task_id: The task that pays, and is cleared.
    :param due: Images that it makes, each charged once.
    """

    dag_id: str
    task_id: str
    due: int


CASES = (
    Case("one_image", "images", 1),
    Case("mapped_images", "images", 3),
    Case("one_batch", "images", 5),
    Case("called_back", "images", 1),
    Case("lost_answer", "images", 1),
)
LOOPS = (Case("looped_image", "image.images", 3), Case("looped_batch", "batch.images", 6))


class Result(NamedTuple):
    """
    What became of a case.

    :param what: The case.
    :param charges: Charges in the API's books after the run.
    :param cleared: The same after the task was cleared and had run again.
    :param due: What both should be.
    :param images: Image files at the destination in the end.
    :param seconds: Time that both runs took.
    :param problems: What is not as it should be.
    """

    what: str
    charges: int | None
    cleared: int | None
    due: int | None
    images: int | None
    seconds: float
    problems: list[str]


def check_installed(python: Path) -> tuple[dict[str, Any], Result]:
    """
    Import every module and ask Airflow for the provider.

    :return: The versions of the row, and what became of it.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpt-image-compat-") as home:
        env = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        env.pop("PYTHONPATH", None)
        printed = run([python, "-P", _HERE / "installed.py"], cwd=Path(home), env=env)
        found = dict(json.loads(printed.splitlines()[-1]))
        command = [python.parent / "airflow", "providers", "get", _PROVIDER, "--full", "--output", "json"]
        told = run(command, cwd=Path(home), env=env)
    problems = []
    if not found["installed"]:
        problems.append("The modules are not those of the wheel.")
    if found["hook"] != _HOOK:
        problems.append(f"Airflow knows {found['hook']!r} as the hook of gpt_image.")
    if found["decorators"] != _DECORATORS:
        problems.append(f"Airflow knows the decorators {found['decorators']}.")
    if _HOOK not in told or not all(name in told for name in _DECORATORS):
        problems.append(f"`airflow providers get` says: {told[:2000]}")
    what = f"{found['modules']} modules, provider"
    return found, Result(what, None, None, None, None, time.monotonic() - began, problems)


def run_cases(python: Path) -> list[Result]:
    """Run, clear and run again every case on one Airflow."""
    with tempfile.TemporaryDirectory(prefix="gpt-image-compat-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        images = home / "images"
        with EmulatorServer(duration="1-2", credits=10_000) as emulator:
            # Longer than the time in which a callback is left to the poll.
            emulator.fault("generation:takes=20*1;match=called_back:")
            emulator.fault("submit:lost*1;match=lost_answer:")
            # Longer than a batch's worker stays when waiting is all that is left.
            emulator.fault("generation:takes=12;match=one_batch:")
            port = free_port()
            env = {
                "AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL": f"http://127.0.0.1:{port}",
                "AIRFLOW__GPT_IMAGE__CALLBACK_SECRET": "a secret of 26 characters.",
                "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
                "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(images),
                "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(images),
            }
            with ScratchAirflow(
                home / "airflow",
                dags_folder=_HERE / "dags",
                env=env,
                python=python,
                heartbeat_timeout=120,
                port=port,
            ) as airflow:
                cases = CASES + (LOOPS if airflow.version >= (3, 4) else ())
                rounds = _Rounds(airflow, emulator, cases)
                first = rounds.run(clear=False)
                rounds.check_said("one_batch", "Waiting is all that is left", first)
                rounds.check_said("called_back", "the API called back", first)
                rounds.check_said("lost_answer", "its callback told the id", first)
                second = rounds.run(clear=True)
                rounds.check_images_tab(second)
                return [
                    _result(case, first[case], second[case], _count_images(images / case.dag_id))
                    for case in cases
                ]


class _Outcome(NamedTuple):
    charges: int
    seconds: float
    problems: list[str]


class _Rounds:
    """All cases at once, as often as one likes."""

    def __init__(self, airflow: ScratchAirflow, emulator: EmulatorServer, cases: tuple[Case, ...]) -> None:
        self._airflow, self._emulator, self._cases = airflow, emulator, cases
        self._runs: dict[Case, str] = {}

    def run(self, *, clear: bool) -> dict[Case, _Outcome]:
        began = time.monotonic()
        for case in self._cases:
            if clear:
                self._airflow.clear(case.dag_id, self._runs[case], [case.task_id])
            else:
                self._airflow.wait_for_dag(case.dag_id)
                self._airflow.unpause(case.dag_id)
                self._runs[case] = self._airflow.trigger(case.dag_id)
        outcomes = {}
        for case in self._cases:
            problems = []
            try:
                state = self._airflow.wait_for_run(case.dag_id, self._runs[case], timeout=_RUN_SECONDS)
            except TimeoutError as error:
                state = f"not finished: {error}"
            if state != "success":
                problems = [f"The run is {state}{' after the clear' if clear else ''}.", *self._errors(case)]
            outcomes[case] = _Outcome(self._charges(case), time.monotonic() - began, problems)
        return outcomes

    def check_said(self, dag_id: str, text: str, outcomes: dict[Case, _Outcome]) -> None:
        """Enter a problem where the last try's log of a case doesn't say what it should."""
        (case,) = [case for case in self._cases if case.dag_id == dag_id]
        run_id = self._runs[case]
        last = self._airflow.task_instance(dag_id, run_id, case.task_id)["try_number"]
        if text not in self._airflow.log(dag_id, run_id, case.task_id, last):
            outcomes[case].problems.append(f"Its log doesn't say {text!r}.")

    def check_images_tab(self, outcomes: dict[Case, _Outcome]) -> None:
        """Enter a problem where the Images tab of a case's run doesn't show all its images."""
        for case in self._cases:
            place = f"run/{case.dag_id}/{quote(self._runs[case], safe=':+')}"
            answer = self._airflow.client.get(f"/gpt-image/data/{place}")
            tasks = answer.json().get("tasks", ())
            done = sum(task["counts"]["done"] for task in tasks)
            images = [tile["image"] for task in tasks for tile in task["tiles"]]
            if done != case.due or not all(image and image["thumb"] for image in images):
                outcomes[case].problems.append(f"Its Images tab shows {done} images: {answer.text[:300]}")
            elif self._airflow.client.get(images[0]["thumb"]).is_error:
                outcomes[case].problems.append("Its Images tab doesn't serve the first image.")

    def _charges(self, case: Case) -> int:
        charges = self._emulator.books()["charges"]
        return sum(charge["request"]["prompt"].startswith(f"{case.dag_id}:") for charge in charges)

    def _errors(self, case: Case) -> list[str]:
        """What the logs of the tasks that failed say of it, in short."""
        said = []
        for task in self._airflow.task_instances(case.dag_id, self._runs[case]):
            if task["state"] != "failed" or not task["try_number"]:
                continue
            log = self._airflow.log(
                case.dag_id,
                self._runs[case],
                task["task_id"],
                task["try_number"],
                task["map_index"],
                region_of(task),
            )
            said.append(f"{task['task_id']}[{task['map_index']}]: {_cause(log)}")
        return said


def _result(case: Case, first: _Outcome, second: _Outcome, images: int) -> Result:
    problems = first.problems + second.problems
    for when, outcome in (("", first), (" after the clear", second)):
        if outcome.charges != case.due:
            problems.append(f"{outcome.charges} charges{when}; {case.due} are due.")
    if images != case.due:
        problems.append(f"{images} images at the destination; {case.due} are due.")
    seconds = first.seconds + second.seconds
    return Result(case.dag_id, first.charges, second.charges, case.due, images, seconds, problems)


def _cause(log: str) -> str:
    """The last errors of a log, each with what led to it, without their stacks."""
    errors = [line for line in log.splitlines() if " error " in line or " critical " in line]
    told = []
    for line in errors[-2:]:
        chain = re.findall(r'"exc_type": "(\w+)", "exc_value": "((?:[^"\\]|\\.)*)"', line)
        told.append(" < ".join(f"{name}: {text}" for name, text in chain) or line)
    return "; ".join(text[:1000] for text in told) or "no error in its log"


def _count_images(folder: Path) -> int:
    return sum(path.suffix in (".png", ".jpg", ".jpeg", ".webp") for path in folder.rglob("*"))
