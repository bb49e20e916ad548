"""Thumbnails: small, of pictures only, and what is a trap for decoders isn't decoded."""

from __future__ import annotations

import io
import random
import struct
import zlib

import pytest
from PIL import Image

from airflow_gpt_image.plugins.images.refusals import BROKEN, NO_PICTURE, RefusedError
from airflow_gpt_image.plugins.images.serving.rasters import Limits, check_picture, draw_thumbnail
from airflow_gpt_image.plugins.images.serving.sources import Source

HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def noise(size, mode="RGB"):
    """What compresses worst."""
    bands = len(mode)
    return Image.frombytes(mode, size, random.Random(1).randbytes(size[0] * size[1] * bands))


def saved(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def drawn(data, side=256, limits=Limits()):
    source = Source(io.BytesIO(data), len(data))
    made = draw_thumbnail(source, check_picture(source, limits), side)
    return made, Image.open(io.BytesIO(made))


def refusal_of(data, **limits):
    with pytest.raises(RefusedError) as refused:
        drawn(data, limits=Limits(**limits))
    return refused.value.refusal


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data):
    """A PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "most"), [(256, 15_000), (512, 50_000), (1024, 150_000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_thumbnail_of_the_worst_picture_is_webp_within_its_bounds(side, most, mode):
    data, image = drawn(saved(noise((1536, 864), mode), compress_level=1), side)

    assert (image.format, len(data) <= most) == ("WEBP", True)
    assert max(image.size) <= side
    assert image.size[0] / image.size[1] == pytest.approx(16 / 9, rel=0.02)


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "1"),
     ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA")],
)  # fmt: skip
def test_every_kind_of_picture_keeps_its_colour(form, mode):
    grey = Image.new("RGB", (600, 400), (102, 102, 102))
    picture = Image.new("I;16", (600, 400), 102 * 256) if mode == "I;16" else grey.convert(mode, dither=0)
    if mode == "1":
        picture = Image.new("1", (600, 400), 1)

    _, image = drawn(saved(picture, form))

    assert image.size == (256, 171)
    assert image.convert("RGB").getpixel((100, 100))[0] == pytest.approx(255 if mode == "1" else 102, abs=6)


def test_a_transparent_picture_stays_transparent():
    _, image = drawn(saved(Image.new("RGBA", (600, 400), (9, 9, 9, 0))))

    assert image.convert("RGBA").getpixel((5, 5))[3] == 0


def test_a_small_picture_is_not_drawn_larger():
    _, image = drawn(saved(noise((40, 30))), 1024)

    assert image.size == (40, 30)


def test_a_picture_that_a_camera_has_turned_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6

    _, image = drawn(saved(noise((600, 400)), "JPEG", exif=exif))

    assert image.size[0] < image.size[1]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", HTML, SVG, b"GIF89a" + b"\0" * 40, b"BM" + b"\0" * 40, b"%PDF-1.7", b"RIFF....AVI ",
     b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"],
    ids=["empty", "cut", "html", "svg", "gif", "bmp", "pdf", "riff", "png head", "jpeg head"],
)  # fmt: skip
def test_what_is_no_picture_by_its_own_bytes_is_refused(data):
    assert refusal_of(data) == NO_PICTURE


@pytest.mark.parametrize("size", [(50_000, 50_000), (6_000, 6_000), (999_999, 26)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header_alone(size):
    bomb = png(*size, zlib.compress(b"\0" * 1_000))

    refusal = refusal_of(bomb)

    assert (refusal.status, f"{size[0]}x{size[1]} pixels" in refusal.why) == (413, True)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read():
    refusal = refusal_of(saved(noise((100, 100))), bytes=1_000)

    assert (refusal.status, "up to 1,000" in refusal.why) == (413, True)


def test_a_picture_that_is_cut_off_is_refused_and_no_error_of_the_server():
    whole = saved(noise((600, 400)))

    assert refusal_of(whole[: len(whole) // 2]) == BROKEN
    assert refusal_of(png(600, 400, b"no deflated data")) == BROKEN
    assert refusal_of(saved(noise((600, 400)), "WEBP")[:2_000]) == BROKEN


def test_a_text_in_a_png_that_unpacks_without_end_is_refused():
    bomb = zlib.compress(b"x" * 80_000_000, 9)
    plain = saved(noise((60, 40)))
    with_bomb = plain[:33] + chunk(b"zTXt", b"Comment\0\0" + bomb) + plain[33:]

    assert refusal_of(with_bomb) == BROKEN


def test_a_jpeg_of_scans_without_number_is_refused_before_a_decoder_sees_it():
    whole = saved(noise((600, 400)), "JPEG", progressive=True)
    last_scan = whole[whole.rindex(b"\xff\xda") : -2]

    assert drawn(whole[:-2] + last_scan + whole[-2:])[1].size == (256, 171)
    assert refusal_of(whole[:-2] + last_scan * 200 + whole[-2:]) == BROKEN


def test_what_is_a_picture_and_a_page_at_once_is_drawn_without_the_page():
    data, image = drawn(saved(noise((600, 400))) + HTML)

    assert (image.size, b"<script" in data) == ((256, 171), False)
