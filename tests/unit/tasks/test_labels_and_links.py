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
from airflow_gpt_image.tasks.links import FolderLink, ImageLink, batch_links, image_links

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


@pytest.mark.parametrize(
    ("result", "destination", "links"),
    [
        (
            RESULT,
            "/data",
            {
                "Image": "https://files.example.com/1.png",
                "Folder": "file:///data",
                "Generation": "https://api.example.com/v1/tasks/g1",
            },
        ),
        (
            RESULT | {"url": "https://files.example.com/1.png?***"},
            "/data",
            {
                "Image": "file:///data/1.png",
                "Folder": "file:///data",
                "Generation": "https://api.example.com/v1/tasks/g1",
            },
        ),
        (
            RESULT | {"path": "s3://b/1.png", "url": None},
            "s3://c@b",
            {
                "Image": "s3://b/1.png",
                "Folder": "s3://c@b",
                "Generation": "https://api.example.com/v1/tasks/g1",
            },
        ),
        (
            RESULT | {"path": None},
            None,
            {
                "Image": "https://files.example.com/1.png",
                "Generation": "https://api.example.com/v1/tasks/g1",
            },
        ),
        (
            RESULT | {"path": None, "url": None},
            None,
            {"Generation": "https://api.example.com/v1/tasks/g1"},
        ),
    ],
    ids=["disk", "signed address", "store", "not stored", "not made yet"],
)
def test_a_task_links_to_what_it_made(result, destination, links):
    assert image_links(result, destination, "https://api.example.com") == links


def test_a_batch_links_to_its_manifest_and_its_folder():
    assert batch_links({"manifest": "/data/manifest.jsonl"}, "/data") == {
        "Manifest": "file:///data/manifest.jsonl",
        "Folder": "file:///data",
    }


def test_a_link_is_the_operators_and_empty_before_there_is_one():
    operator = GptImageGenerateOperator(task_id="poster", prompt="x")
    before = ImageLink().get_link(operator, ti_key=None)

    operator.links = image_links(RESULT, "/data", "https://api.example.com")

    assert before == ""
    assert ImageLink().get_link(operator, ti_key=None) == "https://files.example.com/1.png"
    assert FolderLink().get_link(operator, ti_key=None) == "file:///data"


def test_the_links_outlast_the_dags_serialisation():
    with DAG("d", schedule=None) as dag:
        GptImageGenerateOperator(task_id="poster", prompt="x")
        GptImageBatchOperator(task_id="posters", requests=["x"], destination="/data")
        GptImageSensor(task_id="wait", generation_id="g1")

    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    names = {name: sorted(task.extra_links) for name, task in again.task_dict.items()}
    assert names == {
        "poster": ["Folder", "Generation", "Image"],
        "posters": ["Folder", "Manifest"],
        "wait": ["Folder", "Generation", "Image"],
    }
