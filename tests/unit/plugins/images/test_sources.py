"""Files are read from disk and store alike, and what goes wrong there is told."""

from __future__ import annotations

import gzip

import pytest

from airflow_gpt_image.plugins.images.refusals import GONE, RefusedError
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.serving.sources import look_at, open_source
from tests.object_store import CONN_ID


@pytest.fixture
def roots(place):
    return Roots([place.destination])


@pytest.fixture
def locate(place, roots):
    def locate(name):
        return roots.locate(f"{place.destination}/{name}")

    return locate


def read(location):
    return b"".join(open_source(location, look_at(location)).chunks())


@pytest.mark.parametrize("length", [0, 1, 70_000, 9 * 1024 * 1024])
def test_a_file_is_read_whole(place, locate, length):
    data = (b"0123456789abcdef" * (length // 16 + 1))[:length]
    place.write("a.png", data)

    assert look_at(locate("a.png")).length == length
    assert read(locate("a.png")) == data


@pytest.mark.parametrize(
    "headers",
    [
        {"ContentEncoding": "gzip"},
        {"ContentEncoding": "aws-chunked"},
        {"ContentType": "text/html", "ContentDisposition": "attachment; filename=a.html"},
        {"CacheControl": "no-store", "Metadata": {"x": "y" * 1_000}},
    ],
)
@pytest.mark.parametrize("data", [b"a picture", gzip.compress(bytes(1024 * 1024))], ids=["as is", "packed"])
def test_a_store_gives_the_bytes_that_it_keeps_whatever_its_headers_say(bucket, headers, data):
    bucket.write("a.png", data, **headers)
    location = Roots([bucket.destination]).locate(f"{bucket.destination}/a.png")

    assert look_at(location).length == len(data)
    assert read(location) == data


def test_a_file_that_changes_has_another_tag(place, locate):
    place.write("a.png", b"one picture")
    before = look_at(locate("a.png")).tag

    assert look_at(locate("a.png")).tag == before
    place.write("a.png", b"another picture")
    assert look_at(locate("a.png")).tag != before


def test_a_file_that_is_not_there_is_told_to_be_gone(place, locate):
    place.write("folder/a.png", b"a picture")

    for name in ("b.png", "folder/b.png", "nowhere/b.png", "folder/a.png/b.png", "folder"):
        with pytest.raises(RefusedError) as refused:
            look_at(locate(name))
        assert refused.value.refusal.status in (404, 502)
    with pytest.raises(RefusedError) as refused:
        look_at(locate("b.png"))
    assert refused.value.refusal == GONE


def refusal_of(path):
    location = Roots([path.rpartition("/")[0]]).locate(path)
    with pytest.raises(RefusedError) as refused:
        look_at(location)
    return refused.value.refusal


def test_a_bucket_that_is_not_there_and_a_store_that_nobody_knows_are_told(bucket):
    no_bucket = refusal_of(f"s3://{CONN_ID}@no-such-bucket/images/a.png")
    no_connection = refusal_of("s3://no_such_connection@pictures/images/a.png")
    no_store = refusal_of("xyz://conn@pictures/images/a.png")

    assert no_bucket.status in (404, 502)
    for refusal, hint in ((no_connection, "no_such_connection"), (no_store, "knows no store")):
        assert refusal.status == 502
        assert "pictures are safe" in refusal.why
        assert hint in str(refusal)


def test_a_store_that_is_away_is_told_and_the_pictures_are_safe(s3, closed_port, monkeypatch):
    away = s3.airflow_connection().replace(s3.url, f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("AIRFLOW_CONN_AWAY_STORE", away)

    refusal = refusal_of("s3://away_store@pictures/images/a.png")

    assert refusal.status == 502
    assert refusal.what == "This server can't read s3://away_store@pictures/images/a.png"
    assert refusal.why.endswith("The pictures are safe: only this page can't show them.")
