"""The operator while its DAG is parsed: what it takes, what it refuses, what Airflow does with it."""

from __future__ import annotations

import inspect
import pickle
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.sdk import DAG, ObjectStoragePath, task
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

URL = "https://example.com/a.png"


def make(**options):
    return GptImageGenerateOperator(task_id="poster", **{"prompt": "a red teapot"} | options)


def refusal(**options):
    with pytest.raises(InvalidRequestError) as caught:
        make(**options)
    return str(caught.value)


CONTRACT = {
    "image_urls": None,
    "aspect_ratio": "auto",
    "resolution": None,
    "nsfw_checker": True,
    "callback_url": None,
    "reference_roots": None,
    "destination": None,
    "filename": None,
    "strict_size": False,
    "reuse": "run",
    "gpt_image_conn_id": "gpt_image_default",
    "deferrable": True,
    "wait_for_completion": True,
    "poll_interval": 5.0,
    "timeout": 3600.0,
    "max_credits": None,
    "check_balance": False,
    "on_clear": "reuse",
    "on_unknown_submit": "fail",
}


def test_the_signature_is_the_contract_and_all_but_the_prompt_has_a_default():
    parameters = inspect.signature(GptImageGenerateOperator.__init__).parameters
    operator = make()

    given = {name: parameter.default for name, parameter in parameters.items()}
    assert {name: given[name] for name in CONTRACT} == CONTRACT
    assert set(given) - set(CONTRACT) == {"self", "prompt", "kwargs"}
    assert {name: getattr(operator, name) for name in CONTRACT} == CONTRACT


def test_every_parameter_is_explained():
    explained = GptImageGenerateOperator.__doc__

    assert [name for name in ("prompt", *CONTRACT) if f":param {name}:" not in explained] == []


def test_the_doc_says_which_fields_are_templated():
    doc = inspect.getdoc(GptImageGenerateOperator)
    texts = {text.split(":")[0]: text for text in doc.partition("\n\nRaises")[0].split(":param ")[1:]}

    assert {name for name, text in texts.items() if "(templated)" in text} == set(
        GptImageGenerateOperator.template_fields
    )


def test_reference_images_do_without_a_prompt():
    assert make(prompt=None, image_urls=[URL]).prompt is None


def test_airflows_own_arguments_are_passed_on():
    operator = make(retries=3, retry_delay=timedelta(seconds=30), pool="images")

    assert (operator.retries, operator.retry_delay, operator.pool) == (3, timedelta(seconds=30), "images")


# Refused while the DAG is parsed


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"prompt": None}, "neither prompt nor image_urls is given"),
        ({"prompt": None, "image_urls": []}, "neither prompt nor image_urls is given"),
        ({"prompt": ""}, "is blank"),
        ({"prompt": " \n"}, "is blank"),
        ({"prompt": 5}, "must be a string"),
        ({"prompt": Path("/prompt.txt")}, "must be a string"),
        ({"prompt": "x" * 20_001}, "The API takes at most 20,000 characters"),
        ({"image_urls": URL}, "is not a list"),
        ({"image_urls": [URL] * 17}, "17 reference images; at most 16"),
        ({"image_urls": ["ftp://example.com/a.png"]}, "item 0: 'ftp://example.com/a.png' is no http"),
        ({"aspect_ratio": "7:5"}, "'7:5' is not an aspect ratio"),
        ({"aspect_ratio": "1000x1000"}, "'1000x1000' is not a pixel size of the API"),
        ({"aspect_ratio": None}, "must be a string"),
        ({"resolution": "8k"}, "'8k' is not a resolution.\nOne of 1k, 2k, 4k."),
        ({"aspect_ratio": "1881x836", "resolution": "4k"}, "contradicts aspect_ratio='1881x836'"),
        ({"nsfw_checker": "perhaps"}, "must be True or False"),
        ({"nsfw_checker": 1}, "must be True or False"),
        ({"nsfw_checker": None}, "must be True or False"),
        ({"callback_url": "example.com/hook"}, "is no http(s) address"),
        ({"destination": "images"}, "'images' is not a folder"),
        ({"destination": "s3://bucket/../images"}, "is not a folder"),
        ({"filename": "{prompt}"}, "The parts are"),
        ({"filename": "{slug}"}, "doesn't tell an image from every other one"),
        ({"filename": "../{generation_id}"}, "must be a path inside the destination"),
        ({"reuse": "always"}, "must be one of 'run', 'destination'"),
        ({"reuse": "destination"}, "needs a destination"),
        (
            {"reuse": "destination", "destination": "/data", "filename": "{generation_id}"},
            "With reuse='destination' a name follows from its request",
        ),
        ({"destination": ""}, "is not a folder"),
        ({"poll_interval": 0}, "poll_interval=0 must be a number of seconds above 0"),
        ({"poll_interval": -1}, "poll_interval=-1 must be"),
        ({"poll_interval": "5"}, "poll_interval='5' must be"),
        ({"poll_interval": timedelta(seconds=-5)}, "must be a number of seconds"),
        ({"poll_interval": None}, "poll_interval=None must be"),
        ({"timeout": 0}, "timeout=0 must be a number of seconds above 0"),
        ({"timeout": True}, "timeout=True must be"),
        ({"timeout": float("nan")}, "timeout=nan must be"),
        ({"timeout": float("inf")}, "timeout=inf must be"),
        ({"max_credits": -1}, "max_credits=-1 must be an amount of credits, 0 or more"),
        ({"max_credits": "a lot"}, "max_credits='a lot' must be"),
        ({"max_credits": ""}, "max_credits='' must be"),
        ({"max_credits": True}, "max_credits=True must be"),
        ({"max_credits": float("nan")}, "max_credits=nan must be"),
        ({"max_credits": "Infinity"}, "max_credits='Infinity' must be"),
        ({"max_credits": [5]}, "max_credits=[5] must be"),
        ({"max_credits": "{{ params.most }}"}, "must be an amount of credits"),
        ({"on_clear": "pay"}, "on_clear='pay' must be one of 'reuse', 'regenerate'"),
        ({"on_clear": None}, "on_clear=None must be one of"),
        ({"on_unknown_submit": "retry"}, "on_unknown_submit='retry' must be one of 'fail', 'resubmit'"),
    ],
    ids=str,
)
def test_what_breaks_a_rule_is_refused_while_the_dag_is_parsed(options, rule):
    assert rule in refusal(**options)


