"""One idea of trust and of proxies: what lets the API be reached lets its images be reached, too."""

from __future__ import annotations

import io
import json
import os
import shutil
import ssl
import threading

import certifi
import pytest

from airflow_gpt_image.api.certificates import load_ca_bundle
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    InvalidSettingsError,
    SubmissionUnknownError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
ONCE = Retrying(most_sends=1)


@pytest.fixture(autouse=True)
def _bare(bare_environment):
    pass


@pytest.fixture
def company(answering, wire, certificate, names):
    """An API and its images on a host that only a company's own certificates vouch for.

    Comes back: its address. It takes a submit, and then gives an image for ever.
    """
    names["files.test"] = ["127.0.0.1"]
    server = answering(wire.http(200, ACCEPTED), wire.http(200, b"PNG"), tls=certificate.server)
    server.url = server.url.replace("127.0.0.1", "files.test")
    return server


def submitted_and_fetched(client, server):
    into = io.BytesIO()
    generation_id = client.submit(REQUEST)
    client.download(f"{server.url}/1.png", into)
    return generation_id, into.getvalue()


# --- certificates -------------------------------------------------------------------------------------------


def test_the_environments_certificates_hold_for_the_api_and_for_images(
    connect, company, certificate, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", certificate.path)
    client = connect(base_url=company.url, image_hosts=("files.test",))

    assert submitted_and_fetched(client, company) == (ID, b"PNG")


def test_the_environments_folders_of_certificates_hold_for_both_too(
    connect, company, certificate, monkeypatch, tmp_path
):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    shutil.copy(certifi.where(), tmp_path / "first" / "0123abcd.0")
    shutil.copy(certificate.path, tmp_path / "second" / "0123abcd.0")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}")
    client = connect(base_url=company.url, image_hosts=("files.test",))

    assert submitted_and_fetched(client, company) == (ID, b"PNG")


