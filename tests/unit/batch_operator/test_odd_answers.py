"""Odd answers about a batch's generations: the images are had, and all that is kept can be stored."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.odd_answers import ODD, answer_oddly, assert_storable


@pytest.mark.parametrize("how", ODD)
def test_an_odd_answer_loses_no_image_of_a_batch(deferring, api, tmp_path, how):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(requests=["a vase"])
    answer_oddly(api, how)

    result = deferring.wake(deferred.value)

    assert (result["stored"], api.books()["submits"]) == (1, 1)
    assert_storable(tmp_path)
    assert deferring.run(requests=["a vase"])["stored"] == 1
