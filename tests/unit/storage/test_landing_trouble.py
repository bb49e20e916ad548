"""Landing in bad company: killed workers, others in the same folder, full disks, sidecars that lie."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_gpt_image import results
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import DestinationError, ImageExpiredError
from airflow_gpt_image.ledger import fingerprint
from airflow_gpt_image.storage.folders import open_folder
from airflow_gpt_image.storage.landing import Landing
from airflow_gpt_image.storage.names import OF_REQUEST
from tests.log_lines import Lines

REQUEST = ImageRequest(prompt="a red bicycle")
FINGERPRINT = fingerprint(REQUEST, conn_id="c", host="h")


def landing(place, template=OF_REQUEST, **options):
    return Landing(open_folder(place.destination), template=template, **options)


def land(place, client, generation, **options):
    told = results.of_generation(generation) | results.of_request(REQUEST, FINGERPRINT)
    return landing(place, **options).land(client, generation, told, REQUEST, Lines())


def find(place, log=None, **options):
    return landing(place, **options).found(FINGERPRINT, REQUEST, log or Lines())


def visible(place):
    return [name for name in place.names() if not name.rpartition("/")[2].startswith(".")]


def until(true):
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.005)


# Killed workers

_LANDING = """
    import sys
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation
    from airflow_gpt_image.storage.folders import open_folder
    from airflow_gpt_image.storage.landing import Landing

    class Silence:
        info = warning = lambda *_: None

    url, key, folder, generation_id, image = sys.argv[1:]
    generation = Generation(id=generation_id, status="completed", output={"urls": [image]})
    with GptImageClient(api_key=key, base_url=url) as client:
        print("here", flush=True)
        Landing(open_folder(folder)).land(client, generation, {}, None, Silence())
    print("landed", flush=True)
