"""The order of one submit, as a generator that the single path and the batch carry out: intent, POST, id.

Whoever drives it writes what it yields to the places of record, sends the request, and throws back in what
that raised.

What if the process dies? Before the intent nothing is paid for. From there on the intent says that nobody
knows, until the id stands in its place. What if the answer isn't the API's own? Then nobody knows either: the
intent stays, with the reason. Only what provably was not accepted is put on record as ``failed``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import GptImageError, SubmissionUnknownError
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.storage.signing import signed

T = TypeVar("T")


@dataclass(frozen=True)
class WriteIntent:
    """Put an intent in every place of record, the fence last. If one doesn't take it, nothing may be sent."""

    record: Record


@dataclass(frozen=True)
class Post:
    """Send the request once. Comes back: the generation id."""

    request: ImageRequest


@dataclass(frozen=True)
class WriteOutcome:
    """Put on record what came of the POST. It has to reach one place, whatever it takes."""

    record: Record


Step = WriteIntent | Post | WriteOutcome


def submit(
    intent: Record,
    prepared: ImageRequest,
    *,
    now: Callable[[], datetime],
    name: Callable[[str], str | None],
    is_known: Callable[[str], bool],
) -> Generator[Step, Any, Record]:
    """
    Submit a request; return the record with the generation's id.

    :param prepared: the request as it is sent: reference images are signed.
    :param name: gives the name of a generation's images, for the record.
    :param is_known: tells whether an id is another submit's already.
    :raises SubmissionUnknownError: when it may have been accepted and nobody knows.
    :raises GptImageError: when it was not accepted.
    """
    yield WriteIntent(intent)
    try:
        generation_id: str = yield Post(prepared)
    except SubmissionUnknownError as error:
        if error.generation_id is None:
            yield WriteOutcome(intent.unknown(error))
            raise
        generation_id = error.generation_id
    except GptImageError as error:
        yield WriteOutcome(intent.not_accepted(error, now()))
        raise
    if is_known(generation_id):
        unknown = SubmissionUnknownError(
            f"The API answered with generation {generation_id}, which is another submit's.\n"
            "Whether this one was accepted can't be known.\n"
            f"{SubmissionUnknownError.remedy}"
        )
        yield WriteOutcome(intent.unknown(unknown))
        raise unknown
    record = intent.submitted(generation_id, now(), name=name(generation_id))
    yield WriteOutcome(record)
    return record


def answer_seconds(connect_timeout: float, read_timeout: float) -> float:
    """Return the seconds after which a submit is over, whatever happens: connected, answered, read.

    The client keeps to it: see ``ClientSettings.connect_seconds`` and ``response_seconds``.
    """
    return 3 * connect_timeout + 2 * read_timeout + 5.0


def prepare(request: ImageRequest, *, seconds: float) -> ImageRequest:
    """
    Return the request as it is sent: objects on the user's own stores get signed addresses.

    :param seconds: how long those are valid, at least.
    :raises InvalidRequestError: when a store can't sign, or Airflow doesn't know it.
    :raises DestinationError: when signing fails for another reason, which may pass.
    """
    return signed(request, seconds=seconds)


def run(
    flow: Generator[Step, Any, Record],
    *,
    write_intent: Callable[[Record], object],
    post: Callable[[ImageRequest], str],
    write_outcome: Callable[[Record], object],
) -> Record:
    """Carry out a submit with functions that block; return the record."""
    carry_out: dict[type[Any], Callable[[Any], object]] = {
        WriteIntent: lambda step: write_intent(step.record),
        Post: lambda step: post(step.request),
        WriteOutcome: lambda step: write_outcome(step.record),
    }
    try:
        step = next(flow)
        while True:
            try:
                came = carry_out[type(step)](step)
            except GptImageError as error:
                step = flow.throw(error)
            else:
                step = flow.send(came)
    except StopIteration as end:
        record: Record = end.value
        return record


async def arun(
    flow: Generator[Step, Any, Record],
    *,
    write_intent: Callable[[Record], Awaitable[object]],
    post: Callable[[ImageRequest], Awaitable[str]],
    write_outcome: Callable[[Record], Awaitable[object]],
) -> Record:
    """Carry out a submit on an event loop; return the record."""
    carry_out: dict[type[Any], Callable[[Any], Awaitable[object]]] = {
        WriteIntent: lambda step: write_intent(step.record),
        Post: lambda step: post(step.request),
        WriteOutcome: lambda step: write_outcome(step.record),
    }
    try:
        step = next(flow)
        while True:
            try:
                came = await carry_out[type(step)](step)
            except GptImageError as error:
                step = flow.throw(error)
            else:
                step = flow.send(came)
    except StopIteration as end:
        record: Record = end.value
        return record


def uninterrupted(function: Callable[[], T]) -> T:
    """
    Call a function in a thread of its own, and wait for its end whatever happens meanwhile.

    A signal's exception (an execution timeout) is raised wherever the main thread is: in the middle of a
    submit it would lose the id. Here it is raised after the submit is on record.
    """
    with ThreadPoolExecutor(1) as thread:  # leaving it waits for the function, also after an exception
        # An exception while a thread is started would have the pool forget that there is one to wait for.
        thread.submit(int).result()
        ended = thread.submit(function)
        while not ended.done():
            wait([ended], 1.0)  # not for ever: a signal right before a wait doesn't interrupt it
        return ended.result()
