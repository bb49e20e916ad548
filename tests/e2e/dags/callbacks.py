"""Tasks that the API calls back: each makes the image of the run's conf."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

for dag_id, retries in {"called_back": 0, "called_back_and_retried": 3}.items():
    with DAG(dag_id, schedule=None, max_active_runs=64):
        GptImageGenerateOperator(
            task_id="image",
            prompt="{{ dag_run.conf['prompt'] }}",
            destination="{{ var.value.gpt_image_destination }}/{{ dag.dag_id }}",
            poll_interval=1,
            timeout=240,
            retries=retries,
            retry_delay=timedelta(seconds=4),
        )
