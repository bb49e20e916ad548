"""The documented endpoints, answered as documented."""

from __future__ import annotations

import uuid
from email.utils import formatdate

import pytest

from airflow_gpt_image.emulator.error_table import ROWS


def test_a_submit_is_answered_as_in_the_document(submit):
    answer = submit("a red bicycle")

    generation_id = answer.json()["data"]["taskId"]
    assert answer.status_code == 200
    assert answer.json() == {"code": 200, "msg": "success", "data": {"taskId": generation_id}}
    assert str(uuid.UUID(generation_id)) == generation_id


def test_a_new_generation_is_pending(submitted, get):
    generation_id = submitted()

    answer = get(generation_id)

    assert answer.json() == {
        "id": generation_id,
        "status": "pending",
        "model": "gpt-image-2",
        "created_at": 1775383908,
    }


def test_a_generation_goes_through_processing(submitted, get, clock):
    generation_id = submitted()
    clock.advance(9.9)

    answer = get(generation_id)

    assert answer.json()["status"] == "processing"
    assert set(answer.json()) == {"id", "status", "model", "created_at"}


def test_a_completed_generation_has_its_image_and_metadata(completed, get, emulator):
    generation_id = completed()

    answer = get(generation_id)

    assert answer.json() == {
        "id": generation_id,
        "status": "completed",
        "model": "gpt-image-2",
        "created_at": 1775383908,
        "completed_at": 1775383918,
        "output": {
            "urls": [f"{emulator.url}/files/images/{generation_id}.png"],
            "metadata": {"model": "gpt-image-2-text-to-image", "costTime": 10},
        },
    }


def test_an_edit_names_its_mode_in_the_metadata(completed, get):
    generation_id = completed(image_urls=["https://example.com/source.png"])

    metadata = get(generation_id).json()["output"]["metadata"]

    assert metadata["model"] == "gpt-image-2-image-to-image"


def test_a_failed_generation_has_its_error(completed, get, emulator):
    emulator.fault("generation:failed")
    generation_id = completed()

    answer = get(generation_id)

    assert answer.json() == {
        "id": generation_id,
        "status": "failed",
        "model": "gpt-image-2",
        "created_at": 1775383908,
        "error": {"code": "upstream_error", "message": "Generation failed"},
    }


def test_an_unknown_generation_is_not_found(get):
    answer = get("397ce9f2-c04e-4244-ac33-3af19a7cc297")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "task_not_found"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_generation_is_seen_only_by_the_key_that_submitted_it(submitted, api):
    generation_id = submitted()

    answer = api.get(f"/v1/tasks/{generation_id}", headers={"authorization": "Bearer sk-colleague"})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "task_not_found"


def test_two_keys_share_one_account(submitted, api):
    submitted()

    answer = api.get("/v1/credits", headers={"authorization": "Bearer sk-colleague"})

    assert answer.json()["data"]["total_consumed"] == 5


def test_the_balance_comes_in_the_envelope_and_in_whole_credits(api, submitted, emulator):
    new = api.get("/v1/credits").json()
    submitted()
    used = api.get("/v1/credits").json()

    assert new == {
        "code": 200,
        "msg": "success",
        "data": {"balance": 100, "total_purchased": 100, "total_consumed": 0},
    }
    assert used["data"] == {"balance": 95, "total_purchased": 100, "total_consumed": 5}
    assert all(type(number) is int for number in used["data"].values())
    assert emulator.books()["balance"] == "95.3"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer sk-wrong", "Basic sk-emulator", "sk-emulator"]
)
@pytest.mark.parametrize(
    "request_line", ["POST /v1/images/generations", "GET /v1/tasks/x", "GET /v1/credits"]
)
def test_without_an_accepted_key_nothing_is_answered(anonymous, emulator, header, request_line):
    method, path = request_line.split()
    headers = {} if header is None else {"authorization": header}

    answer = anonymous.request(method, path, headers=headers)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.json()["error"]["type"] == "authentication_error"
    assert emulator.books()["requests"]["rejected"] == {"invalid_api_key": 1}


