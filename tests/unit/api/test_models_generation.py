from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.rules import check_generation_id

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"

# Both word for word from the API document.
COMPLETED = {
    "id": "397ce9f2-c04e-4244-ac33-3af19a7cc297",
    "status": "completed",
    "model": "gpt-image-2",
    "created_at": 1775383908,
    "completed_at": 1775383910,
    "output": {
        "urls": ["https://file.aivideoapi.ai/images/2026/04/05/abc123.png"],
        "metadata": {"model": "gpt-image-2-image-to-image", "costTime": 70},
    },
}
FAILED = {
    "id": "57c8772c-f834-46f3-9b7d-81f92e104050",
    "status": "failed",
    "model": "gpt-image-2",
    "created_at": 1775383908,
    "error": {"code": "upstream_error", "message": "Generation failed"},
}


def test_the_documents_completed_answer_is_read():
    generation = Generation.model_validate(COMPLETED)

    assert generation.id == ID
    assert generation.finished
    assert generation.model == "gpt-image-2"
    assert generation.created_at == datetime(2026, 4, 5, 10, 11, 48, tzinfo=UTC)
    assert generation.completed_at == datetime(2026, 4, 5, 10, 11, 50, tzinfo=UTC)
    assert generation.urls == ("https://file.aivideoapi.ai/images/2026/04/05/abc123.png",)
    assert generation.output.metadata == {"model": "gpt-image-2-image-to-image", "costTime": 70}


def test_the_documents_failed_answer_is_read():
    generation = Generation.model_validate(FAILED)

    assert generation.finished
    assert generation.urls == ()
    assert generation.error.code == "upstream_error"
    assert generation.error.message == "Generation failed"
    assert generation.completed_at is None


@pytest.mark.parametrize(
    ("status", "finished"),
    [("pending", False), ("processing", False), ("completed", True), ("failed", True), ("queued", False)],
)
def test_only_completed_and_failed_are_the_end(status, finished):
    assert Generation(id=ID, status=status).finished is finished


def test_several_images_stay_in_order():
    urls = ["https://h/2.png", "https://h/1.png"]

    assert Generation(id=ID, status="completed", output={"urls": urls}).urls == tuple(urls)


def test_what_is_not_known_is_ignored():
    generation = Generation.model_validate({**COMPLETED, "progress": 1, "output": {"urls": [], "more": 1}})

    assert generation.urls == ()


@pytest.mark.parametrize(
    "junk", ["2026-04-05", None, True, [], {}, float("nan"), float("inf"), 1e300, -1e18, 10**400, "\ud800"]
)
def test_a_time_that_makes_no_sense_is_no_reason_to_lose_an_image(junk):
    generation = Generation.model_validate({**COMPLETED, "created_at": junk, "completed_at": junk})

    assert generation.created_at is None
    assert generation.completed_at is None
    assert generation.urls


@pytest.mark.parametrize("junk", [5, None, [], {}, True])
def test_what_nothing_depends_on_may_be_of_the_wrong_type(junk):
    generation = Generation.model_validate(
        {**FAILED, "model": junk, "error": {"code": junk, "message": junk, "type": junk}}
    )

    assert generation.status == "failed"
    assert generation.model is None
    assert generation.error.code is None
    assert generation.error.message is None


@pytest.mark.parametrize("junk", [5, None, [], "x"])
def test_metadata_that_is_no_table_is_an_empty_one(junk):
    generation = Generation.model_validate(
        {**COMPLETED, "output": {"urls": ["https://h/"], "metadata": junk}}
    )

    assert generation.output.metadata == {}


@pytest.mark.parametrize("field", ["output", "error"])
def test_an_absent_part_may_be_said_as_null(field):
    assert Generation.model_validate({"id": ID, "status": "pending", field: None}).urls == ()


@pytest.mark.parametrize("output", [{"urls": None}, {}, []])
def test_a_generation_that_is_not_completed_needs_no_images(output):
    generation = Generation.model_validate({"id": ID, "status": "processing", "output": output})

    assert generation.urls == ()


@pytest.mark.parametrize("error", ["Generation failed", [], ["upstream_error"], 5])
def test_a_failed_generation_is_known_to_have_failed_however_oddly_it_says_why(error):
    generation = Generation.model_validate({**FAILED, "error": error})

    assert generation.status == "failed"


