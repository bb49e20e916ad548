"""Workers that die, and workers that should have; the API's books judge."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import select
import socket
import socketserver
import threading
import time
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from airflow_gpt_image.errors import (
    DestinationTakenError,
    LedgerError,
    ReplacedError,
    TaskInterruptedError,
)
from tests.batches import TEN, BatchTask, paid, replaced_at, states_of, statuses, until
from tests.fake_clock import RunningClock
from tests.task_instance import DiedError


def files(task):
    """What is at the destination, but for the lock: that of a task instance is all its workers'."""
    found = {path.relative_to(task.folder).as_posix(): path for path in task.folder.rglob("*.*")}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("locks/")}


# Workers that die, and workers that should have


@pytest.mark.parametrize("at", ["die before 1", "die after 1", "die before 2", "die after 2"])
def test_a_worker_that_ends_at_any_write_of_the_lease_pays_nothing_twice(batch, api, at):
    batch.store.at = at
    with pytest.raises(DiedError):
        batch.run()

    result = batch.run()

    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


def test_a_worker_whose_task_instance_was_replaced_pays_nothing(batch, api):
    batch.run()
    before = files(batch)
    batch.store.befalls = lambda number: batch.store.replace()

    with pytest.raises(ReplacedError) as caught:
        batch.run(requests=TEN)

    assert caught.value.retryable
    assert api.books()["submits"] == 3
    assert files(batch) == before


def test_a_worker_that_is_replaced_while_it_submits_stops_and_what_it_was_submitting_is_on_record(batch, api):
    replaced_at(batch, 15)  # when three or more of ten are being submitted
    api.fault("submit:late=0.5")
    with pytest.raises(ReplacedError):
        batch.run(requests=TEN)
    accepted = paid(api)

    result = batch.run(requests=TEN)

    assert 0 < len(accepted) < 10
    assert {statuses(result)[prompt] for prompt in accepted} == {"stored"}
    assert set(paid(api).values()) == {1}
    assert result["stored"] + result["unknown"] == 10
    assert result["unknown"] <= 2


class Gate(socketserver.ThreadingTCPServer):
    """What stands before the API, and takes no connection until it is opened."""

    request_queue_size, daemon_threads, block_on_close = 0, True, False

    def __init__(self, api):
        super().__init__(("127.0.0.1", 0), None)
        self.api = "127.0.0.1", urlsplit(api.url).port
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        # Two fill the queue: whoever connects now is asked to try again, a second later.
        self.others = [socket.socket() for _ in range(2)]
        for other in self.others:
            other.setblocking(False)
            other.connect_ex(self.server_address)

    def open(self):
        for other in self.others:
            other.close()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        with socket.create_connection(self.api) as api:
            ends = {request: api, api: request}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(65536)):
                        return
                    ends[end].sendall(data)


def test_a_worker_whose_lease_ends_while_it_connects_sends_nothing(batch, api, connect):
    with Gate(api) as gate:
        connect(gate.url, api.key, extra={"verify": False})
        batch.clock = RunningClock()

        def time_passes():
            until(lambda: "intent" in states_of(batch).values())
            time.sleep(0.2)  # it connects
            batch.clock.forward(11.0)
            gate.open()

        passing = threading.Thread(target=time_passes)
        passing.start()
        with pytest.raises(LedgerError, match="another one may have taken over"):
            batch.run(requests=["a teapot"])
        passing.join()
        submits = api.books()["submits"]
        result = batch.run(requests=["a teapot"])
        gate.shutdown()

    assert submits == 0
    assert (result["stored"], set(paid(api).values())) == (1, {1})


def test_a_worker_that_is_replaced_while_it_waits_puts_no_failure_on_record(batch, api):
    replaced_at(batch, 4)  # it begins to work, pays, sends; then it finds a failure
    api.fault("generation:failed*1")
    with pytest.raises(ReplacedError):
        batch.run(requests=["a vase"], deferrable=False)

    assert states_of(batch) == {"a vase": "submitted"}
    assert batch.run(requests=["a vase"])["stored"] == 1
    assert set(paid(api).values()) == {1}


def test_a_worker_that_was_held_up_too_long_submits_nothing_more(batch, api):
    batch.retimed(expires_after=-1.0)

    with pytest.raises(LedgerError, match="could not say in time"):
        batch.run()

    assert api.books()["requests"]["submit"] == 0


