"""Records and task states of the first release are read for ever; what isn't one is never believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_gpt_image.errors import DestinationError, LedgerError
from airflow_gpt_image.ledger.record import Record
from airflow_gpt_image.ledger.task_state import IMAGE_KEY, ImageTaskState
from tests.unit.single.conftest import charges

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("state", ["intent", "submitted", "stored", "failed"])
def test_a_record_of_the_first_release_is_read_and_written_as_it_was(state):
    text = (GOLDEN / f"record_{state}.json").read_text()

    record = Record.model_validate_json(text)

    assert record.state == state
    assert json.loads(record.model_dump_json()) == json.loads(text)


def test_a_task_state_of_the_first_release_is_read_and_written_as_it_was():
    text = (GOLDEN / "task_state.json").read_text()

    state = ImageTaskState.model_validate_json(text)

    assert [record.state for record in state.records] == ["submitted"]
    assert json.loads(state.model_dump_json()) == json.loads(text)
    assert IMAGE_KEY == "gpt_image"


def test_what_is_written_today_has_the_fields_of_the_first_release(task):
    result = task.run()

    sidecar = json.loads(Path(result["images"][0]["path"]).with_suffix(".json").read_text())
    golden = json.loads((GOLDEN / "record_stored.json").read_text())
    assert _names(golden) <= _names(sidecar)
    state = json.loads(task.store.texts[IMAGE_KEY])
    assert set(json.loads((GOLDEN / "task_state.json").read_text())) <= set(state)


def _names(document):
    inner = {f"{name}.{key}" for name in ("payer", "request") for key in document[name]}
    return set(document) | inner


# What else a file may hold is shown where records are read.
HOSTILE = {
    "no JSON": lambda record: b"\x89PNG",
    "an endless number": lambda record: b'{"version": ' + b"1" * 10_000 + b"}",
    "a later version": lambda record: json.dumps({**record, "version": 2}).encode(),
}


def spoil(task, what):
    [file] = Path(task.operator().destination, "records").rglob("*~*~*.json")
    file.write_bytes(HOSTILE[what](json.loads(file.read_text())))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_record_that_is_none_is_never_taken_for_nothing(task, api, what):
    task.run(wait_for_completion=False)
    spoil(task, what)
    task.clear(airflow="3.4")

    with pytest.raises(DestinationError, match="Mend it, or remove it"):
        task.run()

    assert len(charges(api)) == 1


@pytest.mark.parametrize("what", HOSTILE)
def test_a_record_that_is_none_does_not_hide_what_the_store_knows(task, api, what):
    first = task.run(wait_for_completion=False)
    spoil(task, what)

    assert task.run()["generation_id"] == first["generation_id"]
    assert len(charges(api)) == 1


@pytest.mark.parametrize(
    "value", [{"version": 2}, {"version": 1}, [], "text", {"version": 1, "records": [5]}]
)
def test_a_task_state_that_makes_no_sense_is_never_taken_for_nothing(bare_task, api, value):
    bare_task.run()
    bare_task.store.texts[IMAGE_KEY] = json.dumps(value)

    with pytest.raises(LedgerError):
        bare_task.run()

    assert len(charges(api)) == 1
    assert json.loads(bare_task.store.texts[IMAGE_KEY]) == value


def test_a_stored_record_cannot_lead_to_a_file_outside_its_folder(task, api, tmp_path):
    result = task.run()
    (tmp_path / "secret.png").write_bytes(Path(result["images"][0]["path"]).read_bytes())
    sidecar = Path(result["images"][0]["path"]).with_suffix(".json")
    record = json.loads(sidecar.read_text())
    record["images"][0]["name"] = "../secret.png"
    sidecar.write_text(json.dumps(record))
    task.clear(airflow="3.4")

    with pytest.raises(DestinationError, match="Mend it, or remove it"):
        task.run()
    sidecar.unlink()

    assert task.run()["images"] == result["images"]
    assert len(charges(api)) == 1
