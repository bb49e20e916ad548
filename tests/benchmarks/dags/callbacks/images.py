"""The same images twice: their tasks are called back, or poll."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

# An address of the author's own goes before Airflow's: then the task polls.
WAYS: dict[str, dict[str, Any]] = {"called_back": {}, "polled": {"callback_url": "http://192.0.2.1/"}}

for way, options in WAYS.items():
    with DAG(way, schedule=None):
        GptImageGenerateOperator.partial(
            task_id="images",
            destination=f"{os.environ['BENCH_DESTINATION']}/{way}",
            poll_interval=5,
            **options,
        ).expand(prompt=[f"{way} {number}" for number in range(int(os.environ["BENCH_PROMPTS"]))])
