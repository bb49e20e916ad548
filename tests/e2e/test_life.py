"""The life of a paid generation on real components: what happens to it, what is charged, what is stored.

Each test prints a table. What is due comes from what was promised: nobody pays twice, what is paid for is
fetched, and what can't be known is said to be unknown. A sample runs in ``make test``, all of it in ``make
soak``; what only Airflow 3.4 does needs ``GPT_IMAGE_AIRFLOW_34``, the python of an environment with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from stack import postgres
from stack.airflow import ScratchAirflow
from tests import outages
from tests.e2e.conftest import House
from tests.e2e.lives import Due, Life, Line, play, play_together
from tests.object_store import ObjectStore

pytestmark = [pytest.mark.one_database, pytest.mark.timeout(1500)]

SINGLE = ("deferred", "waiting")
ONCE = Due(1, 1, "success")


def simply(life: Life) -> None:
    life.start()


def simply_batch(life: Life, rows: int = 3) -> None:
    life.rows(life.prompts(rows))
    life.start()


def both(
    what: str,
    dag_id: str,
    script: Callable[[Life], None],
    due: Due | tuple[Due, ...],
    *,
    shared: bool = False,
) -> list[Line]:
    """The line for a task that waits in the triggerer, and for one that waits on its worker.

    :param dag_id: with ``{}`` for the way.
    :param shared: two requests may have one image.
    """
    return [Line(what, dag_id.format(way), script, due, shared=shared) for way in SINGLE]


# What a gateway answers isn't the API's word: the submit is unknown, and never sent again by itself.

GATEWAYS = (
    "gateway=504",
    "gateway=502;form=type",
    "gateway=504;form=envelope",
    "gateway=504;form=envelope;status=200",
    "gateway=524",
    "gateway=408",
    "gateway=408;form=envelope",
    "gateway=499",
    "gateway=499;form=envelope;status=200",
    "gateway=409;form=type",
    "gateway=425",
    "gateway=425;form=page",
    "gateway=524;form=page",
    "gateway=429",
    "gateway=503",
    "gateway=500;form=envelope",
)


def unknown_also_after_a_clear(life: Life) -> None:
    """The first try fails for good, and a clear alone is no word of the author's to pay again."""
    life.start()
    life.finish()
    if (tries := life.task()["try_number"]) != 1:
        life.wrong.append(f"{tries} tries")
    life.notes.append(f"{len(life.charges())} before the clear")
    life.clear()


def gateway_lines(answers: tuple[str, ...], ways: tuple[str, ...] = SINGLE) -> list[Line]:
    unknown = Due(1, 0, "failed")
    return [
        Line(answer, f"life_{way}_limited", unknown_also_after_a_clear, unknown, (f"submit:{answer}",))
        for answer in answers
        for way in ways
    ]


def one_row_meets(answer: str, life: Life) -> None:
    life.rows(life.prompts(3))
    life.fault(f"submit:{answer}", row=1)
    life.start()
    life.finish()
    [result] = life.results()
    if result["unknown"] != 1:
        life.wrong.append(f"{result['unknown']} unknown, {result['failed']} failed")


def batch_gateway_lines(answers: tuple[str, ...]) -> list[Line]:
    due = Due(3, 2, "success")
    return [
        Line(f"row 1: {answer}", "life_batch_deferred", partial(one_row_meets, answer), due)
        for answer in answers
    ]


NOT_ACCEPTED = [
    # By our reading a 500 isn't accepted; if that is wrong, the author's retries bound what it costs.
    Line(
        "500 of the API, accepted",
        "life_deferred_limited",
        simply,
        Due(2, 0, "failed"),
        ("submit:500;accepted=yes",),
    ),
    Line("429 of the API, once", "life_waiting", simply, ONCE, ("submit:429*1;retry_after=1",)),
]


# An id that is already another request's says nothing about this one.


