"""What the Images tab shows: a picture, a mapped task's, a data set's, and what became of some others."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

DESTINATION = "{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}"
PROMPT = "{{ dag_run.conf['prompt'] }}"

with DAG("gallery", schedule=None, max_active_runs=8):
    GptImageGenerateOperator(task_id="poster", prompt=PROMPT, aspect_ratio="16:9", destination=DESTINATION)
    GptImageGenerateOperator(task_id="not_kept", prompt=f"{PROMPT} Not kept.")
    GptImageGenerateOperator(task_id="elsewhere", prompt=f"{PROMPT} Elsewhere.", destination="/tmp/elsewhere")
    GptImageGenerateOperator(task_id="failed", prompt=f"{PROMPT} Failed.", destination=DESTINATION)
    GptImageGenerateOperator(task_id="unknown", prompt=f"{PROMPT} Lost.", destination=DESTINATION)
    GptImageGenerateOperator(task_id="waiting", prompt=f"{PROMPT} Slow.", destination=DESTINATION)
    EmptyOperator(task_id="foreign")

with DAG("gallery_mapped", schedule=None):

    @task
    def prompts(dag_run=None):
        return [f"{dag_run.conf['prompt']} Number {number}." for number in range(24)]

    @task.gpt_image(destination=DESTINATION)
    def picture(prompt):
        return prompt

    picture.expand(prompt=prompts())

with DAG("gallery_batch", schedule=None):
    GptImageBatchOperator(
        task_id="pictures",
        requests="{{ dag_run.conf['file'] }}",
        filename="{sku}",
        max_failures=0.5,
        destination=DESTINATION,
    )
