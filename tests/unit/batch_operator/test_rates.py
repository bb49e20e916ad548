"""A batch submits as fast as the API takes it; the API's books judge."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from itertools import pairwise

import pytest

from airflow_gpt_image.errors import (
    InvalidApiKeyError,
    RateLimitError,
)
from tests.batches import TEN, assert_books_agree, paid, statuses, until

# The rate


def test_a_retry_after_holds_all_senders(batch, api):
    batch.retimed(first_rate=10.0)
    api.fault("submit:429*1;retry_after=1;after=2")

    result = batch.run(requests=TEN[:6])

    books = api.books()
    moments = sorted(charge["submitted_at"] for charge in books["charges"])
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert result["stored"] == 6
    assert set(paid(api).values()) == {1}
    assert books["requests"]["submit"] == 7
    assert max(gaps) >= 0.98  # what was under way when the refusal came aside, nobody sent anything
    assert_books_agree(result, books)


@pytest.fixture(params=[4, 5], ids=["before its intent", "right before its submit"])
def second_sender(request, batch, api):
    """
    A batch whose second sender has its place already when the first one is refused.

    The lease is written before each intent and each submit; the second sender's write takes until the first
    one was refused, and is known to be.
    """
    batch.refused_at = None

    def slow(number):
        if number == request.param and batch.try_number == 1:
            until(lambda: api.books()["requests"]["rejected"])
            batch.refused_at = batch.refused_at or time.time()
            time.sleep(1)

    batch.retimed(first_rate=10.0, renew_after=-1.0)
    batch.store.befalls = slow
    batch.given["requests"] = ["a", "b"]
    return batch


def test_a_retry_after_holds_also_a_sender_that_has_its_place_already(second_sender, api):
    api.fault("submit:429*1;retry_after=2;delay=1.5")

    second_sender.run()

    assert api.books()["requests"]["submit"] == 3
    first = min(charge["submitted_at"] for charge in api.books()["charges"])
    assert first > second_sender.refused_at + 1.9


def test_what_concerns_the_account_stops_also_a_sender_that_has_its_place_already(second_sender, api):
    api.fault("submit:401*1;delay=1.5")

    with pytest.raises(InvalidApiKeyError):
        second_sender.run()

    assert api.books()["requests"]["submit"] == 1
    assert set(statuses({"manifest": second_sender.folder}).values()) == {"not_submitted"}


def test_an_intent_that_waited_long_for_its_post_says_anew_until_when_its_answer_may_come(batch, api):
    batch.retimed(rewrite_after=0.5)
    api.fault("submit:429*1;retry_after=1")
    intents = []

    def noted(act, name, *data):
        if act == "write" and b'"state": "intent"' in data[0]:
            intents.append(json.loads(data[0]))

    batch.meddle = noted

    result = batch.run(requests=["a vase"])

    first, second = intents
    [charge] = api.books()["charges"]
    assert (result["stored"], result["charged"]) == (1, "4.7")
    assert datetime.fromisoformat(second["intended_at"]).timestamp() <= charge["submitted_at"]
    moved = datetime.fromisoformat(second["answer_by"]) - datetime.fromisoformat(first["answer_by"])
    assert moved.total_seconds() >= 0.9


def test_a_limit_nobody_has_written_down_costs_refusals_and_no_image(batch, api):
    api.settings(rate_limit=4)

    result = batch.run(requests=TEN)

    assert (result["stored"], set(paid(api).values())) == (10, {1})
    assert 0 < api.books()["requests"]["rejected"]["rate_limit_exceeded"] < 20
    assert_books_agree(result, api.books())


def test_a_wish_too_long_for_a_worker_is_airflows_to_wait_for(batch, api):
    api.fault("submit:429;retry_after=300;after=1")
    with pytest.raises(RateLimitError) as caught:
        batch.run()
    api.clear_faults()

    result = batch.run()

    assert (caught.value.retryable, caught.value.retry_after) == (True, 300)
    assert (result["stored"], api.books()["submits"]) == (3, 3)
    assert_books_agree(result, api.books())


def test_no_more_generations_are_under_way_than_may_be(batch, api):
    api.settings(duration=0.2)

    batch.run(requests=TEN[:6], max_in_flight=2)

    moments = sorted(charge["submitted_at"] for charge in api.books()["charges"])
    assert all(later >= earlier + 0.2 for earlier, later in zip(moments, moments[2:], strict=False))


def test_a_batch_begins_at_two_submits_a_second(batch, api):
    batch.timing = None
    result = batch.run(requests=TEN[:4])

    moments = sorted(charge["submitted_at"] for charge in api.books()["charges"])
    assert result["stored"] == 4
    assert moments[1] - moments[0] >= 0.2  # the second may go a quarter of a second after the first


@pytest.fixture
def limit(api, monkeypatch):
    """Set the connection's rate_limit."""

    def set_limit(rate):
        connection = json.loads(os.environ["AIRFLOW_CONN_GPT_IMAGE_DEFAULT"])
        connection["extra"] = {"rate_limit": rate}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(connection))

    return set_limit


def test_the_connections_rate_limit_is_kept_from_the_first_submit_on(batch, api, limit):
    limit(4)

    result = batch.run(requests=TEN[:6])

    moments = sorted(charge["submitted_at"] for charge in api.books()["charges"])
    assert result["stored"] == 6
    assert moments[-1] - moments[0] >= 5 / 4 - 0.2


def test_a_rate_limit_below_the_lowest_rate_is_kept_as_well(batch, api, limit):
    limit(0.1)

    result = batch.run(requests=["a vase"])

    assert result["stored"] == 1


def test_a_retry_after_just_as_long_as_may_be_is_waited_for_on_the_worker(batch, api):
    api.fault("submit:429*1;retry_after=1;after=2")
    batch.retimed(longest_hold=1.0)

    result = batch.run(requests=TEN[:6])

    assert result["stored"] == 6
