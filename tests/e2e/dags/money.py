"""DAGs that die on request: the run's conf says at which point, and only the first try does."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Variable, task

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy
from airflow_gpt_image.sensors.gpt_image import GptImageSensor


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore:
    """Airflow's task state store, and a death before or after its n-th write."""

    def __init__(self, store: Any, before: int, after: int) -> None:
        self._store, self._before, self._after, self._writes = store, before, after, 0

    def get(self, key: str, default: Any = None) -> Any:
        return self._store.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self._writes += 1
        if self._writes == self._before:
            die()
        self._store.set(key, value, retention=retention)
        if self._writes == self._after:
            die()


def die_once(books_url: str, happened: Callable[[dict[str, Any]], bool]) -> None:
    """Die as soon as the API's books say that something happened, while the task is in the middle of it."""

    def watch() -> None:
        while True:
            with urllib.request.urlopen(books_url) as answer:
                if happened(json.load(answer)):
                    die()
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()


class DyingOperator(GptImageGenerateOperator):
    """The operator itself, in a process that dies at ``conf['die']``, such as ``execute before 2``."""

    def execute(self, context: Any) -> Any:
        return super().execute(self._dying(context, "execute"))

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        return super().execute_complete(self._dying(context, "resume"), event)

    def _dying(self, context: Any, method: str) -> Any:
        conf = context["dag_run"].conf
        where, when, what = (conf.get("die") or "never - -").split()
        if where != method or context["ti"].try_number > 1:
            return context
        if when == "once":
            mine = lambda books: [c for c in books["charges"] if c["request"]["prompt"] == self.prompt]  # noqa: E731
            events = {
                "charged": lambda books: bool(mine(books)),
                "downloading": lambda books: any(charge["downloads"] for charge in mine(books)),
            }
            die_once(conf["books_url"], events[what])
            return context
        number = int(what)
        store = DyingStore(
            context["task_state_store"],
            before=number if when == "before" else 0,
            after=number if when == "after" else 0,
        )
        return {**context, "task_state_store": store}


def one(dag_id: str, dagrun_timeout: timedelta | None = None, **options: Any) -> None:
    with DAG(dag_id, schedule=None, max_active_runs=64, dagrun_timeout=dagrun_timeout):
        DyingOperator(
            **{
                "task_id": "image",
                "prompt": "{{ dag_run.conf['prompt'] }}",
                "destination": "{{ var.value.gpt_image_destination }}/{{ dag.dag_id }}",
                "poll_interval": 1,
                "timeout": 120,
                "retries": 2,
                "retry_delay": timedelta(seconds=1),
                **options,
            }
        )


for deferrable in (True, False):
    way = "deferred" if deferrable else "waiting"
    for unknown in ("fail", "resubmit"):
        one(f"{way}_{unknown}", deferrable=deferrable, on_unknown_submit=unknown)
    one(f"{way}_regenerate", deferrable=deferrable, on_clear="regenerate")
    one(f"{way}_limited", deferrable=deferrable, on_unknown_submit="resubmit", max_credits=10)
    one(f"{way}_impatient", deferrable=deferrable, timeout=4)
one("unattended", wait_for_completion=False)
one("balance_checked", check_balance=True)
one("no_retries", retries=0)
one("patient", timeout=600)
one("spender", retry_policy=GptImageRetryPolicy(spend_limit_delay=timedelta(seconds=3)))
one("stored", destination="{{ dag_run.conf['destination'] }}")
one("edited", image_urls=["{{ dag_run.conf['reference'] }}"], reference_roots=["s3://image_store@photos/"])
one("run_bounded", dagrun_timeout=timedelta(seconds=20))
one("bounded", execution_timeout=timedelta(seconds=4), deferrable=False)

with DAG("sensed", schedule=None):
    submitted = GptImageGenerateOperator(
        task_id="submit", prompt="{{ dag_run.conf['prompt'] }}", wait_for_completion=False
    )
    for name, ways in {"deferred": {}, "poked": {"deferrable": False, "poke_interval": 1}}.items():
        GptImageSensor(
            task_id=name,
            generation_id="{{ ti.xcom_pull(task_ids='submit')['generation_id'] }}",
            destination="{{ var.value.gpt_image_destination }}/sensed_" + name,
            **ways,
        ).set_upstream(submitted)

with DAG("mapped", schedule=None):

    @task
    def prompts(dag_run: Any = None) -> list[str]:
        # The order is another one after a clear, when somebody changed the variable meanwhile.
        order = Variable.get("order", default="012")
        return [f"{dag_run.conf['prompt']} {number}" for number in order]

    GptImageGenerateOperator.partial(
        task_id="image",
        destination="{{ var.value.gpt_image_destination }}/mapped",
        retries=1,
        retry_delay=timedelta(seconds=1),
        poll_interval=1,
    ).expand(prompt=prompts())
