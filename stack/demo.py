"""``make demo`` and ``make up``: the emulator, a scratch Airflow, and what a person sees of them."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import imagesize

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ComponentDiedError, ScratchAirflow
from stack.contact_sheet import draw_contact_sheet

DAGS = Path(__file__).parent.parent / "dags_examples"

# What a bad day of the API looks like: slow down, out of order, an answer that never comes, at every kind of
# call.
BAD_DAY = (
    "submit:rate_limit_exceeded*2;retry_after=1",
    "submit:503*2",
    "get:close;share=0.2",
    "get:500;share=0.1",
    "file:truncated*1",
)

# The examples' own: a batch waits for a pool that isn't there without end, and one row is to fail.
_POOL = {
    "name": "gpt_image",
    "slots": 4,
    "include_deferred": True,
    "description": "Batches at a time, those that wait included",
}
_REFUSED_PROMPT = "generation:failed=invalid_request;match=famous film character"

_TERMINAL = {"success", "failed", "upstream_failed", "skipped"}
_RUN_SECONDS = 170


@contextlib.contextmanager
def running(
    output: Path,
    *,
    database: Literal["sqlite", "postgres"],
    faults: Sequence[str],
    duration: str,
    port: int | None = None,
) -> Iterator[tuple[ScratchAirflow, EmulatorServer]]:
    """The emulator and an Airflow whose default connection leads to it; nothing is left of either afterwards.

    :param output: folder the example DAGs store their images in.
    :param faults: of the emulator, from the start.
    :param duration: seconds a generation takes, such as ``3-8``.
    """
    with (
        tempfile.TemporaryDirectory(prefix="gpt-image-airflow-", ignore_cleanup_errors=True) as home,
        EmulatorServer(duration=duration, faults=[_REFUSED_PROMPT, *faults]) as emulator,
    ):
        say(f"The API's emulator listens on {emulator.url}")
        say("Airflow starts: api-server, scheduler, dag-processor, triggerer …")
        # What the examples store is shown in the Images tab.
        shown = {"AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(output)}
        with ScratchAirflow(Path(home), dags_folder=DAGS, database=database, port=port, env=shown) as airflow:
            _furnish(airflow, emulator, output)
            say(f"Airflow is up on {airflow.url}")
            yield airflow, emulator


def _furnish(airflow: ScratchAirflow, emulator: EmulatorServer, output: Path) -> None:
    """Make what the examples ask for where Airflow shows it: connection, variable and pool."""
    host, _, port = emulator.url.rpartition(":")
    connection = {
        "connection_id": "gpt_image_default",
        "conn_type": "gpt_image",
        "description": "The API's emulator; it costs nothing",
        "host": host,
        "port": int(port),
        "password": emulator.key,
    }
    variable = {
        "key": "gpt_image_destination",
        "value": str(output),
        "description": "Folder the examples store their images in",
    }
    for kind, fields in (("connections", connection), ("variables", variable), ("pools", _POOL)):
        airflow.request("POST", f"/api/v2/{kind}", json=fields)


def demo(output: Path, *, database: Literal["sqlite", "postgres"], faults: Sequence[str]) -> int:
    """Run the DAG ``product_images`` and say what it made; the exit code."""
    with running(output, database=database, faults=faults, duration="3-8") as (airflow, emulator):
        dag_id = "product_images"
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)
        run_id = airflow.trigger(dag_id)
        say(f"DAG {dag_id}, run {run_id}")
        shown = Progress(airflow, dag_id, run_id)
        try:
            state = airflow.wait_for_run(dag_id, run_id, timeout=_RUN_SECONDS, on_poll=shown.look)
        except TimeoutError as error:
            state = f"not finished: {error}"
        instances = airflow.task_instances(dag_id, run_id)
        images = [
            airflow.xcom(dag_id, run_id, "image", task["map_index"])
            for task in instances
            if task["task_id"] == "image" and task["state"] == "success"
        ]
        problems = [] if state == "success" else [f"The run is {state}."]
        problems += _table(images)
        problems += _accounts(images, emulator.books())
        if problems:
            for task in instances:
                if task["state"] == "failed":  # whatever came after it never ran, and has no log
                    say(f"--- log of {task['task_id']}[{task['map_index']}] ({task['state']})")
                    say(
                        airflow.log(
                            dag_id, run_id, task["task_id"], task["try_number"] or 1, task["map_index"]
                        )
                    )
    for problem in problems:
        say(f"PROBLEM: {problem}")
    paths = [Path(image["path"]) for result in images for image in result["images"]]
    if paths and not problems:
        say(f"All of them on one sheet: {draw_contact_sheet(paths, output / 'contact-sheet.png')}")
    say("The demo failed." if problems else f"Done. The images are in {output}")
    return 1 if problems else 0


def up(
    output: Path, *, database: Literal["sqlite", "postgres"], faults: Sequence[str], port: int | None
) -> int:
    """Keep the stack running until Ctrl-C, or until a component ends by itself: then say so, and return 1."""
    with running(output, database=database, faults=faults, duration="10-30", port=port) as (
        airflow,
        emulator,
    ):
        say(f"""
  Airflow     {airflow.url}   (nobody is asked for a password)
  The API     {emulator.url}/_emulator/books   (what was charged and refunded)
  Images      {output}

Start a DAG in the browser. Ctrl-C ends everything.""")
        try:
            while True:
                airflow.check_components()
                time.sleep(1)
        except ComponentDiedError as error:
            say(f"PROBLEM: {error}\nEverything ends.")
            return 1


class Progress:
    """Says how far a run is, whenever that changed."""

    def __init__(self, airflow: ScratchAirflow, dag_id: str, run_id: str) -> None:
        self._airflow, self._dag_id, self._run_id = airflow, dag_id, run_id
        self._started = time.monotonic()
        self._last = ""

    def look(self, _state: str) -> None:
        tasks = [
            t for t in self._airflow.task_instances(self._dag_id, self._run_id) if t["task_id"] == "image"
        ]
        counts = Counter(task["state"] or "waiting" for task in tasks)
        line = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        if line and line != self._last:
            say(f"[{time.monotonic() - self._started:5.1f} s] images: {line}")
            self._last = line


def _table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Print the images; what isn't on disk with the pixels that were asked for is a problem."""
    from airflow_gpt_image.api.sizes import sizes_of

    problems = []
    for result in results:
        for image in result["images"]:
            size = imagesize.get(image["path"])
            say(f"  {size[0]:>4} x {size[1]:<4}  ${result['usd']:<7} {image['path']}")
            if size not in sizes_of(result["aspect_ratio"], result["resolution"]):
                problems.append(f"{image['path']} is {size}, asked for {result['aspect_ratio']}.")
    return problems if results else ["No image was made."]


def _accounts(results: Sequence[dict[str, Any]], books: dict[str, Any]) -> list[str]:
    """Compare what the tasks say they cost with what the API charged."""
    spent = sum((Decimal(result["credits"]) for result in results), Decimal(0))
    usd = sum((Decimal(result["usd"]) for result in results), Decimal(0))
    charged = Decimal(books["charged"]) - Decimal(books["refunded"])
    say(f"{len(results)} generations, {spent} credits, ${usd}; the API charged {charged} credits.")
    return [] if spent == charged else [f"The tasks say {spent} credits, the API's books say {charged}."]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
