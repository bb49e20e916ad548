"""``@task.gpt_image_batch``: a function returns the data set, the batch operator does the rest."""

from __future__ import annotations

import inspect
import json

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.decorators.gpt_image import gpt_image_batch_task
from airflow_gpt_image.errors import InvalidApiKeyError, InvalidRequestError, InvalidRowsError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.provider_info import get_provider_info
from airflow_gpt_image.retry_policy import GptImageRetryPolicy
from tests.batches import BatchTask
from tests.task_instance import EVENT

BRACES = "{{ ds }} {% for x in y %} {# none #} {{ undefined.name }} on a sign"
KEYWORDS = inspect.signature(GptImageBatchOperator.__init__).parameters.keys() - {
    "self",
    "requests",
    "kwargs",
}


def posters():
    """Draws **posters**."""
    return ["a teapot", "a vase"]


def made(function=posters, **options):
    """The operator behind a decorated function that is called without arguments."""
    with DAG("shop", schedule=None):
        return gpt_image_batch_task(**{"destination": "/data", **options})(function)().operator


class Decorated(BatchTask):
    """A batch task instance whose operator is a decorated function's."""

    def __init__(self, destination, function, call=lambda function: function(), **options):
        super().__init__(destination, **options)
        self.function, self.call = function, call
        del self.given["requests"]

    def _operator(self, **options):
        with DAG("shop", schedule=None):
            given = {"retries": self.retries, **self.given, **options}
            decorated = gpt_image_batch_task(task_id=self.task_id, **given)(self.function)
            operator = self.call(decorated).operator
        self.last = operator
        self.last_context = {**self.context, "map_index_template": operator.map_index_template}
        operator.render_template_fields(self.last_context)
        return operator

    def begin(self, operator=None, **options):
        self.next_try()
        return (operator or self.operator(**options)).execute(self.last_context)

    def wake(self, deferral, event=EVENT, **options):
        while True:
            operator = self.operator(**options)
            try:
                return operator.resume_execution(deferral.method_name, {"event": event}, self.last_context)
            except TaskDeferred as again:
                deferral = again


@pytest.fixture
def decorated(api, tmp_path):
    """Decorates a function; the task instance of its call, which waits on its worker."""

    def decorated(function, **options):
        return Decorated(tmp_path / "posters", function, **{"deferrable": False, **options})

    return decorated


def prompts(api):
    return sorted(charge["request"]["prompt"] for charge in api.books()["charges"])


# While the DAG is parsed


def test_airflow_knows_it_by_its_name():
    names = {item["name"]: item["class-name"] for item in get_provider_info()["task-decorators"]}

    assert names["gpt_image_batch"].endswith(".gpt_image_batch_task")


def test_the_functions_name_is_the_tasks_and_its_docstring_the_tasks_documentation():
    operator = made()

    assert isinstance(operator, GptImageBatchOperator)
    assert (operator.task_id, operator.doc_md) == ("posters", "Draws **posters**.")
    assert isinstance(operator.retry_policy, GptImageRetryPolicy)


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_every_keyword_of_the_operator_but_the_requests_can_be_given(name):
    default = inspect.signature(GptImageBatchOperator.__init__).parameters[name].default
    value = "/data/{{ ds }}" if name == "destination" else default
    kept = "only_preview" if name == "dry_run" else name

    assert getattr(made(**{name: value}), kept) == value


@pytest.mark.parametrize(
    "decorate",
    [
        lambda **options: made(**options),
        lambda **options: gpt_image_batch_task(**options)(posters),
        lambda **options: gpt_image_batch_task(posters, **options),
        lambda **options: gpt_image_batch_task(posters, destination="/data").override(**options)(),
    ],
    ids=["called", "without a function", "with one", "override"],
)
def test_requests_are_not_the_decorators_to_say(decorate):
    with DAG("shop", schedule=None), pytest.raises(InvalidRequestError) as refused:
        decorate(requests=["a lamp"])

    assert "was given to @task.gpt_image_batch.\nThere the function returns it.\n" in str(refused.value)


def test_what_is_known_is_checked_while_the_dag_is_parsed():
    with pytest.raises(InvalidRequestError, match="variants=0 must be a whole number"):
        made(variants=0)


def test_an_asynchronous_function_is_refused():
    async def later(): ...

    with pytest.raises(InvalidRequestError, match=r"@task\.gpt_image_batch calls a plain function"):
        made(later)


def test_an_argument_may_be_the_output_of_another_task():
    @task
    def names(): ...

    with DAG("shop", schedule=None):
        decorated = gpt_image_batch_task(task_id="posters", destination="/data")(lambda names: names)
        operator = decorated(names()).operator

    assert operator.upstream_task_ids == {"names"}


