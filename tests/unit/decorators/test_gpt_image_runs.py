"""The decorated function at work, on either path: called once per try, taken at its word, paid for once."""

from __future__ import annotations

import jinja2
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import GptImageError, ImageRefusedError, InvalidRequestError

URL = "https://example.com/a.png"


def asked(api):
    """What the API was asked for, in order."""
    return [charge["request"] for charge in api.books()["charges"]]


# What the function returns is what is asked for


@pytest.mark.parametrize(
    "returned",
    ["a red teapot", {"prompt": "a red teapot"}, ImageRequest(prompt="a red teapot")],
    ids=lambda returned: type(returned).__name__,
)
def test_a_prompt_a_mapping_and_a_request_are_the_same(decorated, api, returned):
    result = decorated(lambda: returned, task_id="poster").run()

    [request] = asked(api)
    assert (request["prompt"], result["status"]) == ("a red teapot", "completed")


@pytest.mark.parametrize("kind", [dict, ImageRequest])
def test_what_the_function_names_goes_before_what_the_decorator_was_given(decorated, api, kind):
    def poster():
        return kind(prompt="a red teapot", aspect_ratio="3:2")

    decorated(poster, aspect_ratio="16:9", resolution="2k").run()

    [request] = asked(api)
    assert (request["aspect_ratio"], request["resolution"]) == ("3:2", "2k")


@pytest.mark.parametrize("own", [None, "https://example.com/hook"])
def test_airflow_is_called_back_unless_the_function_names_another_address(decorated, api, monkeypatch, own):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL", "https://airflow.example.com")
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_SECRET", "a secret of 26 characters.")

    decorated(lambda: {"prompt": "a red teapot", "callback_url": own}, task_id="poster").run()

    [charge] = api.books()["charges"]
    assert charge["callback_url"].startswith(own or "https://airflow.example.com/gpt-image-callbacks/")


def test_every_field_of_a_request_can_be_returned(decorated, api):
    def poster():
        return {
            "prompt": "warmer",
            "image_urls": [URL],
            "aspect_ratio": "3:2",
            "resolution": "2k",
            "nsfw_checker": False,
            "callback_url": f"{api.url}/hook",
        }

    decorated(poster).run()

    [charge] = api.books()["charges"]
    assert charge["callback_url"] == f"{api.url}/hook"
    assert charge["request"] == {
        "prompt": "warmer",
        "image_urls": [URL],
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
    }


def test_reference_images_do_without_a_prompt(decorated, api):
    decorated(lambda: {"image_urls": [URL]}, task_id="edit").run()

    [request] = asked(api)
    assert request["image_urls"] == [URL]
    assert "prompt" not in request


def test_a_prompt_with_braces_reaches_the_api_as_it_is(decorated, api):
    prompt = "{{ ds }} {% for x in y %} {# none #} {{ undefined.name }} on a sign"

    decorated(lambda: prompt, task_id="poster").run()

    assert asked(api)[0]["prompt"] == prompt


def test_the_functions_arguments_and_the_operators_keywords_are_rendered_as_ever(decorated, api, tmp_path):
    def poster(when):
        return f"a teapot of {when}"

    task = decorated(poster, lambda poster: poster("{{ ds }}"), destination=f"{tmp_path}/{{{{ ds }}}}")
    result = task.run()

    assert asked(api)[0]["prompt"] == "a teapot of 2026-11-24"
    assert result["images"][0]["path"].startswith(f"{tmp_path}/2026-11-24/")


def test_arguments_come_by_position_by_name_and_from_the_context(decorated, api):
    def poster(name, style, ds, ti, **context):
        return f"{name}, {style}, {ds}, {ti.try_number}, {context['task'].task_id}"

    decorated(poster, lambda poster: poster("a teapot", style="photo")).run()

    assert asked(api)[0]["prompt"] == "a teapot, photo, 2026-11-24, 1, poster"


