"""What failed is mended and run again, at the same destination: only that is paid for.

The first batch goes on when a picture fails, and leaves the failed rows in ``failures.jsonl``, as they were
given. A task mends them, and the second batch makes what is missing.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import ObjectStoragePath, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_gpt_image.operators.batch import GptImageBatchOperator

DESTINATION = "{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/mended/{{ run_id }}"
BATCH = {
    "destination": DESTINATION,
    "reuse": "destination",
    "poll_interval": 2,
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
}


@dag(
    description="A picture fails; its row is mended, and it alone is made again",
    schedule=None,
    tags=["gpt-image"],
)
def fix_and_rerun() -> None:
    @task
    def rows() -> list[dict[str, Any]]:
        return [
            {"sku": 1, "prompt": "A red teapot on white"},
            {"sku": 2, "prompt": "A famous film character holding a teapot"},
            {"sku": 3, "prompt": "A blue teapot on white", "aspect_ratio": "16:9"},
        ]

    @task
    def mended(result: dict[str, Any]) -> list[dict[str, Any]]:
        """A person, a rule or a language model; what it returns is a data set again."""
        if result["failures"] is None:
            raise AirflowSkipException("Nothing failed.")
        with ObjectStoragePath(result["failures"]).open(encoding="utf-8") as file:
            failed = [json.loads(line) for line in file]
        return [row | {"prompt": row["prompt"].replace("A famous film character", "A cat")} for row in failed]

    first = GptImageBatchOperator(task_id="first", requests=rows(), **BATCH)
    GptImageBatchOperator(task_id="second", requests=mended(first.output), **BATCH)


fix_and_rerun()
