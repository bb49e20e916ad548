"""pytest fixtures: the gpt-image-2 API for tests, without the API.

``gpt_image_emulator`` is an :class:`EmulatorServer` with fresh books, no faults and quick generations (0.05
to 0.15 s); one server per session, reset for each test. A test of a DAG with it::

    def test_the_poster_is_paid_for_once(gpt_image_emulator, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", gpt_image_emulator.airflow_connection())
        gpt_image_emulator.fault("submit:503*1")

        dag.test()

        assert gpt_image_emulator.books()["submits"] == 1

What can go wrong, and how to ask for it, is in ``airflow_gpt_image.emulator.faults``; ``python -m
airflow_gpt_image.emulator --help`` lists it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from airflow_gpt_image.emulator.server import EmulatorServer

# Of the section [workers]; what it does is said at the trigger.
_HEARTBEAT: Final = "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"


@pytest.fixture(scope="session")
def gpt_image_emulator_server() -> Iterator[EmulatorServer]:
    """The server of the session. Use ``gpt_image_emulator``; override this one to have other settings."""
    # Imported here: pytest loads this plugin at every start, also for tests without images.
    from airflow_gpt_image.emulator.server import EmulatorServer

    with EmulatorServer(duration=(0.05, 0.15)) as emulator:
        yield emulator


@pytest.fixture
def gpt_image_emulator(
    gpt_image_emulator_server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> EmulatorServer:
    """The emulated gpt-image-2 API, its books and faults fresh for this test.

    A task that defers is first polled so many seconds later as its worker may take to leave; under
    ``dag.test()`` there is no worker, so Airflow's setting for that is 0 meanwhile, unless the environment
    sets it.
    """
    if _HEARTBEAT not in os.environ:
        monkeypatch.setenv(_HEARTBEAT, "0")
    gpt_image_emulator_server.reset()
    return gpt_image_emulator_server
