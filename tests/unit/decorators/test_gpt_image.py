"""The decorator while its DAG is parsed: all that any ``@task`` does, and the operator's own checks."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.decorators.gpt_image import gpt_image_task
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

URL = "https://example.com/a.png"


@pytest.fixture(autouse=True)
def dag():
    with DAG("d", schedule=None) as dag:
        yield dag


def poster():
    """Draws a **poster**."""
    return "a red teapot"


def product(name, style="photo"):
    return f"{name}, {style}"


@task
def something():
    return "made by another task"


def made(function=poster, **options):
    """The operator behind a decorated function that is called without arguments."""
    return gpt_image_task(**options)(function)().operator


# As any @task


def test_it_decorates_without_parentheses():
    operator = gpt_image_task(poster)().operator

    assert isinstance(operator, GptImageGenerateOperator)


def test_it_decorates_with_parentheses():
    operator = gpt_image_task()(poster)().operator

    assert isinstance(operator, GptImageGenerateOperator)


def test_a_prompt_in_the_functions_place_is_a_mistake():
    with pytest.raises(TypeError, match="No positional arguments"):
        gpt_image_task("a red teapot")


def test_the_functions_name_is_the_tasks_and_its_docstring_the_tasks_documentation():
    operator = made()

    assert (operator.task_id, operator.doc_md) == ("poster", "Draws a **poster**.")


def test_a_second_call_is_a_second_task(dag):
    decorated = gpt_image_task(poster)

    decorated()
    decorated()

    assert set(dag.task_dict) == {"poster", "poster__1"}


def test_arguments_are_checked_against_the_functions_signature():
    with pytest.raises(TypeError, match="name"):
        made(product)


def test_an_argument_may_be_the_output_of_another_task():
    output = something()

    operator = gpt_image_task(product)(output).operator

    assert operator.upstream_task_ids == {"something"}


def test_its_output_is_an_argument_of_another_task():
    @task
    def show(result): ...

    shown = show(gpt_image_task(poster)()).operator

    assert shown.upstream_task_ids == {"poster"}


def test_override_changes_what_it_names_and_nothing_else():
    decorated = gpt_image_task(retries=3, aspect_ratio="3:2")(poster)

    operator = decorated.override(task_id="wide", aspect_ratio="16:9")().operator

    assert (operator.task_id, operator.aspect_ratio, operator.retries) == ("wide", "16:9", 3)
    assert decorated().operator.aspect_ratio == "3:2"


def test_it_maps_over_arguments(dag):
    gpt_image_task(aspect_ratio="3:2")(product).partial(style="sketch").expand(name=["a teapot", "a vase"])

    operator = dag.task_dict["product"].unmap({"op_kwargs": {"name": "a teapot"}})

    assert operator.op_kwargs == {"name": "a teapot", "style": "sketch"}
    assert operator.aspect_ratio == "3:2"
    assert isinstance(operator.retry_policy, GptImageRetryPolicy)


def test_the_retry_policy_is_ours():
    assert isinstance(made().retry_policy, GptImageRetryPolicy)


def test_the_dags_default_arguments_reach_the_operator():
    with DAG("other", schedule=None, default_args={"destination": "/data", "retries": 3}):
        operator = made()

    assert (operator.destination, operator.retries) == ("/data", 3)


def test_a_default_prompt_is_for_the_dags_other_operators():
    with DAG("other", schedule=None, default_args={"prompt": "a blue teapot"}):
        operator = made()

    assert operator.prompt != "a blue teapot"


def test_a_dag_with_it_is_serialised_and_says_what_is_behind_it(dag):
    made(destination="/data/{{ ds }}")
    gpt_image_task(product).expand(name=["a teapot"])

    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    assert again.task_dict["poster"].operator_name == "@task.gpt_image"
    assert again.task_dict["product"].operator_name == "@task.gpt_image"
    assert again.task_dict["poster"].prompt == "DYNAMIC (set during execution)"


def test_arguments_and_the_operators_own_fields_are_templated():
    fields = set(made().template_fields)

    assert fields == {"op_args", "op_kwargs", *GptImageGenerateOperator.template_fields}


# The result is one dict, whatever the function is annotated with


def in_fields() -> dict[str, Any]:
    return {"prompt": "a red teapot"}


def test_a_function_that_returns_a_mapping_does_not_take_the_result_apart():
    assert made(in_fields).multiple_outputs is False


def test_the_result_is_taken_apart_when_asked_for():
    assert made(in_fields, multiple_outputs=True).multiple_outputs is True


# The operator's keywords

KEYWORDS = inspect.signature(GptImageGenerateOperator.__init__).parameters.keys() - {
    "self",
    "prompt",
    "kwargs",
}


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_every_keyword_of_the_operator_but_the_prompt_can_be_given(name):
    default = inspect.signature(GptImageGenerateOperator.__init__).parameters[name].default

    assert getattr(made(**{name: default}), name) == default


@pytest.mark.parametrize("name", GptImageGenerateOperator.template_fields[1:])
def test_every_templated_keyword_takes_the_output_of_another_task(name):
    output = something()

    operator = made(**{name: output})

    assert operator.upstream_task_ids == {"something"}


@pytest.mark.parametrize(
    "decorate", [made, lambda **o: gpt_image_task(**o)(poster), lambda **o: gpt_image_task(poster, **o)]
)
def test_a_prompt_is_not_the_decorators_to_say(decorate):
    with pytest.raises(InvalidRequestError) as refused:
        decorate(prompt="a blue teapot")

    assert "prompt='a blue teapot' was given to @task.gpt_image" in str(refused.value)
    assert "Leave it out" in str(refused.value)


def test_a_prompt_is_not_an_overrides_to_say_either():
    with pytest.raises(InvalidRequestError, match="Leave it out"):
        gpt_image_task(poster).override(prompt="a blue teapot")()


def test_an_asynchronous_function_is_refused():
    async def later(): ...

    with pytest.raises(InvalidRequestError, match=r"later\(\) is asynchronous.\n.*\nWrite it with def"):
        made(later)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"aspect_ratio": "1881x836", "resolution": "4k"}, "contradicts aspect_ratio='1881x836'"),
        ({"image_urls": ["a.png"]}, "'a.png' is a file of this machine"),
        ({"destination": "images"}, "'images' is not a folder"),
        ({"on_clear": "pay"}, "on_clear='pay' must be one of"),
    ],
    ids=str,
)
def test_what_is_known_is_checked_by_the_operator_while_the_dag_is_parsed(options, rule):
    with pytest.raises(InvalidRequestError) as refused:
        made(**options)

    assert rule in str(refused.value)


@pytest.mark.parametrize("images", [[URL], ["{{ params.url }}"]], ids=str)
def test_reference_images_can_be_given_beside_the_function(images):
    assert made(image_urls=images).image_urls == images


def test_an_argument_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="destinatoin"):
        made(destinatoin="/data")
