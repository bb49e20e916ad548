"""A decorated function's task instance on Airflow's side, run try by try; the API is the emulator."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG

from airflow_gpt_image.decorators.gpt_image import gpt_image_task
from tests.task_instance import TaskInstance


class Decorated(TaskInstance):
    """
    As Airflow does it: every try, and every part of it after a deferral, begins with the DAG parsed anew.

    :param call: calls the decorated function, as the DAG's author does.
    """

    def __init__(self, function, call, **options):
        super().__init__(self._parsed)
        self.function, self.call = function, call
        self.options = {"poll_interval": 0.05, "timeout": 20, **options}
        self.last = self._made = None
        self.parts = 0  # of tries: one more after each deferral

    @property
    def label(self):
        """What Airflow calls the mapped task instance, rendered from what the context holds at the end."""
        env = self.last.dag.get_template_env()
        return env.from_string(self._made["map_index_template"]).render(self._made)

    @property
    def context(self):
        """Each part of a try has one, to which functions and operators add."""
        return self._made

    def _parsed(self):
        self.parts += 1
        with DAG("d", schedule=None):
            self.last = self.call(gpt_image_task(**self.options)(self.function)).operator
        shown = {"task": self.last, "map_index_template": self.last.map_index_template}
        self._made = {**super().context, **shown}
        self.last.render_template_fields(self._made)
        return _Parsed(self.last)


class _Parsed:
    """An operator that is resumed as Airflow does it: by the name of its method."""

    def __init__(self, operator):
        self.execute = operator.execute
        self._resume = operator.resume_execution

    def execute_complete(self, context, event):
        return self._resume("execute_complete", {"event": event}, context)


@pytest.fixture(params=["deferrable", "sync"])
def decorated(request, api):
    """Decorates a function on either path; the task instance of its call."""

    def decorated(function, call=lambda function: function(), **options):
        return Decorated(function, call, deferrable=request.param == "deferrable", **options)

    return decorated