@pytest.mark.parametrize("destination", [5, ["/data"], Path("images"), True], ids=repr)
def test_a_destination_that_is_no_folder_is_refused_in_our_words(destination):
    # An AttributeError out of our inside doesn't tell anybody what to do.
    assert "destination" in refusal(destination=destination)


@pytest.mark.parametrize(
    "destination",
    [
        "/data/images",
        "file:///data/images",
        "file://localhost/data",
        Path("/data/images"),
        "s3://my_conn@bucket/images",
        ObjectStoragePath("s3://bucket/images", conn_id="my_conn"),
    ],
    ids=repr,
)
def test_a_folder_on_the_worker_or_on_a_store_is_a_destination(destination):
    assert make(destination=destination).destination == destination


@pytest.mark.parametrize("most", [0, 5, 4.7, "4.7", Decimal("14.1"), " 94 "])
def test_an_amount_of_credits_can_be_given_in_any_form(most):
    assert make(max_credits=most).max_credits == most


def test_an_argument_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="promt"):
        make(promt="a red teapot")


def test_a_mapped_operator_refuses_an_unknown_argument_too():
    with DAG("d", schedule=None), pytest.raises(TypeError, match="promt"):
        GptImageGenerateOperator.partial(task_id="poster", promt="x").expand(prompt=["a"])


# Not refused, for it is only known when the task runs


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "{{ params.prompt }}"},
        {"prompt": "{% if params.x %}a{% endif %}"},
        {"prompt": None, "image_urls": "{{ params.urls }}"},
        {"prompt": None, "image_urls": ["{{ params.url }}"]},
        {"image_urls": [URL, "{{ params.url }}"]},
        {"aspect_ratio": "{{ params.ratio }}"},
        {"resolution": "{{ params.tier }}"},
        {"aspect_ratio": "{{ params.ratio }}", "resolution": "4k"},
        {"aspect_ratio": "1881x836", "resolution": "{{ params.tier }}"},
        {"nsfw_checker": "{{ params.check }}"},
        {"callback_url": "{{ params.hook }}"},
        {"destination": "{{ params.folder }}"},
        {"destination": "{{ params.folder }}/images"},
        {"gpt_image_conn_id": "{{ params.conn }}"},
    ],
    ids=str,
)
def test_what_is_templated_is_not_refused_while_the_dag_is_parsed(options):
    operator = make(**options)

    assert {name: getattr(operator, name) for name in options} == options


@pytest.mark.parametrize(
    "options",
    [{"aspect_ratio": "7:5"}, {"resolution": "8k"}, {"image_urls": ["no address"]}, {"callback_url": "x"}],
    ids=str,
)
def test_what_is_wrong_beside_a_templated_prompt_is_refused_all_the_same(options):
    assert refusal(prompt="{{ params.prompt }}", **options)


def test_a_blank_prompt_is_refused_beside_templated_images():
    assert "is blank" in refusal(prompt=" ", image_urls=["{{ params.url }}"])


@task
def something():
    return "made by another task"


@pytest.mark.parametrize("name", GptImageGenerateOperator.template_fields)
def test_every_templated_field_takes_the_output_of_another_task(name):
    with DAG("d", schedule=None):
        output = something()
        operator = make(**{name: output})

    assert getattr(operator, name) is output
    assert operator.upstream_task_ids == {"something"}


def test_outputs_of_other_tasks_can_be_items_of_the_list_of_images():
    with DAG("d", schedule=None):
        operator = make(prompt=None, image_urls=[URL, something()])

    assert operator.upstream_task_ids == {"something"}


# Rendered

