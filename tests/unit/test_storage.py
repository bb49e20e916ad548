"""Images land at a destination whole or not at all, under a name that says what they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.errors import (
    DownloadError,
    ImageExpiredError,
    ImageRefusedError,
    InvalidRequestError,
)
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.storage import check_destination, land

REQUEST = ImageRequest(prompt="a red bicycle")


@pytest.fixture
def emulator(gpt_image_emulator):
    return gpt_image_emulator


@pytest.fixture
def connect(emulator):
    """Opens a client of the emulator that doesn't pause for long between its tries."""
    with contextlib.ExitStack() as stack:

        def opened(**settings):
            given = ClientSettings(api_key=emulator.key, base_url=emulator.url, **settings)
            return stack.enter_context(GptImageClient(given, retrying=Retrying(first_pause=0.001)))

        yield opened


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def made(client):
    """Has an image made; the completed generation."""
    return lambda request=REQUEST: client.generate(request, poll_interval=0.03)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images"


def land_at(folder, client, generation, request=REQUEST):
    images, _ = land(client, generation, str(folder), request.sizes)
    return images


def everything_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(
    ("destination", "folder"),
    [
        ("/data/images", "/data/images"),
        ("/data/images/", "/data/images"),
        ("/data/two words/ü", "/data/two words/ü"),
        ("/data/50%20off", "/data/50%20off"),
        ("file:///data/images", "/data/images"),
        ("file://localhost/data/images", "/data/images"),
        ("file:///data/two%20words", "/data/two words"),
        ("/", "/"),
    ],
)
def test_a_destination_is_an_absolute_path_or_a_file_address(destination, folder):
    path = check_destination(destination)

    assert path == Path(folder)


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "  ",
        "images",
        "./images",
        "../images",
        "~/images",
        "file:images",
        "file://",
        "file://images",
        "file://fileserver/images",
        "s3://bucket/images",
        "gs://bucket/images",
        "https://example.com/images",
        "://images",
        "/data/\0images",
        "file:///data/%00images",
    ],
)
def test_any_other_destination_is_refused_with_its_value_the_rule_and_an_example(destination):
    with pytest.raises(InvalidRequestError) as raised:
        check_destination(destination)

    message = str(raised.value)
    assert f"destination: {destination!r}" in message
    assert "absolute path such as /data/images" in message
    assert [problem.field for problem in raised.value.problems] == ["destination"]


@pytest.mark.parametrize("destination", ["file:///data/images?day=1", "file:///data/images#1"])
def test_a_file_address_with_a_query_or_fragment_does_not_silently_mean_another_folder(destination):
    with pytest.raises(InvalidRequestError):
        check_destination(destination)


def test_a_path_object_is_a_destination_too():
    path = check_destination(Path("/data/images"))

    assert path == Path("/data/images")


@pytest.mark.parametrize("destination", [5, None, ["/data/images"], b"/data/images"])
def test_a_destination_that_is_no_text_is_refused_like_any_other(destination):
    with pytest.raises(InvalidRequestError, match="destination"):
        check_destination(destination)


def test_an_image_lands_whole(made, client, folder):
    generation = made()
    sent = httpx.get(generation.urls[0], trust_env=False).content

    (image,) = land_at(folder, client, generation)

    assert Path(image.path) == folder / f"{generation.id}-0.png"
    assert Path(image.path).read_bytes() == sent
    assert image.url == generation.urls[0]
    assert image.sha256 == hashlib.sha256(sent).hexdigest()
    assert image.bytes == len(sent)
    assert (image.width, image.height) == Image.open(io.BytesIO(sent)).size == REQUEST.sizes[0]
    assert everything_in(folder) == [f"{generation.id}-0.png"]


def test_the_folder_is_made_with_all_above_it(made, client, tmp_path):
    folder = tmp_path / "2026" / "04" / "images"

    (image,) = land_at(folder, client, made())

    assert Path(image.path).parent == folder


def test_a_file_address_leads_to_the_same_folder(made, client, folder):
    generation = made()

    images, _ = land(client, generation, folder.as_uri(), REQUEST.sizes)

    assert images[0].path == str(folder / f"{generation.id}-0.png")


def test_without_a_destination_nothing_is_fetched(made, client, emulator):
    generation = made()

    images, warnings = land(client, generation, None, REQUEST.sizes)

    assert [(image.url, image.path) for image in images] == [(generation.urls[0], None)]
    assert warnings == []
    assert emulator.books()["requests"]["download"] == 0


