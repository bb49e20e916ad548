"""The record of a batch is in two places: whichever is emptied, moved or away, nothing is paid for twice."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    InvalidApiKeyError,
    InvalidRequestError,
    LedgerError,
    RecordMissingError,
    UnsettledImagesError,
)
from tests.batches import BatchTask, lost_answer, paid, records_of
from tests.fake_clock import RunningClock

# A clear


def test_a_clear_while_it_is_deferred_costs_nothing_on_airflow_3_4(deferring, api):
    with pytest.raises(TaskDeferred):
        deferring.begin()
    deferring.clear(airflow="3.4")

    result = deferring.run()

    assert (result["stored"], set(paid(api).values())) == (3, {1})


def test_a_part_of_a_try_that_finds_its_state_emptied_pays_for_nothing_and_the_next_try_goes_on(
    deferring, api
):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(max_in_flight=1)
    deferring.store.empty()

    with pytest.raises(LedgerError, match="does not say what this task was at"):
        deferring.wake(deferred.value, max_in_flight=1)
    api.settings(duration=0.05)
    result = deferring.run()

    assert (result["stored"], set(paid(api).values())) == (3, {1})


def test_a_cleared_task_at_a_destination_without_any_trace_of_it_pays_only_with_the_authors_word(batch, api):
    batch.run()
    batch.clear(airflow="3.4")
    shutil.rmtree(batch.folder)

    with pytest.raises(RecordMissingError, match="shows no trace of this task") as caught:
        batch.run()
    with pytest.raises(RecordMissingError):
        batch.run()
    submits = api.books()["submits"]
    result = batch.run(reuse="never")

    assert (caught.value.retryable, submits) == (False, 3)
    assert (result["stored"], api.books()["submits"]) == (3, 6)


@pytest.mark.parametrize(
    "failing",
    [
        {"requests": "/nowhere/rows.csv"},
        {"requests": [{"prompt": "a", "resolution": "8k"}]},
        {"max_credits": 0},
        {"dry_run": True},
        {"key": "no key"},
    ],
    ids=str,
)
def test_a_task_that_paid_for_nothing_can_be_cleared_and_pays_then(batch, api, connect, failing):
    options = dict(failing)
    connect(api.url, options.pop("key", api.key))
    with suppress(InvalidRequestError, CreditLimitError, InvalidApiKeyError):
        batch.run(**options)
    connect(api.url, api.key)
    batch.clear(airflow="3.4")

    assert batch.run()["stored"] == 3
    assert set(paid(api).values()) == {1}


# An emptied destination


@pytest.mark.parametrize("change", ["a retry", "a clear"])
def test_a_destination_that_is_empty_now_is_an_error_and_nothing_is_paid_twice(batch, api, change):
    batch.run()
    batch.folder.rename(batch.folder.with_suffix(".unmounted"))
    if change == "a clear":
        batch.clear(airflow="3.3")

    with pytest.raises(DestinationError, match=r"held this task's plan .* and is empty now") as caught:
        batch.run()
    shutil.rmtree(batch.folder, ignore_errors=True)
    batch.folder.with_suffix(".unmounted").rename(batch.folder)
    result = batch.run()

    assert caught.value.retryable
    assert "Is it mounted" in caught.value.message
    assert (result["stored"], api.books()["submits"]) == (3, 3)


def test_a_destination_without_its_records_is_an_error_although_there_is_a_plan(batch, api):
    batch.run()
    shutil.rmtree(batch.folder / "records")
    shutil.rmtree(batch.folder / "items")

    with pytest.raises(DestinationError, match="is empty now"):
        batch.run()

    assert api.books()["submits"] == 3


def test_a_destination_is_empty_also_where_all_that_was_used_there_was_other_runs(batch, api):
    batch.run(reuse="destination")
    batch.new_run()
    batch.run(reuse="destination")
    shutil.rmtree(batch.folder)

    with pytest.raises(DestinationError, match="is empty now"):
        batch.run(reuse="destination")

    assert api.books()["submits"] == 3


@pytest.mark.parametrize("gone", ["all of it", "its records"])
def test_a_destination_that_is_empty_after_a_deferral_is_an_error_and_pays_nothing(deferring, api, gone):
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin(max_in_flight=2)
    shutil.rmtree(deferring.folder if gone == "all of it" else deferring.folder / "records")

    with pytest.raises(DestinationError, match="Is it mounted") as caught:
        deferring.wake(deferred.value, max_in_flight=2)

    assert (caught.value.retryable, api.books()["submits"]) == (True, 2)


def test_a_batch_whose_stored_images_are_gone_after_a_deferral_does_not_end_green(deferring, api):
    api.settings(duration=0.05)
    api.fault("generation:takes=900;match=chair")
    with pytest.raises(TaskDeferred) as deferred:
        deferring.begin()
    for path in (deferring.folder / "items").iterdir():
        path.unlink()

    with pytest.raises(DestinationError, match="held 2 images of this batch"):
        deferring.wake(deferred.value)
    result = deferring.run()

    assert (result["stored"], api.books()["submits"]) == (3, 3)


# Mapped batches


@pytest.fixture
def mapped(api, tmp_path):
    """Two mapped batches; each gets its rows and its folder when it is run."""
    return [BatchTask(tmp_path, deferrable=False, map_index=index) for index in range(2)]


def prompts_in(manifest):
    return [line["request"]["prompt"] for line in read_manifest(manifest) if line["status"] == "stored"]


ROWS = (["a", "b", "c"], ["d", "e", "f"])


@pytest.fixture
def expanded_over_folders(mapped):
    """The two, as a DAG that gives each row set a folder has them."""
    for task in mapped:
        task.expanded_over = ("destination",)
    return mapped


def run_both(mapped, order, folder):
    results = []
    for task, which in zip(mapped, order, strict=True):
        task.folder = folder / f"set-{which}"
        results.append(task.run(requests=ROWS[which], destination=str(task.folder)))
    return results


@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_two_mapped_batches_that_are_swapped_and_cleared_find_their_images(
    expanded_over_folders, api, tmp_path, airflow
):
    mapped = expanded_over_folders
    run_both(mapped, (0, 1), tmp_path)
    for task in mapped:
        task.given.pop("destination")
        task.clear(airflow=airflow)

    # On 3.3 the state says that the index's images were elsewhere; before the clear, so that is no matter.
    results = run_both(mapped, (1, 0), tmp_path)
    again = run_both(mapped, (1, 0), tmp_path)

    assert paid(api) == dict.fromkeys("abcdef", 1)
    assert [result["reused"] for result in results + again] == [3] * 4
    assert [result["charged"] for result in results] == ["0", "0"]
    assert sorted(path.parent.name for path in tmp_path.rglob("manifest.jsonl")) == ["set-0", "set-1"]


def test_a_mapped_batch_that_got_others_rows_in_a_retry_pays_for_them_for_it_was_not_cleared(
    mapped, api, tmp_path
):
    run_both(mapped, (0, 1), tmp_path)

    with pytest.raises(InvalidRequestError, match="isn't where an earlier try"):
        run_both(mapped, (1, 0), tmp_path)

    assert api.books()["submits"] == 6


@pytest.mark.parametrize("reuse", ["run", "destination"])
def test_swapped_batches_whose_folders_follow_the_map_index_are_not_paid_for_twice_silently(
    mapped, api, tmp_path, reuse
):
    for task in mapped:
        task.given["reuse"] = reuse
        task.given["destination"] = f"{tmp_path}/{{{{ ti.map_index }}}}"
        task.run(requests=ROWS[task.map_index])
    for task in mapped:
        task.clear(airflow="3.4")

    for task in mapped:
        with pytest.raises(RecordMissingError, match="put in another order"):
            task.run(requests=ROWS[1 - task.map_index])

    assert paid(api) == dict.fromkeys("abcdef", 1)
    for task in mapped:
        assert task.run(requests=ROWS[task.map_index])["reused"] == 3


def test_mapped_batches_at_one_destination_with_equal_rows_pay_for_an_image_each(mapped, api, tmp_path):
    for task in mapped:
        assert task.run(requests=["a"], destination=str(tmp_path))["stored"] == 1

    assert paid(api) == {"a": 2}


def test_mapped_batches_at_one_destination_leave_a_manifest_each(mapped, tmp_path):
    for task in mapped:
        task.expanded_over = ("requests",)
    results = [
        task.run(
            requests=[*rows, {"prompt": "x", "resolution": "8k"}],
            on_invalid="skip",
            destination=str(tmp_path),
        )
        for task, rows in zip(mapped, ROWS, strict=True)
    ]

    assert [prompts_in(result["manifest"]) for result in results] == [list("abc"), list("def")]
    assert [Path(result["manifest"]).parent.name for result in results] == ["map-0", "map-1"]
    assert all(Path(result["manifest"]).with_name("invalid.jsonl").exists() for result in results)


def test_a_mapped_batch_with_a_folder_for_each_index_has_its_manifest_right_there(mapped, tmp_path):
    mapped[1].run(requests=["a"], destination=f"{tmp_path}/{{{{ ti.map_index }}}}")

    assert prompts_in(tmp_path / "1") == ["a"]


def test_each_iteration_of_a_loop_pays_for_its_own(batch, api):
    results = []
    for index in range(3):
        batch.loop_index, batch.try_number = index, 0
        batch.store.empty()
        results.append(batch.run(requests=["a", f"picture {index}"]))

    assert [result["reused"] for result in results] == [0, 0, 0]
    assert paid(api) == {"a": 3, "picture 0": 1, "picture 1": 1, "picture 2": 1}
    assert [prompts_in(result["manifest"]) for result in results] == [
        ["a", f"picture {index}"] for index in range(3)
    ]
    assert len(list((batch.folder / "items").glob("*.png"))) == 6


# Answers of an earlier try


@pytest.fixture
def under_way(batch, api):
    """An intent whose worker still waits for the answer: its file, and what that becomes."""
    api.fault("submit:lost*1;match=vase")
    batch.run()
    path, waiting, arrived = lost_answer(batch, api)
    path.write_text(waiting)
    return path, arrived


@pytest.mark.parametrize("on_unknown_submit", ["fail", "resubmit"])
def test_an_intent_that_may_be_under_way_is_waited_for(batch, api, under_way, on_unknown_submit):
    path, arrived = under_way
    listings = []

    def arrives(act, name, *data):
        if act == "sizes" and name.startswith("records/"):
            listings.append(name)
        if len(listings) == 5:
            path.write_text(arrived)

    batch.meddle = arrives

    result = batch.run(on_unknown_submit=on_unknown_submit)

    assert len(listings) >= 5
    assert (result["stored"], result["unknown"], set(paid(api).values())) == (3, 0, {1})


def test_an_intent_is_paid_for_again_only_when_its_answer_must_be_lost(batch, api, under_way):
    batch.clock = RunningClock()
    answer_by = datetime.fromisoformat(json.loads(under_way[0].read_text())["answer_by"])
    submits = []

    def pays(act, name, *data):
        if act == "write" and b'"state": "intent"' in data[0]:
            submits.append(batch.clock.now())

    batch.meddle = pays

    result = batch.run(on_unknown_submit="resubmit")

    assert (result["stored"], paid(api)["a vase"]) == (3, 2)
    assert len(submits) == 1
    assert submits[0] >= answer_by


@pytest.mark.usefixtures("under_way")
def test_an_intent_is_not_waited_for_when_its_answer_must_be_lost(batch, api):
    batch.clock = RunningClock(ahead=3600)

    result = batch.run()

    assert (result["stored"], result["unknown"], api.books()["submits"]) == (2, 1, 3)


def test_what_a_frozen_worker_writes_when_it_wakes_replaces_nothing_of_its_successors(batch, api):
    batch.run(requests=["a vase"])
    files = list((batch.folder / "records").rglob("*~*.json"))
    batch.run(requests=["a vase"])

    for path in files:  # the first try's own
        old = json.loads(path.read_text())
        path.write_text(json.dumps(old | {"state": "intent", "generation_id": None, "submitted_at": None}))
    result = batch.run(requests=["a vase"])

    assert (result["stored"], result["unknown"], api.books()["submits"]) == (1, 0, 1)


# Two answers with one id


def test_an_id_that_is_another_submits_already_is_unknown_and_no_row_gets_anothers_image(batch, api):
    batch.run(requests=["a teapot"])
    [known] = [charge["task_id"] for charge in api.books()["charges"]]
    body = json.dumps({"code": 200, "msg": "success", "data": {"taskId": known}})
    api.fault("submit", "200", times=1, body=body, accepted=True)

    result = batch.run(requests=["a teapot", "a vase"])

    lines = {line["request"]["prompt"]: line for line in read_manifest(batch.folder)}
    assert (result["stored"], result["unknown"]) == (1, 1)
    assert "another submit's" in lines["a vase"]["error_message"]
    assert records_of(batch)["a vase"]["state"] == "intent"


# What it costs, and how it ends


@pytest.mark.parametrize(
    ("fault", "options"),
    [("file:404", {}), ("file:500", {"item_retries": 0}), ("generation:takes=900", {"timeout": 0.3})],
    ids=["gone at the file host", "file host down", "out of time"],
)
def test_images_that_are_paid_for_and_not_stored_are_no_success(batch, api, fault, options):
    api.fault(fault)

    with pytest.raises(UnsettledImagesError) as caught:
        batch.run(**options)
    api.clear_faults()

    assert caught.value.retryable
    assert "3 images are paid for and not stored: 14.1 credits ($0.0705)." in caught.value.message
    assert Counter(line["status"] for line in read_manifest(batch.folder)) == {"submitted": 3}
    assert batch.pushed == {"spent": {"charged": "14.1", "refunded": "0", "usd": "0.0705"}}


def test_what_a_failed_try_spent_is_in_xcom_also_when_there_was_a_refund(batch, api):
    api.fault("generation:failed=invalid_request*1;match=vase")
    api.fault("submit:401;match=chair")

    with pytest.raises(InvalidApiKeyError):
        batch.run()

    books = api.books()
    assert batch.pushed["spent"]["charged"] == books["charged"]
    assert batch.pushed["spent"]["refunded"] == books["refunded"]


def test_what_was_about_to_be_submitted_when_the_account_stopped_it_is_not_a_failure(batch, api):
    api.fault("submit:402;after=1")

    with pytest.raises(Exception, match="402"):
        batch.run(max_in_flight=3)

    told = Counter(line["status"] for line in read_manifest(batch.folder))
    assert told == {"stored": 1, "not_submitted": 2}
    assert not (batch.folder / "failures.jsonl").exists()


def test_prices_of_the_connection_are_those_of_plan_guards_and_sums(batch, api, connect):
    prices = {"1k": "5", "2k": "10", "4k": "15", "usd_per_credit": "0.01"}
    connect(api.url, api.key, extra={"verify": False, "prices": prices})

    with pytest.raises(CreditLimitError, match=r"3 images for 15 credits \(\$0\.15\)"):
        batch.run(max_credits="14.9")
    result = batch.run(max_credits="15")

    assert (result["credits"], result["usd"]) == ("15", "0.15")
    assert {line["credits"] for line in read_manifest(batch.folder)} == {"5"}
    assert {record["credits"] for record in records_of(batch).values()} == {"5"}
