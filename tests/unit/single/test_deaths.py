"""Workers that die, answers that are lost, submits that are refused: nothing is paid for twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_gpt_image.errors import (
    ConnectionFailedError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    SubmissionUnknownError,
    UpstreamError,
)
from tests.task_instance import DiedError
from tests.unit.single.conftest import charges

# Deaths and lost answers


UNKNOWN, NOT_PAID, PAID = "unknown", "not paid", "paid"

# The n-th write of the task state store; the destination has the same record right before it.
DEATHS = [
    ("die before 1", 0, UNKNOWN, NOT_PAID),
    ("die after 1", 0, UNKNOWN, UNKNOWN),
    ("die before 2", 1, PAID, UNKNOWN),
    ("die after 2", 1, PAID, PAID),
    ("die before 3", 1, PAID, PAID),
    ("die after 3", 1, PAID, PAID),
]


@pytest.mark.parametrize("kind", ["destination", "store alone"])
@pytest.mark.parametrize(("at", "charged", "with_destination", "without"), DEATHS)
def test_a_worker_may_die_at_any_write_and_the_next_try_does_not_pay_twice(
    task, bare_task, api, kind, at, charged, with_destination, without
):
    dying, then = (task, with_destination) if kind == "destination" else (bare_task, without)
    dying.store.at = at
    with pytest.raises(DiedError):
        dying.run()
    assert len(charges(api)) == charged

    if then == UNKNOWN:
        with pytest.raises(SubmissionUnknownError, match="on_unknown_submit='resubmit'"):
            dying.run()
        assert len(charges(api)) == charged
    else:
        assert dying.run()["reused"] is (then == PAID)
        assert len(charges(api)) == 1


@pytest.mark.parametrize(("at", "before"), [("die after 1", 0), ("die before 2", 1)])
def test_a_worker_that_died_is_submitted_again_where_the_author_chose_so(bare_task, api, at, before):
    bare_task.store.at = at
    with pytest.raises(DiedError):
        bare_task.run(on_unknown_submit="resubmit")

    result = bare_task.run(on_unknown_submit="resubmit")

    assert not result["reused"]
    assert result["spent"]["charged"] == "9.4"  # for what is unknown may have been paid for
    assert len(charges(api)) == before + 1
    assert bare_task.run(on_unknown_submit="resubmit")["generation_id"] == result["generation_id"]


@pytest.mark.parametrize("at", ["die before 2", "die after 2", "fail 2", "lost 2"])
def test_a_worker_may_die_while_it_stores_and_the_image_is_there_at_the_next_try(task, api, at):
    task.run(wait_for_completion=False)
    task.store.at = at  # of a try that reattaches: 1 is what it waits for, 2 is the result
    with suppress(DiedError):
        task.run()

    result = task.run()

    assert Path(result["images"][0]["path"]).exists()
    assert charges(api) == [result["generation_id"]]


@pytest.mark.parametrize(
    "fault",
    [
        "close",
        "reset",
        "lost",
        "html",
        "empty",
        "garbage",
        "not_object",
        "broken_json",
        "truncated",
        "missing_id",
        "junk_id",
        "502",
        "504",
        "redirect=https://example.com/login",
        "late=2",
        "gateway=504",
        "gateway=502;form=type",
        "gateway=504;form=envelope;status=200",
        "gateway=524;form=page",
        "gateway=408",
        "gateway=499",
        "repeated_id=1",
    ],
)
def test_a_submit_without_an_answer_of_the_apis_is_unknown_and_never_sent_again(task, api, connect, fault):
    connect(api.url, api.key, extra={"read_timeout": 0.5, "verify": False})
    task.run(prompt="a vase", wait_for_completion=False)
    api.fault(f"submit:{fault}")
    with pytest.raises(SubmissionUnknownError) as first:
        task.run(max_credits=9.4)
    api.clear_faults()

    for airflow in ("3.3", "3.4"):
        with pytest.raises(SubmissionUnknownError):
            task.run(max_credits=9.4)
        task.clear(airflow=airflow)
    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert not first.value.retryable
    assert api.books()["requests"]["submit"] == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", InvalidRequestError),
        ("402", InsufficientCreditsError),
        ("429;retry_after=60", AirflowRescheduleException),
        ("500*1", InternalServerError),
        ("503*1", UpstreamError),
    ],
)
def test_a_submit_the_api_refused_may_be_sent_by_the_next_try(task, api, fault, error):
    api.fault(f"submit:{fault}")
    with pytest.raises(error):
        task.run()
    api.clear_faults()

    result = task.run()

    assert not result["reused"]
    assert result["spent"] == {"charged": "4.7", "refunded": "0", "usd": "0.0235"}
    assert (api.books()["submits"], api.books()["requests"]["submit"]) == (1, 2)


def test_a_submit_that_never_left_may_be_sent_by_the_next_try(task, api, connect):
    connect("http://127.0.0.1:9", api.key)
    with pytest.raises(ConnectionFailedError):
        task.run()
    connect(api.url, api.key)

    assert task.run()["status"] == "completed"