@pytest.mark.parametrize(("umask", "permissions"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_an_image_may_be_read_by_whom_the_umask_allows(made, client, folder, umask, permissions):
    generation = made()
    before = os.umask(umask)
    try:
        (image,) = land_at(folder, client, generation)
    finally:
        os.umask(before)

    assert stat.S_IMODE(Path(image.path).stat().st_mode) == permissions


def test_several_images_land_in_their_order(emulator, made, client, folder):
    emulator.fault("generation:images=3")
    generation = made()
    sent = [httpx.get(url, trust_env=False).content for url in generation.urls]

    images = land_at(folder, client, generation)

    assert [Path(image.path).name for image in images] == [f"{generation.id}-{n}.png" for n in range(3)]
    assert [Path(image.path).read_bytes() for image in images] == sent
    assert len({image.sha256 for image in images}) == 3


def test_images_of_several_generations_do_not_overwrite_each_other(made, client, folder):
    first, second = made(), made(ImageRequest(prompt="a blue bicycle"))

    land_at(folder, client, first)
    land_at(folder, client, second)

    assert everything_in(folder) == sorted([f"{first.id}-0.png", f"{second.id}-0.png"])


def test_landing_twice_gives_the_same_file(made, client, folder):
    generation = made()

    once = land_at(folder, client, generation)
    twice = land_at(folder, client, generation)

    assert once == twice
    assert everything_in(folder) == [f"{generation.id}-0.png"]


def test_an_existing_file_is_replaced_in_one_step(emulator, made, client, folder):
    generation = made()
    folder.mkdir()
    place = folder / f"{generation.id}-0.png"
    place.write_bytes(b"the old one, whole")
    emulator.fault("file:drip=0.4")
    seen = set()

    with place.open("rb") as reader:
        landing = threading.Thread(target=land_at, args=(folder, client, generation))
        landing.start()
        while landing.is_alive():
            seen.add(hashlib.sha256(place.read_bytes()).hexdigest())
            time.sleep(0.002)
        landing.join()
        old = reader.read()

    whole = {
        hashlib.sha256(b"the old one, whole").hexdigest(),
        hashlib.sha256(place.read_bytes()).hexdigest(),
    }
    assert old == b"the old one, whole"
    assert seen <= whole
    assert hashlib.sha256(b"the old one, whole").hexdigest() in seen
    assert place.read_bytes().startswith(b"\x89PNG")


def test_while_an_image_arrives_no_glob_finds_it(emulator, made, client, folder):
    generation = made()
    folder.mkdir()
    emulator.fault("file:drip=0.4")
    found = []

    landing = threading.Thread(target=land_at, args=(folder, client, generation))
    landing.start()
    time.sleep(0.2)
    found += folder.glob("*.png")
    parts = everything_in(folder)
    landing.join()

    assert found == []
    assert [name[0] for name in parts] == ["."]
    assert everything_in(folder) == [f"{generation.id}-0.png"]


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("file:truncated", DownloadError, "did not arrive"),
        ("file:html", ImageRefusedError, "no PNG, JPEG or WebP"),
        ("file:empty", ImageRefusedError, "no PNG, JPEG or WebP"),
        ("file:garbage", ImageRefusedError, "no PNG, JPEG or WebP"),
        ("file:200;body=GIF89a, an animation;content_type=image/png", ImageRefusedError, "GIF89a"),
        ("file:200;body=RIFF....WAVEfmt ;content_type=image/webp", ImageRefusedError, "RIFF"),
        ("file:404", ImageExpiredError, "isn't there"),
        ("file:403", ImageExpiredError, "isn't there"),
        ("file:503", DownloadError, "503"),
        ("file:close", DownloadError, "did not arrive"),
        ("file:reset", DownloadError, "did not arrive"),
        ("file:redirect=http://images.example.com/x.png", ImageRefusedError, "https"),
    ],
)
def test_what_is_not_a_whole_image_leaves_nothing_behind(emulator, made, client, folder, fault, error, words):
    generation = made()
    emulator.fault(fault)

    with pytest.raises(error, match=words):
        land_at(folder, client, generation)

    assert everything_in(folder) == []


def test_what_is_not_a_whole_image_leaves_the_old_one_alone(emulator, made, client, folder):
    generation = made()
    (before,) = land_at(folder, client, generation)
    emulator.fault("file:truncated")

    with pytest.raises(DownloadError):
        land_at(folder, client, generation)

    assert everything_in(folder) == [f"{generation.id}-0.png"]
    assert hashlib.sha256(Path(before.path).read_bytes()).hexdigest() == before.sha256


def test_an_image_that_comes_at_the_second_attempt_lands_whole(emulator, made, client, folder):
    generation = made()
    emulator.fault("file:truncated*2")

    (image,) = land_at(folder, client, generation)

    assert image.sha256 == hashlib.sha256(httpx.get(image.url, trust_env=False).content).hexdigest()
    assert emulator.faults()[0]["met"] == 2


