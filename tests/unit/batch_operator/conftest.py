"""A batch's task instance on Airflow's side; the API is the emulator."""

from __future__ import annotations

import time

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from tests.batches import BatchTask


class ApisClock:
    """The emulated API's time, which a test puts forward: generations finish when it says so."""

    def __init__(self):
        self.ahead = 0.0

    def now(self):
        return time.time() + self.ahead

    def forward(self, seconds=1_000.0):
        self.ahead += seconds


@pytest.fixture(scope="session")
def apis_clock():
    return ApisClock()


@pytest.fixture(scope="session")
def gpt_image_emulator_server(apis_clock):
    with EmulatorServer(duration=(0.05, 0.15), now=apis_clock.now) as emulator:
        yield emulator


@pytest.fixture
def batch(api, tmp_path):
    """A batch that waits on its worker: most of what it promises has nothing to do with who waits."""
    return BatchTask(tmp_path / "posters", deferrable=False)


@pytest.fixture
def deferring(api, apis_clock, tmp_path):
    """A batch whose generations take so long that it defers; they are finished when it is woken."""
    api.settings(duration=900)
    task = BatchTask(tmp_path / "posters", deferrable=True, deferral_pause=0.0)
    task.while_deferred = apis_clock.forward
    return task
