"""The triggerer dies, is replaced, and is doubled while generations are waited for; the API goes away."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import House


def start_waiting(
    house: House, about: str, *, seconds: int, dag_id: str = "deferred_fail"
) -> tuple[str, str]:
    prompt = house.prompt(about)
    house.emulator.fault(f"generation:takes={seconds};match={prompt}")
    run_id = house.start(dag_id, prompt)
    house.airflow.wait_for_task(dag_id, run_id, "image", {"deferred"})
    return prompt, run_id


def test_a_killed_triggerer_that_comes_back_goes_on_waiting(house: House) -> None:
    prompt, run_id = start_waiting(house, "triggerer killed", seconds=10)

    house.airflow.kill("triggerer")
    house.airflow.restart("triggerer")

    assert house.finish("deferred_fail", run_id) == "success"
    assert len(house.charges(prompt)) == 1
    assert house.airflow.task_instance("deferred_fail", run_id, "image")["try_number"] == 1


@pytest.mark.soak
def test_with_two_triggerers_of_which_one_dies_every_generation_is_waited_for_and_paid_for_once(
    house: House,
) -> None:
    second = house.airflow.start_component("triggerer", instance="2")
    waiting = [start_waiting(house, f"two triggerers {number}", seconds=15) for number in range(3)]

    house.airflow.kill(second)

    for prompt, run_id in waiting:
        assert house.finish("deferred_fail", run_id, timeout=240) == "success"
        assert len(house.charges(prompt)) == 1


@pytest.mark.soak
def test_an_api_that_is_away_for_minutes_does_not_end_the_wait(house: House) -> None:
    prompt, run_id = start_waiting(house, "API away", seconds=3, dag_id="patient")

    # Looks that fail come 8 s apart at the most: these take some two minutes.
    house.emulator.fault(f"get:reset*20;match={prompt}")

    assert house.finish("patient", run_id, timeout=300) == "success"
    assert house.airflow.task_instance("patient", run_id, "image")["try_number"] == 1
    assert len(house.charges(prompt)) == 1
