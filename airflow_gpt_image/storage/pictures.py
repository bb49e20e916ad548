"""What a file really is, by its own bytes: neither an address's ending nor a host's word is believed."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final

import imagesize

from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import DownloadError, ImageRefusedError

_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_CONTENT_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
KINDS: Final = tuple(_CONTENT_TYPES)
"""What an image can be: also the ending of its name."""

_CHUNK: Final = 1024 * 1024

# In a row or a column, as records have it at most.
_MOST_PIXELS: Final = 1_000_000

# A JPEG may be followed by some padding; its end marker stands before that.
_TAIL: Final = 64 * 1024


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


def inspect_image(file: BinaryIO, source: str) -> Picture:
    """
    Look at a whole image file.

    :param source: where it came from, for messages.
    :raises ImageRefusedError: when it is no PNG, JPEG or WebP.
    :raises DownloadError: when it is cut off or can't be read.
    """
    kind = _kind(file, source)
    size = _size(file, source)
    if not _is_whole(file, kind):
        raise DownloadError(f"The image from {source} is cut off: its end is missing.")
    digest, length = _digest(file)
    return Picture(kind=kind, size=size, sha256=digest, bytes=length)


def _kind(file: BinaryIO, source: str) -> str:
    file.seek(0)
    head = file.read(16)
    kind = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    if kind is None or (kind == "webp" and head[8:12] != b"WEBP"):
        raise ImageRefusedError(
            f"What came from {source} is no PNG, JPEG or WebP image; it begins {quote(head)}."
        )
    return kind


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
    """Whether its end is there: a host that gives no length and hangs up looks as if it had sent all."""
    length = file.seek(0, os.SEEK_END)
    if kind == "png":
        return _png_ends(file)
    if kind == "webp":
        file.seek(4)
        return int.from_bytes(file.read(4), "little") + 8 <= length
    file.seek(max(0, length - _TAIL))
    return b"\xff\xd9" in file.read()


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


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    digest, length = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return digest.hexdigest(), length
