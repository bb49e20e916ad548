"""Which hosts are public, which are this machine, and which are the same one written in another way."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.api.hosts import can_be_public, is_loopback, is_public, normalize_host


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.215.14",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "223.255.255.255",
        "2606:2800:21f::1",
        "2001:4860:4860::8888",
        "2001:200::1",
        "2a00:1450:4001:80b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_global_unicast_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
@pytest.mark.parametrize("form", ["{}", "::ffff:{}", "64:ff9b::{}"])
def test_an_ipv4_address_of_a_special_block_is_not_public_also_inside_ipv6(form, address):
    assert not is_public(form.format(address))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "::8.8.8.8",  # compatible
        "::127.0.0.1",
        "::ffff:0:8.8.8.8",  # translated
        "::ffff:0:10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1::a00:1",
        "64:ff9b:0:1::808:808",
        "100::1",
        "100:0:0:1::1",
        "200::1",
        "400::1",
        "1fff:ffff::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "2001:1::1",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:db8::1",
        "2002:808:808::1",
        "2002:a00:1::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "ff0e::1",
        "2606:2800:21f::1%eth0",
        "::ffff:8.8.8.8%eth0",
    ],
)
def test_any_other_ipv6_address_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "text", ["", "example.com", "127.1", "2130706433", "[::1]", "8.8.8.8%eth0", "\ud800"]
)
def test_what_is_no_address_is_not_public(text):
    assert not is_public(text)


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("Files.Example.COM", "files.example.com"),
        ("files.example.com.", "files.example.com"),
        ("files.example.com。", "files.example.com"),
        ("files．example｡com", "files.example.com"),
        ("ｆｉｌｅｓ.example.com", "files.example.com"),
        ("fi\u00adles.example.com", "files.example.com"),
        ("ﬁles.example.com", "files.example.com"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("localhost。", "localhost"),
        ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.0.0.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("10.0x1.258", "10.1.1.2"),
        ("127.0.0.1.", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("①②⑦.⓪.0.1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
    ],
)
def test_a_host_has_one_form_however_it_is_written(host, same):
    assert normalize_host(host) == same


@pytest.mark.parametrize(
    "host",
    [
        "08.0.0.1",
        "256.1",
        "1.2.3.4.5",
        "4294967296",
        "1.2.3.256",
        "0x",
        "1..2",
        "a" * 300,
        "ü" * 300,
        "9" * 5000,
    ],
)
def test_what_no_resolver_takes_for_an_address_is_none(host):
    assert normalize_host(host) == host


@pytest.mark.parametrize("host", ["", "\ud800", "ü..com", "⁣", "ⓐ" * 100])
def test_what_is_no_host_at_all_is_no_public_one_and_no_error(host):
    assert not can_be_public(normalize_host(host))
    assert not is_loopback(host)


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**33)), min_size=1, max_size=5), st.data())
def test_numbers_are_read_as_the_c_library_reads_them(numbers, data):
    forms = [data.draw(st.sampled_from([f"{n}", f"0{n:o}", f"{n:#x}", f"0{n}"])) for n in numbers]
    host = ".".join(forms)
    try:
        expected = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        expected = host

    assert normalize_host(host) == expected


@given(st.text(max_size=40))
def test_no_text_is_an_error_and_a_form_is_its_own_form(host):
    form = normalize_host(host)

    assert normalize_host(form) == form or not can_be_public(form)
    assert not (is_loopback(host) and can_be_public(form))


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "0x7f.1", "localhost。", "LOCALHOST.", "１２７.0.0.1"])
def test_this_machine_is_known_in_every_form(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"])
def test_an_address_that_leaves_this_machine_is_not_it_whatever_is_inside(host):
    # A router is sent it, which may pass it on to anybody.
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "printer.local",
        "metadata.google.internal",
        "nas.home.arpa",
        "x.127",
        "1.2.3.4.5",
        "08.8.8.8",
        "example.0x1",
        "a..b",
        "a%2e.com",
        "a b",
        "",
        "[",
        ("a" * 60 + ".") * 5 + "com",
    ],
)
def test_a_name_that_no_public_name_server_has_is_not_public(host):
    assert not can_be_public(host)


@pytest.mark.parametrize(
    "host", ["h", "files.example.com", "my_bucket.example.com", "xn--bcher-kva.example", "8.8.8.8"]
)
def test_any_other_name_can_be_public(host):
    assert can_be_public(host)
