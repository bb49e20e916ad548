"""Task Loops and regions, which Airflow has from 3.4 on: each iteration has its own pictures."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("airflow.models.dynamic_region") is None:
    pytest.skip("this Airflow has no Task Loops", allow_module_level=True)


@pytest.fixture
def region(airflow):
    """Makes a region of a run that executes a loop or a mapped task: its id."""

    def region(node_id, parent=None, index=None):
        from airflow.models.dynamic_region import DynamicRegion
        from airflow.utils.session import create_session

        with create_session() as session:
            made = DynamicRegion(
                dag_id="shop",
                run_id="r1",
                node_id=node_id,
                parent_region_id=parent,
                parent_region_index=index,
            )
            session.add(made)
            session.flush()
            return made.id

    return region


@pytest.fixture
def made(airflow, tmp_path):
    """Writes down a task instance of a region that made an image."""

    def made(index, region_id, number):
        image = {"path": str(tmp_path / f"{number}.png"), "url": "u"}
        result = {"generation_id": f"g{number}", "images": [image], "usd": "0.0235"}
        rendered = {"prompt": f"poster {number}"}
        airflow.task(
            "shop", "r1", "image", map_index=index, region_id=region_id, result=result, rendered=rendered
        )

    return made


def test_each_iteration_of_a_loop_is_a_tile_with_a_page_of_its_own(airflow, region, made, show):
    airflow.run("shop", "r1")
    loop = region("body")
    for index in range(3):
        made(index, loop, index)

    sheet = show("mapped/shop/r1/image")
    second = show("task/shop/r1/image/loop-1")
    latest = show("task/shop/r1/image/-1")

    assert [(tile["key"], tile["place"], tile["caption"]) for tile in sheet["tiles"]] == [
        (f"loop-{index}", f"task/shop/r1/image/loop-{index}", f"poster {index}") for index in range(3)
    ]
    assert sheet["tiles"][1]["sub"] == "iteration 1 · $0.0235"
    assert second["picture"]["generation_id"] == "g1"
    assert latest["picture"]["generation_id"] == "g2"
    assert second["switch"]["all"] == "mapped/shop/r1/image"


def test_indexes_of_a_mapped_task_in_a_region_of_its_own_are_indexes(airflow, region, made, show):
    airflow.run("shop", "r1")
    mapped = region("image")
    for index in range(2):
        made(index, mapped, index)

    assert [tile["place"] for tile in show("mapped/shop/r1/image")["tiles"]] == [
        "task/shop/r1/image/0",
        "task/shop/r1/image/1",
    ]
    assert show("task/shop/r1/image/1")["picture"]["generation_id"] == "g1"


def test_a_mapped_task_in_a_loop_is_told_by_both(airflow, region, made, show):
    airflow.run("shop", "r1")
    loop = region("body")
    for iteration in range(2):
        inner = region("image", loop, iteration)
        for index in range(2):
            made(index, inner, 10 * iteration + index)

    assert [tile["key"] for tile in show("mapped/shop/r1/image")["tiles"]] == [
        "loop-0-0",
        "loop-0-1",
        "loop-1-0",
        "loop-1-1",
    ]
    assert show("task/shop/r1/image/loop-1-0")["picture"]["generation_id"] == "g10"


def test_an_iteration_is_found_by_the_region_that_airflows_address_has(airflow, region, made):
    from airflow_gpt_image.plugins.images.documents import building

    airflow.run("shop", "r1")
    loop = region("body")
    for iteration in range(2):
        inner = region("image", loop, iteration)
        made(0, inner, iteration)
    place = building.Place.parse("task/shop/r1/image/0")

    assert building.place_in_region(place, str(inner), "0").path == "task/shop/r1/image/loop-1-0"
    for region_id, index in (
        (str(inner), "7"),
        (str(loop), "0"),
        ("", "0"),
        (str(inner), "-1"),
        (str(inner), "x"),
    ):
        assert building.place_in_region(place, region_id, index) is None
