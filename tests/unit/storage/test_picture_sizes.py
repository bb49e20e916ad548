"""The size that an image's own head tells is anybody's word, too."""

from __future__ import annotations

import io
import struct
import zlib

import pytest

from airflow_gpt_image.errors import DownloadError
from airflow_gpt_image.storage.pictures import inspect_image
from tests.records import PNG


def png(width, height):
    """A PNG whose head says so, with right checksums."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


def test_a_size_is_read():
    picture = inspect_image(io.BytesIO(png(2, 1)), "https://example.com/a.png")

    assert tuple(picture.size) == (2, 1)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (4_294_967_295, 1), (1, 1_000_001), (2**31, 2**31)])
def test_a_size_that_no_image_has_is_no_image_and_may_be_one_the_next_time(size):
    with pytest.raises(DownloadError, match="no pixel size") as raised:
        inspect_image(io.BytesIO(png(*size)), "https://example.com/a.png")

    assert raised.value.retryable
