"""What the tests of a batch's parts share: threads, and a destination as this package opens it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_gpt_image.batch.records import BatchRecords
from airflow_gpt_image.ledger.destination import ANY, RecordsFolder
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import ME
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
def records_at(threads):
    """What a worker knows that comes fresh to a destination."""

    def records_at(folder, payer=ME, *, scope=ANY, cleared=False, adopts=True):
        return BatchRecords(RecordsFolder(folder, scope), threads, payer, cleared=cleared, adopts=adopts)

    return records_at


@pytest.fixture
def log():
    return Lines()