def same_id_in_two_runs(life: Life) -> None:
    life.start()
    life.finish()
    life.fault("submit:repeated_id*1")
    life.start()


def same_id_in_a_list(life: Life) -> None:
    life.fault("submit:repeated_id*1")
    life.listed(life.prompts(2))
    life.start()


def same_id_in_a_batch(life: Life) -> None:
    life.fault("submit:repeated_id*1")
    simply_batch(life, 2)


SAME_ID = [
    *both("the same id in two runs", "life_{}", same_id_in_two_runs, Due(2, 1, "success,failed")),
    *both("the same id in a list", "life_{}_mapped", same_id_in_a_list, Due(2, 1, "failed")),
    *both("the same id in a batch", "life_batch_{}", same_id_in_a_batch, Due(2, 1, "success")),
]


# A mapped list that shifts


def relisted(before: str, after: str, life: Life, *, forget: bool = False) -> None:
    """The list is another one when it is cleared; each letter is a prompt."""
    life.listed([f"{life.prompt} {letter}" for letter in before])
    life.start()
    life.finish()
    life.listed([f"{life.prompt} {letter}" for letter in after])
    life.clear("listed", life.task_id, forget=forget)


def swapped_batches(life: Life, *, forget: bool = False) -> None:
    prompts = life.prompts(6)
    batches = [
        {"requests": prompts[:3], "destination": str(life.destination / "a")},
        {"requests": prompts[3:], "destination": str(life.destination / "b")},
    ]
    life.listed(batches)
    life.start()
    life.finish()
    life.listed(batches[::-1])
    life.clear("listed", life.task_id, forget=forget)


SHIFTED = [
    *both(
        "one prompt put in front of three",
        "life_{}_mapped",
        partial(relisted, "abc", "xabc"),
        Due(4, 4, "success"),
    ),
    # An equal prompt may take its twin's image after a clear.
    *both(
        "a prompt put in front of its equals",
        "life_{}_mapped",
        partial(relisted, "aab", "aaab"),
        Due(3, 3, "success"),
        shared=True,
    ),
    *both(
        "one put in front, state deleted",
        "life_{}_mapped",
        partial(relisted, "abc", "xabc", forget=True),
        Due(4, 4, "success"),
    ),
    *both("three prompts reversed", "life_{}_mapped", partial(relisted, "abc", "cba"), Due(3, 3, "success")),
    *both("two batches swapped", "life_batch_{}_mapped", swapped_batches, Due(6, 6, "success")),
    *both(
        "two batches swapped, state deleted",
        "life_batch_{}_mapped",
        partial(swapped_batches, forget=True),
        Due(6, 6, "success"),
    ),
]


# Clears that delete the task's state, as in Airflow 3.4


def clear_forgets(life: Life, rows: int = 0) -> None:
    life.rows(life.prompts(rows))
    life.start()
    life.finish()
    life.clear(forget=True)


def clear_forgets_while_deferred(life: Life, rows: int = 0) -> None:
    life.fault("generation:takes=15")
    life.rows(life.prompts(rows))
    life.start()
    life.wait_for("deferred")
    life.clear(forget=True)


FORGOTTEN = [
    *both("cleared, state deleted", "life_{}", clear_forgets, ONCE),
    *both("cleared, state deleted", "life_batch_{}", partial(clear_forgets, rows=3), Due(3, 3, "success")),
    Line("cleared while deferred, state deleted", "life_deferred", clear_forgets_while_deferred, ONCE),
    Line(
        "cleared while deferred, state deleted",
        "life_batch_deferred",
        partial(clear_forgets_while_deferred, rows=3),
        Due(3, 3, "success"),
    ),
    # No record is left anywhere: nothing is paid for without the author's word.
    *both("cleared, state deleted, no place", "life_{}_homeless", clear_forgets, Due(1, 0, "failed")),
    *both("the same, regenerated", "life_{}_homeless_anew", clear_forgets, Due(2, 0, "success")),
]


# Cleared within the seconds of the POST


