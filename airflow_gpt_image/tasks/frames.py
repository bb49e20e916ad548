"""Show errors of ours without the frames of our inside: a reader of a task's log needs the message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)


def few_frames(method: Callable[P, R]) -> Callable[P, R]:
    """
    Let an error of ours leave a method without where it was raised, and without what caused it.

    Its message says what happened, what the rule is and what to do; thirty frames in front of it hide that.
    They are logged at the level DEBUG. Other errors, which are mistakes of ours, keep theirs.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            from airflow_gpt_image.errors import GptImageError

            if not isinstance(error, GptImageError):
                raise
            _log.debug("Where it was raised:", exc_info=True)
            raise error.with_traceback(None) from None

    return call
