"""Submit, read, wait and generate, as flows: every decision about a call to the API, once.

The two clients only carry out the steps; see :mod:`airflow_gpt_image.api.steps`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.models import STATUSES, Generation, ImageRequest
from airflow_gpt_image.api.replies import Call, Reply
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.steps import Flow, Send, Sleep, do_nothing
from airflow_gpt_image.api.text import quote, single_line
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    InvalidRequestError,
    RateLimitError,
    UnreadableResponseError,
    error_class,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

# A generation just submitted may not be readable everywhere at once: for so long, an unknown id is one that
# is not known yet.
NOT_FOUND_GRACE: Final = 15.0


def warn(text: str) -> None:
    """Log a warning, where nobody else wants to."""
    _log.warning("%s", text)


def submit(
    request: ImageRequest,
    retrying: Retrying,
    *,
    before_send: Callable[[], object] = do_nothing,
    on_rate_limit: Callable[[], object] = do_nothing,
) -> Flow[str]:
    """Submit, and return the generation id.

    The request is sent again only after a rate limit's refusal, or when it provably never left. A 500 or 503
    counts as not accepted by our reading, which the document doesn't confirm; so that is never sent again
    here, and the author's ``retries`` bound what a wrong reading can cost.

    :param before_send: called right before each send; what it raises ends the flow with nothing sent.
    :param on_rate_limit: called after each refusal for the rate.
    """

    def parse(reply: Reply) -> str:
        try:
            return protocol.parse_submit(protocol.without_address(reply, request.callback_url))
        except RateLimitError:
            on_rate_limit()
            raise

    return (
        yield from _send_with_retries(
            protocol.submit_call(request),
            parse,
            retrying,
            again_after=(RateLimitError, ConnectionFailedError),
            before_send=before_send,
        )
    )


def get(generation_id: str, retrying: Retrying, *, grace: float = 0.0) -> Flow[Generation]:
    """Read a generation once, again while that can help.

    :param grace: seconds that an unknown id may stay unknown, for one that was just submitted.
    """
    call = protocol.get_call(generation_id)
    failures, waited = 0, 0.0
    while True:
        try:
            return (
                yield from _send_with_retries(
                    call, lambda reply: protocol.parse_generation(reply, generation_id), retrying
                )
            )
        except GenerationNotFoundError:
            if waited >= grace:
                raise
        failures += 1
        pause = retrying.backoff(failures)
        yield Sleep(pause)
        waited += pause


def balance(retrying: Retrying) -> Flow[Decimal]:
    """Read the account's credits."""
    return (yield from _send_with_retries(protocol.BALANCE_CALL, protocol.parse_balance, retrying))


def _send_with_retries(
    call: Call,
    parse: Callable[[Reply], T],
    retrying: Retrying,
    *,
    again_after: tuple[type[GptImageError], ...] = (GptImageError,),
    before_send: Callable[[], object] = do_nothing,
) -> Flow[T]:
    """Send a call until its response can be parsed, as ``retrying`` allows.

    :param again_after: the only errors after which the call may be sent again.
    :param before_send: called right before each send.
    """
    sends = 0
    while True:
        before_send()
        reply = yield Send(call, before_send)
        sends += 1
        try:
            return parse(reply)
        except again_after as error:
            pause = retrying.pause_after(error, sends=sends)
            if pause is None:
                raise
        yield Sleep(pause)


