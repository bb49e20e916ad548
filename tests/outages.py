"""What breaks around a task while it works: parts of Airflow, disks, folders, its own processes.

Each is a context manager: broken inside its block, whole again after it, however the block ends. What must
happen at a certain moment is started when :func:`charged` says that the API has accepted a submit; the fault
``submit:late=SECONDS`` holds the answer back meanwhile::

    emulator.fault(f"submit:late=10*1;match={prompt}")
    run_id = house.start("deferred_fail", prompt)
    charged(emulator, prompt)
    with frozen(house.airflow.component("api-server")):
        time.sleep(28)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any, Literal, TypeVar

import psutil

from airflow_gpt_image.emulator import EmulatorServer
from stack.airflow import RunningTask, ScratchAirflow
from stack.processes import Child

T = TypeVar("T")

_MEGABYTE = 1_000_000


def until(happened: Callable[[], T], what: str = "it", timeout: float = 120, pause: float = 0.1) -> T:
    """Wait until the answer is true, and return it.

    :param what: names it in the message of the AssertionError that a timeout raises.
    """
    deadline = time.monotonic() + timeout
    while not (seen := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout:.0f} s"
        time.sleep(pause)
    return seen


def charged(
    emulator: EmulatorServer, prompt: str, count: int = 1, timeout: float = 60
) -> list[dict[str, Any]]:
    """Wait until the API has charged so many submits whose prompt begins like this, and return them."""

    def charges() -> list[dict[str, Any]]:
        books = emulator.books()["charges"]
        found = [charge for charge in books if (charge["request"].get("prompt") or "").startswith(prompt)]
        return found if len(found) >= count else []

    return until(charges, f"{count} charge(s) for {prompt!r}", timeout, pause=0.02)


# Processes


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_frozen(pid: int) -> bool:
    """Whether a process is stopped by SIGSTOP."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


@contextlib.contextmanager
def frozen(*what: Child | RunningTask | int) -> Iterator[list[int]]:
    """Freeze processes with SIGSTOP; the block gets their pids. They go on after it as if nothing were.

    A frozen server accepts connections and answers nothing. A frozen database is
    ``frozen(airflow.component("postgres"))``.

    :param what: a component of the stack with its whole family, a running task with its supervisor, or a pid.
    """
    pids = [pid for one in what for pid in _pids(one)]
    try:
        for pid in pids:
            _signal(pid, SIGSTOP)
        until(lambda: all(is_frozen(pid) or is_gone(pid) for pid in pids), f"the freezing of {pids}")
        yield pids
    finally:
        thaw(*pids)


def thaw(*pids: int) -> None:
    """Let processes go on, also those that froze themselves."""
    for pid in pids:
        _signal(pid, SIGCONT)


def running_task(airflow: ScratchAirflow, task_instance_id: str, timeout: float = 60) -> RunningTask:
    """Wait until both processes of a task are there, and return them.

    :param task_instance_id: ``id`` in the REST API; every try has another.
    """

    def both() -> RunningTask | None:
        for task in airflow.running_tasks():
            if task.task_instance_id == task_instance_id and task.supervisor and task.process:
                return task
        return None

    found = until(both, f"the execution of {task_instance_id}", timeout)
    assert found is not None
    return found


@contextlib.contextmanager
def api_server_away(airflow: ScratchAirflow, how: Literal["frozen", "killed"] = "frozen") -> Iterator[None]:
    """Take Airflow's API server away, and with it what workers know of the task state store.

    :param how: ``frozen`` accepts connections and never answers; ``killed`` refuses them, and afterwards a
        new one is started, which takes some 10 s more.
    """
    if how == "frozen":
        with frozen(airflow.component("api-server")):
            yield
        return
    airflow.kill("api-server")
    try:
        yield
    finally:
        airflow.restart("api-server")


def _pids(what: Child | RunningTask | int) -> list[int]:
    if isinstance(what, int):
        return [what]
    if isinstance(what, RunningTask):
        # The supervisor first: it must not see its task stop.
        return [pid for pid in (what.supervisor, what.process) if pid is not None]
    return [process.pid for process in what.family()]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# Networks


class Gate:
    """A TCP proxy in front of a server, which can be shut: give its ``url`` to who shall lose that server.

    :param url: of the server, ``http://127.0.0.1:40123``.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition("//")[2].partition(":")
        self._behind = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._state = "open"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Gate:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._state = "closed"
        # Wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._drop()

    @contextlib.contextmanager
    def shut(self, how: Literal["refuse", "hang"] = "refuse") -> Iterator[None]:
        """Let nothing through.

        :param how: ``refuse`` drops connections, old and new; ``hang`` keeps them and passes nothing on,
            until the end, when they are dropped.
        """
        self._state = how
        if how == "refuse":
            self._drop()
        try:
            yield
        finally:
            self._state = "open"
            if how == "hang":
                self._drop()

    def _drop(self) -> None:
        with self._lock:
            dropped, self._connections = self._connections, set()
        for connection in dropped:
            # Wakes the thread that reads from it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while self._state != "closed":
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._state == "refuse":
                near.close()
                continue
            with self._lock:
                self._connections.add(near)
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._behind)
        except OSError:
            near.close()
            return
        with self._lock:
            self._connections.add(far)
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self._state == "hang":
                    time.sleep(0.02)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


# Folders


class SmallDisk:
    """A file system of its own, of which a test decides when it is full.

    :param path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / ".filler"

    def fill(self) -> None:
        """Leave no byte: every write fails with ENOSPC."""
        with self._filler.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 4096)

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Be full inside the block."""
        self.fill()
        try:
            yield
        finally:
            self.free()


def can_mount() -> bool:
    """Whether this account may mount file systems; without it there are no small and no read-only disks."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int = 16) -> Iterator[SmallDisk]:
    """Mount a file system in memory, and take it away again. Needs :func:`can_mount`."""
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes * _MEGABYTE // 4096 * 4096}", "tmpfs", str(path))
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: a task that was killed may still have a file open.
        _run("umount", "--lazy", str(path))


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Refuse every write below a folder, to root as well; what is there can be read. Needs :func:`can_mount`.

    Who has a file there open for writing already may go on.
    """
    _run("mount", "--bind", str(path), str(path))
    try:
        _run("mount", "-o", "remount,ro,bind", str(path))
        yield
    finally:
        _run("umount", "--lazy", str(path))


@contextlib.contextmanager
def emptied(path: Path) -> Iterator[Path]:
    """Swap a folder for an empty one, as when a share isn't mounted or a pod has another disk.

    The block gets the folder's new place, to look at. Afterwards it is back at its own, and what was written
    to the empty one lies beside it, in ``.meanwhile-0``.
    """
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    path.mkdir()
    try:
        yield kept
    finally:
        for number in range(100):
            try:
                kept.rename(path)  # which works over an empty folder, too
                break
            except OSError:
                path.rename(path.with_name(f"{path.name}.meanwhile-{number}"))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
