"""``make up``: what its examples need is there, and a component that dies is told in the terminal."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stack.rest import AirflowRestApi

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
EXAMPLES = [
    *(
        "catalogue_backfill",
        "choose_picture",
        "content_pipeline",
        "first_image",
        "fix_and_rerun",
        "hero_image",
    ),
    *("product_images", "publish_hero_image", "taskflow_images"),
]
LOGICAL_DATE = "2026-02-03T00:00:00Z"


@pytest.fixture
def rest() -> Iterator[Callable[[str], AirflowRestApi]]:
    """A client of the Airflow at an address, for as long as the test lasts."""
    with contextlib.ExitStack() as open_ones:

        def connect(url: str) -> AirflowRestApi:
            airflow = AirflowRestApi(url)
            open_ones.callback(airflow.client.close)
            return airflow

        yield connect


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", "stack", "up", "--output", str(tmp_path / "images")],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()
        running.stdout.close()


def read_until(running: subprocess.Popen[str], pattern: str) -> str:
    """Everything that is said until a line matches; the test's limit of time is this one's, too."""
    said = ""
    for line in running.stdout:
        said += line
        if re.search(pattern, line):
            return said
    pytest.fail(f"it ended without {pattern!r}:\n{said}")


def component(running: subprocess.Popen[str], name: str) -> psutil.Process:
    family = psutil.Process(running.pid).children(recursive=True)
    return next(process for process in family if process.cmdline()[-1:] == [name])


def test_every_example_runs_as_it_is_described_and_a_dead_component_is_named(up, rest, tmp_path):
    said = read_until(up, r"Ctrl-C ends everything")
    airflow = rest(re.search(r"Airflow is up on (\S+)", said)[1])
    for dag_id in EXAMPLES:
        airflow.wait_for_dag(dag_id)
    dags = airflow.request("GET", "/api/v2/dags").json()["dags"]
    assert {dag["dag_id"]: bool(dag["description"]) for dag in dags} == dict.fromkeys(EXAMPLES, True)
    assert airflow.import_errors() == []

    # This one waits for a pool; it hung for ever where there was none.
    airflow.unpause("catalogue_backfill")
    started = airflow.request(
        "POST", "/api/v2/dags/catalogue_backfill/dagRuns", json={"logical_date": LOGICAL_DATE}
    )
    airflow.unpause("fix_and_rerun")
    mended = airflow.trigger("fix_and_rerun")
    assert airflow.wait_for_run("catalogue_backfill", started.json()["dag_run_id"], timeout=240) == "success"
    assert airflow.wait_for_run("fix_and_rerun", mended, timeout=240) == "success"
    # A failure that really happens, and is mended.
    first, second = (airflow.xcom("fix_and_rerun", mended, task) for task in ("first", "second"))
    assert (first["failed"], second["failed"]) == (1, 0)
    assert len(list((tmp_path / "images" / "shop" / "pictures" / LOGICAL_DATE[:10]).rglob("*.png"))) == 3

    component(up, "triggerer").kill()
    said = read_until(up, r"Everything ends")
    assert "PROBLEM: airflow triggerer ended by itself, with -9" in said
    assert up.wait() == 1
