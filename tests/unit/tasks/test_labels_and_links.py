"""What Airflow's UI shows of a task: the names of map indexes, and links to what it made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.sensors.gpt_image import GptImageSensor
from airflow_gpt_image.tasks.labels import name_map_index
from airflow_gpt_image.tasks.links import FolderLink, GalleryLink, ImageLink, batch_links, image_links

RESULT = {"generation_id": "g1", "path": "/data/1.png", "url": "https://files.example.com/1.png"}


def label(map_index=0, template=None, **request):
    context = {"ti": SimpleNamespace(map_index=map_index), "map_index_template": template}
    name_map_index(context, ImageRequest(**{"prompt": "A red teapot"} | request))
    return context.get("map_index_label")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"prompt": "A red teapot"}, "A red teapot"),
        ({"prompt": "A red,\n\n  enamel\tteapot"}, "A red, enamel teapot"),
        ({"prompt": "A {{ ds }} on a sign"}, "A {{ ds }} on a sign"),
        (
            {"prompt": "A red teapot on a table in the morning light"},
            "A red teapot on a table in the morning…",
        ),
        ({"prompt": "x" * 300}, "x" * 40 + "…"),
        ({"prompt": "A \x07 bell"}, "A � bell"),
        ({"prompt": None, "image_urls": ["https://h/photos/sofa.png?X-Signature=s"]}, "sofa.png"),
    ],
)
def test_a_map_index_is_called_by_the_first_words_of_the_prompt(request_, words):
    assert label(**request_) == words


def test_a_name_of_the_authors_stays_and_a_task_that_is_not_mapped_has_none():
    assert label(template="{{ task.prompt }}") is None
    assert label(map_index=-1) is None


TI = SimpleNamespace(
    dag_id="shop", run_id="manual__2026-01-01T00:00:00+00:00", task_id="poster", map_index=-1
)
TAB = "/dags/shop/runs/manual__2026-01-01T00:00:00+00:00/tasks/poster/plugin/gpt-images-task-instance"
IMAGE = "/gpt-image/result/shop/manual__2026-01-01T00:00:00+00:00/poster/-1/0"
GENERATION = "https://api.example.com/v1/tasks/g1"


@pytest.mark.parametrize(
    ("result", "destination", "links"),
    [
        (RESULT, "/data", {"Image": IMAGE, "Folder": TAB}),
        (RESULT | {"url": "https://files.example.com/1.png?***"}, "/data", {"Image": IMAGE, "Folder": TAB}),
        (RESULT | {"path": "s3://b/1.png", "url": None}, "s3://c@b", {"Image": IMAGE, "Folder": TAB}),
        (RESULT | {"path": None}, None, {"Image": "https://files.example.com/1.png"}),
        (RESULT | {"path": None, "url": "https://files.example.com/1.png?***"}, None, {}),
        (RESULT | {"path": None, "url": "javascript:alert(1)"}, None, {}),
        (RESULT | {"path": None, "url": None}, "/data", {"Folder": TAB}),
        (RESULT | {"path": None, "url": None}, None, {}),
    ],
    ids=[
        "disk",
        "signed address",
        "store",
        "not stored",
        "not stored, without its signature",
        "no address of the web",
        "not made yet",
        "not made yet, and not stored",
    ],
)
def test_a_task_links_to_what_it_made_by_addresses_that_a_browser_opens(result, destination, links):
    found = image_links(result, destination, "https://api.example.com", TI)

    assert found == {"Generation": GENERATION} | links


def test_a_batch_links_to_the_tab_that_has_its_images_and_its_files():
    assert batch_links(TI) == {"Manifest": TAB, "Folder": TAB}


def test_a_link_is_the_operators_and_empty_before_there_is_one():
    operator = GptImageGenerateOperator(task_id="poster", prompt="x")
    before = ImageLink().get_link(operator, ti_key=TI)

    operator.links = image_links(RESULT, "/data", "https://api.example.com", TI)

    assert before == ""
    assert ImageLink().get_link(operator, ti_key=TI) == IMAGE
    assert FolderLink().get_link(operator, ti_key=TI) == TAB


def test_the_tab_is_linked_to_also_by_a_task_that_failed():
    operator = GptImageBatchOperator(task_id="posters", requests=["x"], destination="/data")

    assert GalleryLink().get_link(operator, ti_key=TI) == TAB


def test_the_links_outlast_the_dags_serialisation():
    with DAG("d", schedule=None) as dag:
        GptImageGenerateOperator(task_id="poster", prompt="x")
        GptImageBatchOperator(task_id="posters", requests=["x"], destination="/data")
        GptImageSensor(task_id="wait", generation_id="g1")

    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    names = {name: sorted(task.extra_links) for name, task in again.task_dict.items()}
    assert names == {
        "poster": ["Folder", "Gallery", "Generation", "Image"],
        "posters": ["Folder", "Gallery", "Manifest"],
        "wait": ["Folder", "Gallery", "Generation", "Image"],
    }
