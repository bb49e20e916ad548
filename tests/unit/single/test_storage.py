"""Where a task's images land, what is found there again, and what nobody may see of it. On disk and on S3."""

from __future__ import annotations

import json
import re

import pytest
import structlog
from airflow.sdk import Asset, ObjectStoragePath

from airflow_gpt_image.errors import (
    DestinationError,
    GptImageError,
    ImageRefusedError,
    InvalidRequestError,
)
from tests.unit.single.conftest import recorded


@pytest.fixture
def place(request, deferrable):
    """A disk for the task that waits itself, S3 for the one that defers: where an image lands and who waited
    for it don't meet, and the rooms below are tested at both places.
    """
    return request.getfixturevalue("bucket" if deferrable else "disk")


def submits(api):
    return api.books()["submits"]


def beside_records(place):
    """The files at a destination but for the records of submits."""
    return [name for name in place.names() if not name.startswith("records/")]


# Landing


def test_an_image_lands_with_its_sidecar_and_the_next_task_can_open_it(task, place):
    urls = ["https://example.com/a.png?Signature=secret"]
    result = task.run(destination=place.destination, resolution="2k", image_urls=urls)

    [image] = result["images"]
    stem = f"{result['generation_id']}-0"
    assert image["path"] == f"{place.destination}/{stem}.png"
    assert len(ObjectStoragePath(image["path"]).read_bytes()) == image["bytes"]
    assert beside_records(place) == [f"{stem}.json", f"{stem}.png"]
    sidecar = json.loads(place.read(f"{stem}.json"))
    assert (sidecar["version"], sidecar["state"], sidecar["name"]) == (1, "stored", stem)
    assert sidecar["request"]["prompt"] == "a red teapot"
    assert "secret" not in json.dumps(sidecar)
    assert (sidecar["credits"], sidecar["fingerprint"]) == ("9.4", result["fingerprint"])
    told = {name: value for name, value in image.items() if name != "path"}
    assert sidecar["images"] == [{**told, "name": f"{stem}.png"}]


def test_names_follow_the_authors_template(task, place):
    result = task.run(destination=place.destination, filename="{dag_id}/{run_id}/{slug}-{generation_id}")

    path = result["images"][0]["path"].removeprefix(place.destination)
    assert re.fullmatch(r"/posters/manual__2026-01-01T00_00_00_00_00~[0-9a-f]{8}/a-red-teapot-.+\.png", path)


def test_a_template_of_names_that_breaks_a_rule_when_rendered_is_refused_before_anything_is_paid(
    task, api, place
):
    operator = task.operator(destination=place.destination, filename="{{ params.name }}")
    operator.filename = "../{generation_id}"

    with pytest.raises(InvalidRequestError, match="filename"):
        operator.execute(task.context)

    assert submits(api) == 0


def test_where_the_author_is_strict_an_image_of_another_size_is_refused_and_paid_for_once(task, api, place):
    api.fault("file:wrong_size=640x480")

    for _ in range(2):
        with pytest.raises(ImageRefusedError, match="640x480"):
            task.run(destination=place.destination, strict_size=True)

    assert submits(api) == 1
    assert beside_records(place) == []


# What is found again


def test_a_retry_returns_what_is_stored_without_touching_the_api(task, api, place):
    first = task.run(destination=place.destination)
    before = api.books()["requests"]

    second = task.run(destination=place.destination)

    assert second == first | {"reused": True}
    assert api.books()["requests"] == before


def test_an_image_that_somebody_removed_lands_again_and_is_not_paid_for_again(task, api, place):
    first = task.run(destination=place.destination)
    place.delete(f"{first['generation_id']}-0.png")

    second = task.run(destination=place.destination)

    assert second["images"] == first["images"]
    assert f"{first['generation_id']}-0.png" in place.names()
    assert submits(api) == 1


def test_after_a_clear_with_another_destination_the_image_lands_there_too(task, api, place):
    first = task.run(destination=f"{place.destination}/old")
    task.clear()

    second = task.run(destination=f"{place.destination}/new")

    assert second["images"][0]["path"] == first["images"][0]["path"].replace("/old/", "/new/")
    assert submits(api) == 1


def test_another_run_finds_the_image_at_the_destination_only_where_the_author_says_so(task, api, place):
    options = {"destination": place.destination, "reuse": "destination"}
    first = task.run(**options)
    task.new_run()

    second, retry = task.run(**options), task.run(**options)
    task.new_run()
    task.run(destination=place.destination)

    # The same image; where the API had it is the other run's to know.
    assert second["images"] == retry["images"] == [{**first["images"][0], "url": ""}]
    assert (second["reused"], second["spent"]["charged"], retry["reused"]) == (True, "0", True)
    assert submits(api) == 2


def test_a_clear_that_regenerates_does_not_take_what_is_at_the_destination(task, api, place):
    options = {"destination": place.destination, "reuse": "destination", "on_clear": "regenerate"}
    first = task.run(**options)
    task.new_run()
    task.run(**options)
    task.clear()

    result = task.run(**options)
    task.new_run()
    third = task.run(**options)

    assert not result["reused"]
    # Where the API had it is told to who paid alone.
    assert third["images"] == [{**image, "url": ""} for image in result["images"]]
    assert third["images"][0]["path"] != first["images"][0]["path"]
    assert submits(api) == 2
    # The first run's result still tells of its image.
    assert len([name for name in place.names() if name.endswith(".png")]) == 2


