"""Fetching an image, in virtual time."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from airflow_gpt_image.api import downloads
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import DownloadError, GptImageError, ImageRefusedError

RETRYING = Retrying(first_pause=1, jitter=lambda: 1.0)
REMOTE = ClientSettings(api_key="sk-live-key")
LOCAL = ClientSettings(api_key="sk-live-key", base_url="http://127.0.0.1:8000")
URL = "https://file.aivideoapi.ai/images/abc123.png"
LOST = NoResponse(sent=True, reason="ReadError: cut", at=0.0)


def arrives(body):
    return (200, {"content-type": "image/png"}, body)


def redirects(location, status=302):
    return (status, {"location": location}, b"")


def download(here, url=URL, settings=REMOTE, into=None, age=None):
    into = io.BytesIO() if into is None else into
    return here.run(downloads.download(url, into, settings, RETRYING, age=age))


def test_an_image_arrives_with_what_the_host_said_of_it(world):
    here, into = world(arrives(b"PNG")), io.BytesIO()

    arrived = download(here, into=into)

    assert into.getvalue() == b"PNG"
    assert (arrived.url, arrived.content_type, arrived.bytes) == (URL, "image/png", 3)
    assert here.fetched == [URL]


def test_a_host_may_say_nothing_of_it(world):
    assert download(world((200, {}, b"PNG"))).content_type == ""


def test_what_arrived_of_an_earlier_try_is_thrown_away(world):
    here, into = world((LOST, b"a long first half"), arrives(b"PNG")), io.BytesIO()

    download(here, into=into)

    assert into.getvalue() == b"PNG"
    assert here.slept == [1]


def test_what_stood_in_the_file_before_stays(world):
    into = io.BytesIO()
    into.write(b"before")

    download(world((LOST, b"a long first half"), arrives(b"PNG")), into=into)

    assert into.getvalue() == b"beforePNG"


def test_fetching_costs_nothing_and_is_repeated_a_few_times(world):
    here = world((LOST, b""))

    with pytest.raises(DownloadError, match="ReadError: cut") as caught:
        download(here)

    assert caught.value.retryable
    assert len(here.fetched) == 4


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 400, 416, 429, 500, 502, 503])
def test_any_other_answer_is_not_the_image(world, status):
    here = world((status, {}, b""), arrives(b"PNG"))

    assert download(here).bytes == 3
    assert len(here.fetched) == 2


def test_the_wait_a_host_asks_for_is_kept_or_passed_on(world):
    kept, passed_on = (
        world((503, {"retry-after": "7"}, b""), arrives(b"PNG")),
        world((503, {"retry-after": "60"}, b"")),
    )

    download(kept)
    with pytest.raises(DownloadError) as caught:
        download(passed_on)

    assert 7 <= kept.slept[0] <= 8
    assert caught.value.retry_after == 60
    assert caught.value.status == 503


def test_a_signature_in_an_address_is_not_shown(world):
    for reply in ((LOST, b""), (404, {}, b""), (500, {}, b""), redirects("")):
        with pytest.raises(GptImageError) as caught:
            download(world(reply), url=URL + "?X-Signature=hunter2#hunter2")

        assert "abc123.png" in caught.value.message
        assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("url", ["http://files.example.com/a?sig=hunter2", "https://h/?sig=hunter2\tx"])
def test_a_signature_in_a_refused_address_is_not_shown_either(world, url):
    with pytest.raises(ImageRefusedError) as caught:
        download(world(arrives(b"")), url=url)

    assert "hunter2" not in caught.value.message


# --- redirects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_the_last_address_is_told(world, status):
    here = world(redirects("https://cdn.example.com/1.png", status), arrives(b"PNG"))

    arrived = download(here)

    assert arrived.url == "https://cdn.example.com/1.png"
    assert here.fetched == [URL, "https://cdn.example.com/1.png"]


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/other.png", "https://file.aivideoapi.ai/other.png"),
        ("other.png", "https://file.aivideoapi.ai/images/other.png"),
        ("//cdn.example.com/x", "https://cdn.example.com/x"),
    ],
)
def test_a_redirect_may_be_relative(world, location, where):
    here = world(redirects(location), arrives(b"PNG"))

    download(here)

    assert here.fetched[1] == where


def test_five_redirects_are_followed_and_a_sixth_is_not(world):
    hops = [redirects(f"/{hop}") for hop in range(6)]

    assert download(world(*hops[:5], arrives(b"PNG"))).bytes == 3
    with pytest.raises(ImageRefusedError, match="more than 5 redirects"):
        download(world(*hops, arrives(b"PNG")))


def test_a_redirect_that_leads_nowhere_ends(world):
    here = world((302, {}, b""))

    with pytest.raises(ImageRefusedError):
        download(here)

    assert len(here.fetched) <= 6


@pytest.mark.parametrize(
    "location",
    [
        "http://files.example.com/1.png",
        "https://127.0.0.1/1.png",
        "http://localhost:6379/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "https://user:pw@example.com/",
        "mailto:x",
        "javascript:alert(1)",
        "https://e xample.com",
        "https://example.com\r\nX: y",
        "https://example.com:99999/",
    ],
)
def test_every_address_on_the_way_is_checked(world, location):
    here = world(redirects(location), arrives(b"PNG"))

    with pytest.raises(ImageRefusedError):
        download(here)

    assert here.fetched == [URL]


@pytest.mark.parametrize(
    "location", ["http://[bad", "https://[::1", "//[", "https://ℂ／evil.com/", "https://[x]/"]
)
def test_an_address_that_can_not_even_be_read_is_refused(world, location):
    with pytest.raises(ImageRefusedError):
        download(world(redirects(location), arrives(b"PNG")))


# --- where images may come from -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://h/1.png", "HTTPS://files.example.com:8443/1.png", "https://8.8.8.8/1.png"]
)
def test_images_come_over_https_from_anywhere_public(world, url):
    assert download(world(arrives(b"PNG")), url=url).bytes == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/1.png",
        "http://localhost/1.png",
        "https://localhost/1.png",
        "https://127.0.0.1/1.png",
        "https://127.9.9.9/",
        "https://[::1]/1.png",
    ],
)
def test_images_do_not_come_in_clear_nor_from_this_machine(world, url):
    with pytest.raises(ImageRefusedError, match="image_hosts"):
        download(world(arrives(b"PNG")), url=url)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "localhost.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "127。0。0。1",
        "a.localhost",
    ],
)
def test_images_do_not_come_from_addresses_that_are_not_public(world, host):
    with pytest.raises(ImageRefusedError):
        download(world(arrives(b"PNG")), url=f"https://{host}/1.png")


@pytest.mark.parametrize(
    "url", ["http://nas/1.png", "http://NAS:8080/1.png", "https://nas/", "http://127.0.0.1/"]
)
def test_a_host_the_connection_lists_is_taken_even_in_clear(world, url):
    settings = ClientSettings(api_key="sk-live-key", image_hosts=("nas", "127.0.0.1"))

    assert download(world(arrives(b"PNG")), url=url, settings=settings).bytes == 3


@pytest.mark.parametrize(
    "url", ["http://nas.example.com/", "http://xnas/", "http://evil/?nas", "http://nas@evil/"]
)
def test_a_host_that_only_resembles_a_listed_one_is_not(world, url):
    settings = ClientSettings(api_key="sk-live-key", image_hosts=("nas",))

    with pytest.raises(ImageRefusedError):
        download(world(arrives(b"PNG")), url=url, settings=settings)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/1.png", "http://localhost/1.png", "http://[::1]/1.png"]
)
def test_an_api_on_this_machine_may_keep_its_images_there(world, url):
    assert download(world(arrives(b"PNG")), url=url, settings=LOCAL).bytes == 3


def test_an_api_on_this_machine_is_no_reason_to_take_images_in_clear_from_elsewhere(world):
    with pytest.raises(ImageRefusedError):
        download(world(arrives(b"PNG")), url="http://files.example.com/1.png", settings=LOCAL)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "/1.png",
        "https://",
        "https://h /ab",
        "https://h/a\tb",
        "https://h/\x00",
        "https://h/\ud800",
        "https://u:p@h/",
        "https://h/" + "a" * 9000,
        "https://[::1/",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_fetched(world, url):
    here = world(arrives(b"PNG"))

    with pytest.raises(ImageRefusedError) as caught:
        download(here, url=url)

    assert here.fetched == []
    assert caught.value.message.encode()


# Where a host really is


@pytest.mark.parametrize(
    "inside",
    [
        "127.0.0.1",
        "10.0.0.7",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.7",
        "64:ff9b::a00:7",
        "2002:a00:7::1",
    ],
)
def test_a_public_name_that_leads_inside_is_not_followed(world, inside):
    here = world(arrives(b"PNG"))
    here.addresses = ("93.184.215.14", inside)

    with pytest.raises(ImageRefusedError, match="no public address"):
        download(here)

    assert here.fetched == []


def test_every_host_on_the_way_is_looked_up_and_the_address_that_was_checked_is_the_one_asked(world):
    here = world(redirects("https://other.example.com/b.png"), arrives(b"PNG"))

    download(here)

    assert here.looked_up == [URL, "https://other.example.com/b.png"]
    assert here.asked == ["93.184.215.14", "93.184.215.14"]


def test_another_try_asks_another_of_the_hosts_addresses(world):
    here = world((LOST, b""), arrives(b"PNG"))
    here.addresses = ("2606:2800:21f::1", "93.184.215.14")

    download(here)

    assert here.asked == ["2606:2800:21f::1", "93.184.215.14"]


def test_a_host_that_is_not_found_is_asked_for_again(world):
    here = world(arrives(b"PNG"))
    here.addresses = NoResponse(sent=False, reason="gaierror: not known", at=0)

    with pytest.raises(DownloadError, match="gaierror: not known") as raised:
        download(here)

    assert raised.value.retryable
    assert len(here.looked_up) == 4


def test_behind_a_proxy_the_name_is_checked_and_the_proxy_looks_it_up(world):
    here = world(arrives(b"PNG"))
    here.addresses = None

    download(here)

    assert here.asked == [None]
    with pytest.raises(ImageRefusedError):
        download(here, url="https://localhost/a.png")


@pytest.mark.parametrize("url", ["https://cdn.inside.example/a.png", "http://cdn.inside.example/a.png"])
def test_a_listed_host_may_be_inside(world, url):
    here = world(arrives(b"PNG"))
    here.addresses = ("10.0.0.7",)

    download(here, url=url, settings=replace(REMOTE, image_hosts=("cdn.inside.example",)))

    assert here.asked == ["10.0.0.7"]