def test_a_dag_with_it_is_serialised_and_says_what_is_behind_it():
    operator = made(destination="/data/{{ ds }}")

    again = DagSerialization.from_dict(DagSerialization.to_dict(operator.dag))

    assert again.task_dict["posters"].operator_name == "@task.gpt_image_batch"
    assert again.task_dict["posters"].requests == "DYNAMIC (set during execution)"


# At work


@pytest.mark.parametrize(
    "returned",
    [[BRACES, "a vase"], ({"prompt": BRACES}, {"prompt": "a vase", "sku": 1})],
    ids=["prompts", "mappings"],
)
def test_the_list_a_function_returns_is_the_data_set_and_is_not_rendered(decorated, api, returned):
    result = decorated(lambda: returned).run()

    assert prompts(api) == ["a vase", BRACES]
    assert result["stored"] == 2


def test_the_path_a_function_returns_is_the_data_set_and_is_not_rendered(decorated, api, tmp_path):
    file = tmp_path / "{{ ds }}.jsonl"
    file.write_text(json.dumps({"prompt": BRACES, "sku": 7}))

    result = decorated(lambda: str(file)).run()

    assert prompts(api) == [BRACES]
    assert [row["data"] for row in read_manifest(result["manifest"])] == [{"sku": 7}]


def test_arguments_and_the_destination_are_rendered_as_ever(decorated, tmp_path, api):
    task = decorated(lambda day: [f"teapots of {day}"], call=lambda function: function("{{ ds }}"))

    result = task.run(destination=f"{tmp_path}/{{{{ ds }}}}")

    assert prompts(api) == ["teapots of 2026-11-24"]
    assert result["manifest"] == f"{tmp_path}/2026-11-24/manifest.jsonl"


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        ("a red teapot", InvalidRequestError, "is a single string, not a data set"),
        (None, InvalidRequestError, "is not a data set"),
        ([], InvalidRequestError, "is empty"),
        (["a", {"prompt": "b", "resolution": "8k"}], InvalidRowsError, "row 2, column resolution"),
    ],
    ids=repr,
)
def test_what_is_no_data_set_is_refused_before_anything_is_sent(decorated, api, returned, error, words):
    with pytest.raises(error) as refused:
        decorated(lambda: returned).run()

    assert words in str(refused.value)
    assert api.books()["requests"]["submit"] == 0


def test_what_the_function_raises_is_the_tasks_and_costs_nothing(decorated, api):
    def skipped():
        raise AirflowSkipException

    with pytest.raises(AirflowSkipException):
        decorated(skipped).run()

    assert api.books()["requests"]["submit"] == 0


def test_a_retry_calls_it_again_and_pays_for_what_is_new(decorated, api):
    answers = iter([["a", "b"], ["b", "c", "a"]])
    task = decorated(lambda: next(answers))
    api.fault("submit:401;after=1")
    with pytest.raises(InvalidApiKeyError):
        task.run()
    api.clear_faults()

    result = task.run()

    assert result["stored"] == 3
    assert prompts(api) == ["a", "b", "c"]


def test_after_a_deferral_it_is_not_called_again_and_the_ui_shows_what_is_carried_out(decorated, api):
    calls = []

    def posters():
        calls.append("called")
        return ["a", "b"]

    api.settings(duration=8)  # longer than a worker stays when waiting is all that is left
    task = decorated(posters, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()

    result = task.wake(deferred.value)

    assert (calls, result["stored"], api.books()["submits"]) == (["called"], 2, 2)
    assert task.last.requests == f"{task.folder}/plan.jsonl"
    assert task.last.overwrite_rtif_after_execution


@pytest.mark.parametrize("template", ["{{ name }}", "{{ ds }}"])
def test_a_mapped_tasks_label_is_of_what_was_known_when_the_function_was_called(decorated, template):
    task = decorated(lambda name: [name], call=lambda function: function(name="teapot"))

    task.run(map_index_template=template)

    env = task.last.dag.get_template_env()
    label = env.from_string(task.last_context["map_index_template"]).render(task.last_context)
    assert label == {"{{ name }}": "teapot", "{{ ds }}": "2026-11-24"}[template]


@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_a_task_whose_function_failed_paid_for_nothing_and_pays_after_a_clear(decorated, api, airflow):
    answers = iter([AirflowSkipException("not today"), ["a teapot"]])

    def posters():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = decorated(posters)
    with pytest.raises(AirflowSkipException):
        task.run()
    task.clear(airflow=airflow)

    assert task.run()["stored"] == 1
    assert prompts(api) == ["a teapot"]
