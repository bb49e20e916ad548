"""What a DAG file that is wrong says: the task, the author's line, the value, the rule, the remedy."""

from __future__ import annotations

import traceback
from datetime import timedelta
from inspect import currentframe
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, task

from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.decorators.gpt_image import gpt_image_batch_task, gpt_image_task
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.sensors.gpt_image import GptImageSensor

RATIOS = "One of auto, 1:1, 3:2, 2:3, 4:3, 3:4, 5:4, 4:5, 16:9, 9:16, 2:1, 1:2, 3:1, 1:3, 21:9, 9:21."


def poster():
    return "a red teapot"


def operator(**options):
    return GptImageGenerateOperator(task_id="poster", **{"prompt": "a red teapot"} | options)


def batch(**options):
    return GptImageBatchOperator(
        task_id="poster", **{"requests": ["a red teapot"], "destination": "/data"} | options
    )


def sensor(**options):
    return GptImageSensor(task_id="poster", **{"generation_id": "g1"} | options)


def mapped(**options):
    return GptImageGenerateOperator.partial(task_id="poster", **options).expand(prompt=["a", "b"])


def mapped_batch(**options):
    return GptImageBatchOperator.partial(task_id="poster", **options).expand(requests=[["a"], ["b"]])


def decorated(**options):
    return gpt_image_task(**options)(poster)


def decorated_batch(**options):
    return gpt_image_batch_task(**options)(poster)


MAKERS = [operator, batch, mapped, mapped_batch, decorated, decorated_batch]
OF_ONE = [operator, mapped, decorated]
OF_MANY = [batch, mapped_batch, decorated_batch]


def refusal(make, **options):
    with DAG("d", schedule=None), pytest.raises(InvalidRequestError) as caught:
        make(**options)
    return caught.value


@pytest.mark.parametrize("make", MAKERS)
def test_the_task_and_the_authors_line_are_named_with_what_is_wrong(make):
    line = make.__code__.co_firstlineno + 1

    lines = refusal(make, timeout=-1).message.splitlines()

    place = f"Task 'poster' (test_import_errors.py, line {line}): "
    assert lines == [
        f"{place}timeout=-1 must be a number of seconds above 0.",
        "It bounds how long, or how often, something is waited for.",
        "Give one such as 30, or a timedelta such as timedelta(seconds=30).",
    ]


@pytest.mark.parametrize("make", OF_ONE)
def test_a_wrong_field_is_refused_also_where_the_task_is_mapped_or_decorated(make):
    lines = refusal(make, aspect_ratio="16x9").message.splitlines()

    assert lines[0].endswith("): aspect_ratio: '16x9' is not an aspect ratio.")
    assert lines[1:] == [RATIOS, "Did you mean '16:9'? A pixel size such as 1536x864 is taken, too."]


@pytest.mark.parametrize("make", OF_MANY)
@pytest.mark.parametrize(
    ("defaults", "lines"),
    [
        (
            {"aspect_ratio": "square"},
            [
                "defaults: aspect_ratio: 'square' is not an aspect ratio.",
                RATIOS,
                "Did you mean '1:1'? A pixel size such as 1536x864 is taken, too.",
            ],
        ),
        (
            {"size": "1:1"},
            [
                "defaults='size' can't have a default.",
                f"Only these can: {', '.join(FIELDS)}.",
                "Leave it out, or name one of them.",
            ],
        ),
        (
            ["16:9"],
            [
                "defaults=['16:9'] is no mapping of fields to values.",
                "It gives the rows what they don't give themselves.",
                "Give one such as {'aspect_ratio': '16:9'}.",
            ],
        ),
    ],
    ids=["a field", "no field", "no mapping"],
)
def test_a_default_is_checked_before_any_row_is_read(make, defaults, lines):
    told = refusal(make, destination="/data", defaults=defaults).message.split("): ", 1)[1]

    assert told.splitlines() == lines


@pytest.mark.parametrize(
    "defaults",
    [
        None,
        {"aspect_ratio": None},
        {"aspect_ratio": "{{ params.ratio }}", "resolution": "2K"},
        "{{ params.all }}",
    ],
)
def test_a_default_that_is_known_later_or_right_passes(defaults):
    assert batch(defaults=defaults).defaults == defaults


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"on_clear": "Reuse"}, "Did you mean 'reuse'?"),
        ({"on_clear": "regenrate"}, "Did you mean 'regenerate'?"),
        ({"on_clear": None}, "Leave it out for the default, 'reuse'."),
    ],
    ids=str,
)
def test_a_word_that_is_nearly_one_of_the_known_is_told_which_is_meant(options, remedy):
    assert refusal(operator, **options).message.splitlines()[-1] == remedy


def test_the_traceback_shows_the_authors_line_and_none_of_our_own_checks():
    error = refusal(operator, timeout=-1)

    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "airflow_gpt_image" in frame.filename
    ]
    assert [frame.name for frame in ours] == ["__init__", "_check_while_parsing", "__exit__"]
    assert error.__suppress_context__