def test_who_cannot_pay_is_told_so_in_the_words_of_the_document(submit, emulator):
    emulator.settings(credits="4.6")

    answer = submit()

    assert answer.status_code == 402
    assert answer.json() == {
        "error": {
            "code": "insufficient_credits",
            "message": "Your credit balance is too low. Please top up.",
            "type": "billing_error",
        }
    }
    assert emulator.books()["submits"] == 0


def test_the_last_credits_can_be_spent(submit, emulator):
    emulator.settings(credits="4.7")

    answer = submit()

    assert answer.status_code == 200
    assert emulator.books()["balance"] == "0"


def test_too_many_submits_are_told_how_long_to_wait(submit, emulator, clock):
    emulator.settings(rate_limit=2)

    statuses = [submit().status_code for _ in range(3)]
    answer = submit()
    clock.advance(0.5)
    later = submit()

    assert statuses == [200, 200, 429]
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["retry-after"] == "1"
    assert later.status_code == 200


def test_a_slow_rate_limit_gives_a_long_wait(submit, emulator, clock):
    emulator.settings(rate_limit=0.1)
    submit()

    refused = submit()
    clock.advance(10)
    accepted = submit()

    assert refused.headers["retry-after"] == "10"
    assert accepted.status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/credits", "/v1/tasks/x", "/files/images/x.png", "/nowhere", "/_emulator/health"]
)
def test_every_answer_has_a_request_id(api, path):
    ids = {api.get(path).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2", 404), ("GET", "/v1/credits/", 404), ("PUT", "/v1/credits", 405)],
)
def test_what_is_no_endpoint_is_refused_in_json(api, method, path, status):
    answer = api.request(method, path)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "invalid_request"


def test_the_error_table_is_the_documents():
    table = {(row.status, code, row.type) for code, row in ROWS.items()}

    assert table == {
        (400, "invalid_request", "invalid_request_error"),
        (401, "invalid_api_key", "authentication_error"),
        (402, "insufficient_credits", "billing_error"),
        (403, "ip_not_allowed", "permission_error"),
        (404, "model_not_found", "invalid_request_error"),
        (404, "task_not_found", "invalid_request_error"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        (429, "spend_limit_exceeded", "billing_error"),
        (500, "internal_error", "api_error"),
        (503, "upstream_error", "upstream_error"),
    }


def test_an_image_needs_no_key(image, anonymous, emulator):
    url = image()

    answer = anonymous.get(url)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert emulator.books()["seen_authorization_on_files"] == 0


def test_a_key_that_leaks_to_the_file_host_is_noticed(image, api, emulator):
    url = image()

    api.get(url)

    assert emulator.books()["seen_authorization_on_files"] == 1


def test_an_image_downloaded_twice_has_the_same_bytes(image, api):
    url = image()

    first, second = api.get(url), api.get(url)

    assert first.content == second.content


def test_an_image_lives_for_a_day_or_as_long_as_it_was_asked_for(image, api, emulator, clock):
    url = image()

    clock.advance(24 * 3600 - 1)
    assert api.get(url).status_code == 200
    clock.advance(1)
    assert api.get(url).status_code == 404
    emulator.settings(image_life=48 * 3600)
    assert api.get(url).status_code == 200


def test_every_answer_says_what_time_it_is_by_the_emulators_own_clock(image, api, clock):
    url = image()
    clock.advance(3600)

    for answer in (api.get(url), api.get("/v1/credits"), api.get("/nowhere")):
        assert answer.headers.get_list("date") == [formatdate(clock(), usegmt=True)]


def test_there_is_no_image_before_the_generation_is_completed(submitted, api):
    generation_id = submitted()

    answer = api.get(f"/files/images/{generation_id}.png")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/xml"


@pytest.mark.parametrize("name", ["{}-2.png", "{}-1.png", "{}.jpg", "{}", "..", "x.png"])
def test_a_generation_has_no_images_but_its_own(completed, api, name):
    generation_id = completed()

    answer = api.get(f"/files/images/{name.format(generation_id)}")

    assert answer.status_code == 404


def test_images_can_live_on_another_host_than_the_api(image, emulator):
    emulator.settings(files_url="http://localhost:1")

    url = image()

    assert url.startswith("http://localhost:1/files/images/")
