"""A manifest is read line by line, from wherever it is; what is none is an error with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from tests.batches import ME, manifest_of, plan_of


def write(folder, plan):
    return manifest_of(folder, plan, list(ItemTable(plan.items)), ME)


def test_a_manifest_is_read_by_its_own_path_or_by_its_folders(place, folder):
    write(folder, plan_of(["a", "b"], variants=2))
    paths = [
        folder.address(manifest.JSONL),
        place.destination,
        f"{place.destination}/",
        ObjectStoragePath(place.destination),
        ObjectStoragePath(place.destination) / manifest.JSONL,
        *([Path(place.destination)] if place.destination.startswith("/") else []),
    ]

    first, *others = [list(read_manifest(path)) for path in paths]

    assert [(line["row"], line["variant"]) for line in first] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert others == [first] * len(others)


def test_lines_are_read_one_by_one(disk):
    disk.write(manifest.JSONL, b'{"row":1,"status":"stored","paths":[]}\nno line\n')
    lines = read_manifest(disk.destination)

    assert next(lines)["row"] == 1
    with pytest.raises(InvalidRequestError, match="Line 2 of"):
        next(lines)


def test_a_manifest_that_is_not_there_is_an_error_that_says_where_and_what_to_give(place):
    with pytest.raises(InvalidRequestError, match="There is no manifest at") as caught:
        list(read_manifest(place.destination))

    assert f"{place.destination}/{manifest.JSONL}" in caught.value.message
    assert "the task's result has it under 'manifest'" in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("path", ["nowhere/at/all", "nowhere.jsonl", "", None, "a folder"])
def test_a_path_that_leads_nowhere_is_an_error_of_ours(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder" / manifest.JSONL).mkdir(parents=True)  # a folder by a manifest's name is none

    with pytest.raises(InvalidRequestError, match="There is no manifest at"):
        list(read_manifest(path))


def test_a_bucket_that_is_not_there_has_no_manifest(bucket):
    with pytest.raises(InvalidRequestError, match="There is no manifest at"):
        list(read_manifest(bucket.destination.replace("images-", "nobodys-")))


def test_a_store_that_refuses_is_an_error_that_may_pass(bucket):
    # No bucket may be called that.
    with pytest.raises(DestinationError, match="could not be read") as caught:
        list(read_manifest("s3://image_store@images$/a"))

    assert caught.value.retryable


@pytest.mark.parametrize(
    "junk",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'"row status paths"\n',
        b'{"row":1,"status":"sto',
        b'{"prompt":"a row to run again"}\n',
        b"\xff\xfe\n",
        b"row,variant,status,prompt\r\n1,1,stored,a\r\n",
        b"[" * 100_000,
        b'{"row":' + b"9" * 5_000 + b',"status":"stored","paths":[]}',
    ],
    ids=["blank", "object", "list", "null", "text", "cut", "failures", "no UTF-8", "CSV", "deep", "number"],
)
def test_what_is_no_manifest_is_an_error_with_the_line_and_the_remedy(place, junk):
    place.write(manifest.JSONL, junk)

    with pytest.raises(InvalidRequestError, match=r"Line 1 of .* is none of a manifest's\. Give the path of"):
        list(read_manifest(place.destination))


def test_an_empty_file_is_no_manifest_for_a_batch_has_at_least_one_image(place):
    place.write(manifest.JSONL, b"")

    with pytest.raises(InvalidRequestError, match="is empty, and a manifest never is"):
        list(read_manifest(place.destination))


def test_a_line_without_an_end_does_not_fill_the_memory(disk):
    path = Path(disk.destination, manifest.JSONL)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b'{"row":1,"status":"stored","paths":[],"more":"')
        file.truncate(10**12)  # a terabyte of nothing

    with pytest.raises(InvalidRequestError, match="Line 1 of"):
        list(read_manifest(disk.destination))


def test_a_row_with_megabytes_of_data_can_be_read_again(on_disk, disk):
    plan = plan_of([{"prompt": "a", "data": "x" * 8 * 1024 * 1024}])

    write(on_disk, plan)

    [line] = read_manifest(disk.destination)

    assert len(line["data"]["data"]) == 8 * 1024 * 1024
