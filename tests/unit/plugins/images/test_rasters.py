"""Thumbnails: small, of pictures only, and what is a trap for decoders isn't decoded."""

from __future__ import annotations

import io
import random
import struct
import zlib

import pytest
from PIL import Image, ImageChops, ImageOps

from airflow_gpt_image.plugins.images.refusals import BROKEN, NO_PICTURE, RefusedError
from airflow_gpt_image.plugins.images.serving.rasters import Limits, check_picture, draw_thumbnail
from airflow_gpt_image.plugins.images.serving.sources import Source
from airflow_gpt_image.plugins.images.serving.structure import orientation

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


def test_a_jpeg_that_hides_its_scans_behind_other_segments_is_refused():
    whole = saved(noise((600, 400)), "JPEG", progressive=True)
    scan = whole.index(b"\xff\xda")
    last_scan = whole[whole.rindex(b"\xff\xda") : -2]
    comments = b"\xff\xfe\0\2" * 5_000

    hidden = whole[:scan] + comments + whole[scan:-2] + last_scan * 200 + whole[-2:]
    between = whole[:-2] + comments + last_scan * 200 + whole[-2:]

    assert refusal_of(hidden) in (BROKEN, NO_PICTURE)
    assert refusal_of(between) == BROKEN


def many_chunks(name, count):
    plain = saved(noise((60, 40)))
    at = plain.index(name) - 4 if name == b"IDAT" else 33
    return plain[:at] + chunk(name, b"") * count + plain[at:]


def many_riff_chunks(count):
    plain = saved(noise((60, 40)), "WEBP")
    extended = struct.pack("<4sI4s3s3s", b"VP8X", 10, b"\0" * 4, b"\x3b\0\0", b"\x27\0\0")
    rest = extended + struct.pack("<4sI", b"ABCD", 0) * count + plain[12:]
    return b"RIFF" + struct.pack("<I", len(rest) + 4) + b"WEBP" + rest


@pytest.mark.parametrize(
    "data",
    [
        many_chunks(b"tEXt", 3_000),
        many_chunks(b"IDAT", 25_000),
        many_riff_chunks(25_000),
    ],
    ids=["texts", "empty data", "riff"],
)
def test_a_picture_in_more_parts_than_any_encoder_writes_is_refused_before_a_decoder_sees_it(data):
    assert refusal_of(data) == BROKEN


def test_a_picture_in_many_parts_is_drawn():
    assert drawn(many_chunks(b"IDAT", 9_000))[1].size == (60, 40)
    assert drawn(many_riff_chunks(100))[1].size == (60, 40)


@pytest.mark.parametrize("fill", [b"\xff" * 3_000_000, b"\0" * 100, b"\xff\xfe\0\1" * 9, b"\xff\xe1\xff\xff"])
def test_a_jpeg_whose_size_would_have_to_be_searched_for_is_no_picture(fill):
    whole = saved(noise((60, 40)), "JPEG")

    assert refusal_of(whole[:2] + b"\xff" + fill + whole[2:]) == NO_PICTURE


def exif_of_many_entries(entries, length):
    """Each of its entries has all of its data again."""
    head = struct.pack("<2sHIH", b"II", 42, 8, entries)
    rows = (struct.pack("<HHII", number + 0x200, 7, length, 8) for number in range(entries))
    return head + b"".join(rows) + b"\0" * (length + 4)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_metadata_that_unfolds_in_memory_is_refused_before_it_is_read(form):
    metadata = exif_of_many_entries(1_000, 200_000)
    whole = saved(noise((60, 40)), form)
    if form == "PNG":
        bomb = whole[:33] + chunk(b"eXIf", metadata) + whole[33:]
    else:
        parts = (b"Exif\0\0" + metadata[at : at + 65_000] for at in range(0, len(metadata), 65_000))
        segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
        bomb = whole[:2] + b"".join(segments) + whole[2:]

    assert refusal_of(bomb) == BROKEN


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_every_turn_of_a_camera_is_undone_as_pillow_undoes_it(form, turned):
    picture = Image.new("RGB", (60, 40), (250, 250, 250))
    picture.paste((9, 9, 9), (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = turned
    data = saved(picture, form, exif=exif)

    _, image = drawn(data)

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L")
    difference = ImageChops.difference(image.convert("L"), upright)
    assert image.size == upright.size
    assert difference.reduce(10).getextrema()[1] < 60


@pytest.mark.parametrize(
    "exif",
    [None, b"", b"II", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"\0" * 70_000],
)
def test_metadata_that_makes_no_sense_turns_nothing(exif):
    assert orientation(exif) == 1


def test_what_is_a_picture_and_a_page_at_once_is_drawn_without_the_page():
    data, image = drawn(saved(noise((600, 400))) + HTML)

    assert (image.size, b"<script" in data) == ((256, 171), False)
