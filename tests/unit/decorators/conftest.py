"""A decorated function's task instance on Airflow's side, run try by try; the API is the emulator."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.decorators.gpt_image import gpt_image_task
from tests.unit.operators.conftest import EVENT, Store


class Task:
    """
    As Airflow does it: every try, and every part of it after a deferral, begins with the DAG parsed anew.

    :param call: calls the decorated function, as the DAG's author does.
    """

    def __init__(self, function, call, **options):
        self.function, self.call = function, call
        self.options = {"poll_interval": 0.05, "timeout": 20, **options}
        self.store = Store()
        self.operator = self.context = None
        self.parts = 0  # of tries: one more after each deferral

    def run(self):
        """One try: what it returns, or what it raises."""
        self._begin()
        try:
            return self.operator.execute(self.context)
        except TaskDeferred as deferral:
            return self._resume(deferral)

    @property
    def label(self):
        """What Airflow calls the mapped task instance, rendered from what the context holds at the end."""
        env = self.operator.dag.get_template_env()
        return env.from_string(self.context["map_index_template"]).render(self.context)

    def _resume(self, deferral):
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            time.sleep(0.03)
            self._begin()
            try:
                return self.operator.resume_execution(deferral.method_name, {"event": EVENT}, self.context)
            except TaskDeferred as again:
                deferral = again
        raise AssertionError("it never came to an end")

    def _begin(self):
        self.parts += 1
        with DAG("d", schedule=None):
            self.operator = self.call(gpt_image_task(**self.options)(self.function)).operator
        self.context = {
            "task_state_store": self.store,
            "ti": SimpleNamespace(
                max_tries=3, try_number=1, dag_id="posters", run_id="r1", task_id="poster", map_index=-1
            ),
            "task": self.operator,
            "ds": "2026-11-24",
            "map_index_template": self.operator.map_index_template,
        }
        self.operator.render_template_fields(self.context)


@pytest.fixture
def api(gpt_image_emulator, monkeypatch):
    """The emulated API, and the default connection to it."""
    monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", gpt_image_emulator.airflow_connection())
    return gpt_image_emulator


@pytest.fixture(params=["deferrable", "sync"])
def decorated(request, api):
    """Decorates a function on either path; the task instance of its call."""

    def decorated(function, call=lambda function: function(), **options):
        return Task(function, call, deferrable=request.param == "deferrable", **options)

    return decorated
