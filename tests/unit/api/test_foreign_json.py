"""JSON that is valid and odd."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.foreign_json import parse_json
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.text import bounded, storable

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"


def read(text):
    body = text.encode("utf-8", "surrogatepass")
    response = protocol.parse_response(status=200, headers={}, body=body, at=0.0, api_key="sk-live-key")
    return protocol.parse_generation(response, ID)


def completed(**fields):
    whole = {"id": ID, "status": "completed", "output": {"urls": ["https://h/1.png"]}, **fields}
    return json.dumps(whole)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 101, "9" * 5000])
def test_a_number_that_nobody_else_reads_is_none(number):
    assert parse_json(f'{{"a": {number}, "b": 1}}') == ({"a": None, "b": 1}, False)


def test_numbers_of_any_other_size_are_kept():
    assert parse_json(f"[{'9' * 100}, -7, 1.5e300]") == ([int("9" * 100), -7, 1.5e300], False)


@pytest.mark.parametrize("depth", [33, 100, 100_000])
def test_what_is_nested_too_deeply_is_none_and_all_else_is_kept(depth):
    for begin, end in (("[", "]"), ('{"a":', "}")):
        text = f'{{"deep": {begin * depth}1{end * depth}, "b": "[{{\\"]", "c": [[1], {{"d": 2}}]}}'
        found, followed = parse_json(text)

        deep = found.pop("deep")
        assert found == {"b": '[{"]', "c": [[1], {"d": 2}]}
        assert json.dumps(deep).count(begin[0]) == 31
        assert "null" in json.dumps(deep)
        assert not followed


def test_what_is_nested_as_deeply_as_anything_may_be_is_kept():
    text = "[" * 32 + "1" + "]" * 32

    assert json.dumps(parse_json(text)[0]) == text


@pytest.mark.parametrize("text", ["", "[" * 100_000, "]" * 40, '{"a": "', '{"a": "' + r"\"" * 100_000])
def test_what_is_no_json_is_an_error_that_says_so(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("rest", ["}", '"', "[" * 100, "]" * 100, '{"id": "another"}', "<!-- served by -->"])
def test_what_follows_a_whole_value_takes_nothing_from_it(rest):
    deep = "[" * 50 + "]" * 50

    found, followed = parse_json(f'{{"deep": {deep}, "b": 1e999}}\n{rest}')

    assert (found["b"], followed) == (None, True)
    assert "null" in json.dumps(found["deep"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain ä 画 🚲", "plain ä 画 🚲"),
        ("a\ud800b\udc00", "a\ufffdb\ufffd"),
        ("\ud83d\udeb2", "🚲"),
        ("a\0b", "a\ufffdb"),
        ("\0\ud800", "\ufffd\ufffd"),
    ],
)
def test_a_text_is_kept_as_any_database_takes_it(text, kept):
    assert storable(text) == kept


def test_a_text_that_is_kept_is_bounded_and_has_no_signature():
    assert bounded("x" * 500) == "x" * 500
    assert bounded("x" * 900_000) == "x" * 499 + "…"
    assert bounded("see https://h/a.png?X-Amz-Signature=hunter2") == "see https://h/a.png?***"


@pytest.mark.parametrize(
    "odd",
    [
        {"model": "\ud800"},
        {"model": "a\0b"},
        {"model": "x" * 900_000},
        {"model": True},
        {"created_at": 1e300, "completed_at": -5},
        {"created_at": True, "completed_at": "soon"},
        {"completed_at": 1775383910000},
        {"output": {"urls": ["https://h/1.png"], "metadata": {"\ud800\0": ["\udfff", {"a": "\0"}]}}},
        {"output": {"urls": "https://h/1.png", "metadata": "x" * 900_000}},
        {"output": {"urls": ["https://h/1.png", None], "metadata": {"n": 10**99}}},
        {"error": "none at all", "extra": [[[]]]},
    ],
)
def test_what_is_odd_about_a_generation_does_not_lose_its_images(odd):
    generation = read(completed(**odd))

    assert (generation.status, generation.urls) == ("completed", ("https://h/1.png",))
    assert len(generation.model or "") <= 500
    text = generation.model_dump_json()
    assert text.encode()
    assert "\\u0000" not in text


@pytest.mark.parametrize("number", ["NaN", "1e999", "9" * 5000, "[" * 5000 + "]" * 5000])
def test_numbers_and_depths_without_end_do_not_lose_an_image(number):
    text = completed()[:-1] + f', "created_at": {number}, "extra": {number}}}'

    assert read(text).urls == ("https://h/1.png",)
    assert read(text.replace('"urls"', f'"metadata": {{"a": {number}, "b": 1}}, "urls"')).urls
    assert read(text).created_at is None


def test_numbers_without_end_in_metadata_are_none_wherever_they_come_from():
    output = {"urls": ["https://h/1.png"], "metadata": {"a": [float("inf"), float("nan"), 1.5]}}

    generation = Generation(id=ID, status="completed", output=output)

    assert generation.output.metadata == {"a": [None, None, 1.5]}


def test_a_moment_in_another_writing_is_read_and_one_that_can_not_be_is_none():
    def moment(value):
        return read(completed(completed_at=value)).completed_at

    assert moment("1775383910") == moment(1775383910) == moment(1775383910.0)
    assert moment(1775383910).year == 2026
    for junk in (1775383910000, -1775383910, 253402300799, 0, True, "1" * 40, "١٢", [], {}):
        assert moment(junk) is None


def test_an_id_that_is_a_number_is_an_id():
    response = protocol.parse_response(
        status=200,
        headers={},
        body=b'{"code": 200, "data": {"taskId": 12345}}',
        at=0.0,
        api_key="sk-live-key",
    )
    answer = protocol.parse_response(
        status=200, headers={}, body=b'{"id": 12345, "status": "pending"}', at=0.0, api_key="sk-live-key"
    )

    assert protocol.parse_submit(response) == "12345"
    assert protocol.parse_generation(answer, "12345").id == "12345"