RENDERED = {"prompt": "{{ prompt }}", "aspect_ratio": "{{ ratio }}", "resolution": "{{ tier }}"}
RENDERED |= {"nsfw_checker": "{{ check }}", "callback_url": "{{ hook }}", "image_urls": ["{{ url }}"]}
VALUES = {"prompt": "a red teapot", "ratio": "3:2", "tier": "2k", "check": False, "hook": None, "url": URL}


@pytest.fixture
def request_of():
    """The request of an operator whose templates were rendered with these values, as Airflow does it."""

    def request_of(operator, **values):
        operator.render_template_fields(values)
        return operator._request()

    return request_of


def test_templates_render_to_the_request(request_of):
    request = request_of(make(**RENDERED), **VALUES)

    assert request.model_dump() == {
        "prompt": "a red teapot",
        "image_urls": (URL,),
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
        "callback_url": None,
    }


@pytest.mark.parametrize(
    ("value", "meant"), [(True, True), (False, False), ("true", True), ("false", False), (" True ", True)]
)
def test_a_boolean_that_was_rendered_is_one_again(request_of, value, meant):
    request = request_of(make(nsfw_checker="{{ check }}"), check=value)

    assert request.nsfw_checker is meant


@pytest.mark.parametrize("value", ["yes", "", None, 0, "None"])
def test_a_rendered_safety_check_that_is_no_boolean_is_refused_and_never_guessed(request_of, value):
    with pytest.raises(InvalidRequestError, match=r"nsfw_checker: .* must be True or False"):
        request_of(make(nsfw_checker="{{ check }}"), check=value)


@pytest.mark.parametrize("value", [None, ""])
def test_an_optional_field_that_renders_to_nothing_is_not_given(request_of, value):
    request = request_of(make(resolution="{{ tier }}", callback_url="{{ hook }}"), tier=value, hook=value)

    assert (request.resolution, request.callback_url) == ("1k", None)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("prompt", "", "is blank"),
        ("resolution", "8k", "is not a resolution"),
        ("aspect_ratio", "7:5", "is not an aspect ratio"),
        ("callback_url", "hook", "is no http"),
        ("image_urls", "[]", "is not a list"),
    ],
)
def test_what_renders_to_something_wrong_is_refused_before_anything_is_sent(request_of, field, value, rule):
    with pytest.raises(InvalidRequestError, match=rule):
        request_of(make(**{field: "{{ value }}"}), value=value)


def test_a_prompt_that_renders_to_none_is_not_drawn(request_of):
    # Jinja writes None as a word: without this somebody pays for a picture of the word "None".
    with pytest.raises(InvalidRequestError):
        request_of(make(prompt="{{ value }}"), value=None)


def test_a_prompt_may_speak_of_none(request_of):
    assert request_of(make(prompt="None of the above"), x=1).prompt == "None of the above"


# The retry policy


def _unmapped(**partial):
    with DAG("d", schedule=None):
        mapped = GptImageGenerateOperator.partial(task_id="poster", **partial).expand(prompt=["a", "b"])
    return mapped.unmap({"prompt": "a"})


@pytest.mark.parametrize("made", [make, _unmapped])
def test_the_retry_policy_is_ours_unless_the_author_gave_one(made):
    own = ExceptionRetryPolicy(rules=[])

    assert isinstance(made(retries=2).retry_policy, GptImageRetryPolicy)
    assert made(retry_policy=own).retry_policy is own


def test_a_policy_of_the_dags_own_is_kept():
    policy = GptImageRetryPolicy(upstream_tries=9)

    with DAG("d", schedule=None, default_args={"retry_policy": policy}):
        operator = make()

    assert operator.retry_policy is policy


def test_a_mapped_task_is_checked_before_it_is_mapped():
    with pytest.raises(InvalidRequestError, match="'7:5' is not an aspect ratio"):
        _unmapped(aspect_ratio="7:5")


# As Airflow handles it


def test_an_operator_can_be_carried_to_another_process():
    operator = make(aspect_ratio="3:2", max_credits=Decimal("9.4"))

    again = pickle.loads(pickle.dumps(operator))

    assert (again.prompt, again.aspect_ratio, again.max_credits) == ("a red teapot", "3:2", Decimal("9.4"))
    assert isinstance(again.retry_policy, GptImageRetryPolicy)


def test_a_dag_with_everything_in_it_is_serialised_and_read_again():
    with DAG("d", schedule=None) as dag:
        output = something()
        make(
            image_urls=[URL, output],
            resolution="{{ params.tier }}",
            nsfw_checker=False,
            destination="/data",
            max_credits=Decimal("9.4"),
            check_balance=True,
            on_clear="regenerate",
            on_unknown_submit="resubmit",
        )
        GptImageGenerateOperator.partial(task_id="mapped", retry_policy=GptImageRetryPolicy()).expand(
            prompt=["a", "b"]
        )

    stored = DagSerialization.to_dict(dag)
    again = DagSerialization.from_dict(stored)

    assert set(again.task_dict) == {"something", "poster", "mapped"}
    assert again.task_dict["poster"].task_type == "GptImageGenerateOperator"
    assert list(again.task_dict["poster"].template_fields) == list(GptImageGenerateOperator.template_fields)
    assert again.task_dict["poster"].upstream_task_ids == {"something"}
