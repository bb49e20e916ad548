"""A prompt out of the row's columns: Python's format, and nothing but names."""

from __future__ import annotations

from decimal import Decimal

import numpy
import pandas
import pytest

from airflow_gpt_image.errors import InvalidRequestError

TEMPLATE = "{title}, studio photo on {background}"


def test_the_template_writes_every_rows_prompt(read):
    rows = read.rows(
        "x.csv", "sku;title;background\n7;a teapot;white\n8;a vase, blue;moss", prompt_template=TEMPLATE
    )

    assert [row.request.prompt for row in rows] == [
        "a teapot, studio photo on white",
        "a vase, blue, studio photo on moss",
    ]
    assert rows[0].given == {"sku": "7", "title": "a teapot", "background": "white"}


def test_its_row_is_the_same_row_when_it_is_read_again(read):
    ((row,), _) = read.requests([{"title": "a", "background": "b"}], prompt_template=TEMPLATE)

    assert read.requests([row.given], prompt_template=TEMPLATE) == ([row], [])


def test_numbers_and_dates_are_text_and_what_is_in_a_cell_is_no_template(read):
    frame = pandas.DataFrame(
        {"title": ["{background} {0} {{ x }}"], "background": [7], "day": [pandas.Timestamp("2026-01-02")]}
    )

    ((row,), bad) = read.requests(frame, prompt_template="{{{title}}} {background} {day}")

    assert bad == []
    assert row.request.prompt == "{{background} {0} {{ x }}} 7 2026-01-02 00:00:00"


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (0.5, "0.5"), (numpy.int64(3), "3"), (numpy.float32(2), "2"), (Decimal("3.50"), "3.50")],
)
def test_a_number_is_written_as_people_write_it(read, value, text):
    ((row,), bad) = read.requests([{"n": value}], prompt_template="{n} teapots")

    assert (bad, row.request.prompt) == ([], f"{text} teapots")


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), numpy.float64("inf"), pandas.NA],
)
def test_what_is_no_number_is_no_part_of_a_prompt(read, value):
    _, (bad,) = read.requests([{"n": value, "sku": 1}], prompt_template="{n} teapots")

    assert (bad.column, bad.rule.startswith("It is empty")) == ("n", True)


@pytest.mark.parametrize("cell", ["", " ", "nan", "#REF!", "None", "=A1", "\u200b", "..."])
def test_a_column_that_is_empty_or_says_nothing_makes_a_bad_cell(read, cell):
    rows, (bad,) = read("x.csv", f'title,background\na teapot,"{cell}"', prompt_template=TEMPLATE)

    assert (rows, bad.column) == ([], "background")
    assert bad.rule.endswith("The prompt_template needs it.")


@pytest.mark.parametrize("value", [None, float("nan"), ["white"], {"a": 1}, True])
def test_so_does_what_is_no_text_in_a_list(read, value):
    good = {"title": "a", "background": "b"}

    _, (bad,) = read.requests([good, {"title": "a teapot", "background": value}], prompt_template=TEMPLATE)

    assert (bad.row, bad.column) == (2, "background")


def test_a_column_that_is_not_there_is_refused_once_with_the_columns_found(read):
    message = read.refusal("x.csv", "title,sku\n" + "a,b\n" * 1000, prompt_template=TEMPLATE)

    assert "has no column 'background', which prompt_template names; found ['title', 'sku']" in message


def test_names_are_compared_as_columns_are(read):
    (row,) = read.rows("x.csv", "Title,Back-Ground\na,b", prompt_template=TEMPLATE)

    assert row.request.prompt == "a, studio photo on b"


def test_the_rows_own_prompt_can_be_a_part_of_it(read):
    ((row,), bad) = read.requests(
        [{"prompt": "a teapot", "sku": 1}], prompt_template="{prompt}, studio photo"
    )

    assert (bad, row.request.prompt, row.given["prompt"]) == ([], "a teapot, studio photo", "a teapot")


def test_a_prompt_that_it_does_not_use_is_not_left_out(read):
    _, (bad,) = read.requests([{"prompt": "x", "title": "a", "background": "b"}], prompt_template=TEMPLATE)

    assert "The row has a prompt that prompt_template doesn't use" in bad.rule


def test_a_mapped_column_has_both_its_names(read):
    columns = {"image_urls": "photo", "prompt": "description"}
    rows = [{"photo": ["https://a.example/1.png"], "description": "a teapot"}]

    for name in ("description", "prompt"):
        ((row,), bad) = read.requests(rows, columns=columns, prompt_template=f"{{{name}}} on white")
        assert (bad, row.request.prompt) == ([], "a teapot on white")


@pytest.mark.parametrize(
    "template",
    [
        "a teapot",
        "",
        5,
        "{}",
        "{0}",
        "{title",
        "title}",
        "{title.upper}",
        "{title[0]}",
        "{title!r}",
        "{title:>10}",
        "{title:{background}}",
        "{ }",
        "{{ title }} on white",
        "{title} {{ ds }}",
        "{{title}} on {background}",
        "{title} on {{background_2}}",
        "{% if x %}{title}{% endif %}",
    ],
)
def test_what_is_no_template_of_names_is_refused(read, template):
    with pytest.raises(
        InvalidRequestError,
        match=r"prompt_template: .*\nNames of columns alone stand in braces\.\nGive one such as",
    ):
        read.requests([{"title": "x", "background": "y"}], prompt_template=template)


def test_a_long_prompt_is_told_as_any_other(read):
    _, (bad,) = read.requests([{"title": "x" * 20_001, "background": "y"}], prompt_template=TEMPLATE)

    assert (bad.column, "is too long" in bad.rule) == ("prompt", True)