@pytest.mark.parametrize("what", ["image", "sidecar", "another prompt"])
def test_what_is_not_all_there_is_not_taken_for_the_image(task, api, place, what):
    options = {"destination": place.destination, "reuse": "destination"}
    first = task.run(**options)
    stem = first["fingerprint"] + "-0"
    task.new_run()
    if what == "image":
        place.delete(f"{stem}.png")
    elif what == "sidecar":
        place.delete(f"{stem}.json")
    else:
        options["prompt"] = "a blue teapot"

    task.run(**options)

    assert submits(api) == 2


def test_a_sidecar_that_makes_no_sense_is_an_error_and_nothing_is_paid(task, api, place):
    options = {"destination": place.destination, "reuse": "destination"}
    first = task.run(**options)
    place.write(first["fingerprint"] + "-0.json", b"{")
    task.new_run()

    with pytest.raises(DestinationError, match="is no record of this release"):
        task.run(**options)

    assert submits(api) == 1


def test_a_store_that_airflow_does_not_know_is_refused_before_anything_is_paid(task, api):
    with pytest.raises(InvalidRequestError, match="knows no store 'gs'"):
        task.run(destination="gs://bucket/images")

    assert submits(api) == 0


def test_another_runs_image_that_is_gone_and_that_the_api_forgot_is_paid_for_by_this_run(make, api, disk):
    options = {"destination": disk.destination, "reuse": "destination"}
    task = make()
    first = task.run(**options)
    task.new_run()
    task.run(**options)
    disk.delete(f"{first['fingerprint']}-0.png")
    api.fault("get:task_not_found*1")

    result = task.run(**options)

    assert result["generation_id"] != first["generation_id"]
    assert submits(api) == 2


# Small XCom, and events


def test_what_is_returned_stays_small_also_for_16_images_and_a_talkative_api(task, api, place):
    api.fault("generation:images=16")

    result = task.run(destination=place.destination)

    assert len(result["images"]) == 16
    assert len(json.dumps(result)) < 16_000


def test_the_events_of_outlet_assets_tell_what_was_made(task, place):
    asset, other = Asset("product_images"), Asset("also")

    result = task.run(destination=place.destination, outlets=[asset, other])

    assert task.events[asset].extra == {
        "paths": [image["path"] for image in result["images"]],
        "count": 1,
        "credits": "4.7",
        "usd": "0.0235",
        "fingerprint": result["fingerprint"],
        "generation_id": result["generation_id"],
    }
    assert task.events[other].extra == task.events[asset].extra


# Reference images on the user's own storage


@pytest.fixture
def sofa(bucket):
    """A picture in the user's own bucket."""
    bucket.write("sofa.png", b"a picture of a sofa")
    return f"{bucket.destination}/sofa.png"


@pytest.mark.parametrize("form", ["text", "object"])
def test_a_reference_image_on_a_store_is_signed_for_the_api_and_recorded_as_what_it_is(task, api, sofa, form):
    given = sofa if form == "text" else ObjectStoragePath(sofa)

    result = task.run(image_urls=[given])

    [charge] = api.books()["charges"]
    [sent] = charge["request"]["image_urls"]
    assert "Signature=" in sent
    assert "/some/images/sofa.png?" in sent
    kept = json.dumps([task.store.texts, result])
    assert sofa in kept
    assert "Signature" not in kept


def test_a_retry_with_another_signature_is_the_same_request(task, api, sofa):
    task.run(image_urls=[sofa])

    assert task.run(image_urls=[sofa])["reused"]
    assert submits(api) == 1


@pytest.mark.parametrize("says", ["submit", "get"])
def test_a_signature_that_the_api_quotes_is_seen_by_nobody(task, api, sofa, place, says):
    signature = "https://bucket.s3.amazonaws.com/sofa.png?X-Amz-Credential=AKID&X-Amz-Signature=5ec2e7"
    body = json.dumps({"error": {"code": "invalid_request", "message": f"can't read {signature} there"}})
    api.fault(says, "400", body=body, content_type="application/json")
    told = ""

    with structlog.testing.capture_logs() as lines:
        try:
            task.run(image_urls=[sofa], destination=place.destination)
        except GptImageError as error:
            told = repr(error) + str(error)

    assert "sofa.png?***" in told
    assert "5ec2e7" not in told + repr(lines) + repr(task.store.texts)


def test_a_store_that_cannot_sign_says_so_before_anything_is_paid(task, api, tmp_path):
    with pytest.raises(InvalidRequestError, match="can't sign addresses"):
        task.run(image_urls=[f"file://{tmp_path}/sofa.png"])

    assert submits(api) == 0
    assert recorded(task) == []


def test_a_store_without_credentials_says_so_before_anything_is_paid(task, api, sofa):
    with pytest.raises(InvalidRequestError, match="without a signature"):
        task.run(image_urls=[sofa.replace("image_store", "not_there")])

    assert submits(api) == 0
    assert recorded(task) == []
