"""An error of ours is its message: our frames say nothing to who reads a task's log."""

from __future__ import annotations

import logging
import traceback

import pytest

from airflow_gpt_image.errors import GenerationFailedError, InvalidRequestError
from airflow_gpt_image.tasks.frames import few_frames


def deep(error, depth=30):
    if depth:
        deep(error, depth - 1)
    try:
        raise OSError("what caused it")
    except OSError as cause:
        raise error from cause


def frames_of(caught):
    return [frame.name for frame in traceback.extract_tb(caught.tb)]


def test_an_error_of_ours_leaves_without_our_frames_and_without_what_caused_it(caplog):
    caplog.set_level(logging.DEBUG, logger="airflow_gpt_image.tasks.frames")
    given = GenerationFailedError("It failed.", code="upstream_error", generation_id="g1")

    with pytest.raises(GenerationFailedError) as caught:
        few_frames(deep)(given)

    assert caught.value is given
    assert frames_of(caught)[1:] == ["call"]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    # Who looks for it finds it.
    (record,) = caplog.records
    assert record.exc_info is not None


def test_any_other_error_is_a_mistake_of_somebodys_and_keeps_its_frames():
    with pytest.raises(ValueError, match="a mistake") as caught:
        few_frames(deep)(ValueError("a mistake"))

    assert len(frames_of(caught)) > 30
    assert isinstance(caught.value.__cause__, OSError)


def test_what_is_returned_is_returned():
    assert few_frames(lambda a, *, b: (a, b))(1, b=2) == (1, 2)


def test_it_holds_for_what_an_operator_raises(monkeypatch):
    from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

    operator = GptImageGenerateOperator(task_id="poster", prompt="{{ x }}", aspect_ratio="{{ x }}")
    with pytest.raises(InvalidRequestError) as caught:
        operator.execute({"task": GptImageGenerateOperator(task_id="outer", prompt="x")})

    ours = [frame for frame in traceback.extract_tb(caught.tb) if "airflow_gpt_image" in frame.filename]
    assert [frame.name for frame in ours] == ["call"]
