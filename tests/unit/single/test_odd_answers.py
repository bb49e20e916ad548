"""Odd answers about what is paid for: the image is had all the same, and all that is kept can be stored."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.serde import deserialize, serialize

from airflow_gpt_image.sensors.gpt_image import GptImageSensor
from tests.odd_answers import ODD, answer_oddly, assert_storable
from tests.task_instance import in_a_database


def assert_an_xcom(result):
    """A result is read by the next task as it was returned."""
    assert deserialize(serialize(json.loads(in_a_database(result)))) == result


@pytest.mark.parametrize("how", ODD)
def test_an_odd_answer_loses_no_image(make, api, tmp_path, how):
    task = make()
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()
    generation_id = answer_oddly(api, how)

    result = task.wake(deferred.value)

    assert result["generation_id"] == generation_id
    assert_an_xcom(result)
    assert len(json.dumps(result)) < 5_000
    assert_storable(tmp_path)
    assert task.run()["reused"]
    assert api.books()["submits"] == 1


@pytest.mark.parametrize("how", ODD)
def test_an_odd_answer_loses_no_address_either(make, api, how):
    task = make(destination=None)
    with pytest.raises(TaskDeferred) as deferred:
        task.begin()
    generation_id = answer_oddly(api, how)

    result = task.wake(deferred.value)

    assert [image["url"] for image in result["images"]] == [f"{api.url}/files/images/{generation_id}.png"]
    assert_an_xcom(result)


@pytest.mark.parametrize("how", ODD)
def test_an_odd_answer_loses_no_image_of_a_sensor(make, api, tmp_path, how):
    api.settings(duration=0)
    task = make(destination=None)
    task.run(wait_for_completion=False)
    fields = {"generation_id": answer_oddly(api, how), "destination": str(tmp_path / "here")}
    sensor = GptImageSensor(task_id="wait", deferrable=False, **fields)

    result = sensor.poke(task.context).xcom_value

    assert_an_xcom(result)
    assert_storable(tmp_path)
