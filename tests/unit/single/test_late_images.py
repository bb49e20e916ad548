"""Images that aren't there yet, and images that are gone. Late is not gone, and neither is paid for again."""

from __future__ import annotations

import pytest
import structlog

from airflow_gpt_image.emulator import EmulatorServer
from airflow_gpt_image.errors import DownloadError, ImageExpiredError
from tests.batches import logged
from tests.fake_clock import RunningClock

DAY = 24 * 3600


class ApisClock:
    """The emulated API's time: that of the test's clock."""

    def __init__(self):
        self.clock = RunningClock()

    def __call__(self):
        return self.clock.now().timestamp()


@pytest.fixture(scope="module")
def apis_clock():
    return ApisClock()


@pytest.fixture(scope="module")
def gpt_image_emulator_server(apis_clock):
    with EmulatorServer(duration=(0.05, 0.15), now=apis_clock) as emulator:
        yield emulator


@pytest.fixture
def clock(apis_clock):
    """The clock of every ledger, and of the API."""
    apis_clock.clock = RunningClock()
    return apis_clock.clock


@pytest.fixture
def task(task, clock):
    """A task that makes nobody wait: the time of a deferral passes at once."""
    task.while_waiting = clock.forward
    return task


def downloads(api):
    [charge] = api.books()["charges"]
    return sum(fault["met"] for fault in api.faults()), charge["task_id"]


@pytest.mark.parametrize("status", [404, 403, 410, 400, 401, 500, 503])
def test_an_image_that_is_not_there_for_half_a_minute_is_stored_by_the_same_try(task, api, clock, status):
    api.fault(f"file:{status};lasts=30")

    result = task.run()

    assert result["images"][0]["sha256"]
    assert (result["reused"], task.try_number, api.books()["submits"]) == (False, 1, 1)
    assert 30 <= clock.ahead < 120


@pytest.mark.parametrize("kind", ["html", "empty", "garbage", "truncated", "close"])
def test_what_is_no_image_is_asked_for_again_by_the_same_try(task, api, kind):
    api.fault(f"file:{kind}*3")

    assert task.run()["images"][0]["sha256"]
    assert api.books()["submits"] == 1


def test_an_image_that_is_late_holds_a_worker_for_seconds_only(make, api, clock):
    task = make()
    task.while_waiting = clock.forward
    api.fault("file:404;lasts=300")

    task.run()

    parts = [deferral.trigger for deferral in task.deferrals]
    assert max(clock.slept, default=0) <= 5
    assert sum(clock.slept) < 30
    assert 4 <= len(parts) <= 12
    assert {tuple(trigger.generation_ids) for trigger in parts} == {(downloads(api)[1],)}


def test_an_image_that_stays_away_is_asked_for_for_ten_minutes_and_fails_so_that_a_retry_can_have_it(
    task, api, clock
):
    api.fault("file:404")
    with structlog.testing.capture_logs() as lines, pytest.raises(DownloadError) as caught:
        task.run()
    asked, generation_id = downloads(api)
    api.clear_faults()

    result = task.run()

    assert type(caught.value) is DownloadError
    assert caught.value.retryable
    assert caught.value.generation_id == generation_id
    assert "clear the task, and it is fetched again for nothing" in str(caught.value)
    assert "regenerate" not in str(caught.value)
    assert 600 <= clock.ahead < 1000
    assert 10 <= asked <= 25
    assert any("is asked for again in" in line for line in logged(lines))
    assert (result["generation_id"], result["reused"]) == (generation_id, True)
    assert api.books()["submits"] == 1


def test_an_image_that_is_asked_for_hours_later_is_not_waited_for_again_in_the_try(task, api, clock):
    api.fault("file:500*1")
    api.fault("file:404")
    with pytest.raises(DownloadError):
        task.run()
    clock.forward(3600)
    before = clock.ahead

    with pytest.raises(DownloadError) as caught:
        task.run()

    assert caught.value.retryable
    assert clock.ahead - before < 30


def test_an_image_that_is_gone_after_a_day_has_expired_and_a_clear_asks_for_it_for_nothing(task, api, clock):
    api.fault("file:404;lasts=1000")
    with pytest.raises(DownloadError):
        task.run()
    clock.forward(DAY)

    for _ in range(2):
        with pytest.raises(ImageExpiredError) as caught:
            task.run()
        task.clear()
    api.settings(image_life=10 * DAY)
    result = task.run()

    assert not caught.value.retryable
    assert "clear the task, and it is fetched again for nothing" in str(caught.value)
    assert "regenerate" not in str(caught.value)
    assert caught.value.generation_id == result["generation_id"]
    assert api.books()["submits"] == 1


def test_a_clock_of_the_api_that_stands_still_is_not_waited_for_for_ever(make, api, clock, apis_clock):
    task = make(deferrable=False)
    api.fault("file:404")
    stopped = clock.now()

    class Stopped:
        now = staticmethod(lambda: stopped)

    apis_clock.clock = Stopped
    api.settings(duration=0)

    with pytest.raises(DownloadError) as caught:
        task.run()

    assert caught.value.retryable
    assert 600 <= clock.ahead < 700


def test_while_an_image_is_late_no_callback_is_expected(make, api, clock, monkeypatch):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL", "https://airflow.example.com")
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_SECRET", "a secret of 26 characters.")
    api.fault("file:404;lasts=60")
    task = make()
    task.while_waiting = clock.forward

    task.run()

    for_generation, *for_image = [deferral.trigger.so_far for deferral in task.deferrals]
    assert for_generation["callback"]
    assert for_image
    assert not any("callback" in so_far for so_far in for_image)
