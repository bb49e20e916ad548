"""Clears, marks and changes by a person, between and during the tries."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import House


@pytest.mark.parametrize("dag_id", ["deferred_fail", pytest.param("waiting_fail", marks=pytest.mark.soak)])
def test_a_cleared_task_returns_what_was_paid_for(house: House, dag_id: str) -> None:
    prompt = house.prompt("cleared")
    run_id = house.start(dag_id, prompt)
    house.finish(dag_id, run_id)
    first = house.airflow.xcom(dag_id, run_id, "image")

    house.airflow.clear(dag_id, run_id, ["image"])

    assert house.finish(dag_id, run_id) == "success"
    second = house.airflow.xcom(dag_id, run_id, "image")
    assert second["generation_id"] == first["generation_id"]
    assert second["reused"] is True
    assert len(house.charges(prompt)) == 1


@pytest.mark.soak
@pytest.mark.parametrize("dag_id", ["waiting_regenerate", "deferred_regenerate"])
def test_a_clear_that_regenerates_pays_once_for_each_clear_and_not_for_each_try(
    house: House, dag_id: str
) -> None:
    prompt = house.prompt("regenerated")
    run_id = house.start(dag_id, prompt, die="resume before 1" if dag_id.startswith("deferred") else "")
    house.finish(dag_id, run_id)
    charges = [len(house.charges(prompt))]

    for _ in range(2):
        # The image is late, so that the clear takes a while.
        house.emulator.fault(f"file:500*4;match={prompt}")
        house.airflow.clear(dag_id, run_id, ["image"])
        assert house.finish(dag_id, run_id) == "success"
        charges.append(len(house.charges(prompt)))

    assert charges == [1, 2, 3]


@pytest.mark.soak
def test_a_task_marked_failed_while_it_waits_keeps_its_id_on_record_and_is_picked_up_by_a_clear(
    house: House,
) -> None:
    prompt = house.prompt("marked")
    house.emulator.fault(f"generation:takes=10;match={prompt}")
    run_id = house.start("deferred_fail", prompt)
    house.airflow.wait_for_task("deferred_fail", run_id, "image", {"deferred"})

    house.airflow.set_task_state("deferred_fail", run_id, "image", "failed")

    assert house.finish("deferred_fail", run_id) == "failed"
    [charge] = house.charges(prompt)
    ledger = json.dumps(house.airflow.task_state_store("deferred_fail", run_id, "image"))
    assert charge["task_id"] in ledger
    assert "stays on record" in house.log("deferred_fail", run_id)
    house.airflow.clear("deferred_fail", run_id, ["image"])
    assert house.finish("deferred_fail", run_id) == "success"
    assert len(house.charges(prompt)) == 1


@pytest.mark.soak
def test_execution_timeout_ends_the_try_and_the_next_one_waits_for_the_same_generation(house: House) -> None:
    prompt = house.prompt("bounded")
    house.emulator.fault(f"generation:takes=7;match={prompt}")

    run_id = house.start("bounded", prompt)

    assert house.finish("bounded", run_id) == "success"
    assert house.airflow.task_instance("bounded", run_id, "image")["try_number"] > 1
    assert len(house.charges(prompt)) == 1


@pytest.mark.soak
def test_a_reordered_expand_never_hands_one_item_the_image_of_another(house: House) -> None:
    prompt = house.prompt("mapped")
    run_id = house.start("mapped", prompt)
    house.finish("mapped", run_id)
    variables = "/api/v2/variables"
    house.airflow.request("POST", variables, json={"key": "order", "value": "210"})

    try:
        house.airflow.clear("mapped", run_id, ["prompts", "image"])
        state = house.finish("mapped", run_id)
    finally:
        house.airflow.request("DELETE", f"{variables}/order")

    assert state == "success"
    made_for = {
        charge["task_id"]: charge["request"]["prompt"] for charge in house.emulator.books()["charges"]
    }
    results = [house.airflow.xcom("mapped", run_id, "image", index) for index in range(3)]
    assert [made_for[result["generation_id"]] for result in results] == [f"{prompt} {n}" for n in (2, 1, 0)]
    assert [len(house.charges(f"{prompt} {number}")) for number in range(3)] == [1, 1, 1]
    assert [result["reused"] for result in results] == [True, True, True]


@pytest.mark.soak
def test_a_run_that_is_out_of_time_submits_nothing_further_and_keeps_the_id_on_record(house: House) -> None:
    prompt = house.prompt("run out of time")
    house.emulator.fault(f"generation:takes=60;match={prompt}")

    run_id = house.start("run_bounded", prompt)

    assert house.finish("run_bounded", run_id) == "failed"
    [charge] = house.charges(prompt)
    ledger = json.dumps(house.airflow.task_state_store("run_bounded", run_id, "image"))
    assert charge["task_id"] in ledger
