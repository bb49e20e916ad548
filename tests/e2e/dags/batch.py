"""DAGs of one batch: the run's conf says of which rows, and where to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

OPTIONS: dict[str, Any] = {
    "task_id": "images",
    "destination": "{{ dag_run.conf['destination'] }}",
    "poll_interval": 1,
    "timeout": 120,
    "retries": 5,
    "retry_delay": timedelta(seconds=1),
}


def one(dag_id: str, **options: Any) -> None:
    with DAG(dag_id, schedule=None, max_active_runs=64):
        GptImageBatchOperator(**{**OPTIONS, "requests": "{{ dag_run.conf['file'] }}", **options})


one("batch")
one("batch_in_waves", max_in_flight=40)
often = GptImageRetryPolicy(longest_delay=timedelta(seconds=2))
one("batch_shared", reuse="destination", retries=30, retry_policy=often)
one("batch_timed", deferrable=False, max_in_flight=8, execution_timeout=timedelta(seconds=5))
one("batch_spending", retry_policy=GptImageRetryPolicy(spend_limit_delay=timedelta(seconds=1)))

with DAG("batch_mapped_over", schedule=None):

    @task
    def rows(dag_run: Any = None) -> list[dict[str, Any]]:
        return [{"prompt": prompt, "shelf": n % 3} for n, prompt in enumerate(dag_run.conf["prompts"])]

    @task
    def shelves(result: dict[str, Any]) -> list[list[str]]:
        lines = list(read_manifest(result["manifest"]))
        return [[path for e in lines if e["data"]["shelf"] == n for path in e["paths"]] for n in range(3)]

    @task
    def sizes(paths: list[str]) -> list[int]:
        return [len(ObjectStoragePath(path).read_bytes()) for path in paths]

    images = GptImageBatchOperator(**OPTIONS, requests=rows())
    sizes.expand(paths=shelves(images.output))

with DAG("batch_decorated", schedule=None):

    @task.gpt_image_batch(**OPTIONS)
    def decorated(dag_run: Any = None) -> list[str]:
        return dag_run.conf["prompts"]

    decorated()
