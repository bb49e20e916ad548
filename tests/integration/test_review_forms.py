"""The review form's text out of a real run, with what Airflow knows of the candidates."""

from __future__ import annotations

import re

import pytest

# Airflow's in-process API server imports fastapi.testclient, which wishes for another httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")


def shown(body):
    """The map indexes of the pictures in it."""
    return [int(index) for index in re.findall(r"product\.picture/(\d+)/0\?size=512", body)]


def test_in_a_mapped_task_group_each_index_asks_about_its_own_picture_and_outside_of_it_about_all(run, api):
    api.fault("generation:failed=invalid_request*1;match=vase")

    ended = run("review")

    teapot, vase = (ended.returned["product.form", index] for index in (0, 1))
    assert (shown(teapot), shown(vase), shown(ended.returned["all", -1])) == ([0], [], [0])
    assert teapot.endswith("These cost $0.0235. Draw again pays $0.0235 for one new one.")
    assert "No picture: the task failed. It has spent $0.00." in vase
    assert "| A | B |" in ended.returned["all", -1]
