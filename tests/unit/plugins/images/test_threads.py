"""A store that never answers holds a thread, and no browser."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_gpt_image.plugins.images.refusals import NO_FILE, SLOW, RefusedError
from airflow_gpt_image.plugins.images.threads import Threads


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