def test_the_connections_bundle_holds_for_both_and_weighs_more_than_the_environments(
    connect, company, certificate, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    client = connect(base_url=company.url, image_hosts=("files.test",), verify=certificate.path)

    assert submitted_and_fetched(client, company) == (ID, b"PNG")


def test_without_a_check_the_environments_certificates_are_not_read(connect, company, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    client = connect(base_url=company.url, image_hosts=("files.test",), verify=False)

    assert submitted_and_fetched(client, company) == (ID, b"PNG")


def test_certificates_that_do_not_vouch_for_the_api_are_noticed_before_anything_is_sent(
    connect, company, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())

    with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(base_url=company.url).submit(REQUEST)

    assert company.requests == []


@pytest.fixture
def broken(tmp_path):
    """Paths at which there are no certificates, by what is there."""
    paths = {name: tmp_path / name for name in ("nothing", "folder", "garbage", "empty", "pipe", "huge")}
    paths["folder"].mkdir()
    paths["garbage"].write_text("-----BEGIN CERTIFICATE-----\nnot one\n")
    paths["empty"].touch()
    os.mkfifo(paths["pipe"])
    with paths["huge"].open("wb") as file:
        file.truncate(2**40)
    return {**paths, "device": "/dev/zero", "nul": "a\0b"}


BROKEN = ["nothing", "folder", "garbage", "empty", "pipe", "huge", "device"]


@pytest.mark.parametrize("what", BROKEN)
def test_broken_certificates_of_the_environment_are_found_out_when_the_client_is_made(
    connect, broken, monkeypatch, what
):
    monkeypatch.setenv("SSL_CERT_FILE", str(broken[what]))

    with pytest.raises(InvalidSettingsError) as caught:
        connect()

    value, *rest = caught.value.message.splitlines()
    assert f"SSL_CERT_FILE='{broken[what]}'" in value
    assert "must be the path" in rest[0]
    assert "before anything is paid for, also for an API over plain http" in rest[2]
    assert "Mend or unset it in the environment, or set the connection's ca_bundle" in rest[4]
    # What a task's log shows without scrolling sideways.
    assert max(map(len, rest)) <= 95


@pytest.mark.parametrize("what", ["nothing", "folder", "garbage", "pipe", "device"])
def test_broken_folders_of_the_environment_are_found_out_when_the_client_is_made(
    connect, broken, monkeypatch, what
):
    monkeypatch.setenv("SSL_CERT_DIR", str(broken[what]))

    with pytest.raises(InvalidSettingsError, match="SSL_CERT_DIR="):
        connect()


@pytest.mark.parametrize("what", [*BROKEN, "nul"])
def test_a_bundle_that_is_no_file_of_certificates_is_refused_and_not_waited_for(broken, what, api_key):
    with pytest.raises(InvalidSettingsError, match="verify="):
        ClientSettings(api_key=api_key, verify=str(broken[what]))


def test_a_pipe_in_a_folder_of_certificates_is_not_waited_for(certificate, tmp_path):
    shutil.copy(certificate.path, tmp_path / "0123abcd.0")
    os.mkfifo(tmp_path / "0123abcd.1")

    assert load_ca_bundle(f"{tmp_path}/").get_ca_certs()


def test_a_bundle_on_a_mount_that_is_gone_is_given_up(certificate, monkeypatch):
    came_back = threading.Event()
    monkeypatch.setattr(ssl, "create_default_context", lambda **options: came_back.wait(60))

    with pytest.raises(InvalidSettingsError, match=r"ca_bundle=.* could not be read within 0\.05 s"):
        load_ca_bundle(certificate.path, name="ca_bundle", seconds=0.05)

    came_back.set()


# --- proxies ------------------------------------------------------------------------------------------------


@pytest.fixture
def asked_through(connect, company, certificate):
    """Submits and fetches an image; what the proxy was asked for."""

    def ask(through, **options):
        options = {"image_hosts": ("files.test",), "verify": certificate.path, **options}
        client = connect(base_url=company.url, **options)
        assert submitted_and_fetched(client, company) == (ID, b"PNG")
        return [request.split(b"\r\n")[0].decode() for request in through.requests]

    return ask


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_environments_proxy_is_asked_for_the_api_and_for_images(
    asked_through, company, tunnel, monkeypatch, name, scheme
):
    proxy = tunnel()
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")

    asked = asked_through(proxy)

    assert asked == [f"CONNECT files.test:{company.port} HTTP/1.1"] * 2


@pytest.mark.parametrize("exempt", ["files.test", ".test", "*", "files.test:{port}", "other, files.test"])
def test_a_host_the_environment_exempts_is_asked_without_its_proxy_for_both(
    asked_through, company, tunnel, monkeypatch, exempt
):
    proxy = tunnel()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exempt.format(port=company.port))

    assert asked_through(proxy) == []


def test_the_connections_proxy_is_asked_for_both_whatever_the_environment_exempts(
    asked_through, company, tunnel, monkeypatch
):
    proxy = tunnel()
    monkeypatch.setenv("NO_PROXY", "*")

    assert len(asked_through(proxy, proxy=proxy.url)) == 2


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_only_images_would_be_asked_through_is_found_out_before_anything_is_sent(
    connect, monkeypatch, name
):
    monkeypatch.setenv(name, "ftp://me:open-sesame@proxy.example.com")
    monkeypatch.setenv("NO_PROXY", "api.aivideoapi.ai")

    with pytest.raises(InvalidSettingsError) as caught:
        connect()

    assert len(caught.value.message.splitlines()) == 3
    assert "The environment's proxy can't be used" in caught.value.message
    assert "open-sesame" not in caught.value.message


def test_a_proxy_of_the_environment_does_not_matter_beside_the_connections(connect, tunnel, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example.com")

    assert connect(proxy=tunnel().url)


# --- a proxy that is spoken to over TLS ---------------------------------------------------------------------


def test_a_proxy_over_tls_is_verified_as_everything_else_and_passes_all_on(
    asked_through, company, tunnel, certificate
):
    proxy = tunnel(tls=certificate.server)

    asked = asked_through(proxy, proxy=proxy.url)

    assert asked == [f"CONNECT files.test:{company.port} HTTP/1.1"] * 2


def test_a_proxy_over_tls_nobody_vouches_for_is_told_nothing(connect, company, tunnel, certificate):
    proxy = tunnel(tls=certificate.server)

    with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(base_url=company.url, proxy=proxy.url).submit(REQUEST)

    assert proxy.requests == []


def test_a_large_image_comes_through_a_proxy_over_tls(connect, answering, wire, tunnel, certificate, names):
    names["files.test"] = ["127.0.0.1"]
    image = os.urandom(3_000_000)
    files, proxy = answering(wire.http(200, image), tls=certificate.server), tunnel(tls=certificate.server)
    client = connect(verify=certificate.path, proxy=proxy.url, image_hosts=("files.test",))
    into = io.BytesIO()

    client.download(f"https://files.test:{files.port}/1.png", into)

    assert into.getvalue() == image


def test_connections_through_a_proxy_over_tls_are_used_again(
    connect, serve, wire, tunnel, certificate, names
):
    names["files.test"] = ["127.0.0.1"]

    def keep(connection, server):
        while True:
            server.ask(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ACCEPTED) + ACCEPTED)

    api, proxy = serve(keep, tls=certificate.server), tunnel(tls=certificate.server)
    client = connect(base_url=f"https://files.test:{api.port}", verify=certificate.path, proxy=proxy.url)

    assert [client.submit(REQUEST), client.submit(REQUEST)] == [ID, ID]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["a proxy", "a proxy over TLS"])
