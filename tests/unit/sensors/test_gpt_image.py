"""The sensor: it waits for what others submitted, stores it, and never pays."""

from __future__ import annotations

import inspect
import json
import pickle
import time
from datetime import timedelta
from pathlib import Path

import imagesize
import pytest
import structlog
from airflow.sdk import DAG, task
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy
from airflow.sdk.exceptions import TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    DownloadError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    InvalidRequestError,
)
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy
from airflow_gpt_image.sensors.gpt_image import GptImageSensor
from tests.task_instance import TaskInstance

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
CONTEXT = TaskInstance(None, task_id="wait").context


@pytest.fixture
def submitted(api):
    """Somebody else submits; the generation id."""

    def submitted(**request):
        with GptImageClient(api_key=api.key, base_url=api.url) as client:
            return client.submit(ImageRequest(**{"prompt": "a red teapot"} | request))

    return submitted


@pytest.fixture(params=["deferrable", "poke"])
def sense(request, api):
    """Runs a sensor to its end on either path; deferred, it is woken until it no longer defers."""
    deferrable = request.param == "deferrable"

    def sense(generation_id, event=None, **options):
        given = {"task_id": "wait", "generation_id": generation_id, "poke_interval": 0.05, "timeout": 20}
        sensor = GptImageSensor(**given | {"deferrable": deferrable} | options)
        if not deferrable:
            returned = sensor.execute(CONTEXT)
            return getattr(returned, "xcom_value", returned)
        step, arguments = sensor.execute, {}
        while True:
            try:
                return step(CONTEXT, **arguments)
            except TaskDeferred as deferral:
                arguments = {"event": event, **(deferral.kwargs or {})}
                step = getattr(sensor, deferral.method_name)
                time.sleep(0.03)

    return sense


# While the DAG is parsed


def test_only_the_id_has_to_be_given():
    sensor = GptImageSensor(task_id="wait", generation_id=ID)

    assert (sensor.destination, sensor.gpt_image_conn_id) == (None, "gpt_image_default")
    assert (sensor.deferrable, sensor.poke_interval, sensor.timeout) == (True, 5.0, 3600.0)


def test_on_a_worker_it_looks_as_seldom_as_airflows_sensors_do():
    assert GptImageSensor(task_id="wait", generation_id=ID, deferrable=False).poke_interval == 60.0


def test_times_can_be_given_as_durations():
    sensor = GptImageSensor(
        task_id="wait", generation_id=ID, poke_interval=timedelta(seconds=7), timeout=timedelta(minutes=2)
    )

    assert (sensor.poke_interval, sensor.timeout) == (7, 120)


def test_without_an_id_there_is_nothing_to_wait_for():
    with pytest.raises(TypeError, match="generation_id"):
        GptImageSensor(task_id="wait")


def test_an_argument_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="generation"):
        GptImageSensor(task_id="wait", generation_id=ID, generation="x")


def test_every_parameter_is_explained():
    parameters = set(inspect.signature(GptImageSensor.__init__).parameters) - {"self", "kwargs"}

    assert [name for name in parameters if f":param {name}:" not in GptImageSensor.__doc__] == []


def test_what_is_said_to_be_templated_is():
    doc = inspect.getdoc(GptImageSensor).partition("\n\nReturns")[0]
    said = {text.split(":")[0] for text in doc.split(":param ")[1:] if "(templated)" in text}

    assert said == set(GptImageSensor.template_fields)


def test_the_id_may_come_from_the_task_that_submitted():
    @task
    def submit():
        return {"generation_id": ID}

    with DAG("d", schedule=None):
        sensor = GptImageSensor(task_id="wait", generation_id=submit()["generation_id"])

    assert sensor.upstream_task_ids == {"submit"}


def test_the_retry_policy_is_ours_unless_the_author_has_one():
    policy = ExceptionRetryPolicy(rules=[])

    assert isinstance(GptImageSensor(task_id="a", generation_id=ID).retry_policy, GptImageRetryPolicy)
    assert GptImageSensor(task_id="b", generation_id=ID, retry_policy=policy).retry_policy is policy


def test_a_mapped_sensor_has_our_policy_when_it_runs():
    with DAG("d", schedule=None):
        mapped = GptImageSensor.partial(task_id="wait").expand(generation_id=[ID])

    assert isinstance(mapped.unmap({"generation_id": ID}).retry_policy, GptImageRetryPolicy)


def test_a_sensor_can_be_carried_about_and_its_dag_serialised():
    with DAG("d", schedule=None) as dag:
        sensor = GptImageSensor(task_id="wait", generation_id="{{ params.id }}", destination="/data")

    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    assert pickle.loads(pickle.dumps(sensor)).generation_id == "{{ params.id }}"
    assert again.task_dict["wait"].task_type == "GptImageSensor"


# Waiting


