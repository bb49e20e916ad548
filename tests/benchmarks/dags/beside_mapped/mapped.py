"""One mapped task of this provider for each prompt."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

with DAG("mapped", schedule=None):
    GptImageGenerateOperator.partial(
        task_id="images",
        destination=f"{os.environ['BENCH_DESTINATION']}/mapped",
        poll_interval=5,
    ).expand(prompt=[f"picture {number}" for number in range(int(os.environ["BENCH_PROMPTS"]))])
