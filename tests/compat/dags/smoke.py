"""A DAG for each thing a row has to get right: an image, mapped images, a batch, callbacks, and loops."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import sdk
from airflow.sdk import DAG, task, task_group

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

OPTIONS: dict[str, Any] = {
    "destination": "{{ var.value.gpt_image_destination }}/{{ dag.dag_id }}",
    "poll_interval": 1,
    "timeout": 60,
    "retries": 1,
    "retry_delay": timedelta(seconds=1),
}


def prompts(dag_id: str, count: int) -> list[str]:
    """By its first words the books tell whose a prompt is."""
    return [f"{dag_id}: lighthouse {number}" for number in range(count)]


with DAG("one_image", schedule=None):
    GptImageGenerateOperator(task_id="images", prompt=prompts("one_image", 1)[0], **OPTIONS)

with DAG("mapped_images", schedule=None):

    @task.gpt_image(task_id="images", map_index_template="{{ prompt }}", **OPTIONS)
    def images(prompt: str) -> str:
        return prompt

    images.expand(prompt=prompts("mapped_images", 3))

with DAG("one_batch", schedule=None):
    GptImageBatchOperator(task_id="images", requests=prompts("one_batch", 5), **OPTIONS)

with DAG("called_back", schedule=None):
    GptImageGenerateOperator(task_id="images", prompt=prompts("called_back", 1)[0], **OPTIONS)

with DAG("lost_answer", schedule=None):
    # Time for the callback to come.
    patient = {**OPTIONS, "retry_delay": timedelta(seconds=6)}
    GptImageGenerateOperator(task_id="images", prompt=prompts("lost_answer", 1)[0], **patient)

if hasattr(sdk, "LoopDecision"):  # Airflow 3.4 on

    def third(*, loop: Any) -> bool:
        return loop.index == 2

    with DAG("looped_image", schedule=None):

        @task_group
        def image() -> None:
            GptImageGenerateOperator(task_id="images", prompt=prompts("looped_image", 1)[0], **OPTIONS)

        image.loop(max_iterations=3, until=third)

    with DAG("looped_batch", schedule=None):

        @task_group
        def batch() -> None:
            GptImageBatchOperator(task_id="images", requests=prompts("looped_batch", 2), **OPTIONS)

        batch.loop(max_iterations=3, until=third)