def test_it_waits_for_a_generation_and_stores_its_image(sense, submitted, tmp_path):
    generation_id = submitted(aspect_ratio="3:2")

    told = sense(generation_id, destination=str(tmp_path))

    [image] = told["images"]
    assert (told["generation_id"], told["status"]) == (generation_id, "completed")
    assert Path(image["path"]).parent == tmp_path
    assert imagesize.get(image["path"]) == (image["width"], image["height"]) == (1536, 1024)


def test_without_a_destination_it_tells_where_the_api_put_the_image(sense, submitted, api):
    [image] = sense(submitted())["images"]

    assert image["url"].startswith(api.url)
    assert image["path"] is None
    assert api.books()["requests"]["download"] == 0


def test_what_it_returns_is_what_the_docstring_says_and_plain_json(sense, submitted):
    told = sense(submitted())

    names = "generation_id status model images path url created_at completed_at metadata"
    assert set(told) == set(names.split())
    assert all(f"``{name}``" in GptImageSensor.__doc__ for name in names.split())
    assert json.loads(json.dumps(told)) == told


def test_it_never_pays(sense, submitted, api):
    generation_id = submitted()

    sense(generation_id)
    sense(generation_id)

    assert api.books()["requests"]["submit"] == 1


def test_what_is_finished_already_is_not_waited_for(submitted, api):
    api.fault("generation:takes=0")
    sensor = GptImageSensor(task_id="wait", generation_id=submitted())

    assert sensor.execute(CONTEXT)["status"] == "completed"


def test_a_generation_that_failed_raises_why(sense, submitted, api):
    api.fault("generation:failed=invalid_request")

    with pytest.raises(GenerationFailedError, match="failed") as caught:
        sense(submitted())

    assert caught.value.code == "invalid_request"


def test_an_id_the_account_does_not_know_says_so_and_is_not_tried_again(sense):
    with pytest.raises(GenerationNotFoundError) as caught:
        sense(ID)

    assert not caught.value.retryable


def test_an_id_that_was_given_a_moment_ago_may_not_be_known_everywhere_yet(sense, submitted, api):
    # Downstream of GptImageGenerateOperator(wait_for_completion=False) it starts within a second or two.
    api.fault("generation:unseen=1")

    assert sense(submitted())["status"] == "completed"


@pytest.mark.parametrize("junk", ["", "../../v1/credits", "a b", "{{ x }}"])
def test_what_can_not_be_an_id_is_refused_before_anything_is_sent(sense, api, junk):
    with pytest.raises(InvalidRequestError, match="generation_id"):
        sense(junk)

    assert api.books()["requests"]["poll"] == 0


def test_a_destination_that_is_none_is_refused_before_anything_is_sent(sense, api):
    with pytest.raises(InvalidRequestError, match="destination"):
        sense(ID, destination="images")

    assert api.books()["requests"]["poll"] == 0


@pytest.mark.parametrize("event", [{"reason": "finished", "generation_ids": {}}, {}, "junk"], ids=repr)
def test_whatever_wakes_it_the_api_is_asked(sense, submitted, event):
    assert sense(submitted(), event=event)["status"] == "completed"


def test_the_timeout_says_that_the_generation_goes_on(submitted, api):
    api.fault("generation:never")
    sensor = GptImageSensor(task_id="wait", generation_id=submitted(), timeout=0.2)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(CONTEXT)
    time.sleep(0.3)

    with pytest.raises(GenerationTimeoutError, match="goes on") as caught:
        sensor.execute_complete(CONTEXT, event=None, **deferred.value.kwargs)

    assert caught.value.retryable


def test_an_image_that_is_fetched_gets_a_sidecar_that_says_nothing_of_its_price(sense, submitted, tmp_path):
    generation_id = submitted()

    sense(generation_id, destination=str(tmp_path))

    record = json.loads((tmp_path / f"{generation_id}-0.json").read_text())
    assert (record["state"], record["generation_id"]) == ("stored", generation_id)
    assert (record["request"], record["charges"], record["credits"]) == (None, 0, "0")


def test_the_record_of_who_paid_is_not_written_over_by_who_only_waited(sense, submitted, tmp_path, api):
    options = {"task_id": "poster", "prompt": "a vase", "destination": str(tmp_path), "deferrable": False}
    payer = TaskInstance(lambda: GptImageGenerateOperator(**options, poll_interval=0.05))
    paid = payer.run()
    sidecar = tmp_path / f"{paid['generation_id']}-0.json"
    before = sidecar.read_text()

    sense(paid["generation_id"], destination=str(tmp_path))

    assert sidecar.read_text() == before
    assert payer.run()["reused"]


def test_a_sensor_woken_early_waits_on_until_the_same_deadline(submitted, api):
    api.fault("generation:never")
    sensor = GptImageSensor(task_id="wait", generation_id=submitted())
    with pytest.raises(TaskDeferred) as first:
        sensor.execute(CONTEXT)

    with pytest.raises(TaskDeferred) as second:
        sensor.execute_complete(CONTEXT, event={}, **first.value.kwargs)

    assert second.value.trigger.deadline == first.value.trigger.deadline
    assert second.value.kwargs == first.value.kwargs


