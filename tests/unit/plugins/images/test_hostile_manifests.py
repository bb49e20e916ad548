"""A manifest that somebody wrote to fill the API server's memory, disk or table of open files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.plugins.images.documents import batch_manifest
from airflow_gpt_image.plugins.images.documents.batch_rows import BatchRows
from airflow_gpt_image.plugins.images.documents.folder_under_roots import MOST_BYTES
from airflow_gpt_image.plugins.images.roots import OutsideRootsError, Roots

LINE = {"row": 1, "status": "stored", "paths": []}


class Seen:
    """As much of a page's context as reading takes."""

    def __init__(self, folder):
        self.roots = Roots([str(folder)])


def read(folder, *lines, name="manifest.jsonl"):
    text = b"\n".join(line if isinstance(line, bytes) else json.dumps(LINE | line).encode() for line in lines)
    (folder / name).write_bytes(text)
    return batch_manifest.read(str(folder / name), Seen(folder))


def test_rows_with_columns_of_their_own_have_no_more_columns_than_one_row_may(tmp_path):
    rows = read(tmp_path, *({"data": {f"{row}-{column}": "x" for column in range(50)}} for row in range(100)))

    assert len(rows.columns) == 50
    assert len(rows.entries) == 100


def test_a_line_that_unfolds_in_memory_is_none_of_a_manifests(tmp_path):
    bomb = b'{"row":1,"status":"stored","paths":[],"data":[' + b"{}," * 800_000 + b"{}]}"

    with pytest.raises(InvalidRequestError, match="none of a manifest's"):
        read(tmp_path, bomb)


def test_a_row_as_long_as_a_data_set_allows_is_read(tmp_path):
    rows = read(tmp_path, {"data": {"list": ", ".join("x" for _ in range(330_000))}})

    assert len(rows.entries) == 1


def test_amounts_without_end_are_not_remembered():
    rows = BatchRows()

    rows.add(LINE | {"credits": "9" * 1_000_000})

    assert sum(len(known) for known in rows._amounts) == 0
    rows.done()


def test_what_a_text_takes_in_memory_is_counted_and_not_its_letters():
    plain, wide = BatchRows(), BatchRows()

    plain.add(LINE | {"request": {"prompt": "x" * 1_000}})
    wide.add(LINE | {"request": {"prompt": "x" * 1_000 + "\N{GRINNING FACE}"}})

    assert wide.weight > plain.weight + 2_900
    plain.done()
    wide.done()


def test_small_manifests_without_number_hold_few_files_open(tmp_path):
    opened = len(list(Path("/proc/self/fd").iterdir()))

    for number in range(400):
        read(tmp_path, {}, name=f"{number}.jsonl")

    assert len(list(Path("/proc/self/fd").iterdir())) - opened < 300


def test_a_manifest_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "manifest.jsonl").open("wb") as file:
        file.truncate(MOST_BYTES + 1)

    with pytest.raises(DestinationError, match="larger than"):
        batch_manifest.read(str(tmp_path / "manifest.jsonl"), Seen(tmp_path))


def test_a_manifest_that_has_become_a_link_to_elsewhere_is_not_read(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "manifest.jsonl").write_text(json.dumps(LINE))
    seen = Seen(images)
    (images / "batch").symlink_to(tmp_path / "secret")

    for ask in (batch_manifest.read, lambda path, seen: batch_manifest.read_first(path, 3, seen)):
        with pytest.raises(OutsideRootsError):
            ask(str(images / "batch" / "manifest.jsonl"), seen)
