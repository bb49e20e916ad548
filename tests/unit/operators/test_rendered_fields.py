"""What Airflow stores of a task's rendered fields outlives the task: no signature is in it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, task
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.execution_time import task_runner

from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

SIGNED = "https://photos.example/1.png?X-Amz-Signature=0f1e2d3c4b5a&X-Amz-Expires=900"
CALLBACK = "https://hooks.example/done/t0ken-5f3a?run=1"
ROW = {"prompt": "a teapot", "image_urls": [SIGNED], "callback_url": CALLBACK}


@task
def rows():
    return [ROW]


def stored(build):
    """A task's rendered fields as Airflow's task runner sends them; a task gave what ``rows`` returns."""
    reset_secrets_masker()  # what an earlier test had masked
    with DAG("shop", schedule=None) as dag:
        build()
    operator = dag.get_task("image")
    context = {
        "ti": SimpleNamespace(
            map_index=0, run_id="r", task_id="image", xcom_pull=lambda *args, **kwargs: [dict(ROW)]
        ),
        "signed": SIGNED,
        "dag": dag,
        "params": {},
        "dag_run": SimpleNamespace(run_id="r", conf={}),
        "task": operator,
    }
    operator.render_template_fields(context)
    return json.dumps(task_runner._serialize_rendered_fields(context["task"]))


@pytest.mark.parametrize(
    "build",
    [
        lambda: GptImageGenerateOperator(task_id="image", destination="/data", **ROW),
        lambda: GptImageGenerateOperator(
            task_id="image", prompt="a teapot", image_urls=["{{ signed }}"], destination="/data"
        ),
        lambda: GptImageGenerateOperator.partial(task_id="image", destination="/data").expand_kwargs(rows()),
        lambda: GptImageBatchOperator(task_id="image", requests=[ROW], destination="/data"),
        lambda: GptImageBatchOperator(task_id="image", requests=rows(), destination="/data"),
        lambda: GptImageBatchOperator(
            task_id="image", requests=["a teapot"], defaults={"callback_url": CALLBACK}, destination="/data"
        ),
        lambda: GptImageBatchOperator(
            task_id="image",
            requests=[
                {"prompt": "a teapot", "Image URL": f"{SIGNED} {SIGNED}&n=2", "photos": {"a": [SIGNED]}}
            ],
            destination="/data",
        ),
    ],
    ids=["literal", "template", "mapped", "rows", "a task's rows", "defaults", "names of others"],
)
def test_no_signature_and_no_callback_address_is_among_the_rendered_fields(build):
    fields = stored(build)

    assert "a teapot" in fields
    assert "0f1e2d3c4b5a" not in fields
    assert "t0ken-5f3a" not in fields
