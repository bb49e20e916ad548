"""Rows of others hold whatever they like: which ways to a prompt Airflow renders, and which it doesn't."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, literal, task

from airflow_gpt_image.decorators.gpt_image import gpt_image_task
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

THEFT = "{{ secret }}"
URL = "https://example.com/{{ secret }}.png"
ROW = {"prompt": THEFT, "image_urls": [URL]}


@task
def rows():
    return [ROW]


def rendered(build):
    """A task as Airflow's own code renders it before it runs; another task gave what ``rows`` returns."""
    with DAG("shop", schedule=None) as dag:
        build()
    context = {
        "ti": SimpleNamespace(
            map_index=0, run_id="r", task_id="image", xcom_pull=lambda *args, **kwargs: [dict(ROW)]
        ),
        "secret": "sk-secret",
        "dag": dag,
        "params": {},
        "dag_run": SimpleNamespace(run_id="r", conf={}),
    }
    operator = dag.get_task("image")
    context["task"] = operator
    operator.render_template_fields(context)
    return context["task"]


def of_mapped(values):
    return rendered(
        lambda: GptImageGenerateOperator.partial(task_id="image", destination="/data").expand_kwargs(values())
    )


@pytest.mark.parametrize("values", [rows, lambda: [ROW]], ids=["another task's", "the DAG file's"])
def test_expand_kwargs_is_rendered(values):
    image = of_mapped(values)

    assert (image.prompt, image.image_urls) == ("sk-secret", ["https://example.com/sk-secret.png"])


def test_literal_keeps_a_prompt_in_expand_kwargs_as_it_is():
    image = of_mapped(lambda: [{"prompt": literal(THEFT), "image_urls": literal([URL])}])

    assert (image.prompt, image.image_urls) == (THEFT, [URL])


@pytest.mark.parametrize("requests", [rows, lambda: [ROW], lambda: [rows()]], ids=["xcom", "list", "inside"])
def test_rows_that_are_given_to_the_batch_are_never_rendered(requests):
    batch = rendered(
        lambda: GptImageBatchOperator(task_id="image", requests=requests(), destination="/data/{{ secret }}")
    )

    assert batch.destination == "/data/sk-secret"
    assert THEFT in str(batch.requests)
    assert "sk-secret" not in str(batch.requests)


@pytest.mark.parametrize("how", ["called", "mapped"])
def test_another_tasks_rows_reach_the_function_of_the_decorator_as_they_are_and_so_does_what_it_returns(how):
    draw = gpt_image_task(lambda row: row, task_id="image")

    image = rendered(lambda: draw.expand(row=rows()) if how == "mapped" else draw(row=rows()))
    row = image.op_kwargs["row"] if how == "mapped" else image.op_kwargs["row"][0]
    image.take(image.python_callable(row))

    assert (image.prompt, image.image_urls) == (THEFT, [URL])
