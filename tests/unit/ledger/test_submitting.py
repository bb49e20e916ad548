"""Every course that one submit can take."""

from __future__ import annotations

import _thread
import itertools
import signal
import threading

import pytest

from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DestinationError,
    GptImageError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    ReplacedError,
    SubmissionUnknownError,
    UpstreamError,
)
from airflow_gpt_image.ledger import submitting
from tests.records import NOW, REQUEST
from tests.task_instance import DiedError


class Driven:
    """What a submit does, and what comes of it."""

    def __init__(self, answer, intent_error=None, outcome_error=None, known=()):
        self.answer, self.intent_error, self.outcome_error = answer, intent_error, outcome_error
        self.known = known
        self.done = []

    def write_intent(self, record):
        self.done.append(("intent", record))
        if self.intent_error:
            raise self.intent_error

    def post(self, request):
        self.done.append(("POST", request))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def write_outcome(self, record):
        self.done.append(("outcome", record))
        if self.outcome_error:
            raise self.outcome_error


@pytest.fixture
def drive(intent):
    """Carries out a submit. Returns the record, or the error."""

    def drive(driven):
        try:
            return submitting.submit(
                intent(),
                REQUEST,
                write_intent=driven.write_intent,
                post=driven.post,
                write_outcome=driven.write_outcome,
                now=lambda: NOW,
                name=lambda generation_id: f"{generation_id}-0",
                is_known=lambda generation_id: generation_id in driven.known,
            )
        except GptImageError as error:
            return error

    return drive


def names(driven):
    return [name for name, _ in driven.done]


def outcome(driven):
    return driven.done[-1][1]


def test_the_intent_comes_before_the_post_and_the_id_after_it(drive):
    driven = Driven("g1")

    record = drive(driven)

    assert names(driven) == ["intent", "POST", "outcome"]
    assert driven.done[0][1].state == "intent"
    assert outcome(driven) == record
    assert (record.state, record.generation_id, record.name) == ("submitted", "g1", "g1-0")
    assert (record.submitted_at, record.net_charges) == (NOW, 1)


def test_what_is_sent_is_the_prepared_request(drive):
    driven = Driven("g1")

    drive(driven)

    assert driven.done[1] == ("POST", REQUEST)


@pytest.mark.parametrize("error", [LedgerError("m"), DestinationError("m"), ReplacedError("m")], ids=repr)
def test_without_an_intent_on_record_nothing_is_sent(drive, error):
    driven = Driven("g1", intent_error=error)

    assert drive(driven) is error
    assert names(driven) == ["intent"]


NOT_ACCEPTED = [
    RateLimitError("m", retry_after=30),
    InvalidRequestError("m"),
    InsufficientCreditsError("m"),
    InternalServerError("m"),
    UpstreamError("m"),
    ConnectionFailedError("m"),
    ReplacedError("m"),  # the fence, right before it was sent
    LedgerError("m"),
]


@pytest.mark.parametrize("error", NOT_ACCEPTED, ids=lambda error: type(error).__name__)
def test_what_was_not_accepted_is_on_record_as_failed_without_a_charge_and_raised_as_it_is(drive, error):
    driven = Driven(error)

    assert drive(driven) is error
    assert (outcome(driven).state, outcome(driven).net_charges) == ("failed", 0)
    assert outcome(driven).failure.error == type(error).__name__


def test_a_lost_answer_leaves_the_intent_with_its_reason(drive):
    driven = Driven(SubmissionUnknownError("ReadTimeout"))

    error = drive(driven)

    assert isinstance(error, SubmissionUnknownError)
    assert (outcome(driven).state, outcome(driven).net_charges) == ("intent", 1)
    assert outcome(driven).failure.message == "ReadTimeout"


def test_an_id_beside_an_error_is_what_was_paid_for(drive):
    driven = Driven(SubmissionUnknownError("An id and an error.", generation_id="g7"))

    record = drive(driven)

    assert (record.state, record.generation_id, record.failure) == ("submitted", "g7", None)
    assert outcome(driven) == record


