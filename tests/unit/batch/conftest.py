"""What the tests of a batch's parts share: threads, and a destination as this package opens it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_gpt_image.batch.records import Records
from airflow_gpt_image.storage.folders import open_folder
from tests.log_lines import Lines


@pytest.fixture(scope="session")
def threads():
    with ThreadPoolExecutor(16) as threads:
        yield threads


@pytest.fixture
def folder(place):
    return open_folder(place.destination)


@pytest.fixture
def on_disk(disk):
    return open_folder(disk.destination)


@pytest.fixture
def records(folder, threads):
    """What a worker knows that comes fresh to the destination."""
    return lambda: Records(folder, threads)


@pytest.fixture
def records_on_disk(on_disk, threads):
    return lambda: Records(on_disk, threads)


@pytest.fixture
def log():
    return Lines()
