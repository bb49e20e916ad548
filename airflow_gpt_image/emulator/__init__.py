"""The gpt-image-2 API on this machine: strict, with books, and with faults on request. For demos and tests.

From the command line ``python -m airflow_gpt_image.emulator``; in Python::

    from airflow_gpt_image.emulator import EmulatorServer

    with EmulatorServer(duration=0.1) as emulator:
        emulator.fault("submit:503*2")
        ...  # point a connection at emulator.url with the key emulator.key
        assert emulator.books()["charged"] == "4.7"

In pytest the fixture ``gpt_image_emulator`` gives one with fresh books for every test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_gpt_image.emulator.faults import Fault
    from airflow_gpt_image.emulator.server import EmulatorServer

__all__ = ["EmulatorServer", "Fault"]


def __getattr__(name: str) -> Any:
    # pytest imports this package at every start, through the plugin: a server must not be loaded for that.
    if name == "EmulatorServer":
        from airflow_gpt_image.emulator.server import EmulatorServer

        return EmulatorServer
    if name == "Fault":
        from airflow_gpt_image.emulator.faults import Fault

        return Fault
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
