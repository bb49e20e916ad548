"""The batch operator and money: whatever happens, an image is paid for once. The API's books judge."""

from __future__ import annotations

import pytest

from airflow_gpt_image.batch.manifest import read_manifest
from tests.batches import TEN, BatchTask, assert_books_agree, images, paid, statuses

# Run again: only what is missing is paid for


def test_a_retry_pays_and_fetches_nothing_again(batch, api):
    first = batch.run()

    second = batch.run()

    requests = api.books()["requests"]
    assert (requests["submit"], requests["download"]) == (3, 3)
    assert (second["stored"], second["reused"]) == (3, 0)
    assert second == first | {"seconds": second["seconds"]}
    assert_books_agree(second, api.books())


def test_rows_in_another_order_and_ten_more_pay_for_the_ten(batch, api):
    batch.run()

    result = batch.run(requests=["a chair", *TEN, "a vase", "a teapot"])

    assert set(paid(api).values()) == {1}
    assert (api.books()["submits"], result["stored"]) == (13, 13)
    assert_books_agree(result, api.books())


def test_a_row_that_changed_is_the_only_one_paid_for(batch, api):
    batch.run()

    batch.run(requests=["a teapot", {"prompt": "a vase", "resolution": "2k"}, "a chair"])

    assert paid(api) == {"a teapot": 1, "a vase": 2, "a chair": 1}


def test_a_column_that_is_no_field_changes_nothing(batch, api):
    batch.run(requests=[{"prompt": "a", "sku": 1}])

    result = batch.run(requests=[{"prompt": "a", "sku": 2}])

    assert api.books()["submits"] == 1
    assert [row["data"] for row in read_manifest(result["manifest"])] == [{"sku": 2}]


def test_identical_rows_are_an_image_each_and_one_more_is_one_more(batch, api):
    first = batch.run(requests=["a"] * 3)

    second = batch.run(requests=["a", "b", "a", "a", "a"])

    assert (first["stored"], second["stored"]) == (3, 5)
    assert paid(api) == {"a": 4, "b": 1}
    assert len({row["generation_id"] for row in read_manifest(second["manifest"])}) == 5


def test_more_variants_pay_for_those_that_are_missing(batch, api):
    batch.run(requests=["a", "b"])

    result = batch.run(requests=["b", "a"], variants=3)

    assert paid(api) == {"a": 3, "b": 3}
    assert (result["images"], result["stored"]) == (6, 6)


def test_an_image_that_is_gone_from_the_destination_is_fetched_and_not_paid_for_again(batch, api):
    batch.run()
    next((batch.folder / "items").glob("*.png")).unlink()

    result = batch.run()

    requests = api.books()["requests"]
    assert (result["stored"], images(batch)) == (3, 3)
    assert (requests["submit"], requests["download"]) == (3, 4)


@pytest.mark.parametrize("airflow", ["3.3", "3.4"])
def test_a_clear_reuses_what_the_run_paid_for_whether_airflow_empties_the_state_or_not(batch, api, airflow):
    batch.run()
    batch.clear(airflow=airflow)

    result = batch.run(requests=["a teapot", "a vase", "a chair", "a lamp"])

    assert api.books()["submits"] == 4
    assert (result["stored"], result["reused"], result["charged"]) == (4, 3, "4.7")


@pytest.mark.parametrize(
    ("reuse", "cleared", "new_run", "other_task"),
    [("run", 1, 2, 2), ("destination", 1, 1, 1), ("never", 2, 2, 2)],
)
def test_what_may_be_reused_is_the_authors_choice(batch, api, tmp_path, reuse, cleared, new_run, other_task):
    submits = []
    for change in ("clear", "new_run", "other"):
        api.reset()
        task = BatchTask(tmp_path / change, deferrable=False)
        task.given["requests"] = ["a teapot"]
        task.run(reuse=reuse)
        if change == "other":
            task.new_run()
            task.run_id, task.task_id = task.run_id[:-2], "other"
        else:
            getattr(task, change)()
        result = task.run(reuse=reuse)
        again = task.run(reuse=reuse)
        submits.append(api.books()["submits"])
        assert (result["stored"], result["reused"]) == (1, 2 - submits[-1])
        assert again == result | {"seconds": again["seconds"]}

    assert submits == [cleared, new_run, other_task]


# Submits that nobody knows about


@pytest.mark.parametrize("kind", ["lost", "close", "html", "502", "missing_id", "truncated"])
def test_an_unknown_submit_is_a_failed_item_and_never_sent_again(batch, api, kind):
    api.fault(f"submit:{kind}*1;match=vase")
    first = batch.run()
    second = batch.run()
    batch.clear()

    third = batch.run(requests=["a chair", "a vase", "a teapot"])

    assert api.books()["requests"]["submit"] == 3
    for result in (first, second, third):
        assert (result["stored"], result["unknown"], result["failed"]) == (2, 1, 0)
        assert statuses(result)["a vase"] == "unknown"
    assert (batch.folder / "unsettled.jsonl").read_text() == '{"prompt":"a vase"}\n'
    assert not (batch.folder / "failures.jsonl").exists()
    # Counted as charged: nobody can know that it wasn't.
    assert (first["charged"], second["charged"], third["charged"]) == ("14.1", "14.1", "0")


def test_an_unknown_submit_is_sent_again_within_the_try_where_the_author_chose_so(batch, api):
    api.fault("submit:lost*1;match=vase")

    result = batch.run(on_unknown_submit="resubmit")

    assert (result["stored"], result["unknown"]) == (3, 0)
    assert paid(api)["a vase"] == 2
    assert_books_agree(result, api.books())


def test_an_unknown_submit_is_sent_again_by_the_next_try_where_the_author_chose_so(batch, api):
    api.fault("submit:lost*1;match=vase")
    batch.run()

    result = batch.run(on_unknown_submit="resubmit")
    again = batch.run(on_unknown_submit="resubmit")

    assert (result["stored"], again["stored"], paid(api)["a vase"]) == (3, 3, 2)
    assert_books_agree(again, api.books())
