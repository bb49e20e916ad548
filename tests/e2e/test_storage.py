"""Images on S3, and what follows from them, with real workers and a real triggerer."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import House
from tests.object_store import Bucket


@pytest.fixture
def bucket(house: House) -> Bucket:
    """A bucket of its own on the S3 server that the Airflow has a connection to."""
    client = house.store.client()
    name = f"images-{house.next_number()}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


def test_a_worker_killed_while_it_stores_on_s3_leaves_nothing_half_and_the_next_try_stores_it(
    house: House, bucket: Bucket
) -> None:
    prompt = house.prompt("killed while storing on S3")
    house.emulator.fault(f"file:drip=30*1;match={prompt}")
    run_id = house.start("stored", prompt, destination=bucket.destination, die="resume once downloading")

    assert house.finish("stored", run_id) == "success"
    [image] = house.airflow.xcom("stored", run_id, "image")["images"]
    name = image["path"].removeprefix(f"{bucket.destination}/")
    assert house.airflow.task_instance("stored", run_id, "image")["try_number"] == 2
    images = [found for found in bucket.names() if not found.startswith("records/")]
    assert images == [name.replace(".png", ".json"), name]
    assert len(bucket.read(name)) == image["bytes"]
    assert bucket.unfinished_uploads() == []
    assert len(house.charges(prompt)) == 1


@pytest.fixture
def photos(house: House) -> Bucket:
    """The bucket whose objects the DAG may have signed."""
    client = house.store.client()
    client.create_bucket(Bucket="photos")
    return Bucket(client, "photos")


def test_a_reference_image_on_s3_is_signed_for_the_api_and_the_signature_is_nowhere_else(
    house: House, photos: Bucket
) -> None:
    prompt = house.prompt("edited")
    photos.write("sofa.png", b"a picture of a sofa")
    reference = f"{photos.destination}/sofa.png"

    run_id = house.start("edited", prompt, reference=reference)

    assert house.finish("edited", run_id) == "success"
    [charge] = house.charges(prompt)
    signature = charge["request"]["image_urls"][0].partition("?")[2]
    kept = {
        "XCom": json.dumps(house.airflow.xcom("edited", run_id, "image")),
        "ledger": json.dumps(house.airflow.task_state_store("edited", run_id, "image")),
        "logs": house.airflow.all_logs(),
    }
    assert "Signature=" in signature
    assert reference in kept["ledger"]
    assert [name for name, text in kept.items() if "Signature=" in text or signature in text] == []


def test_who_is_scheduled_on_an_image_runs_when_it_is_there_and_is_told_where(house: House) -> None:
    house.airflow.wait_for_dag("publish_hero_image")
    house.airflow.unpause("publish_hero_image")
    run_id = house.start("hero_image", "")

    assert house.finish("hero_image", run_id) == "success"
    [follower] = house.airflow.wait_for_runs("publish_hero_image", count=1)
    assert house.finish("publish_hero_image", follower) == "success"
    made = house.airflow.xcom("hero_image", run_id, "hero")
    [told] = house.airflow.xcom("publish_hero_image", follower, "publish")
    assert told["paths"] == [image["path"] for image in made["images"]]
    assert (told["usd"], told["fingerprint"]) == (made["usd"], made["fingerprint"])
