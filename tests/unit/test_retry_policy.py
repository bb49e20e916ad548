"""The error table becomes Airflow's decision: whether on the class, when from the server or the task."""

from __future__ import annotations

import inspect
import logging
import pickle
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision

from airflow_gpt_image import errors
from airflow_gpt_image.errors import (
    GenerationFailedError,
    GptImageError,
    InternalServerError,
    RateLimitError,
    SpendLimitError,
    SubmissionUnknownError,
    UpstreamError,
)
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

# The design's table, "again?": without a delay of the server's.
AGAIN = {
    "InvalidRequestError": False,
    "InvalidApiKeyError": False,
    "InsufficientCreditsError": False,
    "IpNotAllowedError": False,
    "ModelNotFoundError": False,
    "GenerationNotFoundError": False,
    "RateLimitError": True,
    "SpendLimitError": False,
    "InternalServerError": True,
    "UpstreamError": True,
    "ConnectionFailedError": True,
    "UnreadableResponseError": True,
    "SubmissionUnknownError": False,
    "GenerationTimeoutError": True,
    "DownloadError": True,
    "ImageExpiredError": False,
    "ImageRefusedError": False,
    "InvalidSettingsError": False,
    "CreditLimitError": False,
    "LedgerError": True,
    "RecordMoveError": True,
    "ReplacedError": True,
    "RecordMissingError": False,
    "DestinationError": True,
    "DestinationTakenError": True,
    "PlanError": True,
    "InvalidRowsError": False,
    "EmptyDataSetError": False,
    "ItemsFailedError": False,
    "UnsettledImagesError": True,
    "TaskInterruptedError": True,
    "StoppedError": True,
}
CLASSES = {name: found for name, found in vars(errors).items() if inspect.isclass(found)}


@pytest.fixture
def context():
    """As Airflow passes it: the task with its settings."""

    def context(retry_delay=timedelta(seconds=30), retries=3):
        return {"task": SimpleNamespace(retry_delay=retry_delay, retries=retries)}

    return context


