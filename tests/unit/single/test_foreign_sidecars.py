"""A sidecar that anybody may have written gives nothing but the image beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_gpt_image.errors import DestinationError
from tests.records import PNG
from tests.unit.single.conftest import charges

SHARED = {"reuse": "destination"}


@pytest.fixture
def forged(task, api, tmp_path):
    """
    Another run's image and sidecar at the destination; changes its sidecar, and makes a new run.

    Comes back: that run's result, and the sidecar as it was.
    """
    result = task.run(**SHARED)
    [sidecar] = list((tmp_path / "images").glob("*.json"))
    true = json.loads(sidecar.read_text())
    task.new_run()

    def forge(**changes):
        sidecar.write_text(json.dumps({**true, **changes}))
        return task.run(**SHARED)

    forge.result, forge.true, forge.image = result, true, sidecar.with_suffix(".png")
    return forge


def image_of(forged, **changes):
    return [{**forged.true["images"][0], **changes}]


def test_what_it_says_of_its_image_is_what_the_image_itself_says(forged, api):
    lies = {"sha256": "0" * 64, "width": 7, "height": 7}

    result = forged(images=image_of(forged, **lies))

    [image] = result["images"]
    assert image == {**forged.result["images"][0], "url": ""}
    assert image["sha256"] == hashlib.sha256(forged.image.read_bytes()).hexdigest()
    assert len(charges(api)) == 1


def test_an_image_that_was_replaced_by_another_one_is_described_as_it_is(forged, api):
    forged.image.write_bytes(PNG)

    result = forged(images=image_of(forged, bytes=len(PNG)))

    assert (result["images"][0]["width"], result["images"][0]["height"]) == (2, 1)
    assert result["images"][0]["sha256"] == hashlib.sha256(PNG).hexdigest()


def test_neither_an_address_nor_a_text_nor_a_price_of_it_is_taken(forged, api):
    facts = {**forged.true["generation"], "model": "theirs", "metadata": {"theirs": "x" * 9_000}}

    result = forged(
        images=image_of(forged, url="http://169.254.169.254/theirs"),
        generation=facts,
        credits="99999",
        usd="99999",
        charges=500,
        refunds=1,
        warnings=["theirs"],
        request={**forged.true["request"], "prompt": "theirs", "resolution": "4k"},
    )

    told = json.dumps(result)
    assert "theirs" not in told
    assert "99999" not in told
    assert (result["credits"], result["usd"], result["resolution"]) == ("4.7", "0.0235", "1k")
    assert result["spent"] == {"charged": "0", "refunded": "0", "usd": "0"}
    assert result["reused"]


def test_who_pays_by_its_word_has_spent_nothing(forged, task):
    payer = {**forged.true["payer"], "run_id": task.run_id, "attempt": 1, "clear_epoch": task.retries}

    result = forged(payer=payer, charges=500, credits="99999")

    assert result["spent"]["charged"] == "0"


NO_IMAGE = {
    "another request's image": "other.png",
    "an image in another folder": "private/other.png",
    "a file that is none": "records.json",
    "its own sidecar": None,
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_any_other_file_of_the_folder_is_not_its_image_and_an_own_one_is_paid_for(
    forged, api, name, tmp_path
):
    folder = tmp_path / "images"
    (folder / "private").mkdir()
    for other in ("other.png", "private/other.png", "records.json"):
        (folder / other).write_bytes(PNG)
    named = NO_IMAGE[name] or forged.image.with_suffix(".json").name

    result = forged(images=image_of(forged, name=named, bytes=len(PNG)))

    assert not result["reused"]
    # What has its name is nobody's to replace.
    assert Path(result["images"][0]["path"]).name.startswith(f"{forged.image.stem}~")
    assert len(charges(api)) == 2


def test_a_second_image_of_another_name_is_none_of_its_images(forged, api, tmp_path):
    (tmp_path / "images" / "other.png").write_bytes(PNG)
    second = {**forged.true["images"][0], "name": "other.png", "bytes": len(PNG)}

    result = forged(images=[forged.true["images"][0], second])

    assert "other.png" not in json.dumps(result)


@pytest.mark.parametrize(
    "name", ["../other.png", "/etc/passwd", "..\\other.png", ".hidden.png", "a/../../b.png", "s3://a@b/c.png"]
)
def test_a_way_out_of_the_folder_makes_it_no_record_and_nothing_is_paid_or_read(forged, api, name):
    with pytest.raises(DestinationError, match="is no record"):
        forged(images=image_of(forged, name=name))

    assert len(charges(api)) == 1


def test_bytes_that_are_no_image_are_none_and_an_own_one_is_paid_for(forged, api):
    forged.image.write_bytes(b"no image")

    result = forged(images=image_of(forged, bytes=len(b"no image")))

    assert not result["reused"]
    path = Path(result["images"][0]["path"])
    assert path != forged.image
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result["images"][0]["sha256"]


@pytest.fixture
def no_record(forged, tmp_path):
    """Nothing but the sidecar tells of a submit."""
    shutil.rmtree(tmp_path / "images" / "records")


@pytest.mark.usefixtures("no_record")
def test_an_id_that_the_api_does_not_know_is_not_waited_for(forged, api):
    now = datetime.now(UTC).isoformat()

    result = forged(
        state="submitted",
        generation_id="a" * 128,
        generation=None,
        images=[],
        submitted_at=now,
        payer=forged.true["payer"],
    )

    assert not result["reused"]
    assert len(charges(api)) == 2


@pytest.mark.usefixtures("no_record")
def test_a_submit_that_would_be_under_way_for_years_is_not_waited_for(forged, api):
    later = (datetime.now(UTC) + timedelta(days=9_000)).isoformat()
    fields = {"generation_id": None, "generation": None, "images": [], "submitted_at": None}

    result = forged(state="intent", answer_by=later, intended_at=later, **fields)

    assert not result["reused"]
    assert len(charges(api)) == 2
