"""
Look at how a picture's file is put together, before a decoder does: many small parts are a decoder's work.

Decoders of pictures take a loop in Python for each chunk of a PNG and each segment of a JPEG, and some read
all metadata again for each of its entries. So a file of a few megabytes keeps them busy for minutes, or fills
the memory. Cameras, editors and the API stay far below these bounds, which are ours.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from airflow_gpt_image.storage.pictures import count_jpeg_scans

_MOST_BEFORE_PIXELS: Final = 2_000
"""Chunks or segments before the first one with pixels."""

_MOST_CHUNKS: Final = 20_000
"""Chunks in all: of 64 MB in the smallest ones that encoders write."""

_MOST_SCANS: Final = 100
_MOST_FILL: Final = 1_000
"""Bytes of 0xFF that may stand before the markers of a JPEG, in all."""

_LONGEST_EXIF: Final = 64 * 1024
"""As long as a JPEG's segment."""

# Of a JPEG's markers: the frame's header has the size, and pixels follow the scan's.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def can_be_measured(file: BinaryIO) -> bool:
    """Return whether a file's size in pixels can be looked for without a search; only JPEGs take one."""
    file.seek(0)
    if file.read(3) != b"\xff\xd8\xff":
        return True
    file.seek(2)
    return any(marker in _FRAMES for marker, _, _ in _jpeg_segments(file))


def can_be_decoded(file: BinaryIO, kind: str) -> bool:
    """
    Return whether a decoder will be done with a picture soon, as far as its parts tell.

    :param kind: ``png``, ``jpg`` or ``webp``.
    """
    checks: dict[str, Callable[[BinaryIO], bool]] = {"png": _png, "jpg": _jpeg, "webp": _webp}
    return checks[kind](file)


def _png(file: BinaryIO) -> bool:
    file.seek(8)
    before, pixels = 0, False
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or name == b"IEND":
            return True
        pixels = pixels or name == b"IDAT"
        before += not pixels
        if before > _MOST_BEFORE_PIXELS or (name == b"eXIf" and length > _LONGEST_EXIF):
            return False
        file.seek(length + 4, os.SEEK_CUR)
    return False


def _jpeg(file: BinaryIO) -> bool:
    file.seek(2)
    exif = 0
    for marker, length, begin in _jpeg_segments(file):
        if marker == _SOS:
            return exif <= _LONGEST_EXIF and count_jpeg_scans(file) <= _MOST_SCANS
        if marker == _APP1 and begin.startswith(b"Exif"):
            exif += length
    return False


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield the segments before the first scan: marker, length, and the first bytes."""
    fill = 0
    for _ in range(_MOST_BEFORE_PIXELS):
        byte = file.read(1)
        if byte != b"\xff":
            return
        while (byte := file.read(1)) == b"\xff":
            fill += 1
            if fill > _MOST_FILL:
                return
        if not byte or byte == b"\0":
            return
        marker = byte[0]
        if marker in _ALONE:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if marker == _EOI or length < 0:
            return
        here = file.tell()
        yield marker, length, file.read(min(4, length))
        if marker == _SOS:
            return
        file.seek(here + length)


def _webp(file: BinaryIO) -> bool:
    length = file.seek(0, os.SEEK_END)
    at = file.seek(12)
    for _ in range(_MOST_CHUNKS):
        if at + 8 > length:
            return True
        head = file.read(8)
        at = file.seek(at + 8 + (size := int.from_bytes(head[4:], "little")) + size % 2)
    return False


def orientation(exif: bytes | None) -> int:
    """
    Return how a camera has turned a picture, from 1 to 8 as Exif has it; 1 where that isn't told.

    Nothing else of Exif is read.
    """
    if exif is None or len(exif) > _LONGEST_EXIF:
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (begin,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, begin)
        for entry in range(min(count, 500)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, begin + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
