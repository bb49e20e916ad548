"""All prompts in one task of this provider."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_gpt_image.operators.batch import GptImageBatchOperator

with DAG("batch", schedule=None):
    GptImageBatchOperator(
        task_id="images",
        requests=[f"picture {number}" for number in range(int(os.environ["BENCH_PROMPTS"]))],
        destination=f"{os.environ['BENCH_DESTINATION']}/batch",
        poll_interval=5,
    )
