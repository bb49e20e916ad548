"""What OpenLineage is told of a whole DAG, by its own provider, into a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def told(dags, gpt_image_emulator_server, tmp_path_factory):
    """The last event of each task of the DAG, by its id, and the text of all events."""
    home = tmp_path_factory.mktemp("lineage")
    emulator = gpt_image_emulator_server
    emulator.fault("generation:failed=invalid_request;match=fails")
    file = home / "events.jsonl"
    environment = {
        **os.environ,
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags["lineage"].fileloc.rpartition("/")[0]),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(file), "append": True}
        ),
    }
    # In a process of its own: the provider listens for good once it has begun.
    ran = subprocess.run(
        [sys.executable, "-m", "airflow", "dags", "test", "lineage"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert file.exists(), ran.stdout[-5_000:] + ran.stderr[-5_000:]
    text = file.read_text(encoding="utf-8")
    events = [json.loads(line) for line in text.splitlines()]
    last = {event["job"]["name"]: event for event in events if event["eventType"] in ("COMPLETE", "FAIL")}
    return home, last, text, emulator.key


def names(datasets):
    return {(dataset["namespace"], dataset["name"]) for dataset in datasets}


def test_an_image_has_its_reference_images_as_inputs_and_itself_as_output(told):
    home, last, _, _ = told
    event = last["lineage.edit"]
    facts = event["run"]["facets"]["gptImage_generation"]
    (image,) = (home / "images" / "edit").glob("**/*.png")

    assert event["eventType"] == "COMPLETE"
    assert names(event["inputs"]) == {("https://photos.example.com", "shoe.png")}
    assert names(event["outputs"]) == {("file", str(image))}
    assert (facts["model"], facts["tier"], facts["credits"], facts["usd"]) == (
        "gpt-image-2",
        "2k",
        "9.4",
        "0.047",
    )
    assert len(facts["fingerprint"]) == 64
    assert facts["state"] == "stored"


def test_a_task_that_failed_says_what_it_had_asked_for(told):
    _, last, _, _ = told
    event = last["lineage.refused"]
    facts = event["run"]["facets"]["gptImage_generation"]

    assert event["eventType"] == "FAIL"
    assert event["outputs"] == []
    assert (facts["state"], facts["tier"]) == ("failed", "1k")


def test_a_batch_has_its_destination_and_its_manifest_and_counts_however_many_images(told):
    home, last, _, _ = told
    event = last["lineage.catalogue"]
    facts = event["run"]["facets"]["gptImage_batch"]
    folder = str(home / "images" / "catalogue")

    assert event["eventType"] == "COMPLETE"
    assert names(event["outputs"]) == {("file", folder), ("file", f"{folder}/manifest.jsonl")}
    counted = [output for output in event["outputs"] if output["name"] == folder]
    assert counted[0]["outputFacets"]["outputStatistics"]["fileCount"] == 30
    assert (facts["images"], facts["stored"], facts["failed"], facts["charged"]) == (30, 30, 0, "141")
    assert facts["tiers"] == {"1k": 30}


def test_neither_prompts_nor_signatures_nor_the_key_are_told(told):
    _, _, text, key = told

    assert "gptImage_batch" in text
    assert "secret prompt" not in text
    assert "secret-signature" not in text
    assert key not in text
