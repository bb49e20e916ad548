"""
Child processes that can be found again, and stopped, whatever has become of them.

A process belongs to a child when any of these holds. Each rule alone loses some:

1. it descends from the child: true until a process in between dies and its children move to init;
2. it is in the child's session: survives the death of a parent, and the process groups that task supervisors
   make, but not a ``setsid`` (the command of a ``BashOperator`` does one);
3. it has the child's mark in its environment: survives ``setsid``, but not ``setproctitle``, which overwrites
   the memory that the environment is read from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

_MARK = "SCRATCH_STACK_CHILD"

# Below the range that Linux (from 32768) and macOS (from 49152) take the local ports of outgoing connections
# from. A port that bind(0) hands out lies in that range, and a database connection may take it in the seconds
# until the server it was meant for listens.
_PORTS = range(15_000, 32_000)


_UNANSWERABLE = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT})


class StubbornProcessError(RuntimeError):
    """
    Processes outlived SIGKILL: they are stuck in the kernel, and only a human can tell why.

    :param pids: The processes that are left.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        super().__init__(pids)
        self.pids = tuple(pids)

    def __str__(self) -> str:
        return f"processes {list(self.pids)!r} are still there after SIGKILL; see what ps says of them"


class Child:
    """
    A program running in a session of its own, with its output in a file.

    The session keeps the terminal's Ctrl-C away from it: only we are interrupted, and we stop it in order.
    Make it inside :func:`interruptions_held_back`, or an interruption may lose it before it has a name.

    :param name: What messages call it.
    :param command: The program and its arguments.
    :param env: Its whole environment: nothing is inherited.
    :param log: File that standard output and standard error are appended to.
    :param cwd: Its working directory.
    :param user: Account to run as, when we are root and it must not be.
    :ivar asked_to_end: Whether a signal was sent to it; one that has ended without it has failed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.mark = secrets.token_hex(16)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                env={**env, _MARK: self.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        self.asked_to_end = False
        # Remembers when the process began, so that a later owner of the same pid is not taken for it.
        self.process = psutil.Process(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def is_running(self) -> bool:
        return self.returncode is None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def family(self) -> list[psutil.Process]:
        """Every living process that belongs to it, itself first."""
        return families([self])

    def signal(self, number: int) -> None:
        """
        Send a signal.

        SIGKILL, SIGSTOP and SIGCONT, which no program answers, go to the whole family. Others go to the child
        alone, as from a service manager: Airflow's triggerer never ends when its own child gets one too.
        """
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.asked_to_end = True
        _send(self.family() if number in _UNANSWERABLE else [self.process], number)

    def wait(self, timeout: float) -> int:
        """
        Wait for it to end by itself.

        :param timeout: Seconds, after which TimeoutError is raised; the program keeps running.
        :return: Its exit code.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} is not done after {timeout:.1f} s:\n{self.tail()}") from None


def families(children: Iterable[Child]) -> list[psutil.Process]:
    """Every living process that belongs to any of the children."""
    children = list(children)
    for child in children:
        child.is_running  # noqa: B018 - asking reaps it, and only a zombie that is reaped leaves the table
    living = {
        process.pid: process
        for process in psutil.process_iter(["ppid", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    }
    ours = {child.pid for child in children if living.get(child.pid) == child.process}
    # A pid is not given out again while it names a session, so a stranger there means the session is over.
    sessions = {child.pid for child in children if child.pid in ours or child.pid not in living}
    marks = {child.mark for child in children}
    for pid, process in living.items():
        if _session_of(pid) in sessions or _mark_of(process) in marks:
            ours.add(pid)
    while heirs := {pid for pid, p in living.items() if p.info["ppid"] in ours and pid not in ours}:
        ours |= heirs
    return [living[pid] for pid in sorted(ours)]


def stop(children: Iterable[Child], *, first: int = signal.SIGTERM, patience: float = 5.0) -> None:
    """
    End the children and all their families, without exception and in bounded time.

    An interruption waits until nothing is left: half a stop is what leaves orphans behind.

    :param first: The signal that asks the children; SIGKILL for all their families follows.
    :param patience: Seconds between the two, at most.
    :raises StubbornProcessError: when processes outlive SIGKILL by ten seconds.
    """
    children = list(children)
    with interruptions_held_back():
        for child in children:
            child.signal(first)
            # A frozen process hears nothing but SIGKILL until it is thawed.
            child.signal(signal.SIGCONT)
        _until(lambda: not families(children), patience)

        def all_dead() -> bool:
            # Once is not enough: a process may fork between our look at the table and our signal.
            _send(families(children), signal.SIGKILL)
            return not families(children)

        if not _until(all_dead, 10.0):
            raise StubbornProcessError([process.pid for process in families(children)])
        for child in children:
            child.wait(10.0)  # it is dead; this takes its zombie out of the table


@contextlib.contextmanager
def interruptions_held_back() -> Iterator[None]:
    """
    Deliver SIGINT and SIGTERM only after the block.

    Between the fork of a child and the line that remembers it, KeyboardInterrupt would lose the process.
    Blocking the signals with a mask is no way out: the child would inherit the mask.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only, so nothing can interrupt this one.
        return
    held: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for late in held:
            signal.raise_signal(late)


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """
    Let SIGTERM unwind the stack like Ctrl-C does, so that context managers stop what they started.

    For programs, around their main function. A library must not decide this for its caller.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def free_port() -> int:
    """A port on which nobody listens, on any address, at the moment."""
    for port in random.sample(_PORTS, k=200):
        if is_free(port):
            return port
    raise OSError(f"no free port among 200 tried between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    # Airflow's log servers listen on every address, hence the empty host.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _session_of(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return None


def _mark_of(process: psutil.Process) -> str | None:
    # Other people's processes refuse, and those that are half gone fail.
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(_MARK)
    return None


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _until(done: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