def cleared_in_the_post(life: Life, rows: int = 0) -> None:
    # The supervisor kills a task that was cleared 5 s after it has told it to end: what is answered later
    # than that, nobody hears.
    life.fault("submit:late=4")
    life.rows(life.prompts(rows))
    life.start()
    life.charged(rows or 1)
    life.clear()


CLEARED_IN_THE_POST = [
    *both("cleared within the POST", "life_{}", cleared_in_the_post, ONCE),
    *both(
        "cleared within the POST", "life_batch_{}", partial(cleared_in_the_post, rows=3), Due(3, 3, "success")
    ),
]


# Destinations that are empty, full, or not for writing


def half_deferred(life: Life) -> None:
    """Three are stored, and three slow."""
    life.rows(life.prompts(6))
    for row in (3, 4, 5):
        life.fault("generation:takes=15", row=row)
    life.start()
    life.wait_for("deferred")


def emptied_while_deferred(life: Life) -> None:
    """Whoever resumes finds nothing, until the folder is back."""
    half_deferred(life)
    with outages.emptied(life.destination):
        ended = life.wait_for("up_for_retry", "failed", "success")
    life.notes.append(f"empty: {ended}")


def emptied_between_tries(life: Life) -> None:
    life.fault("submit:spend_limit_exceeded*1;after=3")
    simply_batch(life, 6)
    life.wait_for("up_for_retry", "failed", "success")
    with outages.emptied(life.destination):
        outages.until(lambda: (life.task()["try_number"] or 0) > 1, "the second try")
        ended = life.wait_for("up_for_retry", "failed", "success")
    life.notes.append(f"empty: {ended}")


def emptied_for_all_tries(life: Life) -> None:
    """The folder is back only when the task has failed, and somebody has cleared it."""
    half_deferred(life)
    with outages.emptied(life.destination):
        life.notes.append(f"empty: {life.finish()}")
    life.clear()


def emptied_and_cleared(life: Life) -> None:
    """A single image: in the empty folder it may be had again, or be missing; it isn't paid for."""
    life.start()
    life.finish()
    with outages.emptied(life.destination):
        life.clear()
        life.notes.append(f"empty: {life.finish()}")
    life.clear()


def everything_emptied(life: Life) -> None:
    """Nothing is on record anywhere: the default doesn't pay silently."""
    life.start()
    life.finish()
    shutil.rmtree(life.destination)
    life.clear(forget=True)


EMPTIED = [
    Line(
        "destination empty at the resume",
        "life_batch_deferred_patient",
        emptied_while_deferred,
        Due(6, 6, "success"),
    ),
    Line(
        "destination empty at the retry",
        "life_batch_deferred_spending",
        emptied_between_tries,
        Due(6, 6, "success"),
    ),
    Line(
        "destination empty at the retry",
        "life_batch_waiting_spending",
        emptied_between_tries,
        Due(6, 6, "success"),
    ),
    Line(
        "destination empty for all tries", "life_batch_deferred", emptied_for_all_tries, Due(6, 6, "success")
    ),
    Line("the same without retries", "life_batch_deferred_once", emptied_for_all_tries, Due(6, 6, "success")),
    *both("destination empty at a clear", "life_{}", emptied_and_cleared, ONCE),
    *both("both places empty at a clear", "life_{}", everything_emptied, Due(1, 0, "failed")),
]