def test_it_defers_with_ids_and_times_and_nothing_else(submitted, api):
    api.fault("generation:never")
    generation_id = submitted()
    sensor = GptImageSensor(task_id="wait", generation_id=generation_id, poke_interval=9)

    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(CONTEXT)

    _, kwargs = caught.value.trigger.serialize()
    assert kwargs["generation_ids"] == [generation_id]
    assert kwargs["poll_interval"] == 9
    assert api.key not in json.dumps(kwargs) + json.dumps(caught.value.kwargs)


def test_on_a_worker_one_look_is_one_poke(submitted, api):
    api.fault("generation:never")
    sensor = GptImageSensor(task_id="wait", generation_id=submitted(), deferrable=False, mode="reschedule")

    returned = sensor.poke(CONTEXT)

    assert not returned.is_done
    assert api.books()["requests"]["poll"] == 1


# Words that nobody knows


def test_a_status_that_nobody_knows_is_said_once_over_all_pokes(submitted, api):
    task = TaskInstance(None, task_id="wait")
    generation_id = submitted()
    api.fault("get:unknown_status=on hold*3")

    with structlog.testing.capture_logs() as lines:
        for _ in range(3):  # each is another process
            sensor = GptImageSensor(task_id="wait", generation_id=generation_id, deferrable=False)
            assert not sensor.poke(task.context).is_done

    [warning] = [line for line in lines if line["log_level"] == "warning" and "on hold" in str(line)]
    assert "counts as not finished" in str(warning)


def test_a_store_that_is_away_is_no_reason_to_fail_over_a_status(submitted, api):
    task = TaskInstance(None, task_id="wait")
    task.store.unreachable = True
    api.fault("get:unknown_status=on hold*1")
    sensor = GptImageSensor(task_id="wait", generation_id=submitted(), deferrable=False)

    with structlog.testing.capture_logs() as lines:
        assert not sensor.poke(task.context).is_done

    assert "on hold" in str(lines)


# Images that are late


@pytest.mark.parametrize("fault", ["file:404*6", "file:403*6", "file:html*2", "file:503*6"])
def test_an_image_that_is_late_is_stored_without_a_retry(sense, submitted, api, tmp_path, fault):
    api.fault(fault)

    result = sense(submitted(), destination=str(tmp_path))

    assert Path(result["images"][0]["path"]).exists()
    assert api.faults()[0]["met"] == int(fault.rpartition("*")[2])


def test_an_image_that_is_no_longer_late_fails_so_that_a_retry_can_have_it(api, submitted, tmp_path):
    api.settings(image_life=0, duration=0)
    sensor = GptImageSensor(task_id="wait", generation_id=submitted(), destination=str(tmp_path))

    with pytest.raises(DownloadError, match="for nothing") as caught:
        sensor.execute_complete(CONTEXT, None, deadline=time.time() - 700)

    assert caught.value.retryable


# What it fits on


def test_it_takes_the_whole_result_of_the_task_that_submitted(sense, submitted):
    generation_id = submitted()

    told = sense({"generation_id": generation_id, "status": "submitted", "images": []})

    assert told["generation_id"] == generation_id


def test_a_result_without_an_id_is_refused_with_what_to_give():
    with pytest.raises(InvalidRequestError) as caught:
        GptImageSensor(task_id="wait", generation_id={"status": "submitted"})

    lines = caught.value.message.splitlines()
    assert lines[0].endswith("): generation_id: {'status': 'submitted'} is not a generation id.")
    assert lines[1:] == [
        "It has 1 to 128 letters, digits, '_' or '-'.",
        "Give the API's taskId, or a result with it.",
    ]


@pytest.mark.parametrize(
    "make", [GptImageSensor, lambda **given: GptImageSensor.partial(**given).expand(generation_id=[ID])]
)
def test_a_destination_that_is_none_is_refused_while_the_dag_is_parsed(make):
    given = {"generation_id": ID} if make is GptImageSensor else {}
    with DAG("d", schedule=None), pytest.raises(InvalidRequestError) as caught:
        make(task_id="wait", destination="images", **given)

    assert caught.value.message.startswith("Task 'wait' (test_gpt_image.py, line ")
    assert "'images' is not a folder images can be stored in." in caught.value.message


def test_its_log_says_what_came_of_it_and_where(sense, submitted, tmp_path):
    with structlog.testing.capture_logs() as lines:
        told = sense(submitted(), destination=str(tmp_path))

    texts = [line["event"] % line.get("positional_args", ()) for line in lines]
    (done,) = [text for text in texts if text.startswith("Done")]
    assert done.splitlines() == [
        "Done: 1 image, 1024 x 1024, nothing paid by this task.",
        told["path"],
    ]