# What it returns is checked before any money


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "poster() returned None.\nIt has to return a prompt"),
        (5, "poster() returned 5.\nIt has to return a prompt"),
        (b"a red teapot", "poster() returned b'a red teapot'.\nIt has to"),
        (["a red teapot"], "poster() returned ['a red teapot'].\nIt has to"),
        ("", "prompt: '' is blank.\nA prompt says"),
        (" \n", "is blank.\n"),
        ("x" * 20_001, "The API takes at most 20,000 characters"),
        ({}, "neither prompt nor image_urls is given"),
        ({"prompt": 5}, "prompt: 5 must be a string"),
        (
            {"promt": "a red teapot"},
            "poster() returned 'promt', which is not a field of a request.\nThe fields are pro",
        ),
        ({"prompt": "a", "destination": "/"}, "Everything else is given to the decorator"),
        ({1: "a red teapot"}, "poster() returned 1, which is not a field"),
        ({"prompt": "a", "aspect_ratio": "7:5"}, "'7:5' is not an aspect ratio"),
        ({"prompt": "a", "image_urls": ["a.png"]}, "'a.png' is a file of this machine"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_refused_before_any_money(decorated, api, returned, words):
    def poster():
        return returned

    task = decorated(poster)
    with pytest.raises(InvalidRequestError) as refused:
        task.run()

    assert words in str(refused.value)
    assert not refused.value.retryable
    assert api.books()["requests"]["submit"] == 0


def test_a_request_of_the_function_and_one_of_the_decorator_can_contradict_each_other(decorated, api):
    task = decorated(lambda: {"prompt": "a", "aspect_ratio": "1881x836"}, task_id="poster", resolution="4k")

    with pytest.raises(InvalidRequestError, match="contradicts"):
        task.run()

    assert api.books()["requests"]["submit"] == 0


@pytest.mark.parametrize("error", [AirflowSkipException, KeyError])
def test_what_the_function_raises_is_the_tasks_and_costs_nothing(decorated, api, error):
    def poster():
        raise error

    with pytest.raises(error):
        decorated(poster).run()

    assert api.books()["requests"]["submit"] == 0


# Once per try, and paid for once


@pytest.fixture
def calls():
    return []


@pytest.fixture
def poster(calls):
    """A function that remembers its calls."""

    def poster():
        calls.append("called")
        return "a red teapot"

    return poster


def test_the_function_is_called_once_and_not_again_after_a_deferral(decorated, api, poster, calls):
    task = decorated(poster)

    task.run()

    deferred = task.options["deferrable"]
    assert (len(calls), task.parts > 1) == (1, deferred)
    assert api.books()["submits"] == 1


def test_a_try_is_a_call_and_a_retry_pays_nothing(decorated, api, poster, calls, tmp_path):
    api.fault("file:redirect=http://images.example.com/x.png*1")
    task = decorated(poster, destination=str(tmp_path))
    with pytest.raises(ImageRefusedError):
        task.run()

    result = task.run()

    assert (len(calls), api.books()["submits"]) == (2, 1)
    assert (result["reused"], result["spent"]["charged"]) == (True, "4.7")


def test_a_submit_that_was_refused_is_paid_for_by_the_retry_alone(decorated, api, poster, calls):
    api.fault("submit:400*1")
    task = decorated(poster)
    with pytest.raises(GptImageError):
        task.run()

    task.run()

    assert (len(calls), api.books()["submits"], api.books()["charged"]) == (2, 1, "4.7")


def test_a_function_that_changes_its_mind_asks_for_another_image(decorated, api):
    minds = iter(["a red teapot", "a blue teapot"])
    task = decorated(lambda: next(minds), task_id="poster")

    task.run()
    task.run()

    assert [request["prompt"] for request in asked(api)] == ["a red teapot", "a blue teapot"]


# What Airflow shows


def test_the_ui_shows_what_was_asked_for_also_after_a_deferral(decorated):
    task = decorated(lambda: {"prompt": "{{ ds }}", "aspect_ratio": "3:2"}, task_id="poster")

    task.run()

    assert (task.last.prompt, task.last.aspect_ratio) == ("{{ ds }}", "3:2")
    assert task.last.overwrite_rtif_after_execution


@pytest.mark.parametrize(
    ("template", "label"),
    [("{{ name }}", "teapot"), ("{{ task.prompt }}", "a {{ ds }} teapot"), ("{{ ds }}", "2026-11-24")],
)
def test_a_mapped_tasks_label_may_be_of_anything_known_when_the_function_was_called(
    decorated, template, label
):
    def poster(name):
        return f"a {{{{ ds }}}} {name}"

    task = decorated(poster, lambda poster: poster(name="teapot"), map_index_template=template)
    task.run()

    assert task.label == label


def test_a_label_that_can_not_be_rendered_costs_nothing(decorated, api, poster):
    # Airflow alone would find it out at the task's end, and fail it then.
    task = decorated(poster, map_index_template="{{ nobody.knows }}")

    with pytest.raises(jinja2.UndefinedError):
        task.run()

    assert api.books()["requests"]["submit"] == 0


def test_a_label_is_cut_to_what_airflow_can_keep(decorated):
    task = decorated(lambda: "teapot " * 100, task_id="poster", map_index_template="{{ task.prompt }}")

    task.run()

    assert task.label == ("teapot " * 100)[:250]
