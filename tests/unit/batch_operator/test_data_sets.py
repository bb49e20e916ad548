"""What data sets a batch takes, and what it says of rows that can't be requests."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
from airflow.sdk import ObjectStoragePath, task

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError
from tests.batches import asked, prompts

URL = "https://example.com/room.jpg"
BRACES = "{{ ds }} {% for x in y %} {# none #} {{ undefined.name }} on a sign"


# Data sets


@task
def something():
    return "made by another task"


ROWS = [
    {"prompt": "a red teapot", "aspect_ratio": "16:9", "sku": "T-1", "price": "12"},
    {"prompt": BRACES, "resolution": "2k", "sku": "T-2"},
]


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["prompt", "aspect_ratio", "resolution", "sku", "price"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows):
    data = io.BytesIO()
    names = {name for row in rows for name in row}
    columns = {name: [row.get(name) for row in rows] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), data)
    return data.getvalue()


WRITERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


def assert_both_rows_were_made(api, result):
    rows = list(read_manifest(result["manifest"]))
    wide, sign = rows
    assert result["stored"] == 2
    assert {request["prompt"] for request in asked(api)} == {"a red teapot", BRACES}
    assert (wide["request"]["aspect_ratio"], sign["request"]["resolution"]) == ("16:9", "2k")
    assert [row["data"] for row in rows] == [{"sku": "T-1", "price": "12"}, {"sku": "T-2"}]
    assert Decimal(result["charged"]) == Decimal("14.1")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_on_disk_is_a_data_set_and_its_path_is_templated(batch, api, tmp_path, kind):
    (tmp_path / f"rows-2026-11-24.{kind}").write_bytes(WRITERS[kind](ROWS))

    result = batch.run(requests=f"{tmp_path}/rows-{{{{ ds }}}}.{kind}")

    assert_both_rows_were_made(api, result)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_on_s3_is_a_data_set_and_images_land_there(batch, api, bucket, kind):
    bucket.write(f"in/rows-2026-11-24.{kind}", WRITERS[kind](ROWS))

    result = batch.run(
        requests=f"{bucket.destination}/in/rows-{{{{ ds }}}}.{kind}",
        destination=f"{bucket.destination}/{{{{ ds }}}}",
    )

    assert_both_rows_were_made(api, result)
    assert len([name for name in bucket.names() if name.endswith(".png")]) == 2
    assert "2026-11-24/manifest.jsonl" in bucket.names()


def test_an_object_storage_path_is_a_path_too(batch, api, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(ROWS))

    result = batch.run(
        requests=ObjectStoragePath(f"file://{tmp_path}/rows.jsonl"),
        destination=ObjectStoragePath(f"file://{tmp_path}/out"),
    )

    assert_both_rows_were_made(api, result)


def test_another_tasks_result_is_a_data_set_and_its_prompts_are_not_rendered(batch, api):
    batch.xcoms["something"] = ROWS

    result = batch.run(requests=something)

    assert_both_rows_were_made(api, result)


def test_other_tasks_results_inside_a_list_are_put_in_wherever_they_stand(batch, api):
    batch.xcoms = {"something": BRACES, "something__1": URL}

    batch.run(requests=lambda: [something(), {"prompt": "warmer", "image_urls": [something()]}])

    assert prompts(api) == ["warmer", BRACES]
    assert asked(api)[0]["image_urls"] == [URL]


def test_the_destination_is_templated_and_so_are_defaults(batch, api, tmp_path):
    result = batch.run(
        requests=["a teapot"], defaults={"resolution": "{{ '2k' }}"}, destination=f"{tmp_path}/{{{{ ds }}}}"
    )

    assert result["manifest"] == f"{tmp_path}/2026-11-24/manifest.jsonl"
    assert asked(api)[0]["resolution"] == "2k"


def test_every_field_of_a_request_can_be_a_column(batch, api, tmp_path):
    header = "prompt,image_urls,aspect_ratio,resolution,nsfw_checker,callback_url\n"
    (tmp_path / "a.csv").write_text(f"{header}warmer,{URL} {URL}?2,3:2,2k,no,{api.url}/hook\n")

    batch.run(requests=str(tmp_path / "a.csv"))

    [charge] = api.books()["charges"]
    assert charge["callback_url"] == f"{api.url}/hook"
    assert charge["request"] == {
        "prompt": "warmer",
        "image_urls": [URL, f"{URL}?2"],
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
    }


def test_defaults_are_for_the_rows_that_do_not_say_otherwise(batch, api):
    batch.run(requests=["a", {"prompt": "b", "resolution": "1k"}], defaults={"resolution": "2k"})

    assert [request["resolution"] for request in asked(api)] == ["2k", "1k"]


@pytest.mark.parametrize(
    ("requests", "rule"),
    [
        ("a red teapot", "'a red teapot' is a single string, not a data set.\nGive a list of prompts"),
        ([], "is empty.\nGive at least one prompt"),
        (None, "is not a data set"),
        (5, "is not a data set"),
        ("/nowhere/rows.csv", "'/nowhere/rows.csv' can't be read"),
        ("/nowhere/rows.xlsx", "is a spreadsheet.\nSave the sheet as CSV"),
    ],
    ids=str,
)
def test_what_is_no_data_set_is_refused_before_anything_is_sent(batch, api, requests, rule):
    with pytest.raises(InvalidRequestError) as refused:
        batch.run(requests=requests)

    assert rule in str(refused.value)
    assert not refused.value.retryable
    assert api.books()["requests"]["submit"] == 0


def test_more_images_than_a_batch_takes_are_refused(batch, api):
    with pytest.raises(InvalidRequestError, match=r"101,000 images.\nA batch takes 1 to 100,000"):
        batch.run(requests=["a"] * 1010, variants=100)

    assert api.books()["requests"]["submit"] == 0


def test_defaults_that_break_a_rule_are_refused(batch, api):
    with pytest.raises(InvalidRequestError, match=r"defaults: .*'8k' is not a resolution"):
        batch.run(defaults={"resolution": "8k"})

    assert api.books()["requests"]["submit"] == 0


# Rows that can't be requests

BAD = [
    "a teapot",
    {"prompt": "b", "aspect_ratio": "7:5"},
    {"prompt": " ", "resolution": "8k"},
    {"sku": "T-4"},
    "a vase",
]


def test_every_bad_row_is_told_before_the_first_is_paid_for(batch, api, tmp_path):
    with pytest.raises(InvalidRowsError) as refused:
        batch.run(requests=BAD)

    message = str(refused.value)
    assert not refused.value.retryable
    assert "Invalid rows in the data set: 3. Nothing was submitted." in message
    assert "row 2, column aspect_ratio: '7:5' is not an aspect ratio" in message
    assert "row 3, column prompt: ' ' is blank" in message
    assert "row 3, column resolution: '8k' is not a resolution" in message
    assert "row 4" in message
    assert api.books()["requests"]["submit"] == 0
    assert not (tmp_path / "posters" / "plan.jsonl").exists()


@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
def test_all_that_is_wrong_is_written_down(batch, tmp_path, on_invalid):
    try:
        batch.run(requests=BAD, on_invalid=on_invalid)
    except InvalidRowsError:
        assert on_invalid == "fail"

    lines = [json.loads(line) for line in (tmp_path / "posters" / "invalid.jsonl").read_text().splitlines()]
    assert [(line["row"], line["column"]) for line in lines] == [
        (2, "aspect_ratio"),
        (3, "prompt"),
        (3, "resolution"),
        (4, "prompt"),
    ]
    assert "7:5" in lines[0]["value"]
    assert "is not an aspect ratio" in lines[0]["rule"]


def test_bad_rows_can_be_left_out_and_the_others_keep_their_numbers(batch, api):
    result = batch.run(requests=BAD, on_invalid="skip")

    assert (result["rows"], result["images"], result["invalid"], result["stored"]) == (2, 2, 3, 2)
    assert [row["row"] for row in read_manifest(result["manifest"])] == [1, 5]
    assert prompts(api) == ["a teapot", "a vase"]


def test_leaving_out_all_rows_leaves_none_to_pay_for(batch, api):
    with pytest.raises(InvalidRequestError, match="0 valid rows"):
        batch.run(requests=BAD[1:4], on_invalid="skip")

    assert api.books()["requests"]["submit"] == 0


def test_what_was_wrong_before_is_not_told_of_rows_that_are_mended(batch, tmp_path):
    with pytest.raises(InvalidRowsError):
        batch.run(requests=BAD)

    batch.run(requests=["a teapot"])

    assert not (tmp_path / "posters" / "invalid.jsonl").exists()
