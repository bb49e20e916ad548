"""Where images may come from, however the host is written and wherever its name leads."""

from __future__ import annotations

import io

import pytest

from airflow_gpt_image.api import downloads
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import ImageRefusedError

KEY = "sk-live-key"
URL = "https://files.example.com/1.png"
PNG = (200, {"content-type": "image/png"}, b"PNG")


def _download(here, url=URL, **settings):
    into = io.BytesIO()
    return here.run(downloads.download(url, into, ClientSettings(api_key=KEY, **settings), Retrying()))


@pytest.mark.parametrize(
    "host",
    [
        "localhost。",
        "ⓛocalhost。",
        "a.localhost",
        "0177.0.0.1",
        "0x7f000001",
        "metadata.google.internal",
        "files%2eexample.com",
        "[::8.8.8.8]",
        "[::ffff:0:10.0.0.1]",
        "[fec0::1]",
        "[64:ff9b:1::a00:1]",
        "[2002:808:808::1]",
    ],
)
def test_a_host_that_is_not_public_is_refused_in_every_form(world, host):
    here = world(PNG)

    with pytest.raises(ImageRefusedError, match="image_hosts"):
        _download(here, f"https://{host}/1.png")

    assert here.fetched == []


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.0.0.1", "2130706433", "127.0.0.1.", "１２７.0.0.1", "ＮＡＳ。"]
)
def test_a_host_the_connection_lists_is_known_in_every_form(world, host):
    hosts = ("nas", "127.0.0.1")

    assert _download(world(PNG), f"http://{host}/1.png", image_hosts=hosts).bytes == 3


@pytest.mark.parametrize(
    "inside",
    [
        "64:ff9b:1::a00:7",
        "2002:808:808::1",
        "fec0::7",
        "::10.0.0.7",
        "::ffff:0:10.0.0.7",
        "2001::1",
        "5f00::1",
        "2606:2800:21f::1%eth0",
    ],
)
def test_a_public_name_that_leads_to_a_special_address_is_not_followed(world, inside):
    here = world(PNG)
    here.addresses = ("93.184.215.14", inside)

    with pytest.raises(ImageRefusedError, match="no public address"):
        _download(here)

    assert here.fetched == []


def test_a_network_that_has_ipv4_hosts_inside_ipv6_gets_its_images(world):
    here = world(PNG)
    here.addresses = ("64:ff9b::5db8:d70e",)

    assert _download(here).bytes == 3
