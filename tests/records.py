"""What records are about in tests: one request, one moment, one account."""

from __future__ import annotations

import hashlib
import struct
import zlib

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.ledger.record import fingerprint, furthest
from airflow_gpt_image.storage.images import ImageFile
from tests.fake_clock import FakeClock

REQUEST = ImageRequest(prompt="a red teapot")
OTHER = ImageRequest(prompt="a blue teapot")
NOW = FakeClock().now()
DEADLINE = NOW.timestamp() + 3_600


def identity(request: ImageRequest = REQUEST) -> str:
    return fingerprint(request, conn_id="c", host="h")


def verdict(ledger: Ledger, request: ImageRequest = REQUEST) -> str:
    """What follows for an attempt from what is on record."""
    return decide(ledger.find(identity(request)), ledger.payer, Policy()).decision


def check_complete(ledger: Ledger, request: ImageRequest = OTHER, *, regenerate: bool = False) -> None:
    earlier = furthest(ledger.find(identity(request)))
    ledger.check_nothing_is_missing(identity(request), earlier, regenerate=regenerate)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    _chunk(kind, data)
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\0\xff")),
        (b"IEND", b""),
    )
)
"""A whole image of 2 × 1 pixels."""


def png_file(name: str, url: str = "u") -> ImageFile:
    """What is on record of that image under a name."""
    sha256 = hashlib.sha256(PNG).hexdigest()
    return ImageFile(url=url, name=name, width=2, height=1, sha256=sha256, bytes=len(PNG))