@pytest.fixture
def warned():
    """The warnings that end up in the task's log, through the standard library's logging."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("airflow_gpt_image.retry_policy")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def calm(**options):
    """A policy whose dice always show nought."""
    return GptImageRetryPolicy(jitter=lambda: 0.0, **options)


def decide(policy, error, context=None, try_number=1, max_tries=3):
    return policy.evaluate(error, try_number, max_tries, context)


def failed(code):
    return GenerationFailedError("m", code=code)


@pytest.mark.parametrize(("name", "again"), AGAIN.items())
def test_every_row_of_the_table_is_decided_as_the_design_has_it(name, again, context):
    decision = decide(calm(), CLASSES[name]("m"), context())

    assert decision.action is (RetryAction.RETRY if again else RetryAction.FAIL)
    assert name in decision.reason


def test_the_table_names_every_error_there_is():
    ours = {name for name, found in CLASSES.items() if issubclass(found, GptImageError)}

    assert ours - {"GptImageError", "GenerationFailedError"} == set(AGAIN)


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("upstream_error", True),
        ("internal_error", True),
        ("rate_limit_exceeded", True),
        ("invalid_request", False),
        ("insufficient_credits", False),
        ("spend_limit_exceeded", False),
        ("a_code_nobody_knows", True),
        (None, True),
    ],
)
def test_a_failed_generation_is_decided_as_its_code(code, again, context):
    decision = decide(calm(), failed(code), context())

    assert decision.action is (RetryAction.RETRY if again else RetryAction.FAIL)


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("x"), KeyboardInterrupt(), TimeoutError()], ids=repr
)
def test_errors_of_others_are_left_to_the_tasks_own_settings(error, context):
    assert decide(calm(), error, context()) == RetryDecision.default()


def test_an_unknown_submit_is_tried_again_where_the_author_chose_so(context):
    error = SubmissionUnknownError("m")
    error.retryable = True

    assert decide(calm(), error, context()).action is RetryAction.RETRY


# When


@pytest.mark.parametrize("error", [RateLimitError, InternalServerError, UpstreamError])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 45.5, 86400.0])
def test_the_delay_is_what_the_server_asked_for(error, seconds, context):
    decision = decide(calm(), error("m", retry_after=seconds), context())

    assert decision.retry_delay == timedelta(seconds=seconds)


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
def test_the_delay_is_never_shorter_than_the_server_asked_for_and_little_longer(dice, context):
    policy = GptImageRetryPolicy(jitter=lambda: dice)

    delay = decide(policy, RateLimitError("m", retry_after=60), context()).retry_delay

    assert timedelta(seconds=60) <= delay <= timedelta(seconds=70)


def test_a_delay_the_server_asked_for_is_not_cut(context):
    policy = calm(longest_delay=timedelta(minutes=1))

    decision = decide(policy, RateLimitError("m", retry_after=7200), context())

    assert decision.retry_delay == timedelta(hours=2)


@pytest.mark.parametrize(("try_number", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240)])
def test_without_the_servers_word_the_tasks_delay_doubles_from_try_to_try(try_number, seconds, context):
    decision = decide(
        calm(), InternalServerError("m"), context(retries=9), try_number=try_number, max_tries=9
    )

    assert decision.retry_delay == timedelta(seconds=seconds)


def test_after_a_clear_the_delay_begins_anew(context):
    # Three retries, cleared after the fourth try: the fifth is the first of a new count.
    decision = decide(calm(), InternalServerError("m"), context(retries=3), try_number=5, max_tries=7)

    assert decision.retry_delay == timedelta(seconds=30)


@pytest.mark.parametrize("try_number", [1, 2, 5])
def test_retries_that_were_lowered_meanwhile_do_not_shorten_the_delay(try_number, context):
    # max_tries still says ten: that isn't a clear.
    decision = decide(
        calm(), InternalServerError("m"), context(retries=3), try_number=try_number, max_tries=10
    )

    assert decision.retry_delay >= timedelta(seconds=30)


def test_without_a_context_the_first_delay_is_airflows_own():
    assert decide(calm(), InternalServerError("m")).retry_delay == timedelta(minutes=5)


@pytest.mark.parametrize("dice", [0.0, 0.999])
@pytest.mark.parametrize("try_number", [1, 2, 6, 60, 5000])
def test_no_backoff_is_longer_than_the_longest(dice, try_number, context):
    policy = GptImageRetryPolicy(jitter=lambda: dice, longest_delay=timedelta(minutes=10))

    decision = decide(
        policy, InternalServerError("m"), context(retries=9999), try_number=try_number, max_tries=9999
    )

    assert decision.retry_delay <= timedelta(minutes=10)


def test_the_longest_backoff_is_an_hour_unless_said_otherwise(context):
    decision = decide(calm(), InternalServerError("m"), context(retries=99), try_number=50, max_tries=99)

    assert decision.retry_delay == timedelta(hours=1)


def test_a_hundred_tasks_that_fail_together_do_not_come_back_together(context):
    policy = GptImageRetryPolicy()

    delays = {decide(policy, InternalServerError("m"), context()).retry_delay for _ in range(100)}
    asked = {decide(policy, RateLimitError("m", retry_after=5), context()).retry_delay for _ in range(100)}

    assert len(delays) > 90
    assert len(asked) > 90


def test_the_reason_says_what_happened_and_when_it_goes_on(context):
    decision = decide(calm(), RateLimitError("m", retry_after=45), context())

    assert decision.reason == "RateLimitError; retry in 45 s"


# Upstream errors


@pytest.mark.parametrize(
    "error", [UpstreamError("m"), failed("upstream_error")], ids=["submit", "generation"]
)
def test_an_upstream_error_is_tried_few_times_for_it_may_be_the_prompt(error, context):
    actions = [
        decide(calm(), error, context(retries=9), try_number=number, max_tries=9).action
        for number in (1, 2, 3, 4)
    ]

    assert actions == [RetryAction.RETRY, RetryAction.RETRY, RetryAction.FAIL, RetryAction.FAIL]


def test_the_author_says_how_often_an_upstream_error_is_tried(context):
    policy = calm(upstream_tries=1)

    assert decide(policy, UpstreamError("m"), context()).action is RetryAction.FAIL


def test_other_errors_are_tried_as_often_as_the_task_says(context):
    decision = decide(calm(), InternalServerError("m"), context(retries=9), try_number=8, max_tries=9)

    assert decision.action is RetryAction.RETRY


def test_a_clear_gives_an_upstream_error_its_few_tries_again(context):
    # Airflow counts tries on after a clear: with 3 retries, a task cleared after its 4th try has max_tries 7,
    # and its next try is the 5th.
    decision = decide(calm(), UpstreamError("m"), context(retries=3), try_number=5, max_tries=7)

    assert decision.action is RetryAction.RETRY


# Spend limits


@pytest.mark.parametrize(
    "error", [SpendLimitError("m"), failed("spend_limit_exceeded")], ids=["submit", "failed"]
)
def test_a_spend_limit_is_waited_for_where_the_author_says_how_long(error, context):
    policy = calm(spend_limit_delay=timedelta(hours=1))

    decision = decide(policy, error, context())

    assert decision.action is RetryAction.RETRY
    assert decision.retry_delay == timedelta(hours=1)
    assert "spend window" in decision.reason


def test_a_spend_limit_delay_is_of_no_other_error(context):
    policy = calm(spend_limit_delay=timedelta(hours=1))

    assert decide(policy, RateLimitError("m", retry_after=1), context()).retry_delay == timedelta(seconds=1)
    assert decide(policy, errors.InsufficientCreditsError("m"), context()).action is RetryAction.FAIL


# retries=0


@pytest.mark.parametrize(
    "error", [RateLimitError("m"), SpendLimitError("m")], ids=["retryable", "spend limit"]
)
def test_a_retryable_error_of_a_task_without_retries_is_warned_of(error, context, warned):
    policy = calm(spend_limit_delay=timedelta(hours=1))

    decide(policy, error, context(retries=0), max_tries=0)

    assert len(warned) == 1
    assert "retries=0.\nThat is Airflow's default" in warned[0]


def test_a_cleared_task_without_retries_is_warned_of_too(context, warned):
    # A clear raises max_tries to the number of the next try, less one: it is not 0, and there is no retry.
    decide(calm(), RateLimitError("m"), context(retries=0), try_number=2, max_tries=1)

    assert len(warned) == 1


def test_nothing_is_warned_of_where_there_are_retries_or_they_would_not_help(context, warned):
    decide(calm(), RateLimitError("m"), context(), max_tries=3)
    decide(calm(), errors.InvalidRequestError("m"), context(retries=0), max_tries=0)
    decide(calm(), ValueError("m"), context(retries=0), max_tries=0)

    assert warned == []


# As Airflow handles it


def test_a_policy_can_be_carried_to_a_worker():
    policy = GptImageRetryPolicy(upstream_tries=5, spend_limit_delay=timedelta(hours=1))

    again = pickle.loads(pickle.dumps(policy))

    assert (again.upstream_tries, again.spend_limit_delay) == (5, timedelta(hours=1))
    assert decide(again, RateLimitError("m", retry_after=1)).action is RetryAction.RETRY


def test_every_retryable_error_gets_a_delay_whatever_the_number_of_tries(context):
    for number in (1, 10, 1000):
        decision = decide(GptImageRetryPolicy(), InternalServerError("m"), context(), try_number=number)
        assert decision.retry_delay > timedelta(0)
