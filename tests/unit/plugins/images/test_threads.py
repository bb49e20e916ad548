"""A store that never answers holds a thread, and no browser."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_gpt_image.plugins.images.refusals import NO_FILE, SLOW, RefusedError
from airflow_gpt_image.plugins.images.threads import StoreThreads, Threads


def test_a_call_is_made_in_a_thread_and_what_it_comes_to_is_returned():
    made_in = asyncio.run(Threads(1, "a-name").run(lambda: threading.current_thread().name))

    assert made_in.startswith("a-name")


def test_an_error_of_the_call_is_its_callers():
    def refuse():
        raise RefusedError(NO_FILE)

    with pytest.raises(RefusedError) as refused:
        asyncio.run(Threads(1, "a").run(refuse))
    assert refused.value.refusal == NO_FILE


def test_a_call_that_takes_too_long_is_given_up_and_those_behind_it_never_begin():
    answers, begun = threading.Event(), []
    threads = Threads(1, "a", seconds=0.05)

    async def ask():
        for work in (answers.wait, lambda: begun.append(1)):
            with pytest.raises(RefusedError) as refused:
                await threads.run(work)
            assert refused.value.refusal == SLOW
        answers.set()
        return await Threads(1, "b").run(lambda: "others are answered")

    assert asyncio.run(ask()) == "others are answered"
    assert begun == []


@pytest.fixture
def hanging():
    """Threads of which a store's are all held, and what lets them go."""
    answers, threads = threading.Event(), StoreThreads(2, "a", seconds=0.05)
    for _ in range(2):
        with pytest.raises(RefusedError):
            threads.call("hangs", answers.wait)
    yield threads, answers
    answers.set()


def test_a_store_that_hangs_is_not_asked_any_more_and_others_are(hanging):
    threads, _ = hanging
    begun = []

    with pytest.raises(RefusedError) as refused:
        threads.begin("hangs", lambda: begun.append(1))
    assert (refused.value.refusal, begun) == (SLOW, [])
    assert threads.begin("another", lambda: "an answer").result(60) == "an answer"
    assert asyncio.run(asyncio.wait_for(patient(threads), 60)) == "an answer"


async def patient(threads):
    return await asyncio.wrap_future(threads.begin("another", lambda: "an answer"))


def test_a_store_that_answers_again_is_asked_again(hanging):
    threads, answers = hanging
    answers.set()

    def ask():
        try:
            return threads.begin("hangs", lambda: "an answer").result(60)
        except RefusedError:
            return None

    # Its threads are let go a moment later.
    assert next(answer for _ in range(10_000_000) if (answer := ask()) is not None) == "an answer"


def test_a_stores_own_timeout_is_its_own():
    def time_out():
        raise TimeoutError("of the store")

    with pytest.raises(TimeoutError, match="of the store"):
        StoreThreads(1, "a").call("a", time_out)
