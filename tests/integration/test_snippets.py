"""The code of the README and of the pages that teach, run as it stands there; only the folder is another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import PROJECT, README, snippets

# Airflow's in-process API server imports fastapi.testclient, which wishes for another httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")

DOCS = PROJECT / "docs"
INDEX = DOCS / "package-index.md"
PYTHON = [snippet for page in (README, INDEX) for snippet in snippets(page) if snippet.kind == "python"]

# What each DAG leaves: images, and what was charged for them.
LEAVES = {
    "first_image": (1, "4.7"),
    "use_the_image": (2, "9.4"),
    "many_images": (2, "9.4"),
    "data_set": (2, "9.4"),
}


@pytest.fixture
def run_snippet(dags, api, tmp_path):
    """Runs the one DAG of a snippet as ``dag.test()`` does in its file; the DAG's id, and its run."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    def run(snippet):
        folder = tmp_path / "dags"
        folder.mkdir()
        (folder / "snippet.py").write_text(snippet.text.replace("/tmp/gpt-image", str(tmp_path / "images")))
        bag = DagBag(str(folder), bundle_name="dags-folder")
        assert bag.import_errors == {}
        sync_bag_to_db(bag, "dags-folder", None)
        [dag] = bag.dags.values()
        return dag.dag_id, dag.test()

    return run


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_a_snippet_makes_its_images_and_every_task_of_it_succeeds(run_snippet, api, tmp_path, snippet):
    dag_id, ended = run_snippet(snippet)

    images, charged = LEAVES[dag_id]
    states = {f"{task.task_id}[{task.map_index}]": str(task.state) for task in ended.get_task_instances()}
    assert set(states.values()) == {"success"}, states
    assert len(list((tmp_path / "images").rglob("*.png"))) == images
    assert api.books()["charged"] == charged


def test_the_readme_has_a_snippet_for_each_way_to_make_images():
    assert len([snippet for snippet in PYTHON if snippet.page == README]) == len(LEAVES)


def test_the_whole_test_file_of_the_page_on_testing_passes(tmp_path):
    [file] = [snippet for snippet in snippets(DOCS / "testing.md") if "import pytest" in snippet.text]
    (tmp_path / "test_poster.py").write_text(file.text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_poster.py"],
        cwd=tmp_path,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert Path(tmp_path, "test_poster.py").exists()