def test_behind_a_proxy_an_id_is_taken_too_under_a_line_that_is_no_header(
    connect, serve, tunnel, certificate, names, secure
):
    names["files.test"] = ["127.0.0.1"]

    def behave(connection, server):
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nno header at all\r\n")
        connection.sendall(b"connection: close\r\n\r\n" + ACCEPTED)

    api, proxy = serve(behave, tls=certificate.server), tunnel(tls=certificate.server if secure else None)
    client = connect(base_url=f"https://files.test:{api.port}", verify=certificate.path, proxy=proxy.url)

    assert client.submit(REQUEST) == ID


def says(*parts):
    """A proxy that establishes a connection, and then says this in the place of the host behind it."""

    def behave(connection, server):
        server.ask(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.recv(65536)
        for part in parts:
            connection.sendall(part)

    return behave


def drips(connection, server):
    says(b"\x16\x03\x03\x40\x00")(connection, server)
    while not server.done.wait(0.02):
        connection.sendall(b"\x02")


@pytest.mark.parametrize(
    "behave", [says(), says(b"no TLS at all\r\n" * 10), drips], ids=["silence", "nonsense", "a drip"]
)
@pytest.mark.parametrize("secure", [False, True], ids=["a proxy", "a proxy over TLS"])
def test_a_handshake_behind_a_proxy_that_fails_is_over_and_nothing_was_sent(
    connect, serve, certificate, behave, secure
):
    proxy = serve(behave, tls=certificate.server if secure else None)
    client = connect(
        base_url="https://api.example.com",
        verify=certificate.path,
        proxy=proxy.url,
        connect_timeout=0.3,
        retrying=ONCE,
    )

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        client.submit(REQUEST)


def test_handshakes_that_fail_behind_a_proxy_however_many_leave_room_for_the_next_one(
    connect, company, serve, tunnel, certificate, names
):
    broken, proxy = serve(lambda connection, server: None), tunnel()
    names["files.test"] = ["127.0.0.1"]
    client = connect(
        base_url=f"https://files.test:{broken.port}",
        verify=certificate.path,
        proxy=proxy.url,
        retrying=ONCE,
    )

    for _ in range(110):  # a pool has 100 places
        with pytest.raises(ConnectionFailedError, match="ConnectError"):
            client.get(ID)

    assert broken.connections == 110


class _Behind:
    """TLS behind a proxy: a host that answers as a test tells it, and hangs up without a word."""

    def __init__(self, answer):
        self._answer = answer

    def __call__(self, connection, server):
        server.ask(connection)
        self._answer(connection)
        # Without TLS's own farewell.
        os.close(connection.detach())


def test_a_host_behind_a_proxy_over_tls_that_breaks_off_leaves_a_submit_unknown(
    connect, serve, tunnel, certificate, names
):
    names["files.test"] = ["127.0.0.1"]
    for answer in (lambda c: None, lambda c: c.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")):
        api, proxy = serve(_Behind(answer), tls=certificate.server), tunnel(tls=certificate.server)
        client = connect(base_url=f"https://files.test:{api.port}", verify=certificate.path, proxy=proxy.url)

        with pytest.raises(SubmissionUnknownError):
            client.submit(REQUEST)


def test_an_image_through_a_proxy_that_refuses_did_not_arrive(connect, answering, wire):
    proxy = answering(wire.http(502))

    with pytest.raises(DownloadError, match="ProxyError"):
        connect(proxy=proxy.url, verify=False).download("https://files.example.com/1.png", io.BytesIO())
