"""What a user does on an ordinary and on a bad day, on real components."""

from __future__ import annotations

import json
from pathlib import Path

import imagesize
import pytest

from airflow_gpt_image.api.sizes import sizes_of
from stack.demo import BAD_DAY
from tests.e2e.conftest import KEY, House

WAITING = {"deferred"}


def test_a_mapped_dag_ends_green_on_a_bad_day_of_the_api(house: House) -> None:
    for fault in BAD_DAY:
        house.emulator.fault(fault)

    run_id = house.start("product_images", "")

    assert house.finish("product_images", run_id) == "success"
    results = [house.airflow.xcom("product_images", run_id, "image", index) for index in range(6)]
    for result in results:
        assert len(house.charges(_prompt_of(house, result))) == 1
        for image in result["images"]:
            size = imagesize.get(image["path"])
            assert size in sizes_of(result["aspect_ratio"], result["resolution"])
            assert Path(image["path"]).stat().st_size == image["bytes"]


def _prompt_of(house: House, result: dict[str, object]) -> str:
    charges = house.emulator.books()["charges"]
    return next(c["request"]["prompt"] for c in charges if c["task_id"] == result["generation_id"])


def test_the_key_is_nowhere_but_in_the_connection(house: House) -> None:
    prompt = house.prompt("secret")
    house.emulator.fault(f"generation:takes=8;match={prompt}")
    house.emulator.fault(f"get:401*1;after=1;match={prompt}")
    run_id = house.start("deferred_fail", prompt)
    house.airflow.wait_for_task("deferred_fail", run_id, "image", WAITING)
    rows = house.airflow.sql("select * from trigger")

    state = house.finish("deferred_fail", run_id)

    task = house.airflow.task_instance("deferred_fail", run_id, "image")
    seen = {
        "trigger rows": str(rows),
        "task instances": str(house.airflow.sql("select next_kwargs, next_method from task_instance")),
        "XCom": json.dumps(house.airflow.xcom("deferred_fail", run_id, "image"))
        if state == "success"
        else "",
        "ledger": json.dumps(house.airflow.task_state_store("deferred_fail", run_id, "image")),
        "task": json.dumps(task, default=str),
        "logs": house.airflow.all_logs(),
    }
    assert rows
    assert prompt in seen["ledger"], "the ledger was looked at"
    assert "Submitted: " in seen["logs"], "the logs were looked at"
    assert [name for name, text in seen.items() if KEY in text or KEY[3:] in text] == []
    assert prompt not in seen["trigger rows"]


def test_what_was_submitted_without_waiting_is_sensed_by_another_task(house: House) -> None:
    prompt = house.prompt("sensed")

    run_id = house.start("sensed", prompt)

    assert house.finish("sensed", run_id) == "success"
    results = [house.airflow.xcom("sensed", run_id, name) for name in ("deferred", "poked")]
    assert [Path(result["images"][0]["path"]).exists() for result in results] == [True, True]
    assert house.airflow.xcom("sensed", run_id, "submit")["images"] == []
    assert len(house.charges(prompt)) == 1


@pytest.mark.parametrize(
    ("change", "works", "says"),
    [
        ({}, True, "Works. The balance is"),
        ({"password": "sk-another"}, False, "Bad key: "),
        ({"password": "another"}, False, "Bad key: "),
        ({"host": "http://127.0.0.1:1"}, False, "Unreachable: "),
        ({"host": "http://example.com"}, False, "would send the API key in clear"),
    ],
)
def test_the_connection_test_tells_the_cases_apart(
    house: House, change: dict[str, str], works: bool, says: str
) -> None:
    connection = {
        "connection_id": "tried",
        "conn_type": "gpt_image",
        "host": house.emulator.url,
        "password": KEY,
        **change,
    }

    answer = house.airflow.test_connection(connection)

    assert answer["status"] is works
    assert says in answer["message"]
    assert KEY not in answer["message"]


def test_the_connection_form_has_our_fields(house: House) -> None:
    kinds = house.airflow.request("GET", "/ui/connections/hook_meta").json()

    [ours] = [kind for kind in kinds if kind["connection_type"] == "gpt_image"]

    assert ours["hook_name"] == "GPT Image"
    assert ours["standard_fields"]["password"]["title"] == "API Key"
    assert ours["standard_fields"]["port"]["hidden"] is False
    assert set(ours["extra_fields"]) >= {"proxy", "verify", "image_hosts", "read_timeout"}
