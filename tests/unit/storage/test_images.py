"""Images are stored whole or not at all, under a name that says what they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import stat
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.errors import DownloadError, ImageRefusedError
from airflow_gpt_image.storage.folders import open_folder
from airflow_gpt_image.storage.images import ImageFolder
from tests.log_lines import Lines

REQUEST = ImageRequest(prompt="a red bicycle")


def store(client, generation, destination, request=REQUEST, log=None, **options):
    """Fetch a generation's images; the images as a result tells of them."""
    folder = open_folder(destination)
    stems = [f"{generation.id}-{index}" for index in range(len(generation.urls))]
    images = ImageFolder(folder, **options)
    files, warnings = images.fetch_all(client, generation, stems, request, log or Lines())
    assert list(warnings) == (log.warnings if log else list(warnings))
    return [file.located(folder) for file in files]


def store_at(place, client, generation, request=REQUEST):
    return store(client, generation, place.destination, request)


def names_of(generation, *, count=1, ending="png"):
    """The files of a generation's images."""
    return sorted(f"{generation.id}-{n}.{ending}" for n in range(count))


def test_an_image_is_stored_whole(made, client, place):
    generation = made()
    sent = httpx.get(generation.urls[0], trust_env=False).content

    (image,) = store_at(place, client, generation)

    assert image.path == f"{place.destination}/{generation.id}-0.png"
    assert place.read(f"{generation.id}-0.png") == sent
    assert image.url == generation.urls[0]
    assert image.sha256 == hashlib.sha256(sent).hexdigest()
    assert image.bytes == len(sent)
    assert (image.width, image.height) == Image.open(io.BytesIO(sent)).size == REQUEST.sizes[0]
    assert place.names() == names_of(generation)


@pytest.mark.parametrize("there", ["nothing", "this image", "another image"])
def test_an_image_whose_name_another_one_has_by_now_gets_a_name_of_its_own(made, client, place, there):
    generation, others = made(), made()
    images = ImageFolder(open_folder(place.destination))
    if there != "nothing":
        earlier = generation if there == "this image" else others
        images.fetch(client, earlier.urls[0], "shared", REQUEST)
    before = place.read("shared.png") if there != "nothing" else None

    image, _ = images.fetch(client, generation.urls[0], "shared", REQUEST, spare="shared~1")

    assert image.name == ("shared~1.png" if there == "another image" else "shared.png")
    assert hashlib.sha256(place.read(image.name)).hexdigest() == image.sha256
    assert before in (None, place.read("shared.png"))


def test_the_folder_is_made_with_all_above_it(made, client, place):
    generation = made()

    store(client, generation, f"{place.destination}/2026/04")

    assert place.names() == [f"2026/04/{name}" for name in names_of(generation)]


def test_a_file_address_leads_to_the_same_folder(made, client, disk):
    generation = made()

    images = store(client, generation, Path(disk.destination).as_uri())

    assert images[0].path == f"{disk.destination}/{generation.id}-0.png"


