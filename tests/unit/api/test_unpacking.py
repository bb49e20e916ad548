"""What a server packed is unpacked, whatever it calls it; what isn't passes as it is."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib

import httpx
import pytest

from airflow_gpt_image.api.unpacking import Unpacking

JSON = b'{"code": 200, "data": {"taskId": "a"}}'
LONG = JSON * 20_000
IMAGES = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x00\x00\x00\x00WEBP"]
WORDS = ["", "gzip", "x-gzip", "deflate", "identity", "aws-chunked", "UTF-8", "none", "binary", "br", "x, y"]


def raw_deflate(data):
    return zlib.compress(data)[2:-4]


def unpack(data, encoding="", step=10**9, most_bytes=10**9, **more):
    unpacked = bytearray()
    unpacking = Unpacking(
        unpacked.extend, encoding, most_bytes=most_bytes, too_large=lambda: OverflowError("too large"), **more
    )
    for start in range(0, len(data), step):
        unpacking.add(data[start : start + step])
    unpacking.end()
    return bytes(unpacked)


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("data", [b"", b"{", b"{}", JSON, b"  " + JSON, b"\xef\xbb\xbf" + JSON, *IMAGES])
def test_what_is_not_packed_passes_whatever_it_is_called(data, encoding):
    assert unpack(data, encoding) == data
    assert unpack(data, encoding, step=1) == data


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda data: zlib.compress(data, 1)])
@pytest.mark.parametrize("step", [1, 1000, 10**9])
def test_gzip_and_deflate_are_unpacked_whatever_they_are_called(pack, encoding, step):
    assert unpack(pack(JSON), encoding, step) == JSON


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
@pytest.mark.parametrize("data", [LONG, os.urandom(200_000), b"\x89PNG" + b"\0" * 500_000])
def test_what_is_long_is_unpacked_whole(pack, data):
    assert unpack(pack(data), "deflate", 1000) == unpack(pack(data), "Deflate") == data


def test_deflate_without_its_header_is_only_known_by_its_name():
    assert unpack(raw_deflate(JSON), "deflate") == JSON
    assert unpack(raw_deflate(JSON), "") == raw_deflate(JSON)


def test_what_was_packed_twice_is_unpacked_twice_and_not_more():
    once = gzip.compress(JSON, mtime=0)

    assert unpack(gzip.compress(once, mtime=0), "gzip, gzip") == JSON
    assert unpack(gzip.compress(gzip.compress(once, mtime=0))) == once


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_follows_the_end_of_what_is_packed_is_left_out(pack):
    assert unpack(pack(JSON) + b"more") == unpack(pack(JSON) + b"more", step=1) == JSON


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_is_packed_and_cut_off_is_an_error_after_what_could_be_read(pack):
    with pytest.raises(httpx.DecodingError, match="cut off"):
        unpack(pack(LONG)[:-20])


@pytest.mark.parametrize(
    "broken", [gzip.compress(LONG, mtime=0)[:10] + b"\xff" * 50, zlib.compress(LONG)[:9] + b"\xff" * 9]
)
def test_what_is_packed_and_broken_is_an_error(broken):
    with pytest.raises(httpx.DecodingError, match="broken"):
        unpack(broken)


def test_what_is_called_deflate_and_is_nothing_known_is_an_error():
    with pytest.raises(httpx.DecodingError):
        unpack(b"<html>Please log in</html>", "deflate")


def test_the_largest_size_is_taken_and_a_byte_more_is_not():
    assert unpack(b"x" * 1000, most_bytes=1000) == b"x" * 1000
    assert unpack(gzip.compress(b"x" * 1000, mtime=0), most_bytes=1000) == b"x" * 1000
    for data in (b"x" * 1001, gzip.compress(b"x" * 1001, mtime=0), gzip.compress(gzip.compress(b"x" * 1001))):
        with pytest.raises(OverflowError):
            unpack(data, most_bytes=1000, step=100)


def test_a_layer_that_becomes_large_for_nothing_is_given_up():
    nothing = gzip.compress(b"", mtime=0)
    endless = nothing[:3] + b"\x08" + nothing[4:10] + b"x" * 1_000_000  # a name without an end
    stuffed = gzip.compress(endless, mtime=0)

    with pytest.raises(OverflowError):
        unpack(stuffed, most_bytes=10_000)


def test_a_few_bytes_do_not_become_a_gigabyte_in_memory():
    bomb = gzip.compress(gzip.compress(b" " * 64 * 1024 * 1024, mtime=0))
    assert len(bomb) < 4096

    tracemalloc.start()
    with pytest.raises(OverflowError):
        unpack(bomb, most_bytes=1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * 1024 * 1024
