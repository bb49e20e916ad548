"""Airflow's database, roots and a user, for the documents of the Images tab."""

from __future__ import annotations

import os

import pytest

from tests.airflow_database import NOW, AirflowDatabase, migrate


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    shared = tmp_path_factory.getbasetemp()
    migrate(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)


@pytest.fixture
def airflow(migrated):
    """Airflow's database, with nothing in it."""
    database = AirflowDatabase()
    database.clear()
    return database


@pytest.fixture
def show(airflow, tmp_path):
    """Makes the document of a place, as somebody sees it who may read these Dags."""
    from airflow_gpt_image.plugins.images.balances import Balances, read_balance
    from airflow_gpt_image.plugins.images.documents import building
    from airflow_gpt_image.plugins.images.roots import Roots
    from airflow_gpt_image.plugins.images.tokens import Tokens

    def show(
        path,
        *,
        roots=None,
        readable=("shop",),
        connections=(),
        balances=None,
        now=NOW,
        patience=60.0,
        **query,
    ):
        context = building.Context(
            user="somebody",
            roots=Roots([str(tmp_path)] if roots is None else roots),
            tokens=Tokens("a secret of twenty-six bytes"),
            may_read=lambda user, dag_id: dag_id in readable,
            readable_dags=lambda user: set(readable),
            may_read_connection=lambda user, conn_id: conn_id in connections,
            balances=balances or Balances(read_balance),
            now=now,
            patience=patience,
        )
        place = building.Place.parse(path)
        assert place is not None
        return building.build(place, building.Query.parse(query), context)

    return show
