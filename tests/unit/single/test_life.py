"""What an image costs, whatever happens to its task; the API's books are the judge."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_gpt_image.errors import (
    DestinationError,
    GenerationFailedError,
    GptImageError,
    RecordMissingError,
    SubmissionUnknownError,
)
from tests.task_instance import DiedError


def paid(api):
    return [c["task_id"] for c in api.books()["charges"] if not c["refunded"]]


def test_an_image_is_paid_for_and_stored_once(task, api):
    result = task.run()

    assert paid(api) == [result["generation_id"]]
    [image] = result["images"]
    assert Path(image["path"]).stat().st_size == image["bytes"]
    assert (result["reused"], result["spent"]["charged"], result["credits"]) == (False, "4.7", "4.7")
    assert task.run()["reused"] is True
    assert len(paid(api)) == 1


@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_a_clear_takes_what_was_paid_for_also_where_it_empties_the_task_state(task, api, airflow):
    first = task.run()

    task.clear(airflow=airflow)
    second = task.run()

    assert second["generation_id"] == first["generation_id"]
    assert second["images"] == first["images"]
    assert len(paid(api)) == 1


def test_an_image_takes_two_reads_and_three_writes_of_the_task_state_and_three_small_files(make, api):
    api.settings(duration=0)
    task = make()

    result = task.run()

    assert len(task.deferrals) == 1
    assert (task.store.reads, task.store.writes) == (2, 3)
    files = Path(result["images"][0]["path"]).parent.rglob("*")
    assert sorted(path.suffix for path in files if path.is_file()) == [".json", ".json", ".json", ".png"]


def test_a_clear_without_any_record_pays_only_when_the_author_says_so(make, api):
    task = make(destination=None)
    task.run()

    task.clear(airflow="3.4")
    with pytest.raises(RecordMissingError, match="on_clear='regenerate'"):
        task.run()
    task.clear(airflow="3.4")
    with pytest.raises(RecordMissingError):
        task.run()
    assert len(paid(api)) == 1
    task.run(on_clear="regenerate")
    assert len(paid(api)) == 2


def test_records_of_a_task_without_a_destination_are_where_the_configuration_says(
    make, api, monkeypatch, tmp_path
):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__RECORDS", str(tmp_path / "records"))
    task = make(destination=None)
    first = task.run()

    task.clear(airflow="3.4")

    assert task.run()["generation_id"] == first["generation_id"]
    assert len(paid(api)) == 1


def test_a_bad_key_that_was_mended_is_no_reason_to_refuse_after_a_clear(task, api, connect):
    connect(api.url, "sk-wrong")
    with pytest.raises(GptImageError):
        task.run()
    connect(api.url, api.key)

    task.clear(airflow="3.4")

    assert task.run()["reused"] is False
    assert len(paid(api)) == 1


def test_a_prompt_that_was_mended_is_no_reason_to_refuse_after_a_clear(task, api):
    with pytest.raises(GptImageError):
        task.run(nsfw_checker="{{ nothing renders this }}")

    task.clear(airflow="3.4")

    assert task.run()["reused"] is False
    task.clear(airflow="3.4")
    assert task.run(prompt="a blue teapot")["reused"] is False
    assert len(paid(api)) == 2


def test_a_destination_that_cannot_be_written_is_found_out_before_anything_is_paid(make, api, tmp_path):
    (tmp_path / "file").write_text("")
    task = make(destination=tmp_path / "file" / "images")

    with pytest.raises(DestinationError, match="Make the destination writable, or give another one"):
        task.run()

    assert api.books()["charges"] == []


def test_an_emptied_destination_is_an_error_that_pays_nothing_and_is_restored_from_the_store(
    task, api, tmp_path
):
    task.store.at = "die after 2"
    with pytest.raises(DiedError):
        task.run()
    (tmp_path / "images").rename(tmp_path / "elsewhere")

    with pytest.raises(DestinationError, match="is empty now"):
        task.run(prompt="another one")
    result = task.run()

    assert paid(api) == [result["generation_id"]]


def test_a_regenerated_image_that_fails_once_is_tried_again_and_not_the_old_one_returned(make, api):
    for deferrable in (True, False):
        task = make(deferrable=deferrable, task_id=f"poster_{deferrable}")
        options = {"reuse": "destination", "on_clear": "regenerate", "prompt": f"teapot {deferrable}"}
        first = task.run(**options)
        api.fault(f"generation:failed*1;match=teapot {deferrable}")
        task.clear()
        with pytest.raises(GenerationFailedError):
            task.run(**options)

        second = task.run(**options)

        assert second["generation_id"] != first["generation_id"]
        assert second["reused"] is False


def test_a_shifted_list_finds_its_images_after_a_clear(make, api):
    prompts = ["a", "b", "c"]
    instances = {index: make(map_index=index) for index in range(4)}
    for index, prompt in enumerate(prompts):
        instances[index].run(prompt=prompt)
    shifted = ["x", *prompts]
    for index in range(3):
        instances[index].clear(airflow="3.4")
    instances[3].clears = 1

    results = [instances[index].run(prompt=prompt) for index, prompt in enumerate(shifted)]

    made_for = {c["task_id"]: c["request"]["prompt"] for c in api.books()["charges"]}
    assert [made_for[result["generation_id"]] for result in results] == shifted
    assert len(paid(api)) == 4


def test_equal_prompts_of_a_mapped_task_are_two_images(make, api):
    instances = [make(map_index=index) for index in range(2)]
    assert len({instance.run()["generation_id"] for instance in instances}) == 2

    for instance in instances:
        instance.clear(airflow="3.4")

    assert len({instance.run()["generation_id"] for instance in instances}) == 2
    assert len(paid(api)) == 2


def test_an_answer_that_is_lost_is_unknown_and_never_paid_again(task, api):
    api.fault("submit:lost*1")
    with pytest.raises(SubmissionUnknownError, match="GptImageSensor"):
        task.run()

    with pytest.raises(SubmissionUnknownError):
        task.run()
    task.clear(airflow="3.4")
    with pytest.raises(SubmissionUnknownError):
        task.run()

    assert len(api.books()["charges"]) == 1


@pytest.mark.parametrize(
    "point", ["die before 1", "die after 1", "die before 2", "die after 2", "die before 3"]
)
def test_a_worker_that_dies_costs_nothing_more(task, api, point):
    task.store.at = point
    with suppress(DiedError):
        task.run()

    try:
        task.run()
    except SubmissionUnknownError:
        assert point in ("die before 1", "die after 1")  # the intent is in the folder, or in both places

    assert len(api.books()["charges"]) == (0 if point in ("die before 1", "die after 1") else 1)


def test_a_loop_makes_an_image_in_each_iteration(task, api):
    names = set()
    for index in range(3):
        task.loop_index = index
        task.store.empty()
        task.try_number = 0
        result = task.run(filename="{dag_id}/{run_id}/{task_id}/{map_index}")
        names.add(result["images"][0]["path"])

    assert len(names) == 3
    assert len(paid(api)) == 3


def test_a_record_is_the_sidecar_beside_the_image(task, api):
    result = task.run(image_urls=["https://example.com/a.png?Signature=secret"])

    sidecar = json.loads(Path(result["images"][0]["path"]).with_suffix(".json").read_text())
    assert (sidecar["state"], sidecar["generation_id"]) == ("stored", result["generation_id"])
    assert "secret" not in json.dumps(sidecar)
