"""One task instance on Airflow's side: its state store, its tries, its deferrals; the API is the emulator."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests import state_store

EVENT = {"reason": "finished", "generation_ids": {}}


class Store(state_store.Store):
    """
    One whose writer can die.

    ``at`` is the write at which the worker dies, ``before 2`` or ``after 2``, or fails, ``fail 2``.
    """

    def __init__(self):
        super().__init__()
        self.writes, self.at = 0, ""

    def set(self, key, value, *, retention=None):
        self.writes += 1
        if self.at == f"before {self.writes}":
            raise SystemExit
        if self.at == f"fail {self.writes}":
            raise RuntimeError("TASK_STORE_NOT_FOUND")
        super().set(key, value, retention=retention)
        if self.at == f"after {self.writes}":
            raise SystemExit


class Tries:
    """What any task instance that is run try by try can do."""

    pause = 0.0

    def wake(self, deferral, event=EVENT, **options):
        """Go on after a deferral, and after those that follow; the operator is made anew each time."""
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            self.deferrals.append(deferral)
            time.sleep(self.pause)
            try:
                return getattr(self.operator(**options), deferral.method_name)(self.context, event)
            except TaskDeferred as again:
                deferral = again
        raise AssertionError("it never came to an end")

    def clear(self):
        """As Airflow does it: the tries that are left begin anew."""
        self.max_tries += 1


class Task(Tries):
    """A task instance that is run try by try, as Airflow does it.

    :param deferrable: whether its operator defers; then it is woken as soon as the API has a result.
    """

    pause = 0.03  # the API needs a moment

    def __init__(self, deferrable):
        self.store = Store()
        self.max_tries = 3
        self.run_id = "manual__2026-01-01T00:00:00+00:00"
        self.deferrable = deferrable
        self.deferrals = []
        self.events = defaultdict(lambda: SimpleNamespace(extra={}))

    @property
    def context(self):
        ti = SimpleNamespace(
            max_tries=self.max_tries, dag_id="posters", run_id=self.run_id, task_id="poster", map_index=-1
        )
        return {"task_state_store": self.store, "ti": ti, "outlet_events": self.events}

    def operator(self, **options):
        given = {"task_id": "poster", "prompt": "a red teapot", "poll_interval": 0.05, "timeout": 20}
        return GptImageGenerateOperator(**given | {"deferrable": self.deferrable} | options)

    def run(self, **options):
        """One try: what it returns, or what it raises. After a deferral the operator is made anew."""
        self.store.writes = 0
        try:
            return self.operator(**options).execute(self.context)
        except TaskDeferred as deferral:
            return self.wake(deferral, **options)

    def new_run(self):
        """The same task in another run, which knows nothing of this one."""
        self.run_id += "+1"
        self.store = Store()


@pytest.fixture
def connect(monkeypatch):
    """Puts the default connection into the environment."""

    def connect(host, password="sk-emulator", **fields):
        given = {"conn_type": "gpt_image", "host": host, "password": password, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))

    return connect


@pytest.fixture
def api(gpt_image_emulator, connect):
    """The emulated API, and the default connection to it."""
    connect(gpt_image_emulator.url, gpt_image_emulator.key)
    return gpt_image_emulator


@pytest.fixture(params=["deferrable", "sync"])
def task(request, api):
    """The same task on either path: nothing that is paid for may depend on who waits."""
    return Task(deferrable=request.param == "deferrable")


@pytest.fixture
def deferrable_task(api):
    return Task(deferrable=True)
