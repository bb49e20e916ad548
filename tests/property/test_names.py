"""Over all names there are."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.names import PARTS, Names, check_filename

texts = st.text(st.characters(exclude_categories=[]), max_size=150)
hostile = st.text(st.sampled_from("ab1._-/\\\0\n :ü\ud800\u202e"), max_size=12)
# As Airflow lets ids be, and the API.
keys = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True) | st.text("a1-_.", min_size=1, max_size=4)
anything = texts | hostile | keys
templates = st.lists(
    st.sampled_from([*(f"{{{part}}}" for part in PARTS), *"/-_.a1"]), min_size=1, max_size=12
).map("".join)


def named(template, parts, prompt):
    rest = {name: value for name, value in parts.items() if name not in ("fingerprint", "generation_id")}
    return Names(template, rest).of(parts.get("fingerprint", "f"), parts.get("generation_id", "g"), prompt)


def _taken(template, *, across_runs=False):
    try:
        return check_filename(template, across_runs=across_runs)
    except InvalidRequestError:
        return None


@given(st.text(st.characters(exclude_categories=[])) | st.text("{}index.!:/") | templates, st.booleans())
def test_a_template_is_taken_or_refused_in_our_words_and_a_taken_one_stays_inside(template, across_runs):
    if _taken(template, across_runs=across_runs) is None:
        return

    parts = {part: ".." for part in PARTS if part not in ("index", "fingerprint", "generation_id")}
    name = Names(template, parts).of("..", "..", "..").stem(0)

    assert ".." not in PurePosixPath("/destination", name).parts


@given(
    st.just("{dag_id}/{run_id}/{task_id}-{map_index}") | templates,
    st.fixed_dictionaries({part: anything for part in PARTS if part not in ("index", "slug")}),
    texts,
    st.integers(0, 99),
)
def test_every_name_is_plain_bounded_inside_and_the_same_again(template, parts, prompt, index):
    assume(_taken(template))

    name = named(template, parts, prompt).stem(index)

    assert name.isascii()
    assert re.fullmatch(r"[A-Za-z0-9._/~-]+", name)
    assert len(f"{name}.json") <= 1024
    for segment in name.split("/"):
        assert segment.strip(".")
        assert not segment.startswith(".")
        assert not segment.endswith(".")
        assert len(segment) <= 250
    assert named(template, parts, prompt).stem(index) == name


tasks = st.fixed_dictionaries(
    {
        "dag_id": keys,
        "run_id": hostile | keys,
        "task_id": keys,
        "map_index": st.integers(0, 11) | st.integers(0, 10_000),
    }
)


@example(
    "{dag_id}/{run_id}/{task_id}-{map_index}",
    {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": 1},
    {"dag_id": "d", "run_id": "r", "task_id": "t-1", "map_index": 1},
    (1, 0),
    ("", ""),
)
@given(templates, tasks, tasks, st.tuples(st.integers(0, 11), st.integers(0, 11)), st.tuples(keys, keys))
def test_no_two_tasks_share_a_name(template, one, other, indices, prompts):
    # Mostly alike, for what differs in everything is told apart by anything.
    for part in ("dag_id", "run_id"):
        other[part] = one[part] if len(other[part]) % 2 else other[part]
    assume(one != other)
    template = template if _taken(template) else "{dag_id}/{run_id}/{task_id}-{map_index}"
    assume("{generation_id}" not in template)

    first, second = (
        named(template, {"fingerprint": "f", **parts}, prompt).stem(index)
        for parts, index, prompt in zip((one, other), indices, prompts, strict=True)
    )

    assert first.lower() != second.lower()


@given(anything, anything)
def test_no_two_values_of_a_part_share_a_name(one, other):
    assume(one != other)

    first, second = (Names("{run_id}", {"run_id": value}).stem(0) for value in (one, other))

    assert first.lower() != second.lower()


@given(anything)
def test_no_value_can_take_the_name_of_another_one_by_imitating_it(value):
    name = Names("{run_id}", {"run_id": value}).stem(0)
    assume(name != value)

    assert Names("{run_id}", {"run_id": name}).stem(0) != name


@pytest.mark.parametrize("template", ["{generation_id}", "{generation_id}-{index}", "{slug}/{generation_id}"])
@given(st.uuids(), st.uuids(), st.integers(0, 99), st.integers(0, 99))
def test_no_two_images_of_any_generations_share_a_name(template, one, other, index, other_index):
    assume((one, index) != (other, other_index))

    first, second = (
        named(template, {"generation_id": generation_id}, "x").stem(n)
        for generation_id, n in ((one, index), (other, other_index))
    )

    assert first != second