def test_a_worker_that_slept_past_the_end_of_its_lock_submits_nothing_for_another_may_be_there(batch, api):
    batch.clock = RunningClock()
    batch.retimed(renew_after=-1.0)
    batch.store.befalls = lambda number: batch.clock.forward(700 if number == 3 else 0)  # right before a POST

    with pytest.raises(DestinationTakenError, match="has ended meanwhile") as caught:
        batch.run(requests=["a vase"], item_retries=0)

    assert (caught.value.retryable, api.books()["requests"]["submit"]) == (True, 0)
    batch.store.befalls = lambda number: None
    assert batch.run(requests=["a vase"])["stored"] == 1
    assert set(paid(api).values()) == {1}


def test_when_the_ledger_can_not_be_read_nothing_is_paid(batch, api):
    batch.store.unreachable = True

    with pytest.raises(LedgerError):
        batch.run()

    assert api.books()["requests"]["submit"] == 0


def test_a_task_that_is_ended_from_outside_submits_nothing_more(batch, api):
    operator = batch.operator()
    batch.store.befalls = lambda number: operator.on_kill()

    with pytest.raises(TaskInterruptedError, match="ended from outside"):
        batch.begin(operator)

    batch.store.befalls = lambda number: None
    assert api.books()["requests"]["submit"] == 0
    assert batch.run()["stored"] == 3


class KeptTexts(dict):
    """What is in a state store that outlives the process."""

    def __init__(self, path):
        super().__init__(json.loads(path.read_text()) if path.exists() else {})
        self.path = path

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        part = self.path.with_suffix(f".{threading.get_ident()}")
        part.write_text(json.dumps(self))
        part.replace(self.path)


def work_until_killed(connection, folder, deferrable, rows):
    """A worker in a process of its own: tries, and after a deferral the rest of it."""
    os.environ["AIRFLOW_CONN_GPT_IMAGE_DEFAULT"] = connection
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    task = BatchTask(folder, deferrable=deferrable)
    task.retimed(first_rate=40.0)
    task.store.texts = KeptTexts(folder.parent / "store.json")
    task.run(requests=rows, max_in_flight=6)


@pytest.fixture(scope="module")
def processes():
    """Forked from one that has imported what a worker needs, so that each takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "airflow_gpt_image.batch.attempt", "airflow_gpt_image.hooks.gpt_image"]
    )
    return context


@pytest.mark.parametrize("seed", range(6))
def test_a_worker_that_is_killed_at_any_moment_pays_nothing_twice(batch, api, processes, seed):
    chance = random.Random(seed)
    rows = [*TEN, "a teapot", "a vase"]
    args = (api.airflow_connection(), batch.folder, bool(seed % 2), rows)
    worker = processes.Process(target=work_until_killed, args=args)
    worker.start()
    charges = chance.randrange(12)
    give_up = time.monotonic() + 120
    while api.books()["requests"]["submit"] <= charges and worker.is_alive():
        assert time.monotonic() < give_up
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.03))
    worker.kill()
    worker.join()
    before = paid(api)
    batch.store.texts, batch.try_number = KeptTexts(batch.folder.parent / "store.json"), 1
    batch.clock = RunningClock(ahead=600)  # what was being submitted is certainly answered or lost

    result = batch.run(requests=rows)

    told = statuses(result)
    unknown = {prompt for prompt, status in told.items() if status == "unknown"}
    assert all(count == 1 for count in before.values())
    assert set(paid(api).values()) == {1}
    assert {status for prompt, status in told.items() if prompt not in unknown} <= {"stored"}
    assert len(told) == result["stored"] + result["unknown"] == 12
    assert len(unknown) <= 6
    assert {json.loads(line)["prompt"] for line in unsettled_of(batch)} == unknown
    not_charged = len(unknown - set(paid(api)))
    assert Decimal(result["charged"]) - Decimal(api.books()["charged"]) == Decimal("4.7") * not_charged
    again = batch.run(requests=rows)
    assert (again["stored"], again["unknown"]) == (result["stored"], result["unknown"])
    assert set(paid(api).values()) == {1}


def unsettled_of(task):
    unsettled = task.folder / "unsettled.jsonl"
    return unsettled.read_text().splitlines() if unsettled.exists() else []
