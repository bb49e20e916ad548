"""Nothing that is secret outlives its use: not in files, in XCom, in the task's state or in the log.

Signatures and tokens stand wherever an author or the API can put them, and everything that a task leaves is
searched for them.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager, suppress

import pytest
import structlog

from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.sensors.gpt_image import GptImageSensor
from tests.batches import BatchTask
from tests.task_instance import TaskInstance

RESULT, REFERENCE, CALLBACK, PATH = "s3cretresult", "s3cretreference", "s3crettoken", "s3cretpath"
SECRETS = (RESULT, REFERENCE, CALLBACK, PATH)

PHOTO = f"https://photos.example.com/sofa.png?X-Amz-Signature={REFERENCE}&X-Amz-Expires=900"
HOOK = f"https://hooks.example.com/services/{PATH}?token={CALLBACK}"

# The API may quote an address in an error.
QUOTES = json.dumps(
    {"error": {"code": "invalid_request", "message": f"can't read {PHOTO} for {HOOK}", "type": "t"}}
)


class Left:
    """What tasks left: files, XComs, the task's state, and the log."""

    def __init__(self, folder):
        self.folder, self.texts = folder, []

    def add(self, *things):
        self.texts += [thing if isinstance(thing, str) else repr(thing) for thing in things]

    def found(self, *allowed):
        files = {
            path.name: path.read_bytes().decode(errors="replace")
            for path in self.folder.rglob("*.*")
            if path.is_file()
        }
        everything = [*files.items(), *enumerate(self.texts)]
        return {
            (where, secret)
            for where, text in everything
            for secret in SECRETS
            if secret in text and secret not in allowed
        }


@pytest.fixture
def left(tmp_path):
    return Left(tmp_path)


@contextmanager
def watched(left, task, caplog):
    """Keep what a task says and leaves, and how it fails."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        try:
            yield
        except GptImageError as error:
            left.add(str(error), error.message, error.code or "")
    left.add(lines, task.pushed, *task.store.texts.values())
    left.add(
        *[
            record.getMessage()
            for record in caplog.records
            if "emulator" not in record.name and not record.name.startswith(("asyncio", "uvicorn"))
        ]
    )


@pytest.fixture
def secretive(api):
    """An API whose addresses are signed."""
    api.settings(duration=0.05)
    api.fault(f"get:signed={RESULT}")
    return api


def single(tmp_path, *, deferrable=True, **fields):
    given = {
        "task_id": "poster",
        "prompt": "a red teapot",
        "image_urls": [PHOTO],
        "callback_url": HOOK,
        "poll_interval": 0.05,
        "timeout": 20,
        "retries": 3,
        "deferrable": deferrable,
        "destination": str(tmp_path / "images"),
    }
    return TaskInstance(lambda **options: GptImageGenerateOperator(**given | fields | options))


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        "",
        f"submit:400;body={QUOTES}",
        "submit:lost*1",
        f"generation:failed=invalid {PHOTO}",
        "file:redirect=http://10.0.0.7/?X-Amz-Signature=s3cretresult",
        "file:200;body=<html>",
    ],
)
def test_one_image_leaves_no_secret_behind(secretive, left, tmp_path, caplog, fault, deferrable):
    task = single(tmp_path, deferrable=deferrable)
    if fault and ";" in fault:
        where, _, body = fault.partition(";body=")
        secretive.fault(*where.split(":"), body=body, times=1)
    elif fault:
        secretive.fault(fault)

    with watched(left, task, caplog), suppress(TimeoutError):
        left.add(task.run())

    assert left.found() == set(), [text for text in left.texts if any(s in text for s in SECRETS)]


def test_a_sensor_leaves_no_secret_behind(secretive, left, tmp_path, caplog):
    task = single(tmp_path)
    generation_id = task.run(wait_for_completion=False)["generation_id"]
    sensor = GptImageSensor(
        task_id="wait",
        generation_id=generation_id,
        destination=str(tmp_path / "here"),
        poke_interval=0.05,
        deferrable=False,
    )

    with watched(left, task, caplog):
        left.add(sensor.execute(task.context))

    assert left.found() == set(), [text for text in left.texts if any(s in text for s in SECRETS)]


def test_without_a_destination_the_address_is_the_result_and_its_signature_is_nowhere_else(
    secretive, left, tmp_path, caplog
):
    task = single(tmp_path, destination=None)

    with watched(left, task, caplog):
        first, again = task.run(), task.run()

    # The next task can fetch it, also from a try that found it on record.
    for result in (first, again):
        assert RESULT in result["images"][0]["url"]
    assert (again["reused"], secretive.books()["submits"]) == (True, 1)
    assert left.found() == set(), [text for text in left.texts if any(s in text for s in SECRETS)]


ROWS = [
    {
        "prompt": f"poster {number}",
        "image_urls": [PHOTO],
        "callback_url": HOOK,
        "photo": PHOTO,
        "sku": str(number),
    }
    for number in range(4)
]


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    "faults",
    [
        [],
        [
            "generation:failed=invalid_request;match=poster 1",
            "submit:lost*1;match=poster 2",
            "file:404;match=poster 3",
        ],
        ["submit:402;after=2"],
        ["submit:429;retry_after=600;after=1"],
    ],
)
def test_a_batch_leaves_no_secret_behind(secretive, left, tmp_path, caplog, faults, deferrable):
    batch = BatchTask(tmp_path / "posters", deferrable)
    for fault in faults:
        secretive.fault(fault)

    with watched(left, batch, caplog), suppress(TimeoutError):
        left.add(batch.run(requests=ROWS, item_retries=0))

    assert left.found() == set(), [text for text in left.texts if any(s in text for s in SECRETS)]


def test_rows_that_are_refused_leave_no_secret_behind(secretive, left, tmp_path, caplog):
    batch = BatchTask(tmp_path / "posters", deferrable=False)
    bad = [
        *ROWS[:1],
        {"prompt": "a", "image_urls": [f"ftp://h/{PHOTO}"], "callback_url": f"{HOOK} with a blank"},
        {"prompt": "a", "image_urls": f"{PHOTO}", "callback_url": f"ftp://h/{PATH}?{CALLBACK}"},
        {"prompt": "a", "image_urls": [PHOTO], "resolution": f"9k {PHOTO}"},
    ]

    with watched(left, batch, caplog):
        left.add(batch.run(requests=bad))
    with watched(left, batch, caplog):
        left.add(batch.run(requests=bad, on_invalid="skip"))

    assert left.found() == set(), [text for text in left.texts if any(s in text for s in SECRETS)]


def test_a_data_set_in_a_file_leaves_no_secret_beside_it(secretive, left, tmp_path, caplog):
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    batch = BatchTask(tmp_path / "posters", deferrable=False)
    secretive.fault("generation:failed=invalid_request;match=poster 1")

    with watched(left, batch, caplog):
        left.add(batch.run(requests=str(source)))

    assert {where for where, _ in left.found()} == {"rows.jsonl"}