"""


def worker(emulator, place, generation):
    arguments = [emulator.url, emulator.key, place.destination, generation.id, generation.urls[0]]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_LANDING), *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_worker_killed_while_the_image_arrives_leaves_nothing_to_be_seen(emulator, made, client, place):
    generation = made()
    emulator.fault("file:drip=30*1")
    before = emulator.books()["requests"]["download"]
    with worker(emulator, place, generation) as killed:
        until(lambda: emulator.books()["requests"]["download"] > before)

        killed.kill()

    assert killed.returncode == -9
    assert visible(place) == []
    (image,) = land(place, client, generation)
    assert place.read(f"{FINGERPRINT}-0.png") == open_folder(place.destination).read(f"{FINGERPRINT}-0.png")
    assert len(place.read(f"{FINGERPRINT}-0.png")) == image.bytes


def test_a_worker_killed_in_the_middle_of_an_upload_leaves_nothing_to_be_seen(emulator, made, client, bucket):
    generation = made()
    emulator.fault("file:huge=100*1")
    with worker(emulator, bucket, generation) as killed:
        until(bucket.unfinished_uploads)

        killed.kill()

    assert killed.returncode == -9
    assert bucket.names() == []
    land(bucket, client, generation)
    assert bucket.names() == [f"{FINGERPRINT}-0.json", f"{FINGERPRINT}-0.png"]


def test_a_worker_killed_while_it_replaces_an_image_leaves_the_old_one_whole(emulator, made, client, place):
    generation = made()
    (before,) = land(place, client, generation, template="{generation_id}-{index}")
    emulator.fault("file:drip=30*1")
    downloads = emulator.books()["requests"]["download"]
    with worker(emulator, place, generation) as killed:
        until(lambda: emulator.books()["requests"]["download"] > downloads)

        killed.kill()

    kept = place.read(f"{generation.id}-0.png")
    assert hashlib.sha256(kept).hexdigest() == before.sha256
    assert len(visible(place)) == 2


# Others at work


def test_two_workers_that_land_the_same_generation_at_once_leave_one_whole_image(
    emulator, made, client, place
):
    generation = made()
    emulator.fault("file:drip=0.2")

    with ThreadPoolExecutor(4) as at_once:
        landed = list(at_once.map(lambda _: land(place, client, generation), range(4)))

    assert len({images[0].sha256 for images in landed}) == 1
    assert place.names() == [f"{FINGERPRINT}-0.json", f"{FINGERPRINT}-0.png"]
    assert hashlib.sha256(place.read(f"{FINGERPRINT}-0.png")).hexdigest() == landed[0][0].sha256
    assert find(place)["images"][0]["sha256"] == landed[0][0].sha256


def test_generations_that_land_in_one_folder_at_once_do_not_meet(emulator, made, client, place):
    generations = [made(ImageRequest(prompt=f"bicycle {number}")) for number in range(6)]
    emulator.fault("file:drip=0.1")

    with ThreadPoolExecutor(6) as at_once:
        options = {"template": "{generation_id}-{index}"}
        landed = list(at_once.map(lambda generation: land(place, client, generation, **options), generations))

    for generation, (image,) in zip(generations, landed, strict=True):
        assert hashlib.sha256(place.read(f"{generation.id}-0.png")).hexdigest() == image.sha256
    assert len({image.sha256 for (image,) in landed}) == 6
    assert len(place.names()) == 12


def test_a_disk_that_is_full_says_where_and_landing_again_works(made, client, place):
    generation = made()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        with pytest.raises(DestinationError, match="could not be read or written"):
            land(place, client, generation)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert place.names() == []
    land(place, client, generation)
    assert len(place.names()) == 2


# Sidecars


def test_a_sidecar_says_what_was_asked_for_what_it_cost_and_what_arrived(emulator, made, client, place):
    emulator.fault("generation:images=2*1")
    request = ImageRequest(
        prompt="a room",
        image_urls=["s3://conn@bucket/sofa.png", "https://example.com/a.png?token=hunter2"],
        callback_url="https://example.com/done?token=hunter2",
    )
    generation = made()
    told = results.of_generation(generation) | results.of_request(request, FINGERPRINT)

    images = landing(place).land(client, generation, told, request, Lines())

    for index, image in enumerate(images):
        text = place.read(f"{FINGERPRINT}-{index}.json").decode()
        sidecar = json.loads(text)
        assert sidecar["image"] == image.model_dump()
        assert (sidecar["version"], sidecar["index"], sidecar["count"]) == (1, index, 2)
        assert sidecar["request"]["prompt"] == "a room"
        assert sidecar["request"]["image_urls"] == ["s3://conn@bucket/sofa.png", "https://example.com/a.png"]
        assert sidecar["result"] == told
        assert (sidecar["result"]["credits"], sidecar["content_type"]) == ("4.7", "image/png")
        assert "hunter2" not in text


def test_what_was_stored_is_found_by_any_run(made, client, place):
    generation = made()
    images = land(place, client, generation)

    result = find(place)

    assert result["generation_id"] == generation.id
    assert result["images"] == [image.model_dump() for image in images]
    assert result["fingerprint"] == FINGERPRINT


def test_what_was_never_stored_is_not_found_and_that_is_no_news(place):
    log = Lines()

    assert find(place, log) is None
    assert log.warnings == []


@pytest.fixture
def stored(emulator, made, client, place):
    """A place with a generation of two images, and a way to change a sidecar of it."""
    emulator.fault("generation:images=2*1")
    land(place, client, made())

    def change(index=0, /, **fields):
        name = f"{FINGERPRINT}-{index}.json"
        place.write(name, json.dumps({**json.loads(place.read(name)), **fields}).encode())

    change.of = lambda name, index=0: json.loads(place.read(f"{FINGERPRINT}-{index}.json"))[name]
    return change


def _broken(place, stored):
    return {
        "half of it": place.read(f"{FINGERPRINT}-0.json")[:100],
        "nothing": b"",
        "no JSON": b"\x89PNG",
        "no object": b"[]",
        "another encoding": b"\xff\xfe{\x00}\x00",
        "somebody else's": b'{"name": "x"}',
        "endlessly deep": b"[" * 100_000,
        "an endless number": b'{"version": ' + b"1" * 10_000 + b"}",
        "a file of 3 MB": b" " * 3_000_000 + place.read(f"{FINGERPRINT}-0.json"),
    }


def test_a_sidecar_that_cannot_be_read_is_never_taken_for_nothing(place, stored):
    for data in _broken(place, stored).values():
        place.write(f"{FINGERPRINT}-0.json", data)

        with pytest.raises(DestinationError, match=r"-0\.json .*(remove|Remove)"):
            find(place)


OTHER_KINDS = [
    {"version": 2},
    {"version": "1"},
    {"index": -1},
    {"count": 0},
    {"count": 10**9},
    {"image": None},
    {"image": {"url": 5}},
    {"stored_at": "yesterday"},
    {"more": 1},
    {"result": []},
    {"result": {}},
    {"result": {"fingerprint": FINGERPRINT, "generation_id": None}},
    {"result": {"fingerprint": FINGERPRINT, "generation_id": "../../etc/passwd"}},
    {"result": {"fingerprint": FINGERPRINT, "generation_id": "a1"}},
]


def test_a_sidecar_of_another_kind_is_never_taken_for_nothing(stored, place):
    proper = place.read(f"{FINGERPRINT}-0.json")
    for fields in OTHER_KINDS:
        place.write(f"{FINGERPRINT}-0.json", proper)
        stored(**fields)

        with pytest.raises(DestinationError, match="no sidecar of this release"):
            find(place)


def _of_another_request(stored, place):
    for index in (0, 1):
        stored(index, result=stored.of("result") | {"fingerprint": "f" * 64})


def _of_two_generations(stored, place):
    stored(1, result=stored.of("result") | {"generation_id": "another"})


def _of_another_image(stored, place):
    place.write(f"{FINGERPRINT}-1.json", place.read(f"{FINGERPRINT}-0.json"))


def _of_another_place(stored, place):
    stored(1, index=0)


def _that_count_more(stored, place):
    stored(0, count=3)


def _of_an_image_that_is_gone(stored, place):
    place.delete(f"{FINGERPRINT}-1.png")


def _of_a_shorter_image(stored, place):
    place.write(f"{FINGERPRINT}-0.png", b"\x89PNG")


def _without_the_second(stored, place):
    place.delete(f"{FINGERPRINT}-1.json")


def _of_no_size(stored, place):
    stored(0, image=stored.of("image") | {"bytes": None})


LIES = [
    _of_another_request,
    _of_two_generations,
    _of_another_image,
    _of_another_place,
    _that_count_more,
    _of_an_image_that_is_gone,
    _of_a_shorter_image,
    _without_the_second,
    _of_no_size,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
def test_sidecars_that_do_not_fit_give_nobodys_image_and_are_told_before_anybody_pays(stored, place, lie):
    lie(stored, place)
    log = Lines()

    found = find(place, log)

    assert found is None
    assert len(log.warnings) == 1
    assert f"{FINGERPRINT}-0.json" in log.warnings[0]


def test_where_the_author_is_strict_an_image_of_another_size_is_not_found(emulator, made, client, place):
    emulator.fault("file:wrong_size=640x480*1")
    land(place, client, made())

    log = Lines()

    assert find(place) is not None
    assert find(place, log, strict_size=True) is None
    assert len(log.warnings) == 1


ELSEWHERE = ["/etc/passwd", "{place}/../../secret.png", "{place}/another.png", "s3://else@where/x.png"]


def test_a_sidecar_cannot_lead_to_another_file(stored, place):
    place.write("another.png", place.read(f"{FINGERPRINT}-0.png"))
    for path in ELSEWHERE:
        stored(image=stored.of("image") | {"path": path.format(place=place.destination)})

        found = find(place)

        assert found["images"][0]["path"] == f"{place.destination}/{FINGERPRINT}-0.png"


def test_images_are_found_where_the_folder_is_now(made, client, disk, tmp_path):
    # The same disk may be mounted elsewhere, and a bucket reached by another connection.
    land(disk, client, made())
    moved = tmp_path / "elsewhere"
    (tmp_path / "images").rename(moved)

    found = Landing(open_folder(moved), template=OF_REQUEST).found(FINGERPRINT, REQUEST, Lines())

    assert found["images"][0]["path"] == f"{moved}/{FINGERPRINT}-0.png"


# Images that are gone


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_expired_address_says_which_generation_it_was_and_what_can_be_done(
    emulator, made, client, place, status
):
    generation = made()
    emulator.fault(f"file:{status}")

    with pytest.raises(ImageExpiredError, match="on_clear='regenerate'") as raised:
        land(place, client, generation)

    assert generation.id in str(raised.value)
    assert raised.value.generation_id == generation.id
    assert place.names() == []
    assert emulator.books()["submits"] == 1
