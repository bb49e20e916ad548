"""DAGs as people write them, whose logs are looked at in a browser; the run's conf says of what."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

DESTINATION = "{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}"

with DAG("page_single", schedule=None, max_active_runs=8):
    GptImageGenerateOperator(
        task_id="poster",
        prompt="{{ dag_run.conf['prompt'] }}",
        aspect_ratio="16:9",
        destination=DESTINATION,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )

with DAG("page_batch", schedule=None):
    GptImageBatchOperator(
        task_id="pictures",
        requests="{{ dag_run.conf['file'] }}",
        prompt_template="{title}, studio photo",
        filename="{sku}",
        destination=DESTINATION,
        retries=3,
    )
