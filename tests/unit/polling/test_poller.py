"""Many waits over one connection: none is lost, none waits for another, and the loop is everybody's."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.polling.poller import MOST_WORKERS, Poller
from tests.unit.polling.conftest import answer, refusal

QUICK = Retrying(first_pause=0.001, longest_pause=0.002)
GENEROUS = 120


def run(scenario):
    """Run a scenario on a loop of its own, with a generous limit."""

    async def within():
        return await asyncio.wait_for(scenario(), GENEROUS)

    return asyncio.run(within())


async def wait_for_all(poller, many, *, seconds=3600.0, **options):
    """Wait for many generations; what came of each."""
    given = {"poll_interval": 0.01, "deadline": time.time() + seconds, **options}
    waits = (poller.wait(f"generation-{number}", **given) for number in range(many))
    return await asyncio.gather(*waits, return_exceptions=True)


class Counted:
    """A client that takes its time to answer, and counts its polls.

    :param seconds: until an answer comes.
    """

    def __init__(self, api, seconds=0.0):
        self._api, self._seconds = api, seconds
        self.polled = set()
        self._under_way = self.most = 0

    async def send(self, step):
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        self.polled.add(step.call.path)
        await asyncio.sleep(self._seconds)
        try:
            return await self._api.send(step)
        finally:
            self._under_way -= 1


def test_a_thousand_waits_have_few_polls_at_a_time(client):
    async def scenario():
        async with client(answer) as api:
            counted = Counted(api)
            poller = Poller(counted)
            ended = await wait_for_all(poller, 1_000)
            await poller.aclose()
        return ended, counted

    ended, counted = run(scenario)

    assert [generation.status for generation in ended] == ["completed"] * 1_000
    assert len(counted.polled) == 1_000
    # More than that only on a machine on which they are overdue.
    assert 1 < counted.most <= MOST_WORKERS


def test_polls_that_are_due_at_nearly_the_same_time_are_begun_together(client):
    """Each time that a loop wakes up costs as much as several polls."""
    moments = []

    async def scenario():
        def noted(request):
            moments.append(time.monotonic())
            return answer(request, "processing")

        async with client(noted) as api:
            poller = Poller(api)
            for number in range(20):
                until = {"deadline": time.time() + 3600, "poll_interval": 1.0, "on_end": print}
                poller.start(f"generation-{number}", seconds=number / 20, **until)
            await asyncio.sleep(3.5)
            await poller.aclose()

    run(scenario)

    # From the second polls on, which come a second after the first at the latest.
    second = sorted(moment for moment in moments if moment > moments[0] + 2.0)
    begun = 1 + sum(later - earlier > 0.025 for earlier, later in itertools.pairwise(second))
    assert len(second) >= 20
    assert begun <= 0.7 * len(second)


def test_an_api_that_takes_long_to_answer_has_more_polls_at_a_time_so_that_none_is_late(client):
    async def scenario():
        async with client(answer) as api:
            counted = Counted(api, seconds=0.05)
            poller = Poller(counted, workers=4)
            ended = await wait_for_all(poller, 1_000)
            await poller.aclose()
        return ended, counted.most

    ended, most = run(scenario)

    assert [generation.status for generation in ended] == ["completed"] * 1_000
    assert 4 < most <= MOST_WORKERS


def test_an_api_that_is_down_does_not_have_more_polls_at_a_time_however_late_they_are(client):
    failures = iter(range(60))
    most_while_down = []

    async def scenario():
        def down_at_first(request):
            if next(failures, None) is None:
                return answer(request)
            most_while_down.append(counted.most)
            return refusal(503, "upstream_error")

        async with client(down_at_first) as api:
            counted = Counted(api, seconds=0.05)
            poller = Poller(counted, workers=4, retrying=QUICK)
            ended = await wait_for_all(poller, 300)
            await poller.aclose()
        return ended

    ended = run(scenario)

    assert [generation.status for generation in ended] == ["completed"] * 300
    assert max(most_while_down) == 4


def test_an_outage_ends_no_wait_and_no_wait_is_forgotten(client):
    failures = iter(range(60))

    def down_at_first(request):
        return refusal(503, "upstream_error") if next(failures, None) is not None else answer(request)

    async def scenario():
        async with client(down_at_first) as api:
            poller = Poller(api, retrying=QUICK)
            ended = await wait_for_all(poller, 100)
            await poller.aclose()
        return ended

    assert [generation.status for generation in run(scenario)] == ["completed"] * 100


def test_a_wait_that_is_cancelled_is_polled_no_more_and_the_others_are(client):
    polled = []

    def one_is_pending(request):
        generation_id = request.url.path.rpartition("/")[2]
        polled.append(generation_id)
        finished = generation_id == "quick" or polled.count("other") == 20
        return answer(request, "completed" if finished else "pending")

    async def scenario():
        async with client(one_is_pending) as api:
            poller = Poller(api)
            told = []
            given = {"poll_interval": 0.01, "deadline": time.time() + 3600}
            cancelled = poller.start("cancelled", on_end=lambda *ended: told.append(ended), **given)
            await poller.wait("quick", **given)
            cancelled.cancel()
            once = polled.count("cancelled")
            ended = await poller.wait("other", **given)
            await poller.aclose()
        return ended, told, polled.count("cancelled") - once

    ended, told, polled_later = run(scenario)

    assert ended.status == "completed"
    assert told == []
    # One may have been under way.
    assert polled_later <= 1


def test_what_nobody_foresaw_in_a_transport_ends_the_wait_it_met_and_no_other(client):
    def surprise(request):
        return 1 / 0 if request.url.path.endswith("-0") else answer(request)

    async def scenario():
        async with client(surprise) as api:
            poller = Poller(api)
            ended = await wait_for_all(poller, 2)
            await poller.aclose()
        return ended

    met, other = run(scenario)

    assert isinstance(met, ZeroDivisionError)
    assert other.status == "completed"


def test_what_nobody_foresaw_ends_the_wait_it_met_and_no_other(client):
    def surprise(*_):
        raise ZeroDivisionError

    async def scenario():
        async with client(answer) as api:
            poller = Poller(api)
            given = {"poll_interval": 0.01, "deadline": time.time() + 3600}
            ended = await asyncio.gather(
                poller.wait("met", on_poll=surprise, **given),
                poller.wait("other", **given),
                return_exceptions=True,
            )
            await poller.aclose()
        return ended

    met, other = run(scenario)

    assert isinstance(met, ZeroDivisionError)
    assert other.status == "completed"


def test_a_thousand_waits_that_a_retry_after_holds_all_go_on(client):
    refusals = [refusal(429, "rate_limit_exceeded", **{"retry-after": "1"})]

    async def scenario():
        async with client(lambda request: refusals.pop() if refusals else answer(request)) as api:
            poller = Poller(api)
            ended = await wait_for_all(poller, 1_000)
            await poller.aclose()
        return ended

    assert [generation.status for generation in run(scenario)] == ["completed"] * 1_000


class TestRenewal:
    """When polls are refused, or the API is down, the connection may have been corrected."""

    @staticmethod
    def with_key(key):
        def respond(request):
            if request.headers["authorization"] == f"Bearer {key}":
                return answer(request)
            return refusal(401, "invalid_api_key")

        return respond

    def test_a_key_that_was_changed_ends_no_wait(self, client):
        looks = []

        async def scenario():
            async with (
                client(self.with_key("sk-new"), api_key="sk-old") as old,
                client(self.with_key("sk-new"), api_key="sk-new") as new,
            ):

                async def renew():
                    looks.append(1)
                    return new

                poller = Poller(old, renew=renew)
                ended = await wait_for_all(poller, 100)
                await poller.aclose()
            return ended

        assert [generation.status for generation in run(scenario)] == ["completed"] * 100
        assert looks == [1]

    def test_a_client_that_was_replaced_is_closed_although_waits_go_on(self, client):
        closed = []

        async def scenario():
            async with (
                client(self.with_key("sk-new"), api_key="sk-old") as old,
                client(lambda request: answer(request, "completed" if closed else "processing")) as new,
            ):
                closing = old.aclose

                async def aclose():
                    closed.append(old)
                    await closing()

                async def renew():
                    return new

                old.aclose = aclose
                poller = Poller(old, renew=renew)
                ended = await wait_for_all(poller, 100)
                await poller.aclose()
            return ended

        assert [generation.status for generation in run(scenario)] == ["completed"] * 100

    @pytest.mark.parametrize("readable", [True, False])
    def test_a_refusal_over_a_connection_that_is_as_it_was_ends_the_wait(self, client, readable):
        looks = []

        async def scenario():
            async def renew():
                looks.append(1)
                if not readable:
                    raise RuntimeError("the database is away")

            async with client(self.with_key("sk-new"), api_key="sk-old") as old:
                poller = Poller(old, renew=renew)
                ended = await wait_for_all(poller, 100)
                await poller.aclose()
            return ended

        assert {type(error) for error in run(scenario)} == {errors.InvalidApiKeyError}
        assert looks == [1]

    def test_an_address_that_was_changed_while_nobody_answered_is_found(self, client):
        async def scenario():
            async with (
                client(lambda _: refusal(503, "upstream_error")) as old,
                client(answer) as new,
            ):

                async def renew():
                    return new

                poller = Poller(old, renew=renew, retrying=QUICK)
                ended = await wait_for_all(poller, 100)
                await poller.aclose()
            return ended

        assert [generation.status for generation in run(scenario)] == ["completed"] * 100
