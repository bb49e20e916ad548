"""One image on either path: what is returned, what a retry finds, what a clear takes."""

from __future__ import annotations

import inspect
import json
import re
from decimal import Decimal
from pathlib import Path

import imagesize
import pytest

from airflow_gpt_image.errors import (
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    RecordMissingError,
)
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.batches import until
from tests.unit.single.conftest import charges


def net(books):
    return Decimal(books["charged"]) - Decimal(books["refunded"])


# What is returned


def test_an_image_is_made_stored_and_told(task, api, tmp_path):
    result = task.run(aspect_ratio="16:9")

    [image] = result["images"]
    assert Path(image["path"]).parent == tmp_path / "images"
    assert imagesize.get(image["path"]) == (image["width"], image["height"]) == (1536, 864)
    assert Path(image["path"]).stat().st_size == image["bytes"]
    assert (result["status"], result["model"], result["reused"]) == ("completed", "gpt-image-2", False)
    assert (result["credits"], result["usd"], result["resolution"]) == ("4.7", "0.0235", "1k")
    assert charges(api) == [result["generation_id"]]


def _documented():
    """The names in the operator's docstring, of the result and of what is nested in it."""
    text = re.search(r"\(XCom\)::\n\n(.*?)\n\n", inspect.getdoc(GptImageGenerateOperator), re.DOTALL)[1]
    return set(re.findall(r'"(\w+)"', text))


def _names(value):
    if isinstance(value, dict):
        return set(value) | set().union(*map(_names, value.values()))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def test_what_is_returned_is_exactly_what_the_docstring_says_and_plain_json(task):
    result = task.run()

    assert json.loads(json.dumps(result)) == result
    metadata = result.pop("metadata")  # kept as the API gave it
    assert metadata["costTime"]
    assert _names(result) | {"metadata"} == _documented()


def test_without_a_destination_the_image_stays_where_the_api_put_it(bare_task, api):
    result = bare_task.run()

    [image] = result["images"]
    assert image["url"].startswith(api.url)
    assert {image[name] for name in ("path", "width", "height", "sha256", "bytes")} == {None}
    assert api.books()["requests"]["download"] == 0


def test_several_images_of_one_generation_are_all_stored(task, api, tmp_path):
    api.fault("generation:images=3")

    result = task.run()

    folder = tmp_path / "images"
    assert len({image["path"] for image in result["images"]}) == 3
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.json"))) == 3


def test_all_that_was_asked_for_is_sent(task, api):
    task.run(
        prompt="warmer",
        image_urls=["https://example.com/room.jpg", "https://example.com/lamp.jpg"],
        aspect_ratio="3:2",
        resolution="2k",
        nsfw_checker=False,
        callback_url=f"{api.url}/hook",
    )

    [charge] = api.books()["charges"]
    assert charge["request"] == {
        "prompt": "warmer",
        "image_urls": ["https://example.com/room.jpg", "https://example.com/lamp.jpg"],
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
    }
    assert charge["callback_url"] == f"{api.url}/hook"


def test_not_waiting_returns_the_id_of_what_was_submitted_and_twice_pays_once(task, api):
    api.fault("generation:never")

    result = task.run(wait_for_completion=False)
    again = task.run(wait_for_completion=False)

    assert result["generation_id"] == charges(api)[0]
    assert (result["status"], result["images"], result["completed_at"]) == ("submitted", [], None)
    assert (result["credits"], result["spent"]["charged"]) == ("4.7", "4.7")
    assert task.deferrals == []
    assert again["generation_id"] == result["generation_id"]
    assert (result["reused"], again["reused"]) == (False, True)
    assert api.books()["submits"] == 1


def test_what_was_not_waited_for_and_failed_is_paid_for_anew_after_a_clear(task, api):
    api.fault("generation:failed*1")
    first = task.run(wait_for_completion=False)
    until(lambda: api.books()["refunded"] == "4.7")
    task.clear()

    second = task.run(wait_for_completion=False)

    assert second["generation_id"] != first["generation_id"]


# Retries


def test_a_retry_waits_on_for_a_generation_that_was_not_finished_in_time(task, api):
    api.fault("generation:takes=0.7")
    with pytest.raises(GenerationTimeoutError) as caught:
        task.run(timeout=0.1)

    result = task.run()

    assert caught.value.retryable
    assert (result["status"], result["reused"]) == ("completed", True)
    assert api.books()["submits"] == 1


def test_a_retry_pays_anew_for_a_generation_that_failed_and_was_refunded(task, api):
    api.fault("generation:failed*1")
    with pytest.raises(GenerationFailedError) as caught:
        task.run()

    result = task.run()

    books = api.books()
    assert caught.value.retryable
    assert (books["submits"], books["charged"], books["refunded"]) == (2, "9.4", "4.7")
    assert result["generation_id"] == charges(api)[1]
    assert result["spent"] == {"charged": "9.4", "refunded": "4.7", "usd": "0.0235"}


def test_a_generation_that_failed_for_good_says_so(task, api):
    api.fault("generation:failed=invalid_request")

    with pytest.raises(GenerationFailedError, match="refunded") as caught:
        task.run()

    assert not caught.value.retryable
    assert net(api.books()) == 0


def test_a_changed_prompt_is_a_new_request_and_changed_back_is_the_old_one(task, api):
    first = task.run()
    other = task.run(prompt="a blue teapot")

    back = task.run()

    assert other["generation_id"] != first["generation_id"]
    assert (back["generation_id"], back["reused"]) == (first["generation_id"], True)
    assert api.books()["submits"] == 2


