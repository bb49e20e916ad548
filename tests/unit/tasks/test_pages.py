"""The addresses of Airflow's pages that show a task's images."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest

from airflow_gpt_image.plugins.images.documents.places import Place
from airflow_gpt_image.tasks.pages import images_tab, stored_image, where_to_look


def ti(dag_id="shop", run_id="scheduled__2026-11-26T00:00:00+00:00", task_id="g.poster", map_index=-1):
    return SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


@pytest.fixture
def base_url(monkeypatch):
    return lambda address: monkeypatch.setenv("AIRFLOW__API__BASE_URL", address)


RUN = "/dags/shop/runs/scheduled__2026-11-26T00:00:00+00:00"


@pytest.mark.parametrize(
    ("map_index", "path"),
    [
        (None, f"{RUN}/tasks/g.poster/plugin/gpt-images-task-instance"),
        (-1, f"{RUN}/tasks/g.poster/plugin/gpt-images-task-instance"),
        (0, f"{RUN}/tasks/g.poster/mapped/0/plugin/gpt-images-task-instance"),
        (23, f"{RUN}/tasks/g.poster/mapped/23/plugin/gpt-images-task-instance"),
    ],
)
def test_the_tab_is_the_task_instances_and_the_runs_id_stays_as_airflow_writes_it(map_index, path):
    assert images_tab(ti(map_index=map_index)) == path


def test_an_image_of_the_result_is_told_by_its_number():
    assert stored_image(ti(map_index=3), 2) == (
        "/gpt-image/result/shop/scheduled__2026-11-26T00:00:00+00:00/g.poster/3/2"
    )
    assert stored_image(ti(map_index=None)).endswith("/g.poster/-1/0")


@pytest.mark.parametrize(("map_index", "index"), [(None, "loop-1"), (-1, "loop-1"), (4, "loop-1-4")])
def test_an_image_of_a_loops_iteration_is_that_iterations(map_index, index):
    """Airflow 3.4 runs a task of a Task Loop again under the same ids."""
    running = ti(map_index=map_index)
    running.get_template_context = lambda: {"loop": SimpleNamespace(index=1)}

    assert stored_image(running, 2).endswith(f"/g.poster/{index}/2")
    assert Place.parse(stored_image(running).replace("/gpt-image/result/", "task/")[:-2]).loop_index == 1


def test_the_tab_of_a_loops_iteration_is_told_by_its_region_without_which_airflow_finds_no_instance():
    running = ti(map_index=4)
    running.get_template_context = lambda: {"loop": SimpleNamespace(index=1)}
    running.region_id, running.region_index = UUID("01a2201f-1643-730b-9863-00d6994d304f"), 4

    region = "?region_id=01a2201f-1643-730b-9863-00d6994d304f&region_index=4"
    assert images_tab(running) == images_tab(ti(map_index=4)) + region
    assert where_to_look(running).endswith(region)


def test_a_name_is_one_part_of_a_path_whatever_it_holds():
    path = images_tab(ti(run_id="a/../b?c#d e%2f"))

    assert (
        path == "/dags/shop/runs/a%2F..%2Fb%3Fc%23d%20e%252f/tasks/g.poster/plugin/gpt-images-task-instance"
    )


@pytest.mark.parametrize("address", ["https://airflow.example.com/team", "https://airflow.example.com/team/"])
def test_an_airflow_below_a_path_has_its_pages_there(base_url, address):
    base_url(address)

    assert images_tab(ti()).startswith("/team/dags/shop/")
    assert stored_image(ti()).startswith("/team/gpt-image/result/")


def test_the_log_has_the_whole_address_where_airflow_knows_its_own(base_url):
    without = where_to_look(ti())
    base_url("https://airflow.example.com/team/")

    assert where_to_look(ti()) == f"Images: https://airflow.example.com/team{images_tab(ti())[5:]}"
    assert without == f"Images: {RUN}/tasks/g.poster/plugin/gpt-images-task-instance"
