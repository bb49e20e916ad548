"""Storing images in bad company: killed workers, others in the same folder, full disks."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.errors import DestinationError, DownloadError, ImageExpiredError
from airflow_gpt_image.storage.folders import open_folder
from airflow_gpt_image.storage.images import ImageFolder
from tests.log_lines import Lines
from tests.raw_server import RawServer

REQUEST = ImageRequest(prompt="a red bicycle")


def store(place, client, generation, stem="bicycle", **options):
    images = ImageFolder(open_folder(place.destination))
    files, _ = images.fetch_all(client, generation, [stem], REQUEST, Lines(), **options)
    return files


def visible(place):
    return [name for name in place.names() if not name.rpartition("/")[2].startswith(".")]


def until(true):
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.005)


# Killed workers

_STORING = """
    import sys
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation
    from airflow_gpt_image.storage.folders import open_folder
    from airflow_gpt_image.storage.images import ImageFolder

    class Silence:
        info = warning = lambda *_: None

    url, key, folder, generation_id, image = sys.argv[1:]
    generation = Generation(id=generation_id, status="completed", output={"urls": [image]})
    with GptImageClient(api_key=key, base_url=url) as client:
        print("here", flush=True)
        images = ImageFolder(open_folder(folder))
        images.fetch_all(client, generation, [f"{generation_id}-0"], None, Silence())
    print("stored", flush=True)
"""


def worker(emulator, place, generation):
    arguments = [emulator.url, emulator.key, place.destination, generation.id, generation.urls[0]]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_STORING), *arguments], stdout=subprocess.PIPE, text=True
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
    (image,) = store(place, client, generation)
    assert place.read("bicycle.png") == open_folder(place.destination).read("bicycle.png")
    assert len(place.read("bicycle.png")) == image.bytes


def test_a_worker_killed_in_the_middle_of_an_upload_leaves_nothing_to_be_seen(emulator, made, client, bucket):
    generation = made()
    emulator.fault("file:huge=100*1")
    with worker(emulator, bucket, generation) as killed:
        until(bucket.unfinished_uploads)

        killed.kill()

    assert killed.returncode == -9
    assert bucket.names() == []
    store(bucket, client, generation)
    assert bucket.names() == ["bicycle.png"]


def test_a_worker_killed_while_it_replaces_an_image_leaves_the_old_one_whole(emulator, made, client, place):
    generation = made()
    (before,) = store(place, client, generation, f"{generation.id}-0")
    emulator.fault("file:drip=30*1")
    downloads = emulator.books()["requests"]["download"]
    with worker(emulator, place, generation) as killed:
        until(lambda: emulator.books()["requests"]["download"] > downloads)

        killed.kill()

    kept = place.read(f"{generation.id}-0.png")
    assert hashlib.sha256(kept).hexdigest() == before.sha256
    assert len(visible(place)) == 1


# Others at work


def test_two_workers_that_land_the_same_generation_at_once_leave_one_whole_image(
    emulator, made, client, place
):
    generation = made()
    emulator.fault("file:drip=0.2")

    with ThreadPoolExecutor(4) as at_once:
        stored = list(at_once.map(lambda _: store(place, client, generation), range(4)))

    assert len({images[0].sha256 for images in stored}) == 1
    assert place.names() == ["bicycle.png"]
    assert hashlib.sha256(place.read("bicycle.png")).hexdigest() == stored[0][0].sha256


def test_generations_that_land_in_one_folder_at_once_do_not_meet(emulator, made, client, place):
    generations = [made(ImageRequest(prompt=f"bicycle {number}")) for number in range(6)]
    emulator.fault("file:drip=0.1")

    with ThreadPoolExecutor(6) as at_once:
        stored = list(at_once.map(lambda each: store(place, client, each, f"{each.id}-0"), generations))

    for generation, (image,) in zip(generations, stored, strict=True):
        assert hashlib.sha256(place.read(f"{generation.id}-0.png")).hexdigest() == image.sha256
    assert len({image.sha256 for (image,) in stored}) == 6
    assert len(place.names()) == 6


def test_a_disk_that_is_full_says_where_and_landing_again_works(made, client, disk):
    generation = made()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        with pytest.raises(DestinationError, match="could not be read or written"):
            store(disk, client, generation)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert disk.names() == []
    store(disk, client, generation)
    assert len(disk.names()) == 1


# Images that aren't there


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize(("age", "error"), [(90.0, DownloadError), (100_000.0, ImageExpiredError)])
def test_an_image_that_is_not_there_says_which_generation_it_was_and_what_can_be_done(
    emulator, made, client, place, status, age, error
):
    generation = made()
    emulator.fault(f"file:{status}")

    with pytest.raises(DownloadError, match="clear the task, and it is fetched again for nothing") as raised:
        store(place, client, generation, age=age)

    assert type(raised.value) is error
    assert "regenerate" not in str(raised.value)
    assert generation.id in str(raised.value)
    assert raised.value.generation_id == generation.id
    assert place.names() == []
    assert emulator.books()["submits"] == 1


# File hosts that name a wrong length


@pytest.fixture
def file_host(made):
    """A host that sends an image, or its beginning, under too long a length; then closes or is silent."""
    image = httpx.get(made().urls[0], trust_env=False).content
    servers = []

    def started(*, kept=None, silent=False):
        def behave(connection, server):
            server.ask(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + image[:kept])
            if silent:
                server.done.wait(10)

        servers.append(RawServer(behave))
        return servers[-1], image

    yield started
    for server in servers:
        server.close()


def _generation_at(server):
    return Generation(
        id="397ce9f2-c04e-4244-ac33-3af19a7cc297",
        status="completed",
        output={"urls": [f"{server.url}/1.png"]},
    )


@pytest.mark.parametrize("silent", [False, True], ids=["closes", "is silent"])
def test_an_image_under_a_length_that_is_too_long_is_stored_if_it_is_whole(connect, file_host, place, silent):
    server, image = file_host(silent=silent)

    store(place, connect(read_timeout=1.0), _generation_at(server))

    assert place.read("bicycle.png") == image
    assert server.connections == 1


def test_an_image_under_a_length_that_is_too_long_is_not_stored_if_its_end_is_missing(
    connect, file_host, place
):
    server, _ = file_host(kept=-1)

    with pytest.raises(DownloadError, match="did not arrive"):
        store(place, connect(), _generation_at(server))

    assert server.connections > 1
    assert place.names() == []