def test_the_line_is_the_authors_also_when_his_own_function_makes_the_task():
    line = currentframe().f_lineno + 1
    error = refusal(lambda: GptImageGenerateOperator(task_id="poster", prompt=""))

    assert f"(test_import_errors.py, line {line})" in error.message


def test_a_mapped_task_that_fails_on_a_worker_names_no_line_of_the_workers():
    with DAG("d", schedule=None) as dag:
        GptImageGenerateOperator.partial(task_id="poster").expand(aspect_ratio=["16x9"])
    with pytest.raises(InvalidRequestError) as caught:
        dag.task_dict["poster"].unmap({"aspect_ratio": "16x9", "prompt": "a"})

    assert caught.value.message.startswith("Task 'poster': aspect_ratio: '16x9' is not")


def test_an_argument_that_expand_gives_is_not_missed_in_partial():
    with DAG("d", schedule=None):
        GptImageGenerateOperator.partial(task_id="poster", reuse="destination").expand(
            prompt=["a"], destination=["/data"]
        )


# Seconds can be given as a timedelta


@pytest.mark.parametrize("make", MAKERS)
def test_a_timedelta_that_is_refused_is_shown_in_seconds(make):
    told = refusal(make, timeout=timedelta(seconds=-3)).message

    assert "): timeout=-3.0 must be a number of seconds above 0." in told.splitlines()[0]


@pytest.mark.parametrize("make", [operator, batch])
def test_a_timedelta_stands_for_its_seconds(make):
    made = make(timeout=timedelta(hours=2), poll_interval=timedelta(seconds=2.5))

    assert (made.timeout, made.poll_interval) == (7200.0, 2.5)


# What an f-string made of a template


@pytest.mark.parametrize("make", [operator, batch])
def test_single_braces_in_a_destination_are_warned_of(make, caplog):
    make(destination=f"/data/{{ ds }}/{'{run_id}'}")

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.splitlines() == [
        "Task 'poster': destination='/data/{ ds }/{run_id}' holds '{ ds }', which Jinja takes for text.",
        "An f-string makes single braces of double ones, so every run has the same place.",
        "In an f-string write {{{{ ds }}}}; else {{ ds }}.",
    ]


@pytest.mark.parametrize(
    ("rest", "found", "word"),
    [
        ("{ ds }", "{ ds }", "ds"),
        ("{ params.shop }", "{ params.shop }", "params.shop"),
        ("{ ds | replace('-', '') }", "{ ds | replace('-', '') }", "ds | replace('-', '')"),
    ],
)
@pytest.mark.parametrize("make", MAKERS)
def test_single_braces_that_make_no_address_of_a_store_are_refused_as_what_they_are(make, rest, found, word):
    lines = refusal(make, destination=f"s3://shop@bucket/{rest}").message.split("): ", 1)[1].splitlines()

    assert lines == [
        f"destination={f's3://shop@bucket/{rest}'!r} holds {found!r}, which Jinja takes for text.",
        "An f-string makes single braces of double ones, so every run has the same place.",
        f"In an f-string write {{{{{{{{ {word} }}}}}}}}; else {{{{ {word} }}}}.",
    ]


@pytest.mark.parametrize("destination", ["/data/{{ ds }}", "/data/{{ds}}", "/data"])
def test_a_destination_with_double_braces_is_a_template_and_not_warned_of(destination, caplog):
    operator(destination=destination)

    assert caplog.records == []


# An operator that is carried out within another task


@pytest.mark.parametrize("make", [operator, batch, sensor])
def test_execute_inside_another_task_says_what_to_use_before_anything_is_paid(make):
    @task
    def outer(): ...

    made = make()
    with DAG("d", schedule=None), pytest.raises(InvalidRequestError) as caught:
        made.execute({"task": outer().operator})

    assert caught.value.message.splitlines() == [
        f"{type(made).__name__}.execute() was called inside the task 'outer'; nothing was submitted.",
        "Only Airflow can carry out an operator, which waits without a worker, in its own task.",
        "Use @task.gpt_image or @task.gpt_image_batch; or GptImageHook().get_conn().generate(…).",
    ]


def test_execute_within_the_operators_own_task_is_no_mistake():
    from airflow_gpt_image.tasks import checks

    checks.check_not_nested(operator(), {"task": SimpleNamespace(task_id="poster")})
    checks.check_not_nested(operator(), {"ti": SimpleNamespace()})


@pytest.mark.parametrize("make", [operator, batch, sensor])
def test_execute_without_airflows_context_says_so_and_not_which_key_it_lacks(make):
    made = make()
    with pytest.raises(InvalidRequestError) as caught:
        made.execute({})

    assert caught.value.message.splitlines()[0] == (
        f"{type(made).__name__}.execute() was called by hand; nothing was submitted."
    )
