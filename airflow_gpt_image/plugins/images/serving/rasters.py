"""Look at a picture before it is served or drawn smaller: what it is by its own bytes, and how large."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Any, Final

from airflow_gpt_image.errors import DownloadError
from airflow_gpt_image.plugins.images.refusals import BROKEN, NO_PICTURE, RefusedError, too_large
from airflow_gpt_image.plugins.images.serving.sources import Source
from airflow_gpt_image.plugins.images.serving.structure import can_be_decoded, can_be_measured, orientation
from airflow_gpt_image.storage.pictures import Header, read_header

# Bytes of WebP that a thumbnail may have, by its longer side.
_MOST_BYTES: Final = {256: 15_000, 512: 50_000, 1024: 150_000}
_QUALITIES: Final = (80, 60, 40, 20)
# Pillow holds the interpreter while it copies a decoded WebP, some 20 ms for the API's largest: one at once.
_WEBP: Final = Lock()
_FORMATS: Final = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
# What Pillow calls the turns that stand a picture upright, by its orientation in Exif.
_TURNS: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True)
class Limits:
    """
    What the API server takes on for a picture.

    :param bytes: of a file that is shown. What is downloaded is neither decoded nor held, and has no limits.
    :param pixels: of a picture that is shown, by its own header; more are refused before a decoder sees them.
        The API's largest has 8.3 million. Decoded they take four bytes each, in every thread, and while those
        are copied the interpreter waits: some 2 ms for each million.
    """

    bytes: int = 64 * 1024 * 1024
    pixels: int = 16_000_000


UNLIMITED: Final = Limits(bytes=2**63, pixels=2**63)


def check_picture(source: Source, limits: Limits) -> Header:
    """
    Return what a file is by its own first bytes.

    :raises RefusedError: when it is no picture of a kind we make, or too large.
    """
    if source.length > limits.bytes:
        raise RefusedError(too_large(f"{source.length:,} bytes", f"{limits.bytes:,}"))
    if not can_be_measured(source.file):
        raise RefusedError(NO_PICTURE)
    try:
        header = read_header(source.file, "there")
    except DownloadError:
        raise RefusedError(NO_PICTURE) from None
    if header.size.width * header.size.height > limits.pixels:
        raise RefusedError(too_large(f"{header.size} pixels", f"{limits.pixels:,} in all"))
    return header


def can_draw() -> bool:
    """Return whether Pillow is installed, without which pictures are shown as they are."""
    from importlib.util import find_spec

    return find_spec("PIL") is not None


def draw_thumbnail(source: Source, header: Header, side: int) -> bytes:
    """
    Return a picture as WebP, whose longer side has at most so many pixels.

    It holds the interpreter for milliseconds only: what takes long, Pillow does without it.

    :raises RefusedError: when the picture can't be decoded.
    """
    from PIL import Image

    if not can_be_decoded(source.file, header.kind):
        raise RefusedError(BROKEN)
    source.file.seek(0)
    try:
        with Image.open(source.file, formats=(_FORMATS[header.kind],)) as image:
            if image.size != header.size:
                # Pillow reads another size than we did: it isn't the picture that was judged.
                raise RefusedError(BROKEN)
            drawn: Any = image
            if image.mode.startswith("I"):
                # 16 bits of grey, of which a screen shows 8.
                drawn = image.point(lambda value: value / 256).convert("L")
            elif image.mode in ("1", "P", "PA"):
                drawn = image.convert("RGBA")
            with _WEBP if header.kind == "webp" else nullcontext():
                drawn.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            turn = _TURNS.get(orientation(image.info.get("exif")))
            turned = drawn if turn is None else drawn.transpose(Image.Transpose[turn])
            return _encode(turned.convert("RGBA" if turned.has_transparency_data else "RGB"), side)
    except RefusedError:
        raise
    except Exception as error:  # a decoder may fail with anything
        raise RefusedError(BROKEN) from error


def _encode(drawn: Any, side: int) -> bytes:
    """Return WebP that is small enough: what is hard to compress gets a lower quality, then fewer pixels."""
    while True:
        for quality in _QUALITIES:
            data = BytesIO()
            options = {"quality": quality, "alpha_quality": quality, "exif": b"", "icc_profile": b""}
            drawn.save(data, "WEBP", **options)
            if data.tell() <= _MOST_BYTES[side] or drawn.size == (1, 1):
                return data.getvalue()
        drawn = drawn.reduce(2)
