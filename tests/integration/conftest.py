"""DAGs run by Airflow in this process: ``dag.test()`` on a migrated database, the emulator as the API."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.airflow_database import migrate
from tests.integration.images_server import server as server  # a fixture

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
OURS = Path(__file__).parent / "dags"


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A migrated database: made once for all processes that run these tests side by side, and copied."""
    shared = tmp_path_factory.getbasetemp()
    migrate(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)


@pytest.fixture(scope="session")
def dags(database):
    """Our DAGs and the examples by id, parsed and in the database of this session."""
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).mkdir(exist_ok=True)  # else Airflow complains
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    found = {}
    for folder in (EXAMPLES, OURS):
        bag = DagBag(str(folder), bundle_name="dags-folder")
        assert bag.import_errors == {}
        sync_bag_to_db(bag, "dags-folder", None)
        found |= bag.dags
    return found


@pytest.fixture
def destination(tmp_path):
    """Where the examples store their images."""
    return tmp_path / "images"


@pytest.fixture
def api(gpt_image_emulator, destination, monkeypatch):
    """The emulated API; what the DAGs need to know of it and of the destination is in the environment."""
    monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", gpt_image_emulator.airflow_connection())
    monkeypatch.setenv("AIRFLOW_VAR_GPT_IMAGE_DESTINATION", str(destination))
    return gpt_image_emulator


@pytest.fixture
def run(dags, api):
    """Runs a DAG to its end: its state, its tasks' states and labels, and what they returned."""

    def run(dag_id):
        ended = dags[dag_id].test()
        tasks = {(task.task_id, task.map_index): task for task in ended.get_task_instances()}
        return SimpleNamespace(
            state=str(ended.state),
            states={name: str(task.state) for (name, _), task in tasks.items()},
            labels={key: task.rendered_map_index for key, task in tasks.items()},
            returned={
                key: task.xcom_pull(task_ids=task.task_id, map_indexes=task.map_index)
                for key, task in tasks.items()
            },
        )

    return run
