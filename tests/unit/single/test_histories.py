"""Histories in which an image was paid for twice, or not had, until they were found."""

from __future__ import annotations

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    DestinationError,
    GenerationFailedError,
    SubmissionUnknownError,
)
from tests.money_worker import Trouble
from tests.money_world import Author, World

TEAPOT, BICYCLE = ImageRequest(prompt="a teapot"), ImageRequest(prompt="a bicycle")


def world(airflow="3.4", retries=2, **author):
    return World(Author(**author), airflow=airflow, retries=retries)


def a_try(world, happening="retry", answer="accepted", request=TEAPOT, **given):
    return world.a_try(happening=happening, answer=answer, request=request, waits_here=True, **given)


def paid(world):
    return [charge.id for charge in world.charges if charge.kept]


def test_an_unknown_submit_after_a_clear_with_fewer_retries_is_not_hidden_by_an_older_failure():
    history = world(retries=4)
    a_try(history, ending="failed")
    history.retries = 0
    a_try(history, "clear", answer="lost")

    last = a_try(history)

    assert isinstance(last.error, SubmissionUnknownError)
    assert paid(history) == ["g1"]


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


def test_an_emptied_folder_that_got_one_record_back_has_all_of_them_for_a_clear():
    history = world()
    a_try(history)
    a_try(history, request=BICYCLE)
    history.empty("folder")
    a_try(history)

    a_try(history, "clear", request=BICYCLE)

    assert paid(history) == ["g0", "g1"]


def test_another_destination_than_before_knows_for_a_clear_what_was_paid_for_at_the_first_one():
    history = world()
    a_try(history)
    history.files, history.root = {}, "memory://elsewhere"
    a_try(history, request=BICYCLE)

    back = a_try(history, "clear")

    assert back.result["generation_id"] == "g0"
    assert paid(history) == ["g0", "g1"]


def mapped(world, map_index, happening="retry", answer="accepted", **given):
    return world.a_try(happening=happening, answer=answer, waits_here=True, map_index=map_index, **given)


def test_a_prompt_whose_answer_was_lost_is_unknown_at_whatever_index_it_stands_after_a_clear():
    history = world()
    mapped(history, 0, answer="lost")
    history.shift("longer")

    moved = mapped(history, 1)

    assert isinstance(moved.error, SubmissionUnknownError)
    assert paid(history) == ["g0"]


def test_a_prompt_that_failed_at_one_index_and_was_paid_for_at_another_is_found_there():
    history = world(airflow="3.3")
    mapped(history, 1, ending="failed")
    history.shift("shorter")
    mapped(history, 0)
    history.shift("longer")

    back = mapped(history, 1)

    assert back.result["generation_id"] == "g1"
    assert paid(history) == ["g1"]


def test_an_index_that_took_anothers_image_may_pay_for_a_new_prompt_after_the_next_clear():
    history = world()
    mapped(history, 0)
    history.shift("longer")
    mapped(history, 1)
    history.prompts = ["something else", "and else"]
    history.clear(0, 1)

    new = mapped(history, 1)

    assert new.error is None
    assert paid(history) == ["g0", "g1"]


def test_an_intent_that_the_folder_took_in_spite_of_its_error_is_no_riddle_to_the_next_try():
    history = world()
    first = a_try(history, trouble=Trouble(at="after folder write 1", kind="fail"))

    second = a_try(history)

    assert isinstance(first.error, DestinationError)
    assert second.error is None
    assert paid(history) == ["g0"]
