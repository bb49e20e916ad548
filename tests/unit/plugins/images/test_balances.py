"""What is left of an account, as the overview tells it: never waited for long, and not told to everybody."""

from __future__ import annotations

from decimal import Decimal
from threading import Event

import pytest

from airflow_gpt_image.emulator import EmulatorServer
from airflow_gpt_image.plugins.images.balances import Balances, read_balance
from tests.airflow_database import NOW


@pytest.fixture
def emulator(monkeypatch):
    with EmulatorServer(credits=2906) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_AGENCY", emulator.airflow_connection())
        yield emulator


@pytest.fixture
def paid(airflow):
    """A task has paid with the connection."""
    airflow.run("shop", "r1")
    spent = {"charged": "4.7", "refunded": "0", "usd": "0.0235"}
    result = {"generation_id": "g1", "images": [{}], "spent": spent}
    airflow.task("shop", "r1", "image", result=result, rendered={"gpt_image_conn_id": "agency"}, ended=NOW)


def labels(document):
    return [figure["label"] for figure in document["figures"]]


def test_the_overview_tells_the_balance_of_a_connection_that_one_may_read(emulator, paid, show):
    document = show("all", connections=("agency",), balances=Balances(read_balance, seconds=60))

    assert document["figures"][-1] == {"label": "Balance agency", "value": "$14.53", "note": None}


def test_who_may_not_read_a_connection_is_not_told_its_balance_and_the_api_is_not_asked(paid, show):
    asked = []

    document = show("all", connections=(), balances=Balances(asked.append, seconds=60))

    assert labels(document)[-1] == "Refunded"
    assert asked == []


@pytest.mark.parametrize("conn_id", ["nobody_made_this", "another_kind"])
def test_a_balance_that_cannot_be_read_is_left_out(monkeypatch, conn_id):
    monkeypatch.setenv("AIRFLOW_CONN_ANOTHER_KIND", "postgres://somebody:secret@db.example.com/x")

    assert Balances(read_balance, seconds=60).of([conn_id]) == {}


def test_a_page_does_not_wait_for_a_balance_and_tells_it_when_it_is_opened_again():
    answered, asked = Event(), []

    def read(conn_id):
        asked.append(conn_id)
        answered.wait()
        return Decimal("14.53")

    balances = Balances(read, seconds=0)
    at_first = balances.of(["agency"]), balances.of(["agency"])
    answered.set()
    later = {}
    while not later:
        later = balances.of(["agency"])

    assert at_first == ({}, {})
    assert later == {"agency": Decimal("14.53")}
    assert asked == ["agency"]


def test_a_balance_is_read_again_when_it_is_old_and_no_more_than_three_are():
    asked = []

    def read(conn_id):
        asked.append(conn_id)
        return Decimal(len(asked))

    balances = Balances(read, seconds=60, fresh_for=0)

    assert balances.of(["a"]) == {"a": 1}
    assert balances.of(["a"]) == {"a": 2}
    assert list(balances.of("abcd")) == ["a", "b", "c"]
