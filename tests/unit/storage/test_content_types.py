"""A store tells a browser what a file is, so that it shows the file and doesn't save it."""

from __future__ import annotations

import pytest

from airflow_gpt_image.storage.content_types import type_arguments
from airflow_gpt_image.storage.folders import open_folder

TYPES = {
    "items/a.png": "image/png",
    "items/a.jpg": "image/jpeg",
    "items/a.webp": "image/webp",
    "contact_sheet_2.html": "text/html; charset=utf-8",
    "map-3/manifest.csv": "text/csv; charset=utf-8",
    "manifest.jsonl": "application/jsonl",
    "summary.json": "application/json",
    "manifest.parquet": "application/vnd.apache.parquet",
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("length", [10, 12 * 1024 * 1024], ids=["small", "in parts"])
@pytest.mark.parametrize("new", [False, True], ids=["replaced", "new"])
def test_a_bucket_serves_each_file_as_what_it_is(bucket, name, length, new):
    folder = open_folder(bucket.destination)

    with folder.draft(name) as draft:
        draft.write(b"x" * length)
        (folder.publish_new if new else folder.publish)(draft, name)

    assert bucket.content_type(name) == TYPES[name]
    assert len(bucket.read(name)) == length


def test_a_file_without_a_known_ending_and_a_store_that_has_no_types_are_told_none(bucket):
    open_folder(bucket.destination).write("records/lock", b"x")

    assert bucket.content_type("records/lock") == "binary/octet-stream"
    assert type_arguments("abfs://c@container/x", "a.html") == {}
    assert type_arguments("gs://c@bucket/x", "a.html") == {"content_type": "text/html; charset=utf-8"}
