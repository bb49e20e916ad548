"""Answers, generations and images that are wrong, over a real socket."""

from __future__ import annotations

import io
import json
import pathlib

import pytest
from PIL import Image

from airflow_gpt_image.emulator.error_table import ROWS
from airflow_gpt_image.emulator.fault_kinds import KINDS

# Answers that are wrong.


@pytest.mark.parametrize("place", ["submit", "get", "credits"])
def test_json_can_be_damaged_everywhere(submit, read, emulator, place):
    for kind in ("broken_json", "garbage", "empty", "html", "not_object", "envelope=402", "extra"):
        emulator.fault(f"{place}:{kind}*1")

    answers = [submit() if place == "submit" else read(place) for _ in range(7)]

    assert [answer.status_code for answer in answers] == [200] * 7
    broken, garbage, empty, page, listed, envelope, extra = answers
    assert not is_json(broken.content)
    assert not is_json(garbage.content)
    assert empty.content == b""
    assert page.headers["content-type"].startswith("text/html")
    assert isinstance(listed.json(), list)
    assert envelope.json() == {"code": 402, "msg": "Something went wrong", "data": None}
    assert "x_new_field" in extra.json()


def is_json(content):
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("place", ["submit", "get", "credits", "file"])
def test_an_answer_can_be_huge_everywhere(submit, read, emulator, place):
    emulator.fault(place, "huge", 2)

    answer = submit() if place == "submit" else read(place)

    assert len(answer.content) > 2_000_000
    assert answer.headers["content-length"] == str(len(answer.content))
    assert place == "file" or is_json(answer.content)


