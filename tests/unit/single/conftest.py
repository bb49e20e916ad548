"""A task that makes one image, run try by try; the API is the emulator."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.fake_clock import RunningClock
from tests.task_instance import TaskInstance


@pytest.fixture
def api(api):
    """The emulated API, whose generations take a moment."""
    api.settings(duration=0.05)
    return api


@pytest.fixture
def clock():
    """The clock of every ledger: nobody waits here for an intent to age, or for an image that is late."""
    return RunningClock()


@pytest.fixture
def operator(clock):
    """The operator's class, on that clock."""

    class OnTheClock(GptImageGenerateOperator):
        def _ledger(self, context, images):
            ledger = super()._ledger(context, images)
            ledger.clock = clock
            return ledger

    return OnTheClock


@pytest.fixture
def make(api, operator, tmp_path):
    """Makes a task instance of one image that is stored on a disk."""

    def make(deferrable=True, destination=tmp_path / "images", **fields):
        given = {
            "task_id": fields.get("task_id", "poster"),
            "prompt": "a red teapot",
            "poll_interval": 0.05,
            "timeout": 20,
            "retries": 3,
            "deferrable": deferrable,
            "destination": None if destination is None else str(destination),
        }
        return TaskInstance(lambda **options: operator(**given | options), **fields)

    return make


@pytest.fixture(params=["deferrable", "sync"])
def deferrable(request):
    """On either path: nothing that is paid for may depend on who waits."""
    return request.param == "deferrable"


@pytest.fixture
def task(make, deferrable):
    """A task with a destination: its records are there and in the task state store."""
    return make(deferrable=deferrable)


@pytest.fixture
def bare_task(make, deferrable):
    """A task without a destination: its records are in the task state store alone."""
    return make(deferrable=deferrable, destination=None)


def recorded(task):
    """The records in a task's state store; an attempt that paid nothing leaves a note, and no record."""
    text = task.store.texts.get("gpt_image")
    return json.loads(text)["records"] if text is not None else []


def charges(api):
    """The ids of all that was ever charged, refunded or not."""
    return [charge["task_id"] for charge in api.books()["charges"]]
