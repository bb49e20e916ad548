"""What a file is, and whether all of it is there: by its own bytes."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import pytest
from PIL import Image

from airflow_gpt_image.errors import DownloadError, ImageRefusedError
from airflow_gpt_image.storage.pictures import inspect_image


def picture(size=(48, 32), seed=0):
    """An image with something on it, so that its data has every byte."""
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def preview():
    return saved(picture((16, 16), seed=1), "JPEG")


def with_preview(jpeg):
    """The same JPEG with a whole one of its own inside, as cameras put it into their EXIF."""
    payload = b"Exif\0\0" + preview()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def inspected(data):
    return inspect_image(io.BytesIO(data), "a host")


def is_whole(data):
    try:
        inspected(data)
    except DownloadError as error:
        return not error.retryable
    return True


FORMS = {
    "JPEG": lambda: saved(picture(), "JPEG", quality=90),
    "JPEG with a preview": lambda: with_preview(saved(picture(), "JPEG")),
    "progressive JPEG": lambda: saved(picture(), "JPEG", progressive=True),
    "JPEG with restarts": lambda: saved(picture(), "JPEG", restart_marker_blocks=1),
    "grey JPEG": lambda: saved(picture().convert("L"), "JPEG"),
    "PNG": lambda: saved(picture(), "PNG"),
    "WebP": lambda: saved(picture(), "WEBP"),
    "lossless WebP": lambda: saved(picture(), "WEBP", lossless=True),
    "WebP with EXIF": lambda: saved(picture(), "WEBP", exif=b"Exif\0\0" + b"x" * 51),
    "moving WebP": lambda: saved(
        picture(), "WEBP", save_all=True, append_images=[picture(seed=2)], duration=40
    ),
}


@pytest.fixture(params=FORMS, scope="module")
def whole(request):
    return FORMS[request.param]()


def test_a_whole_image_is_taken_with_its_size(whole):
    found = inspected(whole)

    assert (found.size.width, found.size.height, found.bytes) == (48, 32, len(whole))


def test_an_image_that_is_cut_anywhere_is_not_whole(whole):
    assert [cut for cut in range(len(whole)) if is_whole(whole[:cut])] == []


@pytest.mark.parametrize("trailer", [b"\0", b"\xff\xd8\xff\xe1 another picture", b"PK\x03\x04" * 50_000])
def test_what_follows_the_end_of_an_image_is_no_matter(whole, trailer):
    # Telephones put a film or a second picture behind the first.
    for cut in {1, len(trailer) // 2, len(trailer)}:
        assert is_whole(whole + trailer[:cut])


def test_a_cut_image_is_not_made_whole_by_the_end_of_the_preview_in_it():
    jpeg = with_preview(saved(picture((200, 200)), "JPEG"))

    with pytest.raises(DownloadError, match="cut off"):
        inspected(jpeg[: len(jpeg) * 2 // 3])


def test_markers_may_be_padded_and_scans_longer_than_what_is_read_at_a_time():
    jpeg = saved(picture((1100, 1100)), "JPEG", quality=98)
    assert len(jpeg) > 1024 * 1024

    assert is_whole(jpeg[:-2] + b"\xff\xff\xff" + jpeg[-2:])
    assert not is_whole(jpeg[:-2])
    assert not is_whole(jpeg[:-2] + b"\xff\xff\xff")


def test_bytes_between_segments_are_passed_over_as_decoders_do():
    jpeg = saved(picture(), "JPEG")
    odd = jpeg.replace(b"\xff\xc4", b"\x00\xff\x00\x07\xff\xc4")
    with Image.open(io.BytesIO(odd)) as image:
        image.load()

    assert is_whole(odd)
    assert not is_whole(odd[:-2])


def test_a_cut_image_is_not_made_whole_by_the_one_behind_it():
    jpeg = saved(picture((200, 200)), "JPEG")

    assert not is_whole(jpeg[: len(jpeg) * 2 // 3] + b"\xff\xd9".join([jpeg] * 20))


def test_as_many_scans_as_no_image_has_end_soon():
    class Counted(io.BytesIO):
        """A file that says how much of it was read."""

        read_bytes = 0

        def read(self, size=-1):
            data = super().read(size)
            self.read_bytes += len(data)
            return data

    head = saved(picture(), "JPEG")[:-2]
    file = Counted(head + b"\xff\xda\x00\x02" * 500_000)

    with pytest.raises(DownloadError, match="cut off"):
        inspect_image(file, "a host")
    assert file.read_bytes < 10**10


@pytest.mark.parametrize("end", range(1024 * 1024 - 3, 1024 * 1024 + 4))
def test_a_marker_is_seen_wherever_the_reading_stops(end):
    head = saved(picture((8, 8)), "JPEG").partition(b"\xff\xda")[0] + b"\xff\xda\x00\x02"
    # Stuffed bytes and restart markers are part of a scan.
    scan = b"\xff\x00" + b"\xff\xd3" + b"\x55" * (end - 4)

    assert is_whole(head + scan + b"\xff\xd9")
    assert not is_whole(head + scan + b"\xff")
    assert not is_whole(head + scan)


@pytest.mark.parametrize(
    "broken",
    [
        b"\xff\xd8\xff\xd9",
        saved(picture(), "JPEG").replace(b"\xff\xda", b"\xff\xd9"),
        saved(picture(), "JPEG")[:20] + b"no marker at all",
        b"RIFF\x04\x00\x00\x00WEBP",
        b"RIFF\x00\x00\x00\x00WEBPVP8 " + saved(picture(), "WEBP")[16:],
        b"RIFF\xff\xff\xff\xff" + saved(picture(), "WEBP")[8:],
    ],
)
def test_an_image_without_data_or_with_a_wrong_length_is_not_whole(broken):
    assert not is_whole(broken)


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\x89PNG\r\n\x1a",
        b"RIFF\x10\x00\x00",
        b"\xff\xd8",
        b"<!DOCTYPE html><html><title>Please log in</title></html>",
        b'\xef\xbb\xbf{"error": {"code": "internal_error"}}',
        b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>',
        bytes(range(128, 256)),
    ],
)
def test_what_is_no_image_is_asked_for_again(page):
    with pytest.raises(DownloadError, match="no PNG, JPEG or WebP") as raised:
        inspected(page)

    assert raised.value.retryable


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "AVIF"])
def test_an_image_of_another_kind_stays_one_however_often_it_is_fetched(form):
    data = saved(picture(), form)

    with pytest.raises(ImageRefusedError, match="no PNG, JPEG or WebP"):
        inspected(data)


def test_flipped_bytes_end_in_nothing_but_our_own_words():
    chance = random.Random(7)
    for make in FORMS.values():
        whole = make()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(DownloadError, ImageRefusedError):
                inspected(bytes(data))
