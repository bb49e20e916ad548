"""Every row of the error table, end to end: which state results, after how many tries, with which delay."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.e2e.cases import print_table
from tests.e2e.conftest import House


@dataclass(frozen=True)
class Row:
    """
    :param fault: of the emulator.
    :param state: the run's, in the end. The task has retries=2, retry_delay=1 s.
    :param tries: how many it takes.
    :param says: what the first try's log says of the decision.
    """

    fault: str
    state: str
    tries: int
    says: str
    dag_id: str = "deferred_fail"


ROWS = [
    Row("submit:invalid_request", "failed", 1, "InvalidRequestError is not retryable"),
    Row("submit:invalid_api_key", "failed", 1, "InvalidApiKeyError is not retryable"),
    Row("submit:insufficient_credits", "failed", 1, "InsufficientCreditsError is not retryable"),
    Row("submit:ip_not_allowed", "failed", 1, "IpNotAllowedError is not retryable"),
    Row("submit:model_not_found", "failed", 1, "ModelNotFoundError is not retryable"),
    Row("get:task_not_found", "failed", 1, "GenerationNotFoundError is not retryable"),
    Row("submit:rate_limit_exceeded*1;retry_after=1", "success", 1, "Submitted: "),
    Row("submit:rate_limit_exceeded*1;retry_after=22", "success", 1, "no retry is used up"),
    Row("submit:spend_limit_exceeded", "failed", 1, "SpendLimitError is not retryable"),
    Row(
        "submit:spend_limit_exceeded*1",
        "success",
        1,
        "no retry is used up",
        dag_id="spender",
    ),
    Row("submit:internal_error*1", "success", 2, "InternalServerError; retry in 1 s"),
    Row("submit:upstream_error*1", "success", 2, "UpstreamError; retry in 1 s"),
    Row("submit:upstream_error", "failed", 3, "UpstreamError; retry in 1 s"),
    Row("generation:failed=upstream_error*1", "success", 2, "GenerationFailedError; retry in 1 s"),
    Row("generation:failed=invalid_request", "failed", 1, "GenerationFailedError is not retryable"),
    Row("submit:internal_error", "failed", 1, "has retries=0", dag_id="no_retries"),
]


def test_every_row_of_the_error_table_leads_where_the_table_says(house: House) -> None:
    rows = [("fault", "state", "tries", "kept charges", "the first try's decision")]
    wrong = []
    for batch in house.batches(ROWS):
        started = []
        for row in batch:
            prompt = house.prompt(row.fault.replace(";", " "))
            house.emulator.fault(f"{row.fault};match={prompt}")
            started.append((row, prompt, house.start(row.dag_id, prompt)))
        for row, prompt, run_id in started:
            state = house.finish(row.dag_id, run_id)
            tries = house.airflow.task_instance(row.dag_id, run_id, "image")["try_number"]
            kept = [charge for charge in house.charges(prompt) if not charge["refunded"]]
            log = house.log(row.dag_id, run_id)
            decision = re.search(r'"reason": "([^"]+)"', log)
            rows.append((row.fault, state, str(tries), str(len(kept)), decision[1] if decision else "none"))
            paid = 1 if state == "success" or row.fault == "get:task_not_found" else 0
            if (state, tries, len(kept)) != (row.state, row.tries, paid) or row.says not in log:
                wrong.append((row, rows[-1], row.says in log))
                print(log)

    print_table(rows)
    assert not wrong


@pytest.mark.parametrize(
    "fault", ["credits:insufficient_credits", pytest.param("credits:garbage", marks=pytest.mark.soak)]
)
def test_a_balance_that_cannot_be_checked_is_refused_before_anything_is_submitted(
    house: House, fault: str
) -> None:
    prompt = house.prompt("balance")
    house.emulator.fault(fault)

    run_id = house.start("balance_checked", prompt)

    assert house.finish("balance_checked", run_id) == "failed"
    assert house.charges(prompt) == []


@pytest.mark.soak
def test_the_policy_decides_for_mapped_tasks_and_after_a_deferral_too(house: House) -> None:
    prompt = house.prompt("mapped")
    house.emulator.fault(f"generation:failed=invalid_request;match={prompt} 0")
    house.emulator.fault(f"generation:failed=internal_error*1;match={prompt} 1")

    run_id = house.start("mapped", prompt)

    house.finish("mapped", run_id)
    tasks = [house.airflow.task_instance("mapped", run_id, "image", index) for index in range(3)]
    assert [(task["state"], task["try_number"]) for task in tasks] == [
        ("failed", 1),
        ("success", 2),
        ("success", 1),
    ]
    assert [len(house.charges(f"{prompt} {number}")) for number in range(3)] == [1, 2, 1]
