"""Whether there is anything to pay for, decided from what is on record; and the guards before it."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from airflow_gpt_image.paying import Rules, pay_once

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    CreditLimitError,
    GptImageError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    LedgerError,
    RateLimitError,
    SubmissionUnknownError,
    UnreadableResponseError,
    UpstreamError,
)
from airflow_gpt_image.ledger import Ledger, fingerprint
from tests import state_store
from tests.log_lines import Lines

REQUEST = ImageRequest(prompt="a red teapot")
LARGE = ImageRequest(prompt="a red teapot", resolution="4k")
REGENERATE = Rules(on_clear="regenerate")
RESUBMIT = Rules(on_unknown_submit="resubmit")


class Store(state_store.Store):
    """``broken`` says at which write it fails."""

    def __init__(self):
        super().__init__()
        self.writes, self.broken = 0, None

    def set(self, key, value, *, retention=None):
        self.writes += 1
        if self.writes == self.broken:
            raise ConnectionError("the API server does not answer")
        super().set(key, value, retention=retention)


class Api:
    """Accepts what it gets, or answers with the errors it was given, one after the other."""

    def __init__(self):
        self.asked, self.errors = [], []

    def submit(self, request):
        self.asked.append(request)
        if self.errors:
            raise self.errors.pop(0)
        return f"g{len(self.asked)}"


class KilledError(BaseException):
    """The worker dies: no ``except Exception`` sees it."""


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def pay(store, api, log):
    """One try: a ledger of its own, and the only place that submits."""

    def pay(request=REQUEST, rules=Rules(), max_tries=1):
        identity = fingerprint(request, conn_id="c", host="h")
        ledger = Ledger(store, max_tries=max_tries)
        return pay_once(ledger, identity, request, lambda: lambda: api.submit(request), rules, log)

    return pay


@pytest.fixture
def on_record(store):
    """What the next try finds."""

    def on_record(request=REQUEST, max_tries=1):
        return Ledger(store, max_tries=max_tries).find(fingerprint(request, conn_id="c", host="h"))

    return on_record


@pytest.fixture
def settle(store):
    """How the generation of a request ended."""

    def settle(how, request=REQUEST, max_tries=1):
        ledger = Ledger(store, max_tries=max_tries)
        what = {"generation_id": "g1"} if how == "stored" else "the provider failed"
        getattr(ledger, how)(fingerprint(request, conn_id="c", host="h"), what, now=datetime.now(UTC))

    return settle


# What is on record decides


def test_what_was_never_asked_for_is_submitted_once(pay, api):
    record, reused = pay()

    assert (record.state, record.generation_id, reused) == ("submitted", "g1", False)
    assert api.asked == [REQUEST]


def test_a_retry_reattaches_to_a_generation_that_runs(pay, api):
    pay()

    record, reused = pay()

    assert (record.generation_id, reused) == ("g1", True)
    assert len(api.asked) == 1


def test_a_retry_takes_the_result_that_is_stored(pay, api, settle):
    pay()
    settle("stored")

    record, reused = pay()

    assert (record.state, record.result, reused) == ("stored", {"generation_id": "g1"}, True)
    assert len(api.asked) == 1


def test_a_retry_pays_anew_after_a_failed_generation_for_it_was_refunded(pay, api, settle, log):
    pay()
    settle("failed")

    record, reused = pay()

    assert (record.generation_id, reused) == ("g2", False)
    assert any("Generation g1 failed and was refunded" in line for line in log.infos)


def test_a_changed_prompt_is_a_new_request_and_the_old_one_is_still_there(pay, api):
    pay()

    changed, _ = pay(ImageRequest(prompt="a blue teapot"))
    back, reused = pay()

    assert changed.generation_id == "g2"
    assert (back.generation_id, reused) == ("g1", True)


def test_a_changed_parameter_is_a_new_request(pay):
    pay()

    record, reused = pay(LARGE)

    assert (record.generation_id, reused) == ("g2", False)


def test_the_log_names_the_generation_as_soon_as_it_is_paid_for(pay, log, store):
    store.broken = 2  # the id can't be put on record

    with pytest.raises(LedgerError):
        pay()

    assert "Submitted generation g1: auto, 1k, 4.7 credits ($0.0235)." in log.infos


# Refused: nothing was accepted


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("m", retry_after=30),
        InvalidRequestError("m"),
        InternalServerError("m"),
        UpstreamError("m"),
        ConnectionFailedError("m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_was_not_accepted_leaves_nothing_on_record_and_is_raised_as_it_is(pay, api, on_record, error):
    api.errors = [error]

    with pytest.raises(GptImageError) as caught:
        pay()

    assert caught.value is error
    assert on_record() is None
    record, reused = pay()
    assert (record.generation_id, reused) == ("g2", False)


def test_what_was_not_accepted_costs_nothing(pay, api, store):
    api.errors = [RateLimitError("m")]
    with pytest.raises(RateLimitError):
        pay()

    assert Ledger(store, max_tries=1).spent.net == 0


def test_an_intent_that_cannot_be_taken_back_stays_and_is_never_paid_for_again(pay, api, store):
    api.errors = [RateLimitError("m")]
    store.broken = 2

    with pytest.raises(LedgerError):
        pay()

    with pytest.raises(SubmissionUnknownError):
        pay()
    assert len(api.asked) == 1


# Unknown: it may have been accepted


def _lost():
    return SubmissionUnknownError("The request was sent but no answer came: ReadTimeout.")


def test_a_lost_answer_is_never_paid_for_again(pay, api):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay()

    with pytest.raises(SubmissionUnknownError):
        pay()

    assert len(api.asked) == 1


def test_a_lost_answer_is_not_tried_again_by_itself(pay, api):
    api.errors = [_lost()]

    with pytest.raises(SubmissionUnknownError) as first:
        pay()
    with pytest.raises(SubmissionUnknownError) as second:
        pay()

    assert not first.value.retryable
    assert not second.value.retryable


def _says_how_to_go_on(message):
    return "4.7 credits ($0.0235)" in message and "on_unknown_submit='resubmit'" in message


def test_the_next_try_says_what_happened_what_it_may_have_cost_and_how_to_go_on(pay, api):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay()

    with pytest.raises(SubmissionUnknownError) as caught:
        pay()

    message = str(caught.value)
    assert "it died, or the answer was lost" in message
    assert "on_clear='regenerate'" in message
    assert _says_how_to_go_on(message)


def test_the_try_that_lost_the_answer_says_what_it_may_have_cost_and_how_to_go_on(pay, api):
    # It is the one whose message is read: it isn't tried again, so there may be no next one.
    api.errors = [_lost()]

    with pytest.raises(SubmissionUnknownError) as caught:
        pay()

    message = str(caught.value)
    assert "ReadTimeout" in message
    assert _says_how_to_go_on(message)


def test_an_unknown_submit_keeps_the_evidence_of_the_answer(pay, api):
    api.errors = [SubmissionUnknownError("A proxy's page.", status=502, request_id="r1")]

    with pytest.raises(SubmissionUnknownError) as caught:
        pay()

    assert (caught.value.status, caught.value.request_id) == (502, "r1")


def test_the_author_can_choose_to_submit_again(pay, api, store, log):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=RESUBMIT)

    record, reused = pay(rules=RESUBMIT)

    assert (record.generation_id, reused) == ("g2", False)
    assert any("An earlier submit is unknown: submitting again" in line for line in log.infos)
    assert Ledger(store, max_tries=1).spent.net == Decimal("9.4")


def test_a_lost_answer_is_worth_a_retry_when_the_author_chose_to_submit_again(pay, api):
    api.errors = [_lost()]

    with pytest.raises(SubmissionUnknownError) as caught:
        pay(rules=RESUBMIT)

    assert caught.value.retryable
    assert pickle.loads(pickle.dumps(caught.value)).retryable
    assert not SubmissionUnknownError.retryable


def test_submitting_again_pays_once_and_then_reattaches(pay, api):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=RESUBMIT)
    pay(rules=RESUBMIT)

    record, reused = pay(rules=RESUBMIT)

    assert (record.generation_id, reused) == ("g2", True)
    assert len(api.asked) == 2


def test_a_second_submit_that_was_refused_leaves_the_first_one_unknown(pay, api, on_record, store):
    api.errors = [_lost(), RateLimitError("m")]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=RESUBMIT)
    with pytest.raises(RateLimitError):
        pay(rules=RESUBMIT)

    assert on_record().state == "intent"
    assert Ledger(store, max_tries=1).spent.net == Decimal("4.7")
    with pytest.raises(SubmissionUnknownError):
        pay()


def test_an_id_in_an_answer_that_is_also_an_error_is_what_was_paid_for(pay, api, log):
    api.errors = [SubmissionUnknownError("The answer names a generation and an error.", generation_id="g77")]

    record, reused = pay()

    assert (record.state, record.generation_id, reused) == ("submitted", "g77", False)
    assert log.warnings == ["The answer names a generation and an error."]


@pytest.mark.parametrize(
    "death", [KilledError(), KeyboardInterrupt(), TypeError("a bug"), UnicodeError()], ids=repr
)
def test_a_worker_that_dies_while_submitting_leaves_an_unknown_submit(pay, api, on_record, death):
    api.errors = [death]
    with pytest.raises(type(death)):
        pay()

    assert on_record().state == "intent"
    with pytest.raises(SubmissionUnknownError):
        pay()
    assert len(api.asked) == 1


def test_an_id_that_could_not_be_put_on_record_is_an_unknown_submit_for_the_next_try(pay, api, store):
    store.broken = 2
    with pytest.raises(LedgerError):
        pay()

    with pytest.raises(SubmissionUnknownError):
        pay()

    assert len(api.asked) == 1


def test_without_an_intent_on_record_nothing_is_submitted(pay, api, store):
    store.broken = 1

    with pytest.raises(LedgerError) as caught:
        pay()

    assert caught.value.retryable
    assert api.asked == []
    assert pay()[1] is False


# Clears


@pytest.mark.parametrize("how", ["stored", "submitted"])
def test_a_clear_reuses_what_was_paid_for(pay, api, settle, how):
    pay()
    if how == "stored":
        settle("stored")

    record, reused = pay(max_tries=2)

    assert (record.state, record.generation_id, reused) == (how, "g1", True)
    assert len(api.asked) == 1


def test_a_clear_can_pay_for_another_image_and_its_retries_find_it(pay, api, settle, log):
    pay()
    settle("stored")

    first, _ = pay(rules=REGENERATE, max_tries=2)
    retry, reused = pay(rules=REGENERATE, max_tries=2)

    assert first.generation_id == "g2"
    assert (retry.generation_id, reused) == ("g2", True)
    assert any("for a new generation beside g1" in line for line in log.infos)


def test_every_further_clear_pays_once(pay, api):
    for max_tries in (1, 2, 2, 3, 3, 3):
        pay(rules=REGENERATE, max_tries=max_tries)

    assert len(api.asked) == 3


def test_a_retry_regenerates_nothing(pay, api):
    pay(rules=REGENERATE)

    pay(rules=REGENERATE)

    assert len(api.asked) == 1


def test_a_clear_that_does_not_show_is_taken_for_a_retry(pay, api):
    pay(rules=REGENERATE, max_tries=3)

    pay(rules=REGENERATE, max_tries=2)

    assert len(api.asked) == 1


def test_a_regeneration_that_was_refused_is_tried_again(pay, api):
    pay(rules=REGENERATE)
    api.errors = [RateLimitError("m")]
    with pytest.raises(RateLimitError):
        pay(rules=REGENERATE, max_tries=2)

    record, reused = pay(rules=REGENERATE, max_tries=2)

    assert (record.generation_id, reused) == ("g3", False)


def test_a_regeneration_whose_answer_was_lost_is_not_paid_for_again(pay, api):
    pay(rules=REGENERATE)
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=REGENERATE, max_tries=2)

    with pytest.raises(SubmissionUnknownError):
        pay(rules=REGENERATE, max_tries=2)

    assert len(api.asked) == 2


def test_a_clear_with_regenerate_leads_out_of_an_unknown_submit(pay, api):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=REGENERATE)

    record, reused = pay(rules=REGENERATE, max_tries=2)

    assert (record.generation_id, reused) == ("g2", False)


def test_a_clear_alone_does_not_lead_out_of_an_unknown_submit(pay, api):
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay()

    with pytest.raises(SubmissionUnknownError):
        pay(max_tries=2)

    assert len(api.asked) == 1


# The guards


@pytest.mark.parametrize("most", ["4.69", "0"])
def test_more_than_max_credits_is_not_submitted(pay, api, store, most):
    with pytest.raises(CreditLimitError) as caught:
        pay(rules=Rules(max_credits=Decimal(most)))

    assert "to 4.7 credits since its last clear" in str(caught.value)
    assert f"max_credits is {most}. Nothing was submitted" in str(caught.value)
    assert (api.asked, store.writes) == ([], 0)
    assert not caught.value.retryable


def test_max_credits_may_be_reached(pay):
    record, _ = pay(rules=Rules(max_credits=Decimal("4.7")))

    assert record.generation_id == "g1"


def test_max_credits_counts_all_that_the_task_spent(pay, api):
    pay(rules=Rules(max_credits=Decimal(18)))

    with pytest.raises(CreditLimitError, match=r"to 18\.8 credits"):
        pay(LARGE, rules=Rules(max_credits=Decimal(18)))

    assert len(api.asked) == 1


def test_max_credits_does_not_count_what_was_refunded(pay, settle):
    rules = Rules(max_credits=Decimal("4.7"))
    pay(rules=rules)
    settle("failed")

    record, _ = pay(rules=rules)

    assert record.generation_id == "g2"


def test_max_credits_counts_an_unknown_submit_as_charged(pay, api):
    rules = Rules(max_credits=Decimal("9.3"), on_unknown_submit="resubmit")
    api.errors = [_lost()]
    with pytest.raises(SubmissionUnknownError):
        pay(rules=rules)

    with pytest.raises(CreditLimitError):
        pay(rules=rules)

    assert len(api.asked) == 1


def test_max_credits_is_per_clear(pay, api):
    rules = Rules(max_credits=Decimal("4.7"), on_clear="regenerate")
    pay(rules=rules)

    record, _ = pay(rules=rules, max_tries=2)

    assert record.generation_id == "g2"


def test_a_refund_from_before_the_clear_does_not_raise_max_credits_after_it(pay, api, settle):
    rules = Rules(max_credits=Decimal("4.7"))
    pay(rules=rules)
    settle("failed", max_tries=2)  # refunded before the clear, but seen only after it
    pay(rules=rules, max_tries=2)

    with pytest.raises(CreditLimitError):
        pay(ImageRequest(prompt="a blue teapot"), rules=rules, max_tries=2)

    assert len(api.asked) == 2


def test_what_is_paid_for_is_found_again_whatever_max_credits_says(pay):
    pay()

    record, reused = pay(rules=Rules(max_credits=Decimal(0)))

    assert (record.generation_id, reused) == ("g1", True)


def test_too_low_a_balance_refuses_before_the_post(pay, api, store):
    with pytest.raises(InsufficientCreditsError) as caught:
        pay(rules=Rules(balance=lambda: Decimal("4.6")))

    assert "The balance is 4.6 credits, the generation costs 4.7. Nothing was submitted" in str(caught.value)
    assert caught.value.code == "insufficient_credits"
    assert (api.asked, store.writes) == ([], 0)


def test_a_balance_that_just_suffices_suffices(pay):
    assert pay(rules=Rules(balance=lambda: Decimal("4.7")))[0].generation_id == "g1"


def test_a_balance_that_cannot_be_read_is_no_balance(pay, api, store):
    def unreadable():
        raise UnreadableResponseError("m")

    with pytest.raises(UnreadableResponseError):
        pay(rules=Rules(balance=unreadable))

    assert (api.asked, store.writes) == ([], 0)


def test_the_balance_is_not_asked_for_where_nothing_is_to_be_paid(pay):
    pay()
    asked = []

    pay(rules=Rules(balance=lambda: asked.append(1) or Decimal(0)))

    assert asked == []
