"""The order of one submit, for single images and batches: intent, POST, id.

What if the process dies? Before the intent nothing is paid for. From there on the intent says that nobody
knows, until the id stands in its place. What if the answer isn't the API's own? Then nobody knows either: the
intent stays, with the reason. Only what provably was not accepted is put on record as ``failed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from typing import TypeVar

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.api.sizes import AUTO, RATIO_OF_AUTO
from airflow_gpt_image.errors import GptImageError, SubmissionUnknownError
from airflow_gpt_image.events import Refused, Submitted, Tell, Unknown, ignore
from airflow_gpt_image.events.telling import code_of
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import Record

T = TypeVar("T")


def submit(
    intent: Record,
    prepared: ImageRequest,
    *,
    write_intent: Callable[[Record], object],
    post: Callable[[ImageRequest], str],
    write_outcome: Callable[[Record], object],
    now: Callable[[], datetime],
    name: Callable[[str], str | None],
    is_known: Callable[[str], bool],
    tell: Tell = ignore,
) -> Record:
    """
    Submit a request; return the record with the generation's id.

    :param prepared: the request as it is sent: reference images are signed.
    :param write_intent: puts the intent in every place of record, the fence last; if one doesn't take it,
        raises, and nothing is sent.
    :param post: sends the request once, and returns the generation's id.
    :param write_outcome: puts on record what came of the POST; it has to reach one place, whatever it takes.
    :param name: gives the name of a generation's images, for the record.
    :param is_known: tells whether an id is another submit's already.
    :param tell: is told what came of it, once that is on record.
    :raises SubmissionUnknownError: when it may have been accepted and nobody knows.
    :raises GptImageError: when it was not accepted.
    """
    write_intent(intent)
    try:
        generation_id = post(prepared)
    except SubmissionUnknownError as error:
        if error.generation_id is None:
            write_outcome(intent.unknown(error))
            tell(Unknown(prepared.resolution, intent.credits))
            raise
        generation_id = error.generation_id
    except GptImageError as error:
        write_outcome(intent.not_accepted(error, now()))
        tell(Refused(code_of(error)))
        raise
    if is_known(generation_id):
        unknown = same_id_error(generation_id)
        write_outcome(intent.unknown(unknown))
        tell(Unknown(prepared.resolution, intent.credits))
        raise unknown
    record = intent.submitted(generation_id, now(), name=name(generation_id))
    write_outcome(record)
    size = RATIO_OF_AUTO if prepared.aspect_ratio == AUTO else prepared.aspect_ratio
    tell(Submitted(generation_id, size, prepared.resolution, record.credits, plain(record.usd)))
    return record


def intent_digest(record: Record) -> str:
    """Tell a submit from every other one, those of the same attempt included, in 32 hex digits."""
    payer = record.payer
    attempt = [payer.instance_digest, payer.clear_epoch, payer.attempt]
    parts = [*attempt, record.fingerprint, record.slot, record.retries]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def same_id_error(generation_id: str | None, payer: Payer | None = None) -> SubmissionUnknownError:
    """
    Return the error about an id that is another submit's.

    :param payer: of that one, if it isn't this task instance's own.
    """
    whose = f": that of {payer}" if payer is not None else ""
    return SubmissionUnknownError(
        f"The API gave the id {generation_id}, which is another submit's{whose}.\n"
        "Whether this one was accepted can't be known.\n"
        f"{SubmissionUnknownError.remedy}"
    )


def answer_seconds(connect_timeout: float, read_timeout: float) -> float:
    """Return the seconds after which a submit is over, whatever happens: connected, answered, read.

    The client keeps to it: see ``ClientSettings.connect_seconds`` and ``response_seconds``.
    """
    return 3 * connect_timeout + 2 * read_timeout + 5.0


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
