"""Histories in which an image was paid for twice, or not had, until they were found."""

from __future__ import annotations

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import GenerationFailedError
from tests.money_worker import Trouble
from tests.money_world import Author, World

TEAPOT, BICYCLE = ImageRequest(prompt="a teapot"), ImageRequest(prompt="a bicycle")


def world(airflow="3.4", retries=2, **author):
    return World(Author(**author), airflow=airflow, retries=retries)


def a_try(world, happening="retry", answer="accepted", request=TEAPOT, **given):
    return world.a_try(happening=happening, answer=answer, request=request, waits_here=True, **given)


def paid(world):
    return [charge.id for charge in world.charges if charge.kept]


def test_a_rate_limit_that_was_waited_for_in_the_same_try_hides_no_id():
    history = world(reschedules=True)
    a_try(history, answer="refused")
    a_try(history, trouble=Trouble(at="before GET 1", kind="die"))

    last = a_try(history)

    assert last.result["generation_id"] == "g0"
    assert paid(history) == ["g0"]


def test_a_woken_task_goes_on_with_the_store_alone_while_its_records_folder_is_away():
    history = world(place="records")
    history.a_try(happening="retry", answer="accepted", request=TEAPOT)
    history.folder_back = history.clock.elapsed() + 100

    woken = history.wake(-1, ending="failed", trouble=Trouble())

    assert isinstance(woken.error, GenerationFailedError)


def test_another_destination_than_before_knows_for_a_clear_what_was_paid_for_at_the_first_one():
    history = world()
    a_try(history)
    history.files, history.root = {}, "memory://elsewhere"
    a_try(history, request=BICYCLE)

    back = a_try(history, "clear")

    assert back.result["generation_id"] == "g0"
    assert paid(history) == ["g0", "g1"]
