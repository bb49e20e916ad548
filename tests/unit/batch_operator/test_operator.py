"""The batch operator from outside: its arguments, the data sets it takes, what it leaves and returns."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

BRACES = "{{ ds }} {% for x in y %} {# none #} {{ undefined.name }} on a sign"


def made(**options):
    given = {"task_id": "posters", "requests": ["a teapot"], "destination": "/data/posters"}
    return GptImageBatchOperator(**given | options)


# Arguments


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"variants": 0}, "variants=0 must be a whole number from 1 to 100"),
        ({"variants": 101}, "variants=101 must be a whole number from 1 to 100"),
        ({"variants": True}, "variants=True must be"),
        ({"max_in_flight": 0}, "max_in_flight=0 must be a whole number from 1 to 1,000"),
        ({"max_in_flight": 1001}, "max_in_flight=1001 must be"),
        ({"item_retries": 11}, "item_retries=11 must be a whole number from 0 to 10"),
        ({"item_retries": -1}, "item_retries=-1 must be"),
        ({"reuse": "always"}, "reuse='always' must be one of 'run', 'destination', 'never'"),
        ({"on_invalid": "ignore"}, "on_invalid='ignore' must be one of 'fail', 'skip'"),
        ({"on_item_failure": "skip"}, "on_item_failure='skip' must be one of 'continue', 'fail'"),
        ({"on_unknown_submit": "pay"}, "on_unknown_submit='pay' must be one of 'fail', 'resubmit'"),
        ({"max_failures": -1}, "max_failures=-1 must be a count (10), or a share below 1 (0.05)"),
        ({"max_failures": 1.0}, "max_failures=1.0 must be"),
        ({"max_failures": True}, "max_failures=True must be"),
        ({"max_failures": "10%"}, "max_failures='10%' must be"),
        ({"max_credits": -1}, "max_credits=-1 must be an amount of credits, 0 or more"),
        ({"max_credits": "many"}, "max_credits='many' must be"),
        ({"poll_interval": 0}, "poll_interval=0 must be a number of seconds above 0"),
        ({"timeout": float("inf")}, "timeout=inf must be"),
        (
            {"destination": "posters"},
            "'posters' is not a folder images can be stored in.\nIt has to be absolute",
        ),
        ({"destination": ""}, "'' is not a folder"),
    ],
    ids=str,
)
def test_an_argument_that_breaks_a_rule_is_refused_while_the_dag_is_parsed(options, rule):
    with pytest.raises(InvalidRequestError) as refused:
        made(**options)

    assert rule in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"destination": "{{ params.where }}"},
        {"destination": "s3://store@bucket/{{ ds }}"},
        {"max_failures": 0},
        {"max_failures": 0.0},
        {"max_failures": 0.99},
        {"max_credits": "4.70"},
        {"max_credits": 0},
        {"item_retries": 0},
        {"max_in_flight": 1000, "variants": 100},
        {"requests": "{{ params.file }}"},
    ],
    ids=str,
)
def test_what_keeps_the_rules_or_is_known_later_passes(options):
    assert made(**options).task_id == "posters"


def test_tasks_get_the_packages_retry_policy_unless_they_have_one():
    own = GptImageRetryPolicy()

    assert isinstance(made().retry_policy, GptImageRetryPolicy)
    assert made(retry_policy=own).retry_policy is own


@task
def something():
    return "made by another task"


@pytest.mark.parametrize(
    "requests",
    [
        lambda output: output,
        lambda output: ["a teapot", output],
        lambda output: [{"prompt": output}],
        lambda output: [{"prompt": "a", "image_urls": [output]}],
    ],
    ids=["the list itself", "a prompt in it", "a cell", "in a cell's list"],
)
def test_the_output_of_another_task_makes_a_dependency_wherever_it_stands(requests):
    with DAG("d", schedule=None):
        operator = made(requests=requests(something()))

    assert operator.upstream_task_ids == {"something"}


def test_a_dag_with_it_is_serialised_without_its_prompts():
    with DAG("d", schedule=None) as dag:
        made(requests=[BRACES] * 1234)

    kept = json.dumps(DagSerialization.to_dict(dag))

    assert "1,234 rows" in kept
    assert "on a sign" not in kept
