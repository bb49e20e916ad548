"""Tasks of each kind, whose lineage is looked at; where the images go is in the environment."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

DESTINATION = os.environ.get("AIRFLOW_VAR_GPT_IMAGE_DESTINATION", "/nowhere")

with DAG("lineage"):
    GptImageGenerateOperator(
        task_id="edit",
        prompt="a secret prompt",
        image_urls=["https://photos.example.com/shoe.png?X-Signature=secret-signature"],
        resolution="2k",
        destination=f"{DESTINATION}/edit",
        poll_interval=0.2,
    )
    GptImageGenerateOperator(
        task_id="refused",
        prompt="a secret prompt that fails",
        destination=f"{DESTINATION}/refused",
        poll_interval=0.2,
    )
    GptImageBatchOperator(
        task_id="catalogue",
        requests=[{"prompt": f"a secret prompt {number}", "resolution": "1k"} for number in range(30)],
        destination=f"{DESTINATION}/catalogue",
        poll_interval=0.2,
    )
