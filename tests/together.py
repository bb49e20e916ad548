"""Calls made at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call functions at the same moment; return what they return."""
    gate = threading.Barrier(len(functions))

    def called(function: Callable[[], Any]) -> Any:
        gate.wait(30)
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(called, functions))
