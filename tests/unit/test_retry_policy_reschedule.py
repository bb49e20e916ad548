"""What is only a wait uses up no retry: the task is scheduled again, within a bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_gpt_image.errors import (
    DestinationError,
    DestinationTakenError,
    GptImageError,
    InternalServerError,
    RateLimitError,
    SpendLimitError,
)
from airflow_gpt_image.operators import ending
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy, policies_reschedule

HOUR = timedelta(hours=1)

# Airflow 3.4 asks the policy; before, the operator says it itself.
by_the_operator = pytest.mark.skipif(policies_reschedule(), reason="Airflow asks the retry policy itself")
by_the_policy = pytest.mark.skipif(not policies_reschedule(), reason="retry policies can't say so before 3.4")


def calm(**options):
    """A policy whose dice always show nought."""
    return GptImageRetryPolicy(jitter=lambda: 0.0, **options)


@pytest.fixture
def context():
    """As Airflow passes it: the task with its settings, and how often this try was scheduled again."""

    def context(reschedules=0):
        pushed = {}
        ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
        task = SimpleNamespace(retry_delay=timedelta(seconds=30), retries=3)
        return {"task": task, "ti": ti, "task_reschedule_count": reschedules, "pushed": pushed}

    return context


def raised(policy, error, context):
    """What an operator with this policy ends with."""
    operator = GptImageGenerateOperator(task_id="poster", prompt="a teapot", retry_policy=policy)
    errors = (GptImageError, AirflowRescheduleException, ValueError)
    try:
        with ending.watched(operator, context) as ended:
            ended.spent(lambda: {"charged": "0", "refunded": "0", "usd": "0"})
            raise error
    except errors as came:
        return came


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RateLimitError("m", retry_after=60), 60),
        (RateLimitError("m"), 30),
        (DestinationTakenError("m"), 30),
        (SpendLimitError("m"), 3600),
    ],
)
def test_a_rate_a_taken_destination_and_a_spend_window_are_waits(error, seconds, context):
    delay = calm(spend_limit_delay=HOUR).reschedule_delay(error, context())

    assert delay == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "error",
    [InternalServerError("m"), DestinationError("m"), SpendLimitError("m"), ValueError("m")],
    ids=repr,
)
def test_nothing_else_is_a_wait_nor_a_spend_limit_without_a_window(error, context):
    assert calm().reschedule_delay(error, context()) is None


def test_a_wait_has_bounds_that_the_author_may_choose():
    policy = GptImageRetryPolicy()
    own = GptImageRetryPolicy(max_reschedules=3, reschedule_timeout=HOUR)

    assert (policy.max_reschedules, policy.reschedule_timeout) == (100, timedelta(days=1))
    assert (own.max_reschedules, own.reschedule_timeout) == (3, HOUR)


@by_the_operator
def test_the_operator_schedules_a_wait_again_after_its_delay(context):
    before = datetime.now(UTC)

    error = raised(calm(), RateLimitError("m", retry_after=60), context())

    assert isinstance(error, AirflowRescheduleException)
    assert timedelta(seconds=60) <= error.reschedule_date - before < timedelta(seconds=120)
    assert isinstance(error.__cause__, RateLimitError)


@by_the_operator
def test_the_operator_stops_at_the_bound_and_the_error_is_retried_as_any_other(context):
    policy = calm(max_reschedules=2)

    ended = [type(raised(policy, RateLimitError("m"), context(count))) for count in (0, 1, 2)]

    assert ended == [AirflowRescheduleException, AirflowRescheduleException, RateLimitError]


@by_the_operator
def test_an_error_that_is_no_wait_stays_what_it_is(context):
    error = InternalServerError("m")

    assert raised(calm(), error, context()) is error


@by_the_operator
def test_a_policy_of_the_authors_own_decides_alone(context):
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

    error = RateLimitError("m")

    assert raised(ExceptionRetryPolicy(rules=[]), error, context()) is error


@by_the_policy
def test_the_policy_schedules_a_wait_again_within_both_bounds(context):
    policy = calm(max_reschedules=7, reschedule_timeout=HOUR)

    decision = policy.evaluate(RateLimitError("m", retry_after=60), 1, 3, context())

    assert "reschedule" in str(decision.action).lower()
    assert (decision.max_reschedules, decision.reschedule_timeout) == (7, HOUR)


@pytest.mark.parametrize("error", [RateLimitError("m"), InternalServerError("m"), ValueError("m")], ids=repr)
def test_what_was_spent_is_in_xcom_however_the_task_ends(error, context):
    given = context()

    raised(calm(), error, given)

    assert given["pushed"] == {ending.SPENT: {"charged": "0", "refunded": "0", "usd": "0"}}


def test_an_error_of_telling_what_was_spent_does_not_hide_the_tasks_own(context):
    given = context()
    given["ti"] = SimpleNamespace()

    assert isinstance(raised(calm(), InternalServerError("m"), given), GptImageError)


@by_the_operator
def test_a_wait_is_never_so_short_that_the_worker_is_still_leaving(context):
    before = datetime.now(UTC)

    came = raised(calm(), RateLimitError("m", retry_after=1), context())

    assert isinstance(came, AirflowRescheduleException)
    assert (came.reschedule_date - before).total_seconds() >= 10