def wait(
    generation_id: str,
    *,
    poll_interval: float,
    deadline: float,
    retrying: Retrying,
    on_poll: Callable[[str], object] = do_nothing,
    on_unknown_status: Callable[[str], object] = warn,
    pause_before_next: Callable[[Generation, float], float] | None = None,
) -> Flow[Generation]:
    """Poll until the generation is finished; a poll that fails for a passing reason doesn't end the wait.

    :param poll_interval: seconds from one poll to the next.
    :param deadline: seconds since 1970; the last poll is at the deadline.
    :param on_poll: called after each poll, with what came of it, such as ``its status is 'pending'``.
    :param on_unknown_status: called with a warning, once for each status that the API document doesn't know,
        and once for answers of status 200 that can't be read.
    :param pause_before_next: returns the seconds to the next poll of a generation that isn't finished, given
        it and the time; None: always ``poll_interval``.
    :raises GenerationTimeoutError: at the deadline; the generation goes on and can be waited for again.
    :raises GptImageError: at once, when polling again can't help.
    """
    call = protocol.get_call(generation_id)
    _check_interval(poll_interval)
    failures = 0
    told: tuple[str, ...] = ()
    now = started = yield Sleep(0)
    while True:
        reply = yield Send(call)
        now = reply.at
        try:
            generation = protocol.parse_generation(reply, generation_id)
        except GptImageError as error:
            too_early = isinstance(error, GenerationNotFoundError) and now - started < NOT_FOUND_GRACE
            seen = "the last poll failed: " + error.message.partition("\n")[0].rstrip(".")
            on_poll(seen)
            if not error.retryable and not too_early:
                raise
            # A success of the API's whose status is no word at all is unknown, too.
            if isinstance(error, UnreadableResponseError) and error.status == 200 and "" not in told:
                told += ("",)
                on_unknown_status(f"Generation {generation_id}: {error.message}\n{_polled_on(deadline)}")
            failures += 1
            # Retry-After is honoured here whatever its length: it holds up nothing but this wait.
            pause = max(retrying.backoff(failures), error.retry_after or 0.0)
        else:
            seen = f"its status is {generation.status!r}"
            on_poll(seen)
            if generation.finished:
                return generation
            if generation.status not in told and (warning := unknown_status(generation, deadline)):
                told += (generation.status,)
                on_unknown_status(warning)
            failures = 0
            pause = poll_interval if pause_before_next is None else pause_before_next(generation, now)
            del generation
        # Thousands may sleep at the same time: none needs to keep what its last poll said in full.
        del reply
        if now >= deadline:
            raise GenerationTimeoutError(
                f"Generation {generation_id} was not finished by {_utc(deadline)}: {seen}.\n"
                "It is paid for, and goes on.\n"
                "Waiting for the same id again costs nothing: a retry or a clear does.",
                generation_id=generation_id,
            )
        yield Sleep(min(pause, deadline - now))


def unknown_status(generation: Generation, deadline: float | None = None) -> str | None:
    """Return what there is to say of a status that the API document doesn't know; None for one that it does.

    :param deadline: until when it is polled, in seconds since 1970; None: that isn't known here.
    """
    if generation.status in STATUSES:
        return None
    return (
        f"Generation {generation.id} has the status {quote(generation.status)}, a word that the API document "
        f"doesn't know.\n{_polled_on(deadline)}"
    )


def _polled_on(deadline: float | None) -> str:
    until = "" if deadline is None else f" until {_utc(deadline)}"
    return f"It counts as not finished, and is polled on{until}.\nNothing is paid for again."


def generate(
    request: ImageRequest, *, poll_interval: float, timeout: float, retrying: Retrying
) -> Flow[Generation]:
    """Submit, wait at most ``timeout`` seconds, and return the generation, completed and with images."""
    _check_interval(poll_interval)
    generation_id = yield from submit(request, retrying)
    now = yield Sleep(0)
    generation = yield from wait(
        generation_id, poll_interval=poll_interval, deadline=now + timeout, retrying=retrying
    )
    return succeeded(generation)


def _check_interval(seconds: float) -> None:
    # Checked before anything is paid for. Zero would poll as fast as the machine can.
    if not 0 < seconds < math.inf:
        raise InvalidRequestError(
            f"poll_interval={seconds!r} must be a number of seconds above 0.\n"
            "It is the time from one poll to the next.\nGive one such as 5."
        )


def succeeded(generation: Generation) -> Generation:
    """Return the same generation when it is completed and has images.

    :raises GenerationFailedError: when it failed; it was refunded.
    :raises UnreadableResponseError: when it is completed without an image; reading it again may show one.
    """
    if generation.status == "failed":
        failure = generation.error
        message = (single_line(failure.message) or "The API gave no reason").rstrip(".")
        code = single_line(failure.code)
        raise GenerationFailedError(
            f"{message} ({code or 'without a code'}).\n"
            f"Generation {generation.id} failed, and was refunded.\n"
            f"{_remedy(code, single_line(failure.type))}",
            code=code,
            type=single_line(failure.type),
            generation_id=generation.id,
        )
    if not generation.urls:
        raise UnreadableResponseError(
            f"Generation {generation.id} is {generation.status!r} but names no image.",
            generation_id=generation.id,
        )
    return generation


def _remedy(code: str | None, kind: str | None) -> str:
    if error_class(code=code, type=kind).retryable:
        return "A retry makes a new one. If it keeps failing, change the prompt or the reference images."
    return "The same would fail again: change the prompt or the reference images."


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
