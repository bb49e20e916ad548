"""One image, stored on this machine's disk."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

with DAG("first_image", description="One image, stored on a disk", schedule=None, tags=["gpt-image"]):
    GptImageGenerateOperator(
        task_id="poster",
        prompt="A cinematic night city poster with neon reflections on a rainy street.",
        aspect_ratio="16:9",
        destination="{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}",
        retries=3,
        retry_delay=timedelta(seconds=30),
    )