@pytest.mark.parametrize("status", [None, 5, "", "  ", [], True])
def test_a_status_that_is_no_word_is_not_guessed_at(status):
    with pytest.raises(ValidationError):
        Generation.model_validate({**COMPLETED, "status": status})


@pytest.mark.parametrize("urls", [[5], [None], {"a": 1}, 5, [["https://h/"]]])
def test_addresses_that_are_no_list_of_texts_are_not_guessed_at(urls):
    with pytest.raises(ValidationError):
        Generation.model_validate({**COMPLETED, "output": {"urls": urls}})


@pytest.mark.parametrize("urls", ["https://h/1.png", ["https://h/1.png", None], [5, "https://h/1.png"]])
def test_an_address_is_not_lost_for_what_is_odd_about_the_list(urls):
    assert Generation.model_validate({**COMPLETED, "output": {"urls": urls}}).urls == ("https://h/1.png",)


@pytest.mark.parametrize("status", ["Completed", " COMPLETED\n", "completed"])
def test_a_status_is_known_however_it_is_written(status):
    assert Generation.model_validate({**COMPLETED, "status": status}).finished


@pytest.mark.parametrize("generation_id", [ID, "a", "A_b-9", "0" * 128])
def test_what_can_be_an_id_is_taken(generation_id):
    assert check_generation_id(generation_id) == generation_id


@pytest.mark.parametrize(
    "value",
    [
        None,
        5.5,
        True,
        "",
        " ",
        "-a",
        "_a",
        "a/b",
        "..",
        "../x",
        "a?b",
        "a#b",
        "a%2f",
        "a b",
        "a\n",
        "a\r\nx: y",
        "a\x00",
        "é",
        "\ud800",
        "a" * 129,
        b"a",
        ["a"],
    ],
)
def test_what_could_be_anything_else_in_a_path_or_a_log_is_no_id(value):
    with pytest.raises(ValueError, match="not a generation id"):
        check_generation_id(value)

    with pytest.raises(ValidationError):
        Generation.model_validate({"id": value, "status": "pending"})


def test_a_generation_survives_pickling():
    generation = Generation.model_validate(COMPLETED)

    assert pickle.loads(pickle.dumps(generation)) == generation


def test_a_generation_comes_back_from_its_own_dump_with_its_times():
    generation = Generation.model_validate({"id": "a", "status": "completed", "created_at": 1775383908})

    again = Generation.model_validate(generation.model_dump())

    assert again == generation
    assert again.created_at is not None


def test_metadata_that_cannot_be_told_is_an_empty_one():
    endless = {}
    endless["again"] = endless

    generation = Generation.model_validate(
        {**COMPLETED, "output": {"urls": ["https://h/"], "metadata": endless}}
    )

    assert generation.output.metadata == {}


def test_metadata_has_no_signature_of_an_address_wherever_it_stands():
    found = {"sources": ["https://h/a.png?Signature=secret", 1], "https://h/?key=secret": None}

    generation = Generation.model_validate(
        {**COMPLETED, "output": {"urls": ["https://h/"], "metadata": found}}
    )

    assert "sources" in generation.output.metadata
    assert "secret" not in repr(generation.output.metadata)


def test_metadata_that_is_too_large_for_xcom_says_how_large_it_was():
    generation = Generation.model_validate(
        {**COMPLETED, "output": {"urls": ["https://h/"], "metadata": {"log": "x" * 3_000}}}
    )

    assert generation.output.metadata == {"omitted": "3,011 characters"}


def test_metadata_of_a_megabyte_says_so_too_and_is_not_looked_through():
    generation = Generation.model_validate(
        {**COMPLETED, "output": {"urls": ["https://h/"], "metadata": {"log": ["x"] * 200_000}}}
    )

    assert generation.output.metadata == {"omitted": "1,000,009 characters"}


def test_a_hundred_images_are_taken_and_more_are_none_of_the_apis_answers():
    urls = [f"https://h/{number}.png" for number in range(101)]

    taken = Generation.model_validate({**COMPLETED, "output": {"urls": urls[:100]}})

    assert len(taken.urls) == 100
    with pytest.raises(ValidationError):
        Generation.model_validate({**COMPLETED, "output": {"urls": urls}})
