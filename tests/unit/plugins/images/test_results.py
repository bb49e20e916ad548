"""A picture found by its place in a task's result, as the text of a review form has it."""

from __future__ import annotations

import pytest

RUN = "manual__2026-11-26T19:52:45.361114+00:00"


@pytest.fixture
def find(airflow):
    """Finds the path of a picture of a task that returned this."""
    from airflow_gpt_image.plugins.images.results import image_path

    def find(result, *, index="-1", number="0", map_index=-1):
        airflow.run("shop", RUN)
        airflow.task("shop", RUN, "poster", map_index=map_index, result=result)
        return image_path("shop", RUN, "poster", index, number)

    return find


TWO = {"images": [{"path": "/data/0.png"}, {"path": "/data/1.png"}]}


@pytest.mark.parametrize(
    ("index", "map_index", "number", "path"),
    [
        ("-1", -1, "0", "/data/0.png"),
        ("-1", -1, "1", "/data/1.png"),
        ("3", 3, "1", "/data/1.png"),
    ],
)
def test_a_picture_is_found_by_its_tasks_index_and_its_number(find, index, map_index, number, path):
    assert find(TWO, index=index, map_index=map_index, number=number) == path


@pytest.mark.parametrize(
    ("result", "address"),
    [
        (TWO, {"number": "2"}),
        (TWO, {"number": "-1"}),
        (TWO, {"number": "٣"}),
        (TWO, {"number": "9" * 5_000}),
        (TWO, {"index": "4"}),
        (TWO, {"index": "../-1"}),
        (TWO, {"index": ""}),
        (None, {}),
        ("text", {}),
        ({"images": {"0": {"path": "/data/0.png"}}}, {}),
        ({"images": ["/data/0.png"]}, {}),
        ({"images": [{"path": None}]}, {}),
        ({"images": [{"path": ["/data/0.png"]}]}, {}),
    ],
    ids=range(13),
)
def test_what_is_no_picture_of_a_result_is_refused(find, result, address):
    from airflow_gpt_image.plugins.images.refusals import RefusedError

    with pytest.raises(RefusedError) as refused:
        find(result, **address)

    assert refused.value.refusal.status == 404
