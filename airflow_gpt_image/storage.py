"""Images land at a destination: checked while they are still nobody's, then moved into place in one step.

A reader sees a whole file or none. The name follows from the generation, so landing twice overwrites its own
file and nobody else's.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import imagesize

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.errors import DownloadError, ImageRefusedError, InvalidRequestError, Problem
from airflow_gpt_image.api.models import GeneratedImage, Generation, shown
from airflow_gpt_image.api.sizes import Size

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import GptImageClient

_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_CHUNK: Final = 1024 * 1024

# A JPEG may be followed by some padding; its end marker stands before that.
_TAIL: Final = 64 * 1024


def check_destination(destination: object) -> Path:
    """
    Read a destination: an absolute path or a ``file://`` address of a folder on the worker's disk.

    :raises InvalidRequestError: when it is neither.
    """
    path = str(destination) if isinstance(destination, (str, os.PathLike)) else ""
    scheme, separator, _ = path.partition("://")
    if separator:
        parts = urlsplit(path)
        plain = scheme == "file" and parts.netloc in ("", "localhost") and not (parts.query or parts.fragment)
        path = url2pathname(parts.path) if plain else ""
    if not path.strip() or "\0" in path or not Path(path).is_absolute():
        message = (
            f"{shown(destination)} is not a folder images can be stored in. Give an absolute path such as "
            "/data/images, or file:///data/images."
        )
        raise InvalidRequestError(f"destination: {message}", problems=[Problem("destination", message)])
    return Path(path)


def land(
    client: GptImageClient, generation: Generation, destination: object, expected: Sequence[Size]
) -> tuple[list[GeneratedImage], list[str]]:
    """
    Fetch a completed generation's images into a folder, which is made when it isn't there.

    :param destination: None leaves them where the API put them.
    :param expected: the pixel sizes the image may have; another one is kept, and said. Empty: any.
    :return: the images in the order of the generation's URLs, and warnings for the log.
    :raises DownloadError: or one of its subclasses; nothing half-written is left, and landing again costs
        nothing.
    """
    if destination is None:
        return [GeneratedImage(url=url) for url in generation.urls], []
    folder = check_destination(destination)
    folder.mkdir(parents=True, exist_ok=True)
    images = [
        _land_one(client, url, folder, f"{generation.id}-{index}")
        for index, url in enumerate(generation.urls)
    ]
    warnings = [
        f"{image.path} is {image.width}x{image.height}; expected {' or '.join(map(str, expected))}."
        for image in images
        if expected and (image.width, image.height) not in expected
    ]
    return images, warnings


def _land_one(client: GptImageClient, url: str, folder: Path, stem: str) -> GeneratedImage:
    # In the same folder, so that the last step is a rename; hidden, so that nobody's glob picks up a part.
    part = folder / f".{stem}-{uuid4().hex}.part"
    try:
        with part.open("x+b") as file:
            client.download(url, file)
            kind, size = _looked_at(file, url)
            _check_end(file, kind, url)
            digest, length = _digest(file)
            # What a power cut leaves behind must not be an empty file under the final name.
            file.flush()
            os.fsync(file.fileno())
        path = part.replace(folder / f"{stem}.{kind}")
    finally:
        part.unlink(missing_ok=True)
    return GeneratedImage(
        url=url, path=str(path), width=size.width, height=size.height, sha256=digest, bytes=length
    )


def _looked_at(file: BinaryIO, url: str) -> tuple[str, Size]:
    """Format and pixel size by content: neither the address's ending nor the host's word is believed."""
    file.seek(0)
    head = file.read(16)
    kind = next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
    if kind is None or (kind == "webp" and head[8:12] != b"WEBP"):
        raise ImageRefusedError(
            f"What came from {flows.bare(url)} is no PNG, JPEG or WebP image; it begins {shown(head)}."
        )
    file.seek(0)
    try:
        # As stored, not as an EXIF flag would have it turned: the table is about stored pixels.
        width, height = imagesize.get(file, exif_rotation=False)
    except Exception as error:
        raise DownloadError(
            f"The image from {flows.bare(url)} can't be read ({type(error).__name__})."
        ) from error
    if width <= 0 or height <= 0:
        raise DownloadError(f"The image from {flows.bare(url)} has no pixel size; it did not arrive whole.")
    return kind, Size(width, height)


def _check_end(file: BinaryIO, kind: str, url: str) -> None:
    """Refuse what was cut off.

    A host that gives no length and hangs up looks like one that has sent everything.
    """
    length = file.seek(0, os.SEEK_END)
    if kind == "png":
        whole = _png_ends(file)
    elif kind == "webp":
        file.seek(4)
        whole = int.from_bytes(file.read(4), "little") + 8 <= length
    else:
        file.seek(max(0, length - _TAIL))
        whole = b"\xff\xd9" in file.read()
    if not whole:
        raise DownloadError(f"The image from {flows.bare(url)} is cut off: its end is missing.")


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
