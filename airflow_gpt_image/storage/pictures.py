"""What a file really is, by its own bytes: neither an address's ending nor a host's word is believed."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import imagesize

from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import DownloadError, ImageRefusedError

_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "jpg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
)
# GIF, BMP, TIFF, AVIF and HEIC, and what else is in a RIFF: they are that however often they are fetched.
_OTHER_KINDS: Final = re.compile(rb"GIF8|BM|II\*\0|MM\0\*|....ftyp|RIFF....[ -~]{4}", re.DOTALL)
_CONTENT_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
KINDS: Final = tuple(_CONTENT_TYPES)
"""What an image can be: also the ending of its name."""

_CHUNK: Final = 1024 * 1024

# In a row or a column, as records have it at most.
_MOST_PIXELS: Final = 1_000_000

# In a JPEG's scan 0xFF is followed by 0 where it is data; restart markers belong to the scan. Any number of
# 0xFF may precede a marker.
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Ours: far above any picture's. Each costs a look at up to a megabyte of the file.
_MOST_SEGMENTS: Final = 5_000


@dataclass(frozen=True)
class Picture:
    """
    :param kind: ``png``, ``jpg`` or ``webp``; also the ending of its name.
    :param size: in pixels, as stored: an EXIF flag that turns it is not obeyed, for the API's table isn't
        about turned ones.
    :param sha256: of all bytes, in hex.
    """

    kind: str
    size: Size
    sha256: str
    bytes: int

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self.kind]


def kind_of(content_type: str) -> str | None:
    """The kind, which is a name's ending, of an image of ours."""
    return next((kind for kind, known in _CONTENT_TYPES.items() if known == content_type), None)


@dataclass(frozen=True)
class Header:
    """
    What the first bytes of an image file say; whether the rest follows is not known.

    :param kind: ``png``, ``jpg`` or ``webp``.
    :param size: in pixels, as stored.
    """

    kind: str
    size: Size

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self.kind]


def read_header(file: BinaryIO, source: str) -> Header:
    """
    Look at the beginning of an image file, and at no more of it than its size takes.

    :param source: where it came from, for messages.
    :raises DownloadError: when it is no PNG, JPEG or WebP image, or has no pixel size.
    """
    return Header(_kind(file, source), _size(file, source))


def inspect_image(file: BinaryIO, source: str) -> Picture:
    """
    Look at a whole image file.

    :param source: where it came from, for messages.
    :raises ImageRefusedError: when it is an image of another kind than PNG, JPEG or WebP.
    :raises DownloadError: when it is cut off, can't be read, or is no image: a page of a proxy, an error's
        text, or nothing. Fetching it again can help.
    """
    kind = _kind(file, source)
    size = _size(file, source)
    if not _is_whole(file, kind):
        raise DownloadError(f"The image from {source} is cut off: its end is missing.")
    digest, length = _digest(file)
    return Picture(kind=kind, size=size, sha256=digest, bytes=length)


def is_whole(file: BinaryIO) -> bool:
    """Return whether a file is a whole image by its own bytes, however its transfer ended."""
    try:
        kind = _kind(file, "")
        _size(file, "")
    except DownloadError:
        return False
    return _is_whole(file, kind)


def _kind(file: BinaryIO, source: str) -> str:
    file.seek(0)
    head = file.read(16)
    for signature, kind in _SIGNATURES:
        if signature.match(head):
            return kind
    error = ImageRefusedError if _OTHER_KINDS.match(head) else DownloadError
    what = f"begins {quote(head)}" if head else "is empty"
    raise error(f"What came from {source} is no PNG, JPEG or WebP image; it {what}.")


def _size(file: BinaryIO, source: str) -> Size:
    file.seek(0)
    try:
        width, height = imagesize.get(file, exif_rotation=False)
    except Exception as error:
        raise DownloadError(f"The image from {source} can't be read ({type(error).__name__}).") from error
    if not (0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS):
        # Also four billion of them, which a header can say: no record has such a size.
        raise DownloadError(f"The image from {source} has no pixel size; it did not arrive whole.")
    return Size(width, height)


def _is_whole(file: BinaryIO, kind: str) -> bool:
    """Return whether a file's end is there: a host that hangs up early looks as if it had sent all.

    What follows the end is no matter: telephones put a film behind a picture.
    """
    return {"png": _png_ends, "jpg": _jpeg_ends, "webp": _webp_ends}[kind](file)


def _png_ends(file: BinaryIO) -> bool:
    """Walk a PNG's chunks, each with its checksum, to the last one."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        left, check = int.from_bytes(head[:4], "big"), zlib.crc32(head[4:])
        while left:
            part = file.read(min(left, _CHUNK))
            if not part:
                return False
            check, left = zlib.crc32(part, check), left - len(part)
        if file.read(4) != check.to_bytes(4, "big"):
            return False
        if head[4:] == b"IEND":
            return True
    return False


def _jpeg_ends(file: BinaryIO) -> bool:
    """Walk a JPEG's segments, and the scans between them, to its end marker.

    A preview inside a segment has an end marker of its own, which is passed over with the segment. Where
    another picture begins, the end of the first one is missing.
    """
    markers = list(_jpeg_markers(file))
    return markers[-1:] == [_EOI] and _SOS in markers


def count_jpeg_scans(file: BinaryIO) -> int:
    """
    Return how many scans a JPEG has. Cameras and the API write about ten at most; a decoder goes over all
    pixels for each, of which a small file can have millions. Counting them costs a search through the file.

    One of more segments than are looked at counts as if all of them were scans.
    """
    markers = list(_jpeg_markers(file))
    return len(markers) if len(markers) == _MOST_SEGMENTS else markers.count(_SOS)


def _jpeg_markers(file: BinaryIO) -> Iterator[int]:
    """Yield the markers of a JPEG's segments up to its end, as far as it can be read."""
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        marker = _next_marker(file)
        if marker is None:
            return
        yield marker
        length = 0 if marker in (_SOI, _EOI) else int.from_bytes(file.read(2), "big")
        if length < 2:
            return
        file.seek(length - 2, os.SEEK_CUR)


def _next_marker(file: BinaryIO) -> int | None:
    """Go behind the next marker, and return its second byte; None at the end of the file.

    What comes before it is a scan's data, or passed over as decoders do it.
    """
    while len(part := file.read(_CHUNK)) > 1:
        found = _MARKER.search(part)
        # The last byte may be the first one of a marker: it is read again.
        file.seek(found.end() - len(part) if found else -1, os.SEEK_CUR)
        if found:
            return part[found.end() - 1]
    return None


def _webp_ends(file: BinaryIO) -> bool:
    """Walk a WebP's chunks to the end that its head tells; one of them has to be an image."""
    length = file.seek(0, os.SEEK_END)
    file.seek(4)
    end = int.from_bytes(file.read(4), "little") + 8
    file.seek(12)
    images = 0
    while (at := file.tell()) + 8 <= end <= length:
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        if at + 8 + size > end:
            return False
        images += name in (b"VP8 ", b"VP8L", b"ANMF")
        file.seek(size + size % 2, os.SEEK_CUR)
    return images > 0


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    digest, length = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return digest.hexdigest(), length
