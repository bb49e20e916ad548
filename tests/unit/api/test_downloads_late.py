"""Images that are late, images that are gone, and addresses that have to be encoded."""

from __future__ import annotations

import io

import pytest

from airflow_gpt_image.api.downloads import EXPIRES_AFTER, Patience
from airflow_gpt_image.errors import DownloadError, ImageExpiredError, ImageRefusedError
from tests.unit.api.test_downloads import arrives, download, redirects

NOT_THERE = pytest.mark.parametrize("status", [400, 401, 403, 404, 410])


@NOT_THERE
@pytest.mark.parametrize("age", [None, 0.0, 600.0, EXPIRES_AFTER - 1])
def test_an_image_that_is_not_there_may_be_late_and_is_asked_for_again(world, status, age):
    late = world((status, {}, b""), (status, {}, b""), arrives(b"PNG"))
    missing = world((status, {}, b""))

    assert download(late, age=age).bytes == 3
    with pytest.raises(DownloadError, match="may be late") as caught:
        download(missing, age=age)

    assert type(caught.value) is DownloadError
    assert (caught.value.retryable, caught.value.status) == (True, status)


@NOT_THERE
def test_only_its_age_makes_an_image_that_is_not_there_one_that_has_expired(world, status):
    here = world((status, {}, b""))

    with pytest.raises(ImageExpiredError, match="36 hours after it was completed") as caught:
        download(here, age=36 * 3600.0)

    assert caught.value.status == status
    assert not caught.value.retryable
    assert len(here.fetched) == 1


def test_an_old_image_that_is_there_is_fetched_as_any_other(world):
    assert download(world(arrives(b"PNG")), age=36 * 3600.0).bytes == 3
    with pytest.raises(DownloadError, match="HTTP 503"):
        download(world((503, {}, b"")), age=36 * 3600.0)


def test_nothing_is_no_image_and_is_asked_for_again(world):
    here = world(arrives(b""), arrives(b"PNG"))

    assert download(here).bytes == 3
    with pytest.raises(DownloadError, match="sent nothing"):
        download(world(arrives(b"")))


# How long late is believed


def test_a_late_image_is_asked_for_a_dozen_times_or_so_over_ten_minutes():
    age, asked = 0.0, 0
    while (pause := Patience().pause(DownloadError("HTTP 404"), age)) is not None:
        age, asked = age + pause, asked + 1

    assert 600 <= age < 900
    assert 10 <= asked <= 20


def test_a_file_host_may_ask_for_a_longer_pause_within_that_time():
    def pause(age, retry_after):
        return Patience().pause(DownloadError("HTTP 503", retry_after=retry_after), age)

    assert pause(0.0, 120.0) == 120.0
    assert pause(500.0, 120.0) is None
    assert pause(0.0, 7200.0) is None


@pytest.mark.parametrize("kind", [ImageExpiredError, ImageRefusedError])
def test_what_can_not_pass_is_not_late(kind):
    assert Patience().pause(kind("no"), 0.0) is None


# What has to be encoded in an address


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("https://h/a b.png", "https://h/a%20b.png"),
        (" https://h/a.png ", "https://h/a.png"),
        ("\n\thttps://h/a.png\r\n", "https://h/a.png"),
        ("https://h?n=a b/c", "https://h?n=a%20b/c"),
        ("https://h/ä/画.png?n=ü", "https://h/%C3%A4/%E7%94%BB.png?n=%C3%BC"),
        ('https://h/a|b"c<d>{e}^`\\.png', "https://h/a%7Cb%22c%3Cd%3E%7Be%7D%5E%60%5C.png"),
        ("https://h/a%20b%2Fc%c3%a4.png", "https://h/a%20b%2Fc%c3%a4.png"),
        (
            "https://h/a.png?X-Amz-Signature=ab%2Fc+/d==&sig=~x'y(z)*!;v,w:@$&t=%zz",
            "https://h/a.png?X-Amz-Signature=ab%2Fc+/d==&sig=~x'y(z)*!;v,w:@$&t=%zz",
        ),
        ("https://h", "https://h"),
    ],
)
def test_what_can_not_stand_in_an_address_is_encoded_and_all_else_stays_to_the_byte(world, given, asked):
    here = world(arrives(b"PNG"))

    download(here, url=given)

    assert here.fetched == [asked]


def test_where_a_redirect_leads_is_encoded_too(world):
    here = world(redirects("https://cdn.example.com/a b.png?sig=1%2F2"), arrives(b"PNG"))

    download(here)

    assert here.fetched[1] == "https://cdn.example.com/a%20b.png?sig=1%2F2"


def test_the_host_is_asked_for_the_very_bytes_of_the_address(reach, answering, wire):
    server = answering(wire.http(200, b"PNG"))
    path = "/a%20b/%c3%a4.png?X-Amz-Signature=ab%2Fc+/d==&sig=~x'y(z)*!;v,w:@$"
    client = reach(base_url=server.url)

    client.download(f"{server.url}{path}", io.BytesIO())
    client.download(f"{server.url}{path} ä|", io.BytesIO())

    asked = [request.partition(b" HTTP/")[0].decode() for request in server.requests]
    assert asked == [f"GET {path}", f"GET {path}%20%C3%A4%7C"]