@pytest.mark.parametrize("place", ["submit", "get", "credits", "file"])
def test_an_answer_can_send_the_client_elsewhere(submit, read, emulator, place):
    emulator.fault(place, "redirect", "https://example.com/elsewhere", times=1)
    emulator.fault(place, "redirect", "https://example.com/elsewhere", status=302)

    answers = [submit() if place == "submit" else read(place) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [307, 302]
    assert answers[0].headers["location"] == "https://example.com/elsewhere"


def test_a_submit_can_be_answered_without_an_id(submit, emulator):
    emulator.fault("submit:missing_id")

    assert submit().json() == {"code": 200, "msg": "success", "data": {}}


def test_a_submit_can_be_answered_with_a_dangerous_id(submit, emulator):
    emulator.fault("submit:junk_id*1")
    emulator.fault("submit:junk_id=a b")

    ids = [submit().json()["data"]["taskId"] for _ in range(2)]

    assert ids == ["../../v1/credits", "a b"]


def test_a_submit_can_be_answered_with_the_id_of_an_earlier_one(submitted, emulator):
    emulator.fault("submit:repeated_id*1")

    ids = [submitted(prompt) for prompt in ("a cat", "a dog", "a fox")]

    charged = {charge["task_id"]: charge["request"]["prompt"] for charge in emulator.books()["charges"]}
    assert ids[0] == ids[1] != ids[2]
    assert charged[ids[0]] == "a cat"
    assert list(charged.values()) == ["a cat", "a dog", "a fox"]
    assert emulator.books()["charged"] == "14.1"


def test_the_earlier_submit_is_one_that_the_fault_names(submitted, emulator):
    emulator.fault("submit:repeated_id*1;match=red")
    emulator.fault("submit:repeated_id=3*1")

    ids = [submitted(prompt) for prompt in ("a red cat", "a dog", "a red fox", "an owl")]

    assert ids[2] == ids[0]
    assert ids[3] == ids[0]
    assert emulator.books()["submits"] == 4


def test_an_earlier_id_can_come_without_acceptance(submitted, emulator):
    emulator.fault("submit:repeated_id*1;accepted=no")

    ids = [submitted(), submitted()]

    assert ids[0] == ids[1]
    assert emulator.books()["submits"] == 1


def test_a_get_can_tell_of_another_generation(completed, get, emulator):
    generation_id = completed()
    emulator.fault("get:wrong_id")

    answer = get(generation_id).json()

    assert answer["id"] != generation_id
    assert answer["status"] == "completed"


def test_a_get_can_have_a_status_nobody_knows(submitted, get, emulator):
    generation_id = submitted()
    emulator.fault("get:unknown_status*1")
    emulator.fault("get:unknown_status=archived")

    statuses = [get(generation_id).json()["status"] for _ in range(2)]

    assert statuses == ["queued", "archived"]


def test_a_generation_can_be_completed_without_an_image(submitted, get, emulator, clock):
    emulator.fault("get:no_urls*1")
    generation_id = submitted()
    pending = get(generation_id).json()
    clock.advance(10)

    without, proper = get(generation_id).json(), get(generation_id).json()

    assert pending["status"] == "pending"
    assert without["status"] == "completed"
    assert without["output"]["urls"] == []
    assert len(proper["output"]["urls"]) == 1


def test_an_image_can_be_said_to_be_anywhere(completed, get, emulator):
    emulator.fault("get:foreign_url=http://169.254.169.254/latest")

    assert get(completed()).json()["output"]["urls"] == ["http://169.254.169.254/latest"]


def test_the_addresses_of_images_can_be_signed(completed, get, emulator, api):
    emulator.fault("get:signed=s3cret")

    [url] = get(completed()).json()["output"]["urls"]

    assert url.endswith(".png?X-Amz-Signature=s3cret")
    assert api.get(url).content.startswith(b"\x89PNG")


# Generations.


@pytest.mark.parametrize("code", [*ROWS, "never_heard_of"])
def test_a_generation_can_fail_with_any_code_and_is_refunded(completed, get, emulator, code):
    emulator.fault("generation", "failed", code)

    answer = get(completed()).json()

    assert (answer["status"], answer["error"]["code"]) == ("failed", code)
    assert emulator.books()["balance"] == "100"


@pytest.mark.parametrize("stage", ["pending", "processing"])
def test_a_generation_can_go_on_for_ever(completed, get, clock, emulator, stage):
    emulator.fault("generation", "never", stage)
    generation_id = completed()
    clock.advance(1e6)

    assert get(generation_id).json()["status"] == stage


def test_a_generation_can_take_its_own_time(submitted, get, clock, emulator):
    emulator.fault("generation:takes=60;match=castle")
    slow, quick = submitted("a castle"), submitted("a cat")
    clock.advance(59)
    early = [get(generation_id).json()["status"] for generation_id in (slow, quick)]
    clock.advance(1)

    assert early == ["processing", "completed"]
    assert get(slow).json()["status"] == "completed"


def test_a_generation_can_be_unknown_at_first(submitted, get, clock, emulator):
    emulator.fault("generation:unseen=2")
    generation_id = submitted()
    early = get(generation_id)
    clock.advance(2)

    assert early.status_code == 404
    assert early.json()["error"]["code"] == "task_not_found"
    assert get(generation_id).status_code == 200


@pytest.mark.parametrize(("spec", "statuses"), [("forgotten", [404, 404]), ("forgotten=5", [200, 404])])
def test_a_generation_can_be_forgotten(submitted, get, clock, emulator, spec, statuses):
    emulator.fault(f"generation:{spec}")
    generation_id = submitted()
    early = get(generation_id).status_code
    clock.advance(5)

    assert [early, get(generation_id).status_code] == statuses
    assert emulator.books()["charged"] == "4.7"


def test_a_generation_can_have_several_images_all_different(completed, get, api, emulator):
    emulator.fault("generation:images=3")

    urls = get(completed()).json()["output"]["urls"]
    images = [api.get(url) for url in urls]

    assert [image.status_code for image in images] == [200] * 3
    assert len({image.content for image in images}) == 3


# Images.


@pytest.mark.parametrize("status", ["403", "404", "410", "500", "503"])
def test_the_file_host_has_errors_of_its_own(read, emulator, status):
    emulator.fault("file", status)

    answer = read("file")

    assert answer.status_code == int(status)
    assert answer.headers["content-type"] == "application/xml"
    assert b"<Error><Code>" in answer.content


@pytest.mark.parametrize(("kind", "form"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_png_address_can_give_another_format(read, emulator, kind, form):
    emulator.fault("file", kind, times=1)
    emulator.fault("file", kind, content_type="image/png")

    honest, lying = read("file"), read("file")

    assert Image.open(io.BytesIO(honest.content)).format == form
    assert honest.headers["content-type"] == f"image/{kind}"
    assert lying.headers["content-type"] == "image/png"
    assert lying.content == honest.content


def test_an_image_can_have_the_wrong_size(read, emulator):
    emulator.fault("file:wrong_size*1")
    emulator.fault("file:wrong_size=640x480")

    sizes = [Image.open(io.BytesIO(read("file").content)).size for _ in range(2)]

    assert sizes == [(512, 512), (640, 480)]


def test_an_image_can_have_the_wrong_content_type(read, emulator):
    emulator.fault("file:wrong_type*1")
    emulator.fault("file:wrong_type=text/html")

    answers = [read("file") for _ in range(2)]

    assert [answer.headers["content-type"].partition(";")[0] for answer in answers] == [
        "application/octet-stream",
        "text/html",
    ]
    assert all(answer.content.startswith(b"\x89PNG") for answer in answers)


def test_an_image_can_be_html(read, emulator):
    emulator.fault("file:html")

    answer = read("file")

    assert answer.status_code == 200
    assert b"<html>" in answer.content


def test_an_image_can_be_damaged_in_the_middle(read, emulator):
    proper = read("file").content
    emulator.fault("file:corrupt")

    damaged = read("file").content

    assert len(damaged) == len(proper)
    assert damaged != proper
    with pytest.raises((OSError, SyntaxError)):
        Image.open(io.BytesIO(damaged)).load()


def test_every_kind_of_fault_is_demonstrated_in_this_folder():
    tests = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))

    missing = [name for name in KINDS if name not in tests]

    assert missing == []
