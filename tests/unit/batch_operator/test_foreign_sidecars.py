"""A sidecar at a batch's destination that nobody's submit is on record for gives nothing but its image."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_gpt_image.batch.manifest import read_manifest
from tests.batches import paid

SHARED = {"reuse": "destination"}


@pytest.fixture
def forged(batch, api):
    """Another run's batch of two images; changes the first one's sidecar, and makes a new run."""
    batch.run(requests=["a teapot", "a vase"], **SHARED)
    shutil.rmtree(batch.folder / "records")
    sidecars = {json.loads(path.read_text())["request"]["prompt"]: path for path in _sidecars(batch)}
    true = json.loads(sidecars["a teapot"].read_text())
    batch.new_run()

    def forge(**changes):
        sidecars["a teapot"].write_text(json.dumps({**true, **changes}))
        result = batch.run(requests=["a teapot", "a vase"], **SHARED)
        return result, next(iter(read_manifest(result["manifest"])))

    [other] = json.loads(sidecars["a vase"].read_text())["images"]
    forge.true, forge.other = true, batch.folder / other["name"]
    return forge


def _sidecars(batch):
    return sorted((batch.folder / "items").glob("*.json"))


def test_who_pays_by_its_word_has_spent_nothing(forged, batch):
    payer = {**forged.true["payer"], "run_id": batch.run_id, "attempt": 1, "clear_epoch": batch.max_tries}

    result, line = forged(payer=payer, charges=500, refunds=2, credits="99999", usd="99999")

    assert (result["charged"], result["refunded"], result["stored"]) == ("0", "0", 2)
    assert line["credits"] == "4.7"


def test_neither_an_address_nor_a_text_of_it_is_taken(forged):
    [image] = forged.true["images"]

    _, line = forged(images=[{**image, "url": "http://169.254.169.254/theirs"}], warnings=["theirs"])

    assert "theirs" not in json.dumps(line)
    assert line["status"] == "stored"


@pytest.mark.parametrize("named", ["another image", "none that is there"])
def test_what_is_not_its_own_image_is_none_and_an_own_one_is_paid_for(forged, api, named):
    other = f"items/{forged.other.name}" if named == "another image" else "items/none.png"
    images = [{**forged.true["images"][0], "name": other, "bytes": forged.other.stat().st_size}]

    _, line = forged(images=images)

    assert other not in json.dumps(line)
    assert line["paths"][0].endswith(forged.true["images"][0]["name"])
    assert paid(api) == {"a teapot": 2, "a vase": 1}


@pytest.mark.parametrize("state", ["submitted", "intent"])
def test_a_submit_that_it_tells_of_is_nobodys(forged, api, state):
    id_of = {"submitted": forged.true["generation_id"], "intent": None}

    _, line = forged(state=state, generation_id=id_of[state], generation=None, images=[], submitted_at=None)

    assert line["status"] == "stored"
    assert paid(api) == {"a teapot": 2, "a vase": 1}
