"""The server in a process: quick to start, prompt to stop, steerable from outside and inside."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest

from airflow_gpt_image.emulator import EmulatorServer
from airflow_gpt_image.emulator.loopback import is_loopback


@pytest.fixture
def control(anonymous):
    """The anonymous client, for paths under ``/_emulator``."""

    class Control:
        def __getattr__(self, method):
            return lambda path, **options: getattr(anonymous, method)(f"/_emulator{path}", **options)

    return Control()


def test_it_starts_at_once_and_stops_promptly():
    started = time.monotonic()
    emulator = EmulatorServer()
    emulator.start()
    running = time.monotonic()
    httpx.get(f"{emulator.url}/_emulator/health", trust_env=False).raise_for_status()
    asked = time.monotonic()

    emulator.stop()

    assert running - started < 0.3
    assert time.monotonic() - asked < 1


def test_it_stops_promptly_while_answers_are_held_back_and_connections_are_open(until):
    emulator = EmulatorServer(faults=["credits:late=60"])
    emulator.start()
    failures = []

    def ask():
        try:
            httpx.get(
                f"{emulator.url}/v1/credits",
                headers={"authorization": "Bearer sk-emulator"},
                timeout=30,
                trust_env=False,
            )
        except httpx.TransportError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    with httpx.Client(base_url=emulator.url, trust_env=False) as idle:
        idle.get("/_emulator/health")
        until(lambda: emulator.books()["requests"]["credits"] == 1)
        started = time.monotonic()

        emulator.stop()

        asking.join(5)
        assert time.monotonic() - started < 1
        assert len(failures) == 1


def test_the_books_can_be_read_after_the_end():
    with EmulatorServer(credits=7) as emulator:
        pass

    assert emulator.books()["balance"] == "7"


def test_another_machine_is_not_served():
    with pytest.raises(ValueError, match="is not this machine; the emulator listens on"):
        EmulatorServer(host="0.0.0.0").start()


def test_a_taken_port_is_an_error(emulator):
    port = int(emulator.url.rpartition(":")[2])

    with pytest.raises(OSError, match="in use"):
        EmulatorServer(port=port).start()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("192.168.1.1", False),
        ("localhost.example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_what_this_machine_is_needs_no_dns(host, here):
    assert is_loopback(host) is here


def test_it_can_listen_on_the_other_loopback_address():
    try:
        server = EmulatorServer(host="::1")
        server.start()
    except OSError:
        pytest.skip("no IPv6 on this machine")

    answer = httpx.get(f"{server.url}/_emulator/health", trust_env=False)
    server.stop()

    assert answer.json()["url"].startswith("http://[::1]:")


def test_the_airflow_connection_points_here(emulator):
    connection = json.loads(emulator.airflow_connection())

    assert connection == {"conn_type": "gpt_image", "password": "sk-emulator", "host": emulator.url}


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"duration": "3-1"}, "seconds, or a range"),
        ({"duration": -1}, "seconds, or a range"),
        ({"duration": "1-2-3"}, "seconds, or a range"),
        ({"duration": "nan"}, "seconds, or a range"),
        ({"credits": "many"}, "a number of credits"),
        ({"credits": -1}, "a number of credits"),
        ({"keys": ["emulator"]}, "each starting with 'sk-'"),
        ({"keys": []}, "each starting with 'sk-'"),
        ({"rate_limit": 0}, "more than 0"),
        ({"fail_rate": 1.1}, "a share from 0 to 1"),
        ({"seed": "x"}, "a whole number"),
        ({"files_url": "example.com"}, "an http or https address"),
        ({"prices": {"8k": 1}}, "credits, 0 or more, for each of 1k, 2k, 4k"),
        ({"prices": {"1k": "free"}}, "credits, 0 or more, for each of"),
        ({"prices": {"1k": -1}}, "credits, 0 or more, for each of"),
        ({"prices": 4.7}, "credits, 0 or more, for each of"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_rule(setting, rule):
    with pytest.raises(ValueError, match=rule):
        EmulatorServer(**setting)


def test_generations_take_the_same_time_for_the_same_seed(clock):
    def processing_times(seed):
        with EmulatorServer(duration="1-100", seed=seed, fail_rate=0.5, now=clock) as emulator:
            headers = {"authorization": f"Bearer {emulator.key}"}
            body = {"model": "gpt-image-2", "input": {"prompt": "x"}}
            with httpx.Client(headers=headers, trust_env=False) as client:
                for _ in range(30):
                    client.post(f"{emulator.url}/v1/images/generations", json=body)
            clock.advance(50)
            return [charge["status"] for charge in emulator.books()["charges"]]

    first, again, other = processing_times(1), processing_times(1), processing_times(2)

    assert first == again != other
    assert {"processing", "completed", "failed"} <= set(first)


def test_ids_never_repeat_after_a_reset(submitted, emulator):
    first = submitted()
    emulator.reset()

    assert submitted() != first
    assert emulator.books()["submits"] == 1


def test_a_reset_returns_to_the_start(emulator, submitted, control):
    emulator.fault("submit:503;after=1")
    emulator.settings(credits=5, duration=1)
    submitted()

    books = control.post("/reset").json()

    assert (books["balance"], books["submits"], books["faults"]) == ("100", 0, [])
    assert emulator.settings().duration == (10.0, 10.0)


def test_faults_from_the_start_come_back_with_a_reset():
    with EmulatorServer(faults=["submit:503*1"]) as emulator:
        emulator.clear_faults()

        emulator.reset()

        assert emulator.faults() == [{"fault": "submit:503*1", "met": 0}]


def test_it_says_that_it_is_there(control, emulator):
    assert control.get("/health").json() == {"status": "ok", "url": emulator.url}


def test_the_books_are_the_same_over_http(control, emulator, submitted):
    submitted()

    assert control.get("/books").json() == emulator.books()


def test_faults_are_asked_for_over_http(control, submit):
    one = control.post("/faults", json="submit:503*1")
    more = control.post("/faults", json=["submit:500*1", {"where": "submit", "kind": "402", "times": 1}])

    statuses = [submit().status_code for _ in range(4)]

    assert one.json() == {"faults": [{"fault": "submit:503*1", "met": 0}]}
    assert len(more.json()["faults"]) == 3
    assert statuses == [503, 500, 402, 200]
    assert [fault["met"] for fault in control.get("/faults").json()["faults"]] == [1, 1, 1]


def test_faults_are_forgotten_over_http(control, submit, emulator):
    emulator.fault("submit:503")

    answer = control.delete("/faults")

    assert answer.json() == {"faults": []}
    assert submit().status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        "submit:nonsense",
        5,
        {"where": "submit"},
        ["submit:503", "x"],
        {"where": "submit", "kind": "503", "times": []},
    ],
)
def test_a_fault_that_cannot_be_read_is_refused_and_none_is_registered(control, emulator, form):
    answer = control.post("/faults", json=form)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert emulator.faults() == []


def test_settings_change_over_http(control, submit):
    answer = control.post(
        "/settings", json={"credits": 4, "duration": "0-1", "rate_limit": 100, "prices": {"2k": 5.5}}
    )

    assert answer.json() == {
        "keys": ["sk-emulator", "sk-colleague"],
        "credits": "4",
        "duration": [0.0, 1.0],
        "rate_limit": 100.0,
        "fail_rate": 0.0,
        "seed": 0,
        "files_url": None,
        "prices": {"1k": "4.7", "2k": "5.5", "4k": "14.1"},
        "image_life": 86_400.0,
    }
    assert submit().status_code == 402


@pytest.mark.parametrize("form", [{"speed": 1}, {"credits": None}, [], "x", {"duration": {}}])
def test_a_setting_that_cannot_be_read_is_refused(control, emulator, form):
    before = emulator.settings()

    answer = control.post("/settings", json=form)

    assert answer.status_code == 400
    assert emulator.settings() == before


@pytest.mark.parametrize("body", [b"submit:503", b"[" * 100_000])
def test_control_wants_json(control, body):
    assert control.post("/faults", content=body).status_code == 400


def test_many_clients_at_once_are_all_booked(emulator):
    emulator.settings(credits=1000, duration=0)

    def work():
        with httpx.Client(base_url=emulator.url, trust_env=False) as client:
            client.headers["authorization"] = f"Bearer {emulator.key}"
            for _ in range(25):
                body = {"model": "gpt-image-2", "input": {"prompt": "x"}}
                generation_id = client.post("/v1/images/generations", json=body).json()["data"]["taskId"]
                assert client.get(f"/v1/tasks/{generation_id}").json()["status"] == "completed"

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    books = emulator.books()
    assert books["submits"] == 200
    assert books["balance"] == "60"
    assert len({charge["task_id"] for charge in books["charges"]}) == 200
