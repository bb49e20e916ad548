"""What the tests of a batch's parts share: threads, and a destination as this package opens it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_gpt_image.batch.lock import DestinationLock
from airflow_gpt_image.batch.records import BatchRecords
from airflow_gpt_image.ledger.destination import ANY, RecordsFolder
from airflow_gpt_image.ledger.payer import TaskInstance
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import ME

ME_AS_OWNER = TaskInstance(dag_id="posters", run_id="manual__2026-04-05", task_id="make", map_index=-1)
YOU = TaskInstance(dag_id="posters", run_id="manual__2026-04-06", task_id="make", map_index=3)


def ends_in(seconds):
    """What a lock that ends so many seconds from now is acquired with: it outlasts that by ten minutes."""
    return {"until": time.time() + seconds - 600}


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
def lock(request, log):
    """A lock as each try makes its own; where images land, or at a folder that is given."""

    def lock(owner=ME_AS_OWNER, *, folder=None, ti_id="t1", has_ended=lambda owner: False):
        folder = folder or request.getfixturevalue("folder")
        return DestinationLock(folder, owner, ti_id, log, has_ended=has_ended)

    return lock


@pytest.fixture
def lock_on_disk(on_disk, lock):
    return lambda owner=ME_AS_OWNER, **options: lock(owner, folder=on_disk, **options)


@pytest.fixture
def load_dataset(monkeypatch, tmp_path):
    """Hugging Face's loader, without a network; progress isn't told."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets isn't installed")
    datasets.disable_progress_bars()
    return lambda **given: datasets.load_dataset("imagefolder", cache_dir=str(tmp_path / "cache"), **given)