def full_while_posting(life: Life, rows: int = 0) -> None:
    with outages.small_disk(life.destination, megabytes=8) as disk:
        life.fault("submit:late=4")
        life.rows(life.prompts(rows))
        life.start()
        life.charged(max(1, rows // 2))
        with disk.full():
            time.sleep(20)
        life.finish()
        # What is mounted here goes with the block.
        shutil.copytree(life.destination, life.folder / "copy")
    shutil.copytree(life.folder / "copy", life.destination, dirs_exist_ok=True)


def read_only_while_posting(life: Life, rows: int = 0) -> None:
    life.destination.mkdir()
    life.fault("submit:late=4")
    life.rows(life.prompts(rows))
    life.start()
    life.charged(max(1, rows // 2))
    with outages.read_only(life.destination):
        time.sleep(20)


def read_only_from_the_start(life: Life, rows: int = 0) -> None:
    life.destination.mkdir()
    life.rows(life.prompts(rows))
    with outages.read_only(life.destination):
        life.start()
        life.finish()


FULL = [
    *both("disk full while posting", "life_{}_patient", full_while_posting, ONCE),
    *both(
        "disk full while posting",
        "life_batch_{}_patient",
        partial(full_while_posting, rows=8),
        Due(8, 8, "success"),
    ),
    *both("read-only while posting", "life_{}_patient", read_only_while_posting, ONCE),
    *both(
        "read-only while posting",
        "life_batch_{}_patient",
        partial(read_only_while_posting, rows=8),
        Due(8, 8, "success"),
    ),
    *both("read-only from the start", "life_{}", read_only_from_the_start, Due(0, 0, "failed")),
    *both(
        "read-only from the start",
        "life_batch_{}",
        partial(read_only_from_the_start, rows=3),
        Due(0, 0, "failed"),
    ),
]


# What is paid for and not stored yet


def meets(fault: str, life: Life, rows: int = 0) -> None:
    life.fault(fault)
    life.rows(life.prompts(rows))
    life.start()


LATE = [
    *both("file host away for 40 s", "life_{}_patient", partial(meets, "file:close;lasts=40"), ONCE),
    *both(
        "file host away for 40 s",
        "life_batch_{}_patient",
        partial(meets, "file:close;lasts=40", rows=3),
        Due(3, 3, "success"),
    ),
    *both(
        "file host in trouble for 40 s",
        "life_batch_{}_patient",
        partial(meets, "file:503;lasts=40", rows=3),
        Due(3, 3, "success"),
    ),
    *both(
        "out of time",
        "life_batch_{}_hasty",
        partial(meets, "generation:takes=14", rows=3),
        Due(3, 3, "success"),
    ),
    *both(
        "images refused, no retries left",
        "life_batch_{}_once",
        partial(meets, "file:redirect=http://10.0.0.7/a.png", rows=3),
        Due(3, 0, "failed"),
    ),
]


def regenerated_once_failed(life: Life) -> None:
    life.start()
    life.finish()
    life.fault("generation:failed*1")
    life.clear()
    life.finish()
    [result] = life.results()
    if result["generation_id"] != life.charges()[-1]["task_id"]:
        life.wrong.append("the old image is returned")


def two_runs_at_once(life: Life) -> None:
    life.fault("submit:late=3")
    life.start()
    life.start()


def marked_failed_while_deferred(life: Life) -> None:
    """Who comes next gets the destination at once: it has no retries."""
    life.fault("generation:takes=20")
    simply_batch(life)
    life.wait_for("deferred")
    life.house.airflow.set_task_state(*life.runs[-1], life.task_id, "failed")
    life.finish()
    life.start()


SHARED = [
    *both("regenerated, and failed once", "life_{}_anew", regenerated_once_failed, Due(3, 1, "success")),
    *(
        Line(
            "two runs at the same moment",
            f"life_{way}_shared",
            two_runs_at_once,
            (Due(1, 1, "success,success"), Due(2, 2, "success,success")),
            shared=True,
        )
        for way in SINGLE
    ),
    Line(
        "marked failed while deferred",
        "life_batch_deferred_shared",
        marked_failed_while_deferred,
        Due(3, 3, "failed,success"),
    ),
]


# Workers that freeze, are declared dead, and wake


def stale(when: str, life: Life) -> None:
    """The first try freezes before its POST, and wakes when its successor has ended."""
    life.start(freeze=when)
    first = life.wait_for("running")
    task = outages.running_task(life.house.airflow, life.task()["id"])
    pids = [task.supervisor or 0, task.process or 0]
    try:
        outages.until(lambda: all(map(outages.is_frozen, pids)), "the freezing")
        life.finish()
        before = len(life.charges())
    finally:
        outages.thaw(*pids)
    outages.until(lambda: outages.is_gone(pids[1]), "the end of the stale worker")
    life.notes.append(f"{first}, {len(life.charges()) - before} late")


def frozen_batch(moment: str, life: Life) -> None:
    """It wakes when its successor has ended; a clear then shows whether the records still hold."""
    life.fault("submit:late=1")
    life.fault("generation:takes=6")
    if moment == "downloading":
        life.fault("file:late=600*3")
    simply_batch(life, 7)
    life.charged(7 if moment == "downloading" else int(moment))
    if moment == "downloading":
        outages.until(lambda: any(each["downloads"] for each in life.charges()), "a download")
    with life.frozen_task() as process:
        life.notes.append(f"then {life.finish()}")
    outages.until(lambda: outages.is_gone(process), "the end of the frozen worker")
    life.clear()
    life.finish()
    unknown = life.results()[0]["unknown"]
    life.notes.append(f"{unknown} unknown")


STALE = [
    # Its intent is in the folder already; where that can't be taken back in time, nobody knows.
    *both("stale, frozen before the fence", "life_{}", partial(stale, "before"), (ONCE, Due(0, 0, "failed"))),
    *both("stale, frozen after the intent", "life_{}", partial(stale, "after"), Due(0, 0, "failed")),
]
FROZEN = [
    Line(
        "a frozen worker wakes: downloading",
        "life_batch_waiting",
        partial(frozen_batch, "downloading"),
        Due(7, 7, "success"),
    ),
    Line(
        "a frozen worker wakes: all submitted",
        "life_batch_waiting",
        partial(frozen_batch, "7"),
        # The answers came while it stood still: what it can't read any more is unknown, and not paid again.
        (Due(7, 7, "success"), Due(7, 0, "success")),
    ),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of its own; what a test left mounted there stays untouched."""
    folder = Path(tempfile.mkdtemp(prefix="gpt-image-life-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


SAMPLE = [
    *gateway_lines(("gateway=504", "gateway=504;form=envelope;status=200"), ("deferred",)),
    *batch_gateway_lines(("gateway=502;form=type",)),
    SAME_ID[-2],
    SHIFTED[0],
    FORGOTTEN[1],
]


def test_a_sample_of_lives_costs_and_stores_what_is_due(house: House, folder: Path) -> None:
    wrong = play(house, SAMPLE, folder)

    assert not wrong


GROUPS = {
    "gateways": gateway_lines(GATEWAYS),
    "gateways of a batch": [*batch_gateway_lines(GATEWAYS[:8]), *NOT_ACCEPTED],
    "same id": SAME_ID,
    "shifted": SHIFTED,
    "forgotten": FORGOTTEN,
    "cleared in the POST": CLEARED_IN_THE_POST,
    "emptied": EMPTIED,
    "late": LATE,
    "shared": SHARED,
}


@pytest.mark.soak
@pytest.mark.parametrize("group", GROUPS)
def test_every_life_costs_and_stores_what_is_due(house: House, folder: Path, group: str) -> None:
    wrong = play(house, GROUPS[group], folder)

    assert not wrong


@pytest.mark.soak
def test_a_worker_that_wakes_pays_for_nothing_and_loses_nothing(house: House, folder: Path) -> None:
    # Each frozen task keeps one of the six places for tasks until it wakes, and its successor needs another.
    wrong = play(house, [*STALE, *FROZEN], folder, at_once=3)

    assert not wrong


@pytest.mark.soak
@pytest.mark.skipif(not outages.can_mount(), reason="this account may not mount file systems")
def test_a_disk_that_cannot_be_written_loses_no_id_and_costs_nothing_new(house: House, folder: Path) -> None:
    wrong = play(house, FULL, folder)

    assert not wrong


# Airflow itself is away


AWAY = [
    Line("away while posting", "life_deferred", partial(meets, "submit:late=12"), ONCE),
    Line("away while posting", "life_waiting", partial(meets, "submit:late=12"), ONCE),
    Line("away while posting", "life_deferred_resubmit", partial(meets, "submit:late=12"), ONCE),
    Line(
        "away while posting",
        "life_batch_deferred",
        partial(meets, "submit:late=12", rows=3),
        Due(3, 3, "success"),
    ),
]
# With the task state as its only place of record a task can tell nobody for as long as that is away. This
# Airflow ends it after 30 s without a heartbeat, and a server that was killed takes 10 to 20 s to start.
BRIEFLY_AWAY = [
    Line("away while posting", f"life_{way}_homeless", partial(meets, "submit:late=8"), Due(1, 0, "success"))
    for way in SINGLE
]
LONG_AWAY = [
    Line(f"{line.what}, 2 min", f"{line.dag_id}_patient", line.script, line.due)
    for line in (AWAY[0], AWAY[1], AWAY[3])
]


@contextlib.contextmanager
def database_frozen(airflow: ScratchAirflow) -> Iterator[None]:
    with outages.frozen(airflow.component("postgres")):
        yield


OUTAGES = {
    "API server frozen": outages.api_server_away,
    "API server killed": partial(outages.api_server_away, how="killed"),
    "database frozen": database_frozen,
}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("lines", "seconds"),
    [(BRIEFLY_AWAY, 9), (AWAY, 34), (LONG_AWAY, 120)],
    ids=["ten seconds", "half a minute", "two minutes"],
)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_airflow_that_is_away_while_a_submit_is_answered_loses_nothing(
    house: House, folder: Path, outage: str, lines: list[Line], seconds: float
) -> None:
    if outage == "database frozen" and house.airflow.database != "postgres":
        pytest.skip("this database is a file")

    def happens() -> None:
        with OUTAGES[outage](house.airflow):
            time.sleep(seconds)

    wrong = play_together(house, lines, folder, happens)

    assert not wrong


# What only Airflow 3.4 does


@pytest.fixture(scope="module")
def house_34(emulator: EmulatorServer, store: ObjectStore) -> Iterator[House]:
    python = os.environ.get("GPT_IMAGE_AIRFLOW_34")
    if not python:
        pytest.skip("GPT_IMAGE_AIRFLOW_34 names no python")
    home = Path(tempfile.mkdtemp(prefix="gpt-image-e2e-34-"))
    root = Path(__file__).parents[2]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(home / "provider"), str(root)], check=True)
    shutil.copytree(Path(__file__).parent / "dags", home / "dags")
    env = {
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "PYTHONPATH": str(home / "provider"),
    }
    database = "postgres" if postgres.available() else "sqlite"
    try:
        with ScratchAirflow(
            home / "airflow",
            dags_folder=home / "dags",
            database=database,
            env=env,
            parallelism=6,
            python=Path(python),
            heartbeat_timeout=300,
        ) as airflow:
            yield House(airflow, emulator, store, at_once=8 if database == "postgres" else 4)
    finally:
        shutil.rmtree(home, ignore_errors=True)


LOOPS = [
    Line("three iterations of a loop", "life_loop", simply, Due(3, 3, "success")),
    Line(
        "three iterations of a loop", "life_loop_batch", partial(simply_batch, rows=1), Due(3, 3, "success")
    ),
]


@pytest.mark.soak
@pytest.mark.parametrize("lines", [FORGOTTEN, SHIFTED, LOOPS], ids=["clears", "shifts", "loops"])
def test_airflow_34_clears_and_loops_without_a_second_charge(
    house_34: House, folder: Path, lines: list[Line]
) -> None:
    wrong = play(house_34, lines, folder)

    assert not wrong
