"""Addresses of the Images tab: what they ask for, and what makes no sense."""

from __future__ import annotations

import pytest

from airflow_gpt_image.plugins.images.documents.places import Place, Query

RUN = "manual__2026-11-26T19:52:45.361114+00:00"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("all", Place("all")),
        ("asset/12", Place("asset", asset_id=12)),
        ("dag/shop", Place("dag", "shop")),
        ("task-runs/shop/image", Place("task-runs", "shop", task_id="image")),
        (f"run/shop/{RUN}", Place("run", "shop", RUN)),
        (f"mapped/shop/{RUN}/image", Place("mapped", "shop", RUN, "image")),
        (f"task/shop/{RUN}/image/3", Place("task", "shop", RUN, "image", 3)),
        (f"task/shop/{RUN}/image/loop-2", Place("task", "shop", RUN, "image", loop_index=2)),
        (f"task/shop/{RUN}/image/loop-2-3", Place("task", "shop", RUN, "image", 3, 2)),
    ],
)
def test_an_address_is_a_place_and_a_place_its_address(path, place):
    assert Place.parse(path) == place
    assert place.path == path


def test_a_task_instance_that_is_not_mapped_has_airflows_placeholder_or_its_number():
    assert (
        Place.parse("task/d/r/t/{MAP_INDEX}") == Place.parse("task/d/r/t/-1") == Place("task", "d", "r", "t")
    )


def test_a_tile_belongs_to_its_place():
    place = Place.parse(f"mapped/shop/{RUN}/image/tile/3")

    assert (place.key, place.path) == ("3", f"mapped/shop/{RUN}/image")


def test_ids_are_escaped_where_an_address_needs_that():
    assert Place("dag", "50% <löwe>").path == "dag/50%25%20%3Cl%C3%B6we%3E"


@pytest.mark.parametrize(
    "path",
    ["", "nowhere", "dag", "dag/", "dag//x", "asset/x", "asset/-1", "asset/٣", "asset/9" + "9" * 30,
     "task/d/r/t", "task/d/r/t/x", "task/d/r/t/--1", "task/d/r/t/-5", "task/d/r/t/loop-", "task/d/r/t/٣",
     "all/x", "dag/d/tile", "dag/" + "d" * 2_000, "mapped/d/r/t/tile/1/2"],
)  # fmt: skip
def test_what_is_no_place_is_none(path):
    assert Place.parse(path) is None


def test_a_query_keeps_what_makes_sense():
    given = {
        "page": "3",
        "status": "failed",
        "text": "  teapot ",
        "sort": "price",
        "caption": "sku",
        "days": "7",
        "runs": "30",
    }

    assert Query.parse(given) == Query(3, "failed", "teapot", "price", "sku", 7, runs=30)


@pytest.mark.parametrize(
    "given",
    [{}, {"page": "0"}, {"page": "-1"}, {"page": "٣"}, {"page": "1e9"}, {"status": "<b>"},
     {"sort": "drop table"}, {"days": "12"}, {"days": "9" * 5_000}, {"runs": "15"}],
)  # fmt: skip
def test_what_makes_no_sense_in_a_query_counts_as_not_given(given):
    assert Query.parse(given) == Query()


def test_texts_of_a_query_are_bounded():
    query = Query.parse({"text": "x" * 10_000, "caption": "y" * 10_000, "run": "z" * 10_000})

    assert max(map(len, (query.text, query.caption, query.run))) <= 1_000
