"""What means a field, and stands in a column of another name, is not left out of what is paid for."""

from __future__ import annotations

import pandas
import pytest

URL = "https://example.com/room.jpg"

PICTURES = [
    URL,
    f"{URL}?w=100",
    f"{URL}, https://example.com/2.png",
    "s3://conn@bucket/photos/1.webp",
    f"photo.jpg ({URL})",
    [URL],
    [{"id": "att1", "url": URL}],
    {"large": {"src": URL}},
]


@pytest.mark.parametrize("name", ["Bild", "Attachments", "URLs", "galería", "thumbnail"])
@pytest.mark.parametrize("value", PICTURES, ids=str)
def test_a_picture_in_a_column_of_another_name_is_not_left_out(read, name, value):
    _, (bad,) = read.requests([{"prompt": "x", name: value}])

    assert (bad.column, "looks like image_urls" in bad.rule) == (name, True)
    for given in ({"image_urls": None}, {"columns": {"image_urls": None}}):
        row = {"prompt": "x", name: value, **({} if "columns" in given else given)}
        assert read.requests([row], columns=given.get("columns"))[1] == []


def test_a_column_of_pictures_beside_image_urls_is_the_rows_data_where_that_is_empty_too(read):
    content = f"prompt,image_urls,paths\na,{URL},{URL}\nb,,{URL}"

    rows = read.rows("x.csv", content)

    assert [row.request.image_urls for row in rows] == [(URL,), ()]


@pytest.mark.parametrize(
    "value",
    [
        "https://example.com/shoe",
        "see https://example.com/1.png",
        "a.png",
        "/data/1.png",
        "https://e.com/x.html",
    ],
)
def test_another_address_is_the_rows_data(read, value):
    ((row,), bad) = read.requests([{"prompt": "x", "page": value}])

    assert (bad, row.metadata) == ([], {"page": value})


NESTED = [
    {"aspect_ratio": "3:2"},
    {"options": {"imageUrls": [URL]}},
    [{"resolution": "4k"}],
    '{"resolution": "4k"}',
    ' [{"Aspect-Ratio" : "3:2"}]',
]


@pytest.mark.parametrize("value", NESTED, ids=str)
def test_fields_further_inside_a_row_are_not_left_out(read, value):
    for requests in (
        [{"prompt": "x", "params": value}],
        pandas.DataFrame({"prompt": ["x"], "params": [value]}),
    ):
        _, bad = read.requests(requests)
        assert [cell.column for cell in bad] == ["params"] * len(bad)
        assert "Column 'params' holds fields of a request" in bad[0].rule


def test_a_field_further_inside_that_the_row_gives_itself_is_its_data(read):
    row = {"prompt": "x", "image_urls": [URL], "before": {"prompt": "y", "image_urls": []}}

    ((taken,), bad) = read.requests([row])

    assert (bad, taken.metadata) == ([], {"before": row["before"]})