def test_an_id_the_api_no_longer_knows_says_so_and_does_not_loop(make, api):
    task = make()
    task.run(wait_for_completion=False)
    api.reset()

    for _ in range(2):
        with pytest.raises(GenerationNotFoundError) as caught:
            task.run()

    assert not caught.value.retryable
    assert "is on record as paid for" in str(caught.value)
    assert "on_clear='regenerate'" in str(caught.value)
    assert api.books()["submits"] == 0


@pytest.mark.soak
def test_an_id_the_api_no_longer_knows_says_the_same_where_the_worker_waits(api, task):
    # For 15 s after the submit "unknown" may be "not yet": where the worker waits, it waits for that too.
    task.run(wait_for_completion=False)
    api.reset()

    with pytest.raises(GenerationNotFoundError, match="is on record as paid for"):
        task.run()

    assert api.books()["submits"] == 0


# Clears


@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_a_clear_reuses_what_was_paid_for_also_where_it_empties_the_task_state(task, api, airflow):
    first = task.run()
    task.clear(airflow=airflow)

    second = task.run()

    assert (second["generation_id"], second["images"]) == (first["generation_id"], first["images"])
    assert (second["reused"], second["spent"]["charged"]) == (True, "0")
    assert api.books()["submits"] == 1


def test_a_clear_that_regenerates_pays_once_and_its_retries_find_it(task, api):
    first = task.run(on_clear="regenerate")
    task.clear()

    second = task.run(on_clear="regenerate")
    retry = task.run(on_clear="regenerate")

    assert second["generation_id"] != first["generation_id"]
    assert (retry["generation_id"], retry["reused"]) == (second["generation_id"], True)
    assert api.books()["submits"] == 2
    assert second["spent"] == {"charged": "4.7", "refunded": "0", "usd": "0.0235"}


def test_a_task_cleared_while_its_generation_runs_reattaches(task, api):
    api.fault("generation:takes=0.4*1")
    task.run(wait_for_completion=False)
    task.clear()

    result = task.run()

    assert (result["status"], result["reused"]) == ("completed", True)
    assert api.books()["submits"] == 1


def test_a_clear_without_any_record_pays_only_when_the_author_says_so(bare_task, api):
    bare_task.run()
    for _ in range(2):
        bare_task.clear(airflow="3.4")
        with pytest.raises(RecordMissingError, match="on_clear='regenerate'"):
            bare_task.run()
    assert api.books()["submits"] == 1

    bare_task.run(on_clear="regenerate")

    assert api.books()["submits"] == 2


def test_a_clear_that_only_the_runs_count_tells_of_pays_nothing_silently_either(bare_task, api):
    bare_task.run()
    retries, bare_task.retries = bare_task.retries, 0
    bare_task.clear(airflow="3.4")
    bare_task.retries = retries

    for _ in range(3):
        with pytest.raises(RecordMissingError, match="may have been"):
            bare_task.run()

    assert api.books()["submits"] == 1


def test_records_of_a_task_without_a_destination_are_where_the_configuration_says(
    bare_task, api, monkeypatch, tmp_path
):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__RECORDS", str(tmp_path / "records"))
    first = bare_task.run()
    bare_task.clear(airflow="3.4")

    assert bare_task.run()["generation_id"] == first["generation_id"]
    assert api.books()["submits"] == 1


@pytest.mark.parametrize("wrong", ["key", "prompt"])
def test_what_was_wrong_and_is_mended_is_no_reason_to_refuse_after_a_clear(task, api, connect, wrong):
    connect(api.url, "sk-wrong" if wrong == "key" else api.key)
    with pytest.raises(GptImageError):
        task.run(**({"nsfw_checker": "{{ nothing renders this }}"} if wrong == "prompt" else {}))
    connect(api.url, api.key)

    for prompt in ("a red teapot", "a blue teapot"):
        task.clear(airflow="3.4")
        assert task.run(prompt=prompt)["reused"] is False
    assert api.books()["submits"] == 2


@pytest.mark.parametrize("happened", ["store away", "killed while it began"])
def test_a_retry_is_not_refused_because_something_else_in_the_run_was_cleared_before(task, api, happened):
    task.clears = 1  # before this task's first try
    if happened == "store away":
        task.store.unreachable = True
        with pytest.raises(GptImageError):
            task.run()
        task.store.unreachable = False
    else:
        task.try_number = 1

    assert task.run()["reused"] is False


def test_a_destination_that_was_mended_is_no_reason_to_refuse_after_a_clear(task, tmp_path):
    in_its_place = tmp_path / "images"
    in_its_place.write_text("no folder")
    with pytest.raises(GptImageError, match="Nothing was submitted"):
        task.run()
    in_its_place.unlink()
    task.clear(airflow="3.3")

    assert task.run()["reused"] is False


# What it takes


def test_an_image_takes_two_reads_and_three_writes_of_the_task_state_and_three_small_files(make, api):
    api.settings(duration=0)
    task = make()

    result = task.run()

    assert len(task.deferrals) == 1
    assert (task.store.reads, task.store.writes) == (2, 3)
    files = Path(result["images"][0]["path"]).parent.rglob("*")
    assert sorted(path.suffix for path in files if path.is_file()) == [".json", ".json", ".json", ".png"]


def test_a_loop_makes_an_image_in_each_iteration(task, api):
    names = set()
    for index in range(3):
        task.loop_index = index
        task.store.empty()
        task.try_number = 0
        result = task.run(filename="{dag_id}/{run_id}/{task_id}/{map_index}")
        names.add(result["images"][0]["path"])

    assert len(names) == 3
    assert api.books()["submits"] == 3
