"""A task that makes one image, run try by try; the API is the emulator."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.task_instance import TaskInstance


@pytest.fixture
def connect(monkeypatch):
    """Puts the default connection into the environment."""

    def connect(host, password="sk-emulator", **fields):
        given = {"conn_type": "gpt_image", "host": host, "password": password, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))

    return connect


@pytest.fixture
def api(gpt_image_emulator, connect):
    """The emulated API, and the default connection to it. A submit takes a second and a half at most."""
    timeouts = {"connect_timeout": 0.2, "read_timeout": 0.6}
    connect(gpt_image_emulator.url, gpt_image_emulator.key, extra={"verify": False, **timeouts})
    gpt_image_emulator.settings(duration=0.1)
    return gpt_image_emulator


@pytest.fixture
def make(api, tmp_path):
    """Makes a task instance of one image that is stored on a disk."""

    def make(deferrable=True, destination=tmp_path / "images", **fields):
        given = {
            "task_id": "poster",
            "prompt": "a red teapot",
            "poll_interval": 0.05,
            "timeout": 20,
            "retries": 3,
            "deferrable": deferrable,
            "destination": None if destination is None else str(destination),
        }
        return TaskInstance(lambda **options: GptImageGenerateOperator(**given | options), **fields)

    return make


@pytest.fixture(params=["deferrable", "sync"])
def task(request, make):
    """The same task on either path: nothing that is paid for may depend on who waits."""
    return make(deferrable=request.param == "deferrable")