@pytest.mark.parametrize(("umask", "permissions"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_an_image_may_be_read_by_whom_the_umask_allows(made, client, disk, umask, permissions):
    generation = made()
    before = os.umask(umask)
    try:
        (image,) = store_at(disk, client, generation)
    finally:
        os.umask(before)

    assert stat.S_IMODE(Path(image.path).stat().st_mode) == permissions


def test_several_images_land_in_their_order(emulator, made, client, place):
    emulator.fault("generation:images=3")
    generation = made()
    sent = [httpx.get(url, trust_env=False).content for url in generation.urls]

    images = store_at(place, client, generation)

    assert [Path(image.path).name for image in images] == [f"{generation.id}-{n}.png" for n in range(3)]
    assert [place.read(Path(image.path).name) for image in images] == sent
    assert len({image.sha256 for image in images}) == 3


def test_images_of_several_generations_do_not_overwrite_each_other(made, client, place):
    first, second = made(), made(ImageRequest(prompt="a blue bicycle"))

    store_at(place, client, first)
    store_at(place, client, second)

    assert place.names() == sorted(names_of(first) + names_of(second))


def test_storing_twice_gives_the_same_file(made, client, place):
    generation = made()

    once = store_at(place, client, generation)
    twice = store_at(place, client, generation)

    assert once == twice
    assert place.names() == names_of(generation)


def test_an_existing_file_is_replaced_in_one_step(emulator, made, client, place):
    generation = made()
    name = f"{generation.id}-0.png"
    place.write(name, b"the old one, whole")
    emulator.fault("file:drip=0.4")
    seen = []

    storing = threading.Thread(target=store_at, args=(place, client, generation))
    storing.start()
    while storing.is_alive():
        seen.append(place.read(name))
        time.sleep(0.002)
    storing.join()

    assert seen[0] == b"the old one, whole"
    assert set(seen) <= {b"the old one, whole", place.read(name)}
    assert place.read(name).startswith(b"\x89PNG")


def test_while_an_image_arrives_no_glob_finds_it(emulator, made, client, place):
    generation = made()
    emulator.fault("file:drip=0.4")
    seen = set()

    storing = threading.Thread(target=store_at, args=(place, client, generation))
    storing.start()
    while storing.is_alive():
        seen |= set(place.names()) - set(names_of(generation))
        time.sleep(0.002)
    storing.join()

    assert [name for name in seen if not name.startswith(".")] == []
    assert place.names() == names_of(generation)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("file:truncated", DownloadError, "did not arrive"),
        ("file:html", DownloadError, "no PNG, JPEG or WebP"),
        ("file:empty", DownloadError, "sent nothing"),
        ("file:garbage", DownloadError, "no PNG, JPEG or WebP"),
        ("file:200;body=GIF89a, an animation;content_type=image/png", ImageRefusedError, "GIF89a"),
        ("file:200;body=RIFF....WAVEfmt ;content_type=image/webp", ImageRefusedError, "RIFF"),
        ("file:404", DownloadError, "isn't there"),
        ("file:403", DownloadError, "isn't there"),
        ("file:503", DownloadError, "503"),
        ("file:close", DownloadError, "did not arrive"),
        ("file:reset", DownloadError, "did not arrive"),
        ("file:redirect=http://images.example.com/x.png", ImageRefusedError, "https"),
        ("file:redirect=https://10.0.0.7/x.png", ImageRefusedError, "public hosts"),
        ("file:redirect=http://169.254.169.254/latest/meta-data", ImageRefusedError, "public hosts"),
        ("file:redirect=https://[fd00::7]/x.png", ImageRefusedError, "public hosts"),
    ],
)
def test_what_is_not_a_whole_image_leaves_nothing_behind(emulator, made, client, place, fault, error, words):
    generation = made()
    emulator.fault(fault)

    with pytest.raises(error, match=words):
        store_at(place, client, generation)

    assert place.names() == []


def test_what_is_not_a_whole_image_leaves_the_old_one_alone(emulator, made, client, place):
    generation = made()
    (before,) = store_at(place, client, generation)
    emulator.fault("file:truncated")

    with pytest.raises(DownloadError):
        store_at(place, client, generation)

    assert place.names() == names_of(generation)
    assert hashlib.sha256(place.read(Path(before.path).name)).hexdigest() == before.sha256


def test_an_image_that_comes_at_the_second_attempt_is_stored_whole(emulator, made, client, place):
    generation = made()
    emulator.fault("file:truncated*2")

    (image,) = store_at(place, client, generation)

    assert image.sha256 == hashlib.sha256(httpx.get(image.url, trust_env=False).content).hexdigest()
    assert emulator.faults()[0]["met"] == 2


def test_an_image_that_drips_for_too_long_is_given_up_and_leaves_nothing(emulator, made, connect, place):
    generation = made()
    emulator.fault("file:drip=30")

    with pytest.raises(DownloadError, match="did not arrive"):
        store_at(place, connect(read_timeout=0.2), generation)

    assert place.names() == []


def test_an_image_that_is_too_large_is_refused(made, connect, place):
    generation = made()

    with pytest.raises(ImageRefusedError, match="larger than 1,000 bytes"):
        store_at(place, connect(max_image_bytes=1000), generation)

    assert place.names() == []