@pytest.mark.parametrize("answer", ["g1", SubmissionUnknownError("m", generation_id="g1")], ids=repr)
def test_an_id_that_is_another_submits_already_is_unknown(drive, answer):
    driven = Driven(answer, known=["g1"])

    error = drive(driven)

    assert isinstance(error, SubmissionUnknownError)
    assert "g1, which is another submit's" in str(error)
    assert (outcome(driven).state, outcome(driven).generation_id) == ("intent", None)


@pytest.mark.parametrize("answer", ["g1", RateLimitError("m"), SubmissionUnknownError("m")], ids=repr)
def test_an_outcome_that_no_place_took_is_an_error_of_its_own(drive, answer):
    lost = LedgerError("no place took it")
    driven = Driven(answer, outcome_error=lost)

    assert drive(driven) is lost
    assert names(driven) == ["intent", "POST", "outcome"]


@pytest.mark.parametrize("death", [DiedError(), KeyboardInterrupt(), TypeError("a bug")], ids=repr)
def test_a_worker_that_dies_while_it_sends_puts_nothing_else_on_record(drive, death):
    driven = Driven(death)

    with pytest.raises(type(death)):
        drive(driven)

    assert names(driven) == ["intent", "POST"]


COURSES = list(
    itertools.product(
        [
            "g1",
            "known",
            *NOT_ACCEPTED,
            SubmissionUnknownError("m"),
            SubmissionUnknownError("m", generation_id="g2"),
        ],
        [None, LedgerError("m")],
        [None, LedgerError("m")],
    )
)


@pytest.mark.parametrize(("answer", "intent_error", "outcome_error"), COURSES, ids=repr)
def test_nothing_is_sent_twice_and_whatever_was_sent_has_an_outcome(
    drive, answer, intent_error, outcome_error
):
    driven = Driven(answer, intent_error, outcome_error, known=["known"])

    drive(driven)

    assert names(driven) == (["intent"] if intent_error else ["intent", "POST", "outcome"])


@pytest.fixture
def timeout_signal():
    """A signal whose handler raises, as Airflow's execution timeout has it."""

    def raise_timeout(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, raise_timeout)
    yield signal.SIGALRM
    signal.signal(signal.SIGALRM, before)


def test_a_submit_goes_on_to_its_record_when_a_signal_ends_the_task_meanwhile(timeout_signal):
    # The exception is raised in the main thread, wherever that is.
    begun, signalled, written = threading.Event(), threading.Event(), []

    def submit():
        begun.set()
        assert signalled.wait(60)
        written.append("g1")

    def end_the_task():
        assert begun.wait(60)
        _thread.interrupt_main(timeout_signal)
        signalled.set()

    thread = threading.Thread(target=end_the_task)
    thread.start()

    with pytest.raises(TimeoutError):
        submitting.uninterrupted(submit)

    thread.join()
    assert written == ["g1"]


def test_what_the_submit_returned_or_raised_is_returned_or_raised():
    assert submitting.uninterrupted(lambda: "g1") == "g1"
    with pytest.raises(RateLimitError):
        submitting.uninterrupted(lambda: (_ for _ in ()).throw(RateLimitError("m")))


def test_an_answer_is_there_or_lost_after_connecting_sending_and_reading():
    assert submitting.answer_seconds(10, 60) == 155.0


@pytest.mark.parametrize(("connect_timeout", "read_timeout"), [(10, 60), (0.1, 0.1), (300, 3600)])
def test_a_client_has_given_up_when_an_answer_counts_as_lost(connect_timeout, read_timeout):
    settings = ClientSettings(api_key="sk-0", connect_timeout=connect_timeout, read_timeout=read_timeout)

    given_up = settings.connect_seconds + settings.response_seconds

    assert given_up + 1 < submitting.answer_seconds(connect_timeout, read_timeout)
