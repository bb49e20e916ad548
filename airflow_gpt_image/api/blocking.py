"""Run what may block for ever, a look-up or a file on a dead mount, in a thread that can be left behind.

Nothing ends a thread that hangs inside the system. A daemon thread of its own at least holds up no event
loop, takes no place in an executor that others need, and does not keep the process from ending.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import TypeVar

from airflow_gpt_image.api.hosts import is_ip_address

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function in a daemon thread; return its result to come.

    Who stops waiting for it leaves the thread behind.
    """
    future: Future[T] = Future()
    # Running from the start, so that one who stops waiting doesn't cancel it for the others.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, name="airflow-gpt-image", daemon=True).start()
    return future


_under_way: dict[tuple[int, str, int], Future[tuple[str, ...]]] = {}


def look_up(host: str, port: int) -> Future[tuple[str, ...]]:
    """Look up a host's IP addresses, each once, in the system's order of preference.

    Who asks for a name that is being looked up waits for the same answer: a name service that hangs costs one
    thread for each name, not one for each try.
    """
    if is_ip_address(host):
        known: Future[tuple[str, ...]] = Future()
        known.set_result((host,))
        return known
    key = os.getpid(), host, port  # the threads of a process don't outlive a fork
    found = _under_way.get(key)
    if found is None:
        found = _under_way[key] = in_thread(partial(_look_up, host, port))
        found.add_done_callback(lambda _: _under_way.pop(key, None))
    return found


def _look_up(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
