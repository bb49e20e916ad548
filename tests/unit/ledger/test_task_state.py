"""Documents in Airflow's task state store: the write is the fence, and a doubt is never "nothing there"."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_gpt_image.errors import LedgerError, ReplacedError
from airflow_gpt_image.ledger.task_state import IMAGE_KEY, Document, ImageTaskState, Waiting


@pytest.fixture
def document(store):
    return Document(store.accessor(), IMAGE_KEY, ImageTaskState)


@pytest.fixture
def state(intent):
    waiting = Waiting(fingerprint="f", generation_id="g1", deadline=1_775_387_508.25, reused=False)
    return ImageTaskState(clear_epoch=3, records_at="/images/", records=(intent(),), waiting=waiting)


def test_an_empty_store_has_no_document(document):
    assert document.read() is None


def test_what_is_written_is_read_as_it_was(document, state):
    document.write(state)

    assert document.read() == state


def test_a_document_is_one_write_under_one_key_that_never_expires(document, state, store):
    document.write(state)

    assert list(store.texts) == ["gpt_image"]
    assert store.writes == 1
    assert store.retentions["gpt_image"] is NEVER_EXPIRE


def test_keys_are_words_without_slash_and_dot():
    assert IMAGE_KEY.replace("_", "").isalnum()


def test_a_store_that_cannot_be_read_is_an_error_that_is_tried_again(document, store):
    store.unreachable = True

    with pytest.raises(LedgerError, match=r"could not be read[^$]*not the same as an empty one") as caught:
        document.read()

    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_store_that_cannot_be_written_is_an_error_that_is_tried_again(document, store, state):
    store.unreachable = True

    with pytest.raises(LedgerError, match="could not be written") as caught:
        document.write(state)

    assert caught.value.retryable
    assert not isinstance(caught.value, ReplacedError)


def test_a_worker_whose_task_instance_was_replaced_reads_nothing_and_can_write_nothing(
    store, document, state
):
    document.write(state)
    newer = Document(store.accessor(), IMAGE_KEY, ImageTaskState)

    assert document.read() is None
    with pytest.raises(ReplacedError, match="another worker goes on"):
        document.write(state)
    assert newer.read() == state


GOLDEN = """{
 "version": 1, "clear_epoch": 3, "records_at": null,
 "records": [],
 "waiting": {"fingerprint": "f", "generation_id": null, "deadline": 1775387508.25, "reused": true}
}"""


def test_what_was_written_first_can_be_read_by_every_later_release(store, document):
    # Written by hand: version 1, as it lies in databases. The records in it are pinned in their own tests.
    store.texts[IMAGE_KEY] = GOLDEN

    state = document.read()

    assert (state.clear_epoch, state.records) == (3, ())
    assert state.waiting == Waiting(
        fingerprint="f", generation_id=None, deadline=1_775_387_508.25, reused=True
    )
    assert json.loads(state.model_dump_json()) == json.loads(GOLDEN)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [], {}])
def test_a_document_of_another_version_is_an_error_that_says_so(store, document, version):
    store.texts[IMAGE_KEY] = json.dumps(json.loads(GOLDEN) | {"version": version})

    with pytest.raises(LedgerError, match=r"This release reads version 1\.\nUpgrade"):
        document.read()


@pytest.mark.parametrize("junk", [[], "ledger", 5, True, {}, {"records": []}], ids=repr)
def test_something_else_under_the_key_is_an_error_not_an_empty_document(store, document, junk):
    store.texts[IMAGE_KEY] = json.dumps(junk)

    with pytest.raises(LedgerError, match="version None"):
        document.read()


@pytest.mark.parametrize(
    "damage",
    [
        {"clear_epoch": None},
        {"clear_epoch": -1},
        {"clear_epoch": "many"},
        {"records": [1]},
        {"records": [{"state": "paid"}]},
        {"records": {}},
        {"records_at": 5},
        {"waiting": {"fingerprint": "f"}},
    ],
    ids=str,
)
def test_a_document_that_makes_no_sense_is_an_error_not_an_empty_one(store, document, damage):
    store.texts[IMAGE_KEY] = json.dumps(json.loads(GOLDEN) | damage)

    with pytest.raises(LedgerError, match="makes no sense"):
        document.read()
