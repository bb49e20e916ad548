"""DAGs for the life of a paid generation: the run's conf says of what, where to, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task, task_group

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy


class FreezingStore:
    """Airflow's task state store, and a freeze of the task and its supervisor around the first write."""

    def __init__(self, store: Any, when: str) -> None:
        self._store, self._when = store, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def set(self, key: str, value: Any, **options: Any) -> None:
        if self._when == "before":
            self._freeze()
        self._store.set(key, value, **options)
        if self._when == "after":
            self._freeze()

    def _freeze(self) -> None:
        self._when = ""
        for pid in (os.getppid(), os.getpid()):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)  # a thread goes on for a moment until the whole process stands


class FreezingOperator(GptImageGenerateOperator):
    """The operator itself. With ``conf['freeze']`` its first try freezes at the store's first write."""

    def execute(self, context: Any) -> Any:
        when = context["dag_run"].conf.get("freeze", "")
        if when and context["ti"].try_number == 1:
            context = {**context, "task_state_store": FreezingStore(context["task_state_store"], when)}
        return super().execute(context)


COMMON: dict[str, Any] = {
    "destination": "{{ dag_run.conf['destination'] }}",
    "poll_interval": 1,
    "timeout": 120,
    "retries": 2,
    "retry_delay": timedelta(seconds=1),
}
# While Airflow is away its tries are used up, too.
PATIENT: dict[str, Any] = {"retries": 8, "retry_delay": timedelta(seconds=30)}
SHORT = {"schedule": None, "max_active_runs": 64}


def single(dag_id: str, **options: Any) -> None:
    with DAG(dag_id, **SHORT):
        FreezingOperator(task_id="image", prompt="{{ dag_run.conf['prompt'] }}", **{**COMMON, **options})


def batch(dag_id: str, **options: Any) -> None:
    with DAG(dag_id, **SHORT):
        GptImageBatchOperator(
            task_id="images", requests="{{ dag_run.conf['file'] }}", **{**COMMON, "retries": 5, **options}
        )


@task
def listed(dag_run: Any = None) -> list[Any]:
    """Return what the run's file says now: another list after a clear, if somebody changed it."""
    return json.loads(Path(dag_run.conf["file"]).read_text())


for way, waits in {"deferred": {"deferrable": True}, "waiting": {"deferrable": False}}.items():
    single(f"life_{way}", **waits)
    single(f"life_{way}_resubmit", on_unknown_submit="resubmit", **waits)
    single(f"life_{way}_limited", retries=1, max_credits=4.7, **waits)
    single(f"life_{way}_patient", **PATIENT, **waits)
    single(f"life_{way}_shared", reuse="destination", **waits)
    single(f"life_{way}_anew", reuse="destination", on_clear="regenerate", **waits)
    single(f"life_{way}_homeless", destination=None, **waits)
    single(f"life_{way}_homeless_anew", destination=None, on_clear="regenerate", **waits)
    with DAG(f"life_{way}_mapped", **SHORT):
        GptImageGenerateOperator.partial(task_id="image", **COMMON, **waits).expand(prompt=listed())

    batch(f"life_batch_{way}", **waits)
    batch(f"life_batch_{way}_patient", **PATIENT, **waits)
    batch(f"life_batch_{way}_hasty", **{**waits, "timeout": 4, "retry_delay": timedelta(seconds=3)})
    batch(f"life_batch_{way}_once", **{**waits, "retries": 0})
    batch(f"life_batch_{way}_shared", **{**waits, "retries": 0, "reuse": "destination"})
    # What is only a wait uses up no try; these lines are about a second one.
    slowly = GptImageRetryPolicy(spend_limit_delay=timedelta(seconds=10), max_reschedules=0)
    batch(f"life_batch_{way}_spending", **waits, retry_policy=slowly)
    with DAG(f"life_batch_{way}_mapped", **SHORT):
        options = {name: value for name, value in COMMON.items() if name != "destination"}
        GptImageBatchOperator.partial(task_id="images", **options, **waits).expand_kwargs(listed())


def loop(dag_id: str, make: Any) -> None:
    """Make a DAG whose task group runs three times. Before Airflow 3.4 there are no loops."""
    with DAG(dag_id, **SHORT):

        @task_group
        def body() -> None:
            make()

        if hasattr(body, "loop"):
            body.loop(max_iterations=3)
        else:
            body()


name = "{dag_id}/{run_id}/{task_id}/{map_index}"
conf = {"prompt": "{{ dag_run.conf['prompt'] }}", "requests": "{{ dag_run.conf['file'] }}"}
loop(
    "life_loop",
    lambda: GptImageGenerateOperator(task_id="image", prompt=conf["prompt"], filename=name, **COMMON),
)
loop("life_loop_batch", lambda: GptImageBatchOperator(task_id="images", requests=conf["requests"], **COMMON))
