"""The outages of the end-to-end tests, on scratch processes, servers and folders."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_gpt_image.emulator import EmulatorServer
from stack.airflow import RunningTask
from stack.processes import Child, stop
from tests import outages

needs_mount = pytest.mark.skipif(not outages.can_mount(), reason="this account may not mount file systems")

COUNTS = """
import itertools, pathlib, subprocess, sys, time
if "child" not in sys.argv:
    subprocess.Popen([sys.executable, __file__, sys.argv[1] + "-child", "child"])
for number in itertools.count():
    pathlib.Path(sys.argv[1]).write_text(str(number))
    time.sleep(0.01)
"""


class Counter:
    """A program and its child, each of which counts up in a file."""

    def __init__(self, folder: Path) -> None:
        program = folder / "counts.py"
        program.write_text(COUNTS)
        self.files = [folder / "count", folder / "count-child"]
        command = [sys.executable, str(program), str(self.files[0])]
        self.child = Child("counter", command, env={}, log=folder / "log", cwd=folder)

    def counts(self) -> list[str]:
        return [file.read_text() if file.exists() else "" for file in self.files]

    def wait_until_counting(self) -> None:
        """Wait until both have gone on."""
        before = self.counts()
        outages.until(lambda: all(new and new != old for new, old in zip(self.counts(), before, strict=True)))


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    counter = Counter(tmp_path)
    try:
        counter.wait_until_counting()
        yield counter
    finally:
        stop([counter.child], patience=0)


def test_a_component_is_frozen_with_its_family_and_goes_on_afterwards(counter):
    with outages.frozen(counter.child) as pids:
        before = counter.counts()
        time.sleep(0.1)
        after = counter.counts()
        states = [outages.is_frozen(pid) for pid in pids]

    counter.wait_until_counting()
    assert len(pids) == 2
    assert before == after
    assert states == [True, True]


def test_both_processes_of_a_task_are_frozen(counter):
    supervisor, process = (each.pid for each in counter.child.family())

    with outages.frozen(RunningTask("an id", supervisor, process)) as pids:
        frozen = [outages.is_frozen(pid) for pid in (supervisor, process)]

    counter.wait_until_counting()
    assert pids == [supervisor, process]
    assert frozen == [True, True]


def test_what_is_frozen_goes_on_when_a_test_fails(counter):
    with pytest.raises(AssertionError), outages.frozen(counter.child):
        raise AssertionError

    counter.wait_until_counting()


def test_what_has_ended_can_be_frozen_and_thawed():
    process = subprocess.Popen([sys.executable, "-c", ""])
    outages.until(lambda: outages.is_gone(process.pid))

    with outages.frozen(process.pid):
        assert not outages.is_frozen(process.pid)
    process.wait()

    assert outages.is_gone(process.pid)


def test_the_moment_between_a_charge_and_its_answer_can_be_used(gpt_image_emulator):
    gpt_image_emulator.fault("submit:late=0.5*1")
    body = {"model": "gpt-image-2", "input": {"prompt": "a cat on a chair"}}
    headers = {"authorization": f"Bearer {gpt_image_emulator.key}"}
    answers = []

    def submit() -> None:
        url = f"{gpt_image_emulator.url}/v1/images/generations"
        answers.append(httpx.post(url, json=body, headers=headers, trust_env=False))

    submitting = threading.Thread(target=submit)
    submitting.start()
    [charge] = outages.charged(gpt_image_emulator, "a cat")
    answered = list(answers)
    submitting.join()

    assert answered == []
    assert answers[0].json()["data"]["taskId"] == charge["task_id"]


def test_what_does_not_happen_in_time_is_said():
    with pytest.raises(AssertionError, match="the flood did not happen within 0 s"):
        outages.until(lambda: False, "the flood", timeout=0.1)


# Networks


@pytest.fixture
def gate(gpt_image_emulator: EmulatorServer) -> Iterator[outages.Gate]:
    with outages.Gate(gpt_image_emulator.url) as gate:
        yield gate


def is_well(client: httpx.Client) -> bool:
    return client.get("/_emulator/health").status_code == 200


@pytest.mark.parametrize(("how", "error"), [("refuse", httpx.TransportError), ("hang", httpx.ReadTimeout)])
def test_a_server_behind_a_gate_is_away_while_it_is_shut(gate, how, error):
    with httpx.Client(base_url=gate.url, trust_env=False, timeout=0.3) as client:
        before = is_well(client)

        with gate.shut(how), pytest.raises(error):
            is_well(client)

        assert before
        outages.until(lambda: _tried(client))


def test_an_answer_under_way_is_lost_when_the_gate_is_shut(gate, gpt_image_emulator):
    gpt_image_emulator.fault("credits:late=60")
    headers = {"authorization": f"Bearer {gpt_image_emulator.key}"}
    failures = []

    def ask() -> None:
        with contextlib.suppress(httpx.ReadTimeout):
            try:
                httpx.get(f"{gate.url}/v1/credits", headers=headers, trust_env=False, timeout=20)
            except httpx.RemoteProtocolError as error:
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    outages.until(lambda: gpt_image_emulator.books()["requests"]["credits"] == 1)

    with gate.shut("refuse"):
        asking.join(20)

    assert len(failures) == 1


def _tried(client: httpx.Client) -> bool:
    try:
        return is_well(client)
    except httpx.TransportError:
        return False


# Folders


@needs_mount
def test_a_small_disk_is_full_when_a_test_says_so(tmp_path):
    path = tmp_path / "disk"

    with outages.small_disk(path, megabytes=2) as disk:
        (path / "before").write_bytes(b"x" * 1000)
        with disk.full(), pytest.raises(OSError, match="No space left on device"):
            (path / "during").write_bytes(b"x" * 1000)
        (path / "after").write_bytes(b"x" * 1000)
        sizes = {file.name: file.stat().st_size for file in path.iterdir()}

    assert (sizes["before"], sizes["after"]) == (1000, 1000)
    assert list(path.iterdir()) == []


@needs_mount
def test_a_read_only_folder_refuses_writes_and_can_be_read(tmp_path):
    (tmp_path / "there").write_text("x")

    with outages.read_only(tmp_path):
        with pytest.raises(OSError, match="Read-only file system"):
            (tmp_path / "new").write_text("x")
        read = (tmp_path / "there").read_text()
    (tmp_path / "new").write_text("x")

    assert read == "x"


def test_an_emptied_folder_comes_back_as_it_was(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "one.png").write_text("one")

    with outages.emptied(folder) as kept:
        during = list(folder.iterdir())
        seen = (kept / "one.png").read_text()
        (folder / "two.png").write_text("two")

    assert (during, seen) == ([], "one")
    assert [path.name for path in folder.iterdir()] == ["one.png"]
    assert (tmp_path / "images.meanwhile-0" / "two.png").read_text() == "two"


def test_an_emptied_folder_that_stays_empty_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()

    with outages.emptied(folder):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["images"]