def test_an_image_that_is_too_large_is_refused(made, connect, folder):
    generation = made()

    with pytest.raises(ImageRefusedError, match="larger than 1,000 bytes"):
        land_at(folder, connect(max_image_bytes=1000), generation)

    assert everything_in(folder) == []


def test_an_endless_image_is_given_up_at_the_largest_size(emulator, made, connect, folder):
    generation = made()
    emulator.fault("file:huge=2000")
    started = time.monotonic()

    with pytest.raises(ImageRefusedError, match="larger than"):
        land_at(folder, connect(max_image_bytes=5_000_000), generation)

    assert everything_in(folder) == []
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("form", "ending"), [("jpeg", "jpg"), ("webp", "webp")])
def test_an_image_is_named_after_what_it_is_and_not_after_its_address(
    emulator, made, client, folder, form, ending
):
    generation = made()
    emulator.fault(f"file:{form};content_type=image/png")

    (image,) = land_at(folder, client, generation)

    assert generation.urls[0].endswith(".png")
    assert Path(image.path).name == f"{generation.id}-0.{ending}"
    with Image.open(image.path) as picture:
        assert picture.format == form.upper()
    assert (image.width, image.height) == REQUEST.sizes[0]


def test_an_image_under_a_wrong_content_type_is_taken_for_what_it_is(emulator, made, client, folder):
    generation = made()
    emulator.fault("file:wrong_type")

    (image,) = land_at(folder, client, generation)

    assert Path(image.path).suffix == ".png"


def test_a_wrong_pixel_size_is_kept_and_said(emulator, made, client, folder):
    generation = made()
    emulator.fault("file:wrong_size=640x480")

    images, warnings = land(client, generation, str(folder), REQUEST.sizes)

    assert (images[0].width, images[0].height) == (640, 480)
    assert Path(images[0].path).exists()
    expected = " or ".join(map(str, REQUEST.sizes))
    assert warnings == [f"{images[0].path} is 640x480; expected {expected}."]


def test_a_right_pixel_size_is_no_news(made, client, folder):
    generation = made()

    _, warnings = land(client, generation, str(folder), [Size(1, 1), *REQUEST.sizes])

    assert warnings == []


def test_who_expects_no_size_is_not_warned_about_one(made, client, folder):
    _, warnings = land(client, made(), str(folder), [])

    assert warnings == []


def test_the_api_key_never_reaches_the_file_host(emulator, made, client, folder):
    # The same server under another name is another host.
    emulator.settings(files_url=emulator.url.replace("127.0.0.1", "localhost"))
    generation = made()

    land_at(folder, client, generation)

    books = emulator.books()
    assert books["requests"]["download"] == 1
    assert books["seen_authorization_on_files"] == 0


def test_a_folder_that_cannot_be_made_says_which_one(made, client, tmp_path):
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(OSError, match="taken"):
        land_at(tmp_path / "taken" / "images", client, made())


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
def test_an_image_of_unannounced_length_lands_whole(client, folder, host, form):
    body = drawn(form)
    generation = Generation(id="a1", status="completed", output={"urls": [host(body)]})

    images, _ = land(client, generation, str(folder), [])

    assert Path(images[0].path).read_bytes() == body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_image_cut_short_by_a_host_that_announced_no_length_is_not_taken_for_whole(
    client, folder, host, form
):
    # Over HTTP such an end looks like any other; only the image itself says that half of it is missing.
    body = drawn(form)
    generation = Generation(id="a1", status="completed", output={"urls": [host(body[: len(body) // 2])]})

    with pytest.raises(DownloadError):
        land(client, generation, str(folder), [])

    assert everything_in(folder) == []


def test_memory_stays_flat_however_large_an_image_is(emulator, made, folder):
    generation = made()
    emulator.fault("file:huge=40")
    script = """
        import sys, tracemalloc
        from airflow_gpt_image.api.client import GptImageClient
        from airflow_gpt_image.api.models import Generation
        from airflow_gpt_image.storage import land

        url, key, folder, image = sys.argv[1:]
        generation = Generation(id="a1", status="completed", output={"urls": [image]})
        with GptImageClient(api_key=key, base_url=url) as client:
            tracemalloc.start()
            images, _ = land(client, generation, folder, [])
            print(images[0].bytes, tracemalloc.get_traced_memory()[1])
    """
    arguments = [emulator.url, emulator.key, str(folder), generation.urls[0]]

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    size, peak = map(int, done.stdout.split())
    assert size > 40_000_000
    assert peak < 8_000_000
