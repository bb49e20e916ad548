"""Whole DAGs over real sockets: green, with the right pixels, paid for once, on good days and bad ones."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import imagesize
import pytest

from airflow_gpt_image.api.sizes import sizes_of

# Airflow's in-process API server imports fastapi.testclient, which wishes for another httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")

# Nothing of it is more than the client mends in place: the examples' own retries take their time.
BAD_DAY = [
    "submit:rate_limit_exceeded*1;retry_after=1",
    "submit:429*1;after=3",
    "get:500*1",
    "get:close;share=0.2",
    "file:truncated*1",
]
RESULT = {
    "generation_id",
    "status",
    "model",
    "images",
    "path",
    "url",
    "aspect_ratio",
    "resolution",
    "credits",
    "usd",
    "fingerprint",
    "created_at",
    "completed_at",
    "reused",
    "metadata",
    "spent",
}


def pixels(result):
    """The sizes of a result's images on the disk, checked against what the result says of them."""
    found = []
    for image in result["images"]:
        width, height = imagesize.get(image["path"])
        assert (image["width"], image["height"]) == (width, height)
        assert Path(image["path"]).read_bytes().startswith(b"\x89PNG")
        found.append((width, height))
    return found


def bad_day(api):
    for fault in BAD_DAY:
        api.fault(fault)


def nothing_secret_was_kept(api, *results):
    """The key is in no XCom, no state, no trigger: nowhere in the whole database."""
    home = Path(os.environ["AIRFLOW_HOME"])
    kept = b"".join(path.read_bytes() for path in home.glob("airflow.db*"))
    assert b'"clear_epoch"' in kept  # it is the right place to look
    assert api.key.encode() not in kept
    assert api.key not in json.dumps(results)


@pytest.mark.parametrize("day", [pytest.param("good", marks=pytest.mark.soak), "bad"])
def test_the_first_image_ends_green_with_a_wide_poster(run, api, destination, day):
    if day == "bad":
        bad_day(api)

    ended = run("first_image")

    result = ended.returned["poster", -1]
    assert (ended.state, ended.states) == ("success", {"poster": "success"})
    assert pixels(result) == [(1536, 864)]
    assert Path(result["images"][0]["path"]).is_relative_to(destination)
    assert set(result) == RESULT
    assert json.loads(json.dumps(result)) == result
    assert api.books()["charged"] == "4.7"
    nothing_secret_was_kept(api, result)


# One after the other here; on real components, where they wait together, the same runs in `make test`.
@pytest.mark.soak
def test_the_product_images_end_green_on_a_bad_day_and_are_paid_for_once_each(run, api):
    bad_day(api)

    ended = run("product_images")

    results = [ended.returned["image", index] for index in range(6)]
    asked = [(result["aspect_ratio"], result["resolution"]) for result in results]
    assert (ended.state, set(ended.states.values())) == ("success", {"success"})
    assert asked == [
        ("1:1", "1k"),
        ("3:2", "1k"),
        ("4:3", "1k"),
        ("21:9", "1k"),
        ("864x1536", "1k"),
        ("2:3", "2k"),
    ]
    assert [pixels(result) for result in results] == [[tuple(sizes_of(*each)[0])] for each in asked]
    books = api.books()
    assert (books["submits"], books["charged"], books["refunded"]) == (6, "32.9", "0")
    assert ended.returned["summary", -1]["usd"] == "0.1645"
    assert ended.returned["summary", -1]["paths"] == [result["images"][0]["path"] for result in results]
    assert all(fault["met"] for fault in api.faults() if "share" not in fault["fault"])
    nothing_secret_was_kept(api, results)