def test_an_endless_image_is_given_up_at_the_largest_size(emulator, made, connect, place):
    generation = made()
    emulator.fault("file:huge=2000")
    started = time.monotonic()

    with pytest.raises(ImageRefusedError, match="larger than"):
        store_at(place, connect(max_image_bytes=5_000_000), generation)

    assert place.names() == []
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("form", "ending"), [("jpeg", "jpg"), ("webp", "webp")])
def test_an_image_is_named_after_what_it_is_and_not_after_its_address(
    emulator, made, client, place, form, ending
):
    generation = made()
    emulator.fault(f"file:{form};content_type=image/png")

    (image,) = store_at(place, client, generation)

    assert generation.urls[0].endswith(".png")
    assert Path(image.path).name == f"{generation.id}-0.{ending}"
    with Image.open(io.BytesIO(place.read(Path(image.path).name))) as picture:
        assert picture.format == form.upper()
    assert (image.width, image.height) == REQUEST.sizes[0]


def test_an_image_under_a_wrong_content_type_is_taken_for_what_it_is(emulator, made, client, place):
    generation = made()
    emulator.fault("file:wrong_type=image/jpeg")
    log = Lines()

    (image,) = store(client, generation, place.destination, log=log)

    assert Path(image.path).suffix == ".png"
    assert log.warnings == ["The file host calls the image 'image/jpeg'; by its content it is image/png."]


def test_a_wrong_pixel_size_is_kept_and_said(emulator, made, client, place):
    generation, log = made(), Lines()
    emulator.fault("file:wrong_size=640x480")

    (image,) = store(client, generation, place.destination, log=log)

    expected = " or ".join(map(str, REQUEST.sizes))
    assert (image.width, image.height) == (640, 480)
    assert log.warnings == [f"The image is 640x480 pixels; {expected} was asked for."]


def test_a_wrong_pixel_size_is_refused_where_the_author_is_strict(emulator, made, client, place):
    generation = made()
    emulator.fault("file:wrong_size=640x480")

    with pytest.raises(ImageRefusedError, match=r"640x480 pixels[\s\S]* strict_size"):
        store(client, generation, place.destination, strict_size=True)

    assert place.names() == []


def test_a_right_pixel_size_is_no_news(made, client, place):
    log = Lines()

    store(client, made(), place.destination, log=log, strict_size=True)

    assert log.warnings == []


def test_who_expects_no_size_is_not_warned_about_one(made, client, place, emulator):
    generation, log = made(), Lines()
    emulator.fault("file:wrong_size=640x480")

    store(client, generation, place.destination, request=None, log=log, strict_size=True)

    assert log.warnings == []


def test_the_api_key_never_reaches_the_file_host(emulator, made, client, place):
    # The same server under another name is another host.
    emulator.settings(files_url=emulator.url.replace("127.0.0.1", "localhost"))
    generation = made()

    store_at(place, client, generation)

    books = emulator.books()
    assert books["requests"]["download"] == 1
    assert books["seen_authorization_on_files"] == 0


@pytest.fixture
def host():
    """A file host that sends these bytes, says nothing of their number, and hangs up."""
    with contextlib.ExitStack() as stack:

        def serve(body):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.recv(65536)
                            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n" + body)

            thread = threading.Thread(target=answer)
            thread.start()
            stack.callback(thread.join)
            stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
            return f"http://127.0.0.1:{listener.getsockname()[1]}/image.png"

        yield serve


def drawn(form):
    image, file = Image.effect_noise((256, 256), 50).convert("RGB"), io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_image_of_unannounced_length_is_stored_whole(client, place, host, form):
    body = drawn(form)
    generation = Generation(id="a1", status="completed", output={"urls": [host(body)]})

    images = store(client, generation, place.destination)

    assert place.read(Path(images[0].path).name) == body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_image_cut_short_by_a_host_that_announced_no_length_is_not_taken_for_whole(
    client, place, host, form
):
    # Over HTTP such an end looks like any other; only the image itself says that half of it is missing.
    body = drawn(form)
    generation = Generation(id="a1", status="completed", output={"urls": [host(body[: len(body) // 2])]})

    with pytest.raises(DownloadError):
        store(client, generation, place.destination)

    assert place.names() == []
