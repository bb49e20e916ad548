"""What the examples don't show: not waiting, sensors, the worker that waits itself, failures."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.sensors.gpt_image import GptImageSensor

FOLDER = "{{ var.value.gpt_image_destination }}"
ID = "{{ ti.xcom_pull(task_ids='%s')['generation_id'] }}"

with DAG("waiting", schedule=None, default_args={"retries": 0}):
    submit = GptImageGenerateOperator(
        task_id="submit", prompt="A slow poster", aspect_ratio="3:2", wait_for_completion=False
    )
    wait = GptImageSensor(task_id="wait", generation_id=ID % "submit", destination=FOLDER)
    look = GptImageSensor(
        task_id="look",
        generation_id=submit.output,
        destination=f"{FOLDER}/again",
        deferrable=False,
        poke_interval=1,
    )
    hold = GptImageGenerateOperator(
        task_id="hold",
        prompt="A poster for {{ dag.dag_id }}, safely {{ none }}",
        aspect_ratio="1881x836",
        resolution="{{ none }}",
        nsfw_checker="{{ false }}",
        destination=FOLDER,
        deferrable=False,
        poll_interval=0.1,
    )
    edit = GptImageGenerateOperator(
        task_id="edit",
        image_urls=["{{ ti.xcom_pull(task_ids='hold')['images'][0]['url'] }}"],
        aspect_ratio="4:5",
        resolution="2k",
        destination=FOLDER,
        deferrable=False,
        poll_interval=0.1,
    )
    submit >> wait >> look
    hold >> edit

with DAG("failures", schedule=None, default_args={"retries": 0}):
    GptImageGenerateOperator(task_id="deferred", prompt="Something forbidden")
    GptImageGenerateOperator(
        task_id="held", prompt="Something forbidden", deferrable=False, poll_interval=0.1
    )
