"""The API calls back to a real API server: tasks are woken, lost answers heal, and nothing does harm."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack import postgres
from stack.airflow import ScratchAirflow
from stack.processes import free_port, sigterm_as_exit
from tests.e2e.conftest import KEY, House
from tests.object_store import ObjectStore

SECRET = "a secret of 26 characters."

# Longer than the race's margin, and shorter than the relaxed interval of polls.
SECONDS = 16


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(keys=[KEY], duration="1-2", credits=100_000) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, emulator: EmulatorServer, store: ObjectStore) -> Iterator[House]:
    """An Airflow whose API server is told to the API."""
    if request.param == "postgres" and not postgres.available():
        pytest.skip("no PostgreSQL server on this machine")
    home = Path(tempfile.mkdtemp(prefix="gpt-image-e2e-"))
    (home / "dags").mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "callbacks.py", home / "dags")
    port = free_port()
    env = {
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(connect_timeout=2, read_timeout=20),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__GPT_IMAGE__CALLBACK_SECRET_CMD": f"echo '{SECRET}'",
    }
    try:
        with (
            sigterm_as_exit(),
            ScratchAirflow(
                home / "airflow",
                dags_folder=home / "dags",
                database=request.param,
                env=env,
                parallelism=6,
                port=port,
            ) as airflow,
        ):
            yield House(airflow, emulator, store, at_once=4 if request.param == "sqlite" else 24)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start(
    house: House, about: str, *faults: str, dag_id: str = "called_back", seconds: float = SECONDS
) -> tuple[str, str]:
    """Start a run whose generation takes so long; its prompt and its id."""
    prompt = house.prompt(about)
    for fault in (*faults, f"generation:takes={seconds}"):
        house.emulator.fault(f"{fault};match={prompt}")
    return prompt, house.start(dag_id, prompt)


def the_charge(house: House, prompt: str) -> Mapping[str, Any]:
    """The one charge for a prompt."""
    (charge,) = house.charges(prompt)
    return charge


def callbacks(house: House, prompt: str) -> list[Mapping[str, Any]]:
    """What became of the callbacks for a prompt."""
    generation_id = the_charge(house, prompt)["task_id"]
    return [each for each in house.emulator.books()["callbacks"] if each["task_id"] == generation_id]


def tries(house: House, run_id: str, dag_id: str = "called_back") -> int:
    number: int = house.airflow.task_instance(dag_id, run_id, "image")["try_number"]
    return number


def test_a_callback_wakes_the_task_after_two_reads_at_most(house: House) -> None:
    prompt, run_id = start(house, "woken")

    assert house.finish("called_back", run_id) == "success"

    charge = the_charge(house, prompt)
    assert charge["polls"] <= 2
    assert [each["status"] for each in callbacks(house, prompt)] == [204]
    assert "the API called back" in house.log("called_back", run_id)
    logs = house.airflow.all_logs()
    assert ": woken." in logs
    assert SECRET not in logs
    assert tries(house, run_id) == 1


# How the callback comes, and when the generation ends.
WHATEVER_COMES = {
    "before the task waits": ([], 0),
    "while the first worker leaves": ([], 5),
    "never": (["callback:none"], SECONDS),
    "five times": (["callback:deliveries=5"], SECONDS),
    "early and then again": (["callback:early=6"], SECONDS),
    "late": (["callback:late=3"], SECONDS),
    "a lie": (["callback:lie"], SECONDS),
    "another id": (["callback:wrong_id"], SECONDS),
    "broken": (["callback:broken_json"], SECONDS),
}


@pytest.mark.soak
def test_whatever_comes_each_image_is_made_once_in_one_try(house: House) -> None:
    for batch in house.batches(list(WHATEVER_COMES.items())):
        started = {about: start(house, about, *faults, seconds=seconds) for about, (faults, seconds) in batch}
        for about, (prompt, run_id) in started.items():
            state = house.finish("called_back", run_id)
            assert (about, state, len(house.charges(prompt))) == (about, "success", 1)
            assert (about, tries(house, run_id)) == (about, 1)


@pytest.mark.soak
def test_a_generation_that_failed_is_tried_again(house: House) -> None:
    dag_id = "called_back_and_retried"
    prompt, run_id = start(house, "failed", "generation:failed*1", dag_id=dag_id)

    assert house.finish(dag_id, run_id) == "success"
    assert (len(house.charges(prompt)), tries(house, run_id, dag_id)) == (2, 2)


def test_a_lost_answer_heals_without_the_author(house: House) -> None:
    prompt, run_id = start(house, "lost answer", "submit:lost*1", dag_id="called_back_and_retried", seconds=3)

    assert house.finish("called_back_and_retried", run_id) == "success"

    assert the_charge(house, prompt)["downloads"] == 1
    log = house.log(
        "called_back_and_retried", run_id, try_number=tries(house, run_id, "called_back_and_retried")
    )
    assert "The answer to the submit was lost; its callback told the id" in log


@pytest.mark.soak
def test_the_callback_of_a_try_before_a_clear_wakes_nobody(house: House) -> None:
    prompt, run_id = start(house, "cleared while it waits", seconds=30)
    house.airflow.wait_for_task("called_back", run_id, "image", {"deferred"})

    house.airflow.clear("called_back", run_id, ["image"])
    house.airflow.wait_for_task("called_back", run_id, "image", {"deferred"})
    before = tries(house, run_id)
    answer = httpx.post(the_charge(house, prompt)["callback_url"], json={"id": "x"}, trust_env=False)

    assert answer.status_code == 204
    assert house.airflow.task_instance("called_back", run_id, "image")["state"] == "deferred"
    assert house.finish("called_back", run_id) == "success"
    assert tries(house, run_id) == before == 2
    assert len(house.charges(prompt)) == 1


@pytest.mark.soak
def test_the_receiver_tells_nothing_and_takes_nothing_but_its_own_addresses(house: House) -> None:
    prompt, run_id = start(house, "attacked", seconds=30)
    house.airflow.wait_for_task("called_back", run_id, "image", {"deferred"})
    url = the_charge(house, prompt)["callback_url"]
    forged = url[:-1] + ("A" if url[-1] != "A" else "B")

    with httpx.Client(trust_env=False) as client:
        assert client.post(forged).status_code == 404
        assert client.post(f"{url}/").status_code == 404
        assert client.post(f"http://127.0.0.1:{house.airflow.port}/gpt-image-callbacks/").status_code == 404
        assert [client.request(method, url).status_code for method in ("GET", "PUT", "DELETE")] == [405] * 3
        assert client.post(url, content=b"x" * 70_000).status_code == 413
        with socket.create_connection(("127.0.0.1", house.airflow.port), timeout=30) as connection:
            head = f"POST {urlsplit(url).path} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 408")
        replies = [client.post(url) for _ in range(3)]  # too early: that's the poller's
        assert [(reply.status_code, reply.content) for reply in replies] == [(204, b"")] * 3
        assert house.airflow.task_instance("called_back", run_id, "image")["state"] == "deferred"

        assert house.finish("called_back", run_id) == "success"
        assert client.post(url, json={"id": "another"}).status_code == 204
    assert house.airflow.run_state("called_back", run_id) == "success"
    assert tries(house, run_id) == 1


@pytest.mark.soak
def test_of_many_calls_at_the_same_time_one_wakes_the_task_and_only_once(house: House) -> None:
    prompt, run_id = start(house, "volley", seconds=40)
    task = house.airflow.wait_for_task("called_back", run_id, "image", {"deferred"})
    url = the_charge(house, prompt)["callback_url"]

    def call(_: int) -> int:
        return httpx.post(url, trust_env=False, timeout=30).status_code

    until = time.monotonic() + 60
    with ThreadPoolExecutor(8) as threads:
        while house.airflow.task_instance("called_back", run_id, "image")["state"] == "deferred":
            assert time.monotonic() < until
            assert set(threads.map(call, range(8))) <= {202, 204, 503}  # sqlite has one writer

    assert house.finish("called_back", run_id) == "success"
    woken = f"A callback for task instance {task['id']}: woken."
    assert house.airflow.all_logs().count(woken) == 1
    assert (tries(house, run_id), len(house.charges(prompt))) == (1, 1)


@pytest.mark.soak
def test_a_callback_while_the_api_server_is_away_is_left_to_the_poll(house: House) -> None:
    prompt, run_id = start(house, "API server away", seconds=10)
    house.airflow.wait_for_task("called_back", run_id, "image", {"deferred"})

    house.airflow.kill("api-server")
    until = time.monotonic() + 60
    while not callbacks(house, prompt):
        assert time.monotonic() < until
        time.sleep(0.2)
    house.airflow.restart("api-server")

    assert [each["outcome"] for each in callbacks(house, prompt)] == ["failed: ConnectError"]
    assert house.finish("called_back", run_id) == "success"
    assert len(house.charges(prompt)) == 1
