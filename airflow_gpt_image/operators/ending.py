"""How a task of ours ends when it fails: what it spent is in XCom, and a wait is no failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

SPENT: Final = "spent"
"""The XCom key of what a failed try's task instance spent since its last clear."""


class Ending:
    """What there is to do when the task fails."""

    def __init__(self) -> None:
        self._on_failure: list[Callable[[], object]] = []
        self._spent: Callable[[], dict[str, str] | None] = lambda: None

    def on_failure(self, function: Callable[[], object]) -> None:
        """Call a function when the task fails."""
        self._on_failure.append(function)

    def spent(self, function: Callable[[], dict[str, str] | None]) -> None:
        """Ask a function, when the task fails, what was spent; None: that isn't known."""
        self._spent = function

    def fail(self, operator: BaseOperator, context: Context) -> None:
        """Do it. Nothing of it is worth hiding the task's own error."""
        for function in self._on_failure:
            _attempt(operator, function)
        _attempt(operator, lambda: self._push_spent(context))

    def _push_spent(self, context: Context) -> None:
        spent = self._spent()
        if spent is not None:
            context["ti"].xcom_push(key=SPENT, value=spent)


@contextmanager
def watched(operator: BaseOperator, context: Context) -> Iterator[Ending]:
    """
    Run a part of a task.

    :raises AirflowRescheduleException: in place of an error that is only a wait, where Airflow's retry
        policies can't say so themselves (before 3.4).
    """
    ending = Ending()
    try:
        yield ending
    except TaskDeferred:
        raise
    except Exception as error:
        ending.fail(operator, context)
        later = _reschedule(operator, context, error)
        if later is None:
            raise
        raise later from error
    except BaseException:
        ending.fail(operator, context)
        raise


def _reschedule(
    operator: BaseOperator, context: Context, error: Exception
) -> AirflowRescheduleException | None:
    from airflow_gpt_image.retry_policy import GptImageRetryPolicy, policies_reschedule
    from airflow_gpt_image.triggers.gpt_image import defer_grace_seconds

    policy = operator.retry_policy
    if policies_reschedule() or not isinstance(policy, GptImageRetryPolicy):
        return None
    delay = policy.reschedule_delay(error, context)
    if delay is None or int(context.get("task_reschedule_count") or 0) >= policy.max_reschedules:
        return None
    # A task that begins again while its worker is still leaving is taken for a killed one: seen with 1 s.
    delay = max(delay, timedelta(seconds=defer_grace_seconds()))
    operator.log.warning(
        "%s: %s\nThat is only a wait: the task is scheduled again in %.0f s, and no retry is used up.",
        type(error).__name__,
        error,
        delay.total_seconds(),
    )
    return AirflowRescheduleException(datetime.now(UTC) + delay)  # type: ignore[no-untyped-call]


def _attempt(operator: BaseOperator, function: Callable[[], Any]) -> None:
    try:
        function()
    except Exception as error:  # noqa: BLE001  # the task's own error says more
        operator.log.warning("What was spent could not be told: %s: %s", type(error).__name__, error)