def test_waiting_elsewhere_and_waiting_here_give_the_same(run, api, destination):
    api.fault("generation:takes=2;match=slow")

    ended = run("waiting")

    returned = {name: result for (name, _), result in ended.returned.items()}
    assert ended.state == "success"
    # Submitted and not waited for; then two sensors, one that defers and one that pokes.
    assert (returned["submit"]["status"], returned["submit"]["images"]) == ("submitted", [])
    assert set(returned["submit"]) == RESULT
    for sensor in ("wait", "look"):
        assert returned[sensor]["generation_id"] == returned["submit"]["generation_id"]
        assert pixels(returned[sensor]) == [(1536, 1024)]
    # On the worker: the same shape; templates that render to nothing and to a boolean mean that.
    assert set(returned["hold"]) == RESULT
    assert (returned["hold"]["resolution"], pixels(returned["hold"])) == ("1k", [(1881, 836)])
    assert pixels(returned["edit"]) == [(2048, 2560)]
    books = api.books()
    asked = {charge["task_id"]: charge["request"] for charge in books["charges"]}
    held = asked[returned["hold"]["generation_id"]]
    assert held["prompt"] == "A poster for waiting, safely None"
    assert held["nsfw_checker"] is False
    edited = asked[returned["edit"]["generation_id"]]
    assert edited["image_urls"] == [returned["hold"]["images"][0]["url"]]
    assert "prompt" not in edited
    assert (books["submits"], books["charged"]) == (3, "18.8")
    nothing_secret_was_kept(api, list(returned.values()))


def test_an_image_for_each_product_of_the_taskflow_example(run, api):
    ended = run("taskflow_images")

    results = [ended.returned["picture", index] for index in range(2)]
    assert (ended.state, set(ended.states.values())) == ("success", {"success"})
    assert [pixels(result) for result in results] == [[(1024, 1024)], [(2016, 864)]]
    assert ended.labels["picture", 0] == "teapot"
    assert (api.books()["submits"], api.books()["charged"]) == (2, "9.4")
    nothing_secret_was_kept(api, results)


@pytest.mark.soak
def test_a_decorated_function_is_a_task_among_others(run, api):
    ended = run("decorated")

    books = api.books()
    asked = {charge["task_id"]: charge["request"] for charge in books["charges"]}
    drawn = [ended.returned["draw", index] for index in range(2)]
    assert (ended.state, set(ended.states.values())) == ("success", {"success"})
    # What came out of another task, and what the function returned, nobody rendered; the rest was.
    assert [asked[result["generation_id"]]["prompt"] for result in drawn] == [
        "A sign: {{ ds }}, enamel",
        "A sign: {% raw %}, enamel",
    ]
    assert [pixels(result) for result in drawn] == [[(1024, 1024)]] * 2
    calendar, edited = ended.returned["stubborn", -1], ended.returned["edit", -1]
    assert re.fullmatch(r"A calendar of \d{4}-\d\d-\d\d", asked[calendar["generation_id"]]["prompt"])
    assert asked[edited["generation_id"]]["image_urls"] == [calendar["images"][0]["url"]]
    # The label is of the function's own context, which is gone after a deferral.
    assert [ended.labels["draw", index] for index in range(2)] == ["{{ ds }}", "{% raw %}"]
    assert set(edited) == RESULT
    assert ended.returned["wide", -1]["aspect_ratio"] == "16:9"
    assert ended.returned["price", -1] == {"usd": "0.0235"}
    # A try that fell over before it paid didn't pay, and the one after it paid once.
    assert (books["submits"], books["refunded"]) == (5, "0")
    nothing_secret_was_kept(api, list(ended.returned.values()))


def test_a_failed_generation_fails_its_task_on_either_path_and_is_refunded(run, api):
    api.fault("generation:failed=invalid_request")

    ended = run("failures")

    books = api.books()
    assert (ended.state, ended.states) == ("failed", {"deferred": "failed", "held": "failed"})
    assert set(ended.returned.values()) == {None}
    assert (books["submits"], books["charged"], books["refunded"]) == (2, "9.4", "9.4")


def test_a_connection_of_the_database_is_found_while_the_task_is_deferred_too(run, api, monkeypatch, capfd):
    from airflow.models import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT")
    fields = json.loads(api.airflow_connection())
    with create_session() as session:
        session.add(Connection(conn_id="gpt_image_default", **fields))

    ended = run("first_image")

    with create_session() as session:
        session.query(Connection).filter_by(conn_id="gpt_image_default").delete()
    assert ended.states == {"poster": "success"}
    assert "does not exist" not in "".join(capfd.readouterr())
    assert api.books()["charged"] == "4.7"
