"""A batch's task instance on Airflow's side; the API is the emulator."""

from __future__ import annotations

import json

import pytest

from tests.batches import BatchTask


@pytest.fixture
def connect(monkeypatch):
    """Puts the default connection into the environment."""

    def connect(host, password="sk-emulator", **fields):
        given = {"conn_type": "gpt_image", "host": host, "password": password, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))

    return connect


@pytest.fixture
def api(gpt_image_emulator, connect):
    """The emulated API, and the default connection to it; no certificates are read for each client."""
    connect(gpt_image_emulator.url, gpt_image_emulator.key, extra={"verify": False})
    return gpt_image_emulator


@pytest.fixture
def batch(api, tmp_path):
    """A batch that waits on its worker: most of what it promises has nothing to do with who waits."""
    return BatchTask(tmp_path / "posters", deferrable=False)


@pytest.fixture
def deferring(api, tmp_path):
    """A batch whose generations take so long that it defers."""
    api.settings(duration=1.6)
    return BatchTask(tmp_path / "posters", deferrable=True)
