"""Turn our errors into Airflow's retry decisions.

Whether an error can be retried is said by its class; this module says when.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow.sdk import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_gpt_image.errors import GptImageError

log = logging.getLogger(__name__)

_DEFAULT_DELAY: Final = timedelta(minutes=5)


class GptImageRetryPolicy(RetryPolicy):
    """
    Retry what can succeed later, after the delay the server asked for; fail at once what can't.

    The default of every task of this provider that sets no ``retry_policy``. It can't go beyond the task's
    ``retries``, which Airflow sets to 0 by default. Where the server asks for no delay, the task's own
    ``retry_delay`` doubles from try to try, with jitter, up to ``longest_delay``. Errors that aren't of this
    package are left to the task's own settings.

    :param upstream_tries: how many tries an ``upstream_error`` gets at most, the first included: it may well
        be the prompt's fault.
    :param spend_limit_delay: how long to wait before the task runs again when the key's spend limit is
        reached; for an hourly or daily limit. None: fail, for waiting doesn't lift a total limit.
    :param longest_delay: the longest delay that doubling leads to. One that the server asked for is not cut.
    :param max_reschedules: how often in one try the task is scheduled again for a rate limit, a spend limit
        with a ``spend_limit_delay`` or a taken destination, which uses up no retry. After that they are
        retried as any other error.
    :param reschedule_timeout: how long one try may be scheduled again so. Airflow 3.3 counts only
        ``max_reschedules``.
    :param jitter: a function that returns a number in [0, 1); delays get longer by it, so that many tasks
        don't come back at once.
    """

    def __init__(
        self,
        *,
        upstream_tries: int = 3,
        spend_limit_delay: timedelta | None = None,
        longest_delay: timedelta = timedelta(hours=1),
        max_reschedules: int = 100,
        reschedule_timeout: timedelta = timedelta(days=1),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.upstream_tries = upstream_tries
        self.spend_limit_delay = spend_limit_delay
        self.longest_delay = longest_delay
        self.max_reschedules = max_reschedules
        self.reschedule_timeout = reschedule_timeout
        self._jitter = jitter

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Called on the worker for whatever the task raised."""
        from airflow_gpt_image.errors import (
            GenerationFailedError,
            GptImageError,
            SpendLimitError,
            UpstreamError,
        )

        if not isinstance(exception, GptImageError):
            return RetryDecision.default()
        name = type(exception).__name__
        row = exception.row if isinstance(exception, GenerationFailedError) else type(exception)
        retries = (context["task"].retries if context else max_tries) or 0
        # A clear starts the counting anew: it raises max_tries by the tries before it. Retries that an author
        # lowered meanwhile look the same; then this counts as the first.
        tries = max(1, try_number - max(0, max_tries - retries))
        delay = self.reschedule_delay(exception, context)
        if delay is not None and policies_reschedule():
            decision: RetryDecision = RetryDecision.reschedule(  # type: ignore[attr-defined]  # from 3.4 on
                delay,
                max_reschedules=self.max_reschedules,
                reschedule_timeout=self.reschedule_timeout,
                reason=f"{name} is only a wait; again in {delay.total_seconds():.0f} s",
            )
            return decision
        if issubclass(row, SpendLimitError) and self.spend_limit_delay is not None:
            reason = f"{name}: waiting for the next spend window"
            return self._again(self.spend_limit_delay, reason, retries)
        if not exception.retryable:
            return RetryDecision.fail(f"{name} is not retryable: nothing changes by itself")
        if issubclass(row, UpstreamError) and tries >= self.upstream_tries:
            return RetryDecision.fail(f"{name}: upstream failed {tries} times; it may be the prompt")
        return self._again(self._delay(exception, tries, context), name, retries)

    def reschedule_delay(self, error: BaseException, context: Context | None = None) -> timedelta | None:
        """Return how long to wait for what passes by itself, using up no retry; None for any other error."""
        from airflow_gpt_image.errors import DestinationTakenError, RateLimitError, SpendLimitError

        if isinstance(error, SpendLimitError):
            return self.spend_limit_delay
        if isinstance(error, (RateLimitError, DestinationTakenError)):
            return self._delay(error, 1, context)
        return None

    def _again(self, delay: timedelta, reason: str, retries: int) -> RetryDecision:
        if retries == 0:
            log.warning(
                "This error is retryable (%s), but the task has retries=0.\n"
                "That is Airflow's default, and means that it fails.\n"
                "Give the task retries=3 or so.",
                reason,
            )
        return RetryDecision.retry(delay, f"{reason}; retry in {delay.total_seconds():.0f} s")

    def _delay(self, error: GptImageError, try_number: int, context: Context | None) -> timedelta:
        if error.retry_after is not None:
            # At least what was asked for; a hundred mapped tasks don't come back in the same second.
            return timedelta(
                seconds=error.retry_after + self._jitter() * min(10.0, 1 + error.retry_after / 10)
            )
        first = getattr(context["task"], "retry_delay", _DEFAULT_DELAY) if context else _DEFAULT_DELAY
        doubled: timedelta = first * 2 ** min(try_number - 1, 20)
        return min(doubled * (1 + self._jitter() / 4), self.longest_delay)


def policies_reschedule() -> bool:
    """Return whether retry policies can schedule a task again without using up a retry (Airflow 3.4)."""
    return hasattr(RetryDecision, "reschedule")
