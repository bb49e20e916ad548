"""Records, attempts and two places for them; a clock that only sleeps move."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_gpt_image.api.pricing import DEFAULT_PRICES
from airflow_gpt_image.ledger.destination import RecordsFolder
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.ledger import Ledger, slot_of
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.record import intend
from airflow_gpt_image.storage.folders import open_folder
from tests.fake_clock import FakeClock
from tests.memory_folder import MemoryFolder
from tests.records import DEADLINE, NOW, REQUEST, identity


@pytest.fixture
def payer():
    """Makes an attempt of a task instance: by default the first one of one that isn't mapped."""

    def payer(attempt=1, clear_epoch=3, **fields):
        names = {"dag_id": "posters", "run_id": "r", "task_id": "poster", "ti_id": f"ti-{attempt}"}
        return Payer(**names | {"attempt": attempt, "clear_epoch": clear_epoch} | fields)

    return payer


@pytest.fixture
def intent(payer):
    """Makes the record of a request that is about to be submitted."""

    def intent(request=REQUEST, by=None, before=None, at=NOW):
        by = by or payer()
        return intend(
            request,
            identity(request),
            slot_of(by),
            before=before,
            payer=by,
            prices=DEFAULT_PRICES,
            now=at,
            answer_by=at + timedelta(seconds=60),
        )

    return intent


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def folder():
    return MemoryFolder()


@pytest.fixture
def open_ledger(store, folder, clock, log, payer):
    """Opens the ledger as an attempt does; those opened before are out of date, as their workers are."""

    def open_ledger(
        by=None, history=History(first_run=False, cleared=False), alone=False, at=None, read=True
    ):
        by = by or payer()
        where = None if alone else RecordsFolder(at or folder, by.task_digest)
        ledger = Ledger(store.accessor(), where, by, history, log, clock=clock)
        if read:
            ledger.read()
        return ledger

    return open_ledger


@pytest.fixture
def submitted(intent):
    return intent().submitted("g1", NOW, name="g1-0")


@pytest.fixture
def records_at(payer):
    """Opens the folder of a task's records at a destination."""
    return lambda destination: RecordsFolder(open_folder(destination), payer().task_digest)


@pytest.fixture
def pay(open_ledger, intent):
    """An attempt that submits, with the id in both places."""

    def pay(generation_id="g1", by=None, request=None, **given):
        ledger = open_ledger(by, **given)
        record = intent(by=ledger.payer) if request is None else intent(request, by=ledger.payer)
        ledger.write_intent(record, deadline=DEADLINE)
        ledger.write_outcome(record.submitted(generation_id, NOW, name=f"{generation_id}-0"))
        return ledger

    return pay
