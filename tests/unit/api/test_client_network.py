"""Both clients through TLS and proxies, on real sockets."""

from __future__ import annotations

import io
import json
import shutil
import sys
import traceback

import certifi
import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    GptImageError,
    ImageRefusedError,
    InvalidSettingsError,
    SubmissionUnknownError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()


@pytest.fixture(autouse=True)
def _bare(bare_environment):
    pass


# --- TLS ----------------------------------------------------------------------------------------------------


def test_tls_with_the_connections_own_bundle_works(connect, answering, wire, certificate):
    server = answering(wire.http(200, ACCEPTED), tls=certificate.server)

    assert connect(base_url=server.url, verify=certificate.path).submit(REQUEST) == ID


def test_tls_without_a_check_works_if_somebody_said_so(connect, answering, wire, certificate):
    server = answering(wire.http(200, ACCEPTED), tls=certificate.server)

    assert connect(base_url=server.url, verify=False).submit(REQUEST) == ID


def test_a_server_nobody_vouches_for_gets_no_request_and_so_no_key(connect, answering, wire, certificate):
    server = answering(wire.http(200, ACCEPTED), tls=certificate.server)

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        connect(base_url=server.url).submit(REQUEST)

    assert server.requests == []


def test_https_to_a_server_of_plain_http_is_no_submission(connect, serve):
    heard = []

    def behave(connection, server):
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    server = serve(behave)

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        connect(base_url=server.url.replace("http:", "https:")).submit(REQUEST)

    assert all(b"sk-live" not in words for words in heard)


def test_plain_http_to_a_server_of_tls_is_an_error_of_ours(connect, answering, wire, certificate):
    server = answering(wire.http(200, ACCEPTED), tls=certificate.server)

    with pytest.raises(SubmissionUnknownError):
        connect(base_url=server.url.replace("https:", "http:")).submit(REQUEST)


def test_a_bundle_that_is_none_is_refused_when_the_client_is_made(connect, tmp_path):
    (tmp_path / "ca.pem").write_text("this is no certificate")

    for path in (tmp_path / "ca.pem", tmp_path):
        with pytest.raises(InvalidSettingsError, match="CA bundle"):
            connect(verify=str(path))


def test_a_bundle_that_went_away_is_refused_when_the_client_is_made(connect, tmp_path, api_key):
    shutil.copy(certifi.where(), tmp_path / "ca.pem")
    settings = ClientSettings(api_key=api_key, verify=str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").unlink()

    with pytest.raises(InvalidSettingsError, match="CA bundle"):
        connect(settings)


def test_a_folder_of_certificates_ends_in_a_slash_and_its_hashed_names_count(
    connect, answering, wire, certificate, tmp_path
):
    server = answering(wire.http(200, ACCEPTED), tls=certificate.server)
    shutil.copy(certificate.path, tmp_path / "0a1b2c3d.0")
    (tmp_path / "README").write_text("of no interest")
    (tmp_path / "0a1b2c3d.1").symlink_to(tmp_path / "gone")

    assert connect(base_url=server.url, verify=f"{tmp_path}/").submit(REQUEST) == ID


def test_a_folder_without_certificates_is_refused_because_it_would_trust_nobody(
    connect, certificate, tmp_path
):
    shutil.copy(certificate.path, tmp_path / "cert.pem")

    with pytest.raises(InvalidSettingsError, match="openssl rehash"):
        connect(verify=f"{tmp_path}/")


# --- where a host is ----------------------------------------------------------------------------------------


def test_a_name_that_leads_elsewhere_at_its_second_look_up_is_asked_where_it_was_checked(
    connect, answering, wire, certificate, names
):
    server = answering(wire.http(200, b"PNG"), tls=certificate.server)
    names["files.test"] = ["127.0.0.1", "203.0.113.1"]
    client, into = connect(verify=certificate.path, image_hosts=("files.test",)), io.BytesIO()

    client.download(server.url.replace("127.0.0.1", "files.test") + "/1.png", into)

    assert into.getvalue() == b"PNG"
    assert f"host: files.test:{server.port}".encode() in server.requests[0].lower()


def test_the_certificate_must_be_the_hosts_though_its_address_is_asked(
    connect, answering, wire, certificate, names
):
    server = answering(wire.http(200, b"PNG"), tls=certificate.server)
    names["other.test"] = ["127.0.0.1"]
    client = connect(verify=certificate.path, image_hosts=("other.test",))

    with pytest.raises(DownloadError, match=r"other\.test"):
        client.download(server.url.replace("127.0.0.1", "other.test") + "/1.png", io.BytesIO())

    assert server.requests == []


def test_a_public_name_for_this_machine_is_refused_before_anything_is_asked(
    connect, answering, wire, certificate, names
):
    server = answering(wire.http(200, b"PNG"), tls=certificate.server)
    names["files.test"] = ["127.0.0.1"]

    with pytest.raises(ImageRefusedError, match=r"127\.0\.0\.1, which is no public address"):
        connect().download(server.url.replace("127.0.0.1", "files.test") + "/1.png", io.BytesIO())

    assert server.connections == 0


def test_a_host_nobody_knows_is_an_error_that_trying_again_may_help(connect):
    with pytest.raises(DownloadError, match="gaierror") as caught:
        connect().download("https://nobody.invalid/1.png", io.BytesIO())

    assert caught.value.retryable


# --- proxies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_told_the_key_for_an_api_on_this_machine(
    connect, answering, wire, monkeypatch, name
):
    proxy = answering(wire.http(502))
    monkeypatch.setenv(name, proxy.url)
    server = answering(wire.http(200, ACCEPTED))
    client = connect(base_url=server.url)

    assert client.submit(REQUEST) == ID
    client.download(server.url + "/1.png", io.BytesIO())

    assert proxy.connections == 0


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_proxy_of_the_environment_is_asked_for_any_other_api(
    connect, answering, wire, monkeypatch, api_key, name
):
    proxy = answering(wire.http(502))
    monkeypatch.setenv(name, proxy.url)

    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        connect(base_url="https://api.example.com").submit(REQUEST)

    assert proxy.requests[0].startswith(b"CONNECT api.example.com:443 ")
    assert all(api_key.encode() not in request for request in proxy.requests)


def test_a_proxy_of_the_environment_is_asked_for_images_too(connect, answering, wire, monkeypatch):
    proxy = answering(wire.http(502))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    with pytest.raises(GptImageError):
        connect().download("https://files.example.com/1.png", io.BytesIO())

    assert proxy.requests[0].startswith(b"CONNECT files.example.com:443 ")


def test_a_host_the_environment_exempts_is_asked_without_its_proxy_and_where_it_was_checked(
    connect, answering, wire, certificate, names, monkeypatch
):
    proxy, server = answering(wire.http(502)), answering(wire.http(200, b"PNG"), tls=certificate.server)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "files.test")
    names["files.test"] = ["127.0.0.1", "203.0.113.1"]
    client, into = connect(verify=certificate.path, image_hosts=("files.test",)), io.BytesIO()

    client.download(server.url.replace("127.0.0.1", "files.test") + "/1.png", into)

    assert into.getvalue() == b"PNG"
    assert proxy.connections == 0


def test_the_connections_own_proxy_weighs_more_than_the_environments(connect, answering, wire, monkeypatch):
    own, other = answering(wire.http(200, ACCEPTED)), answering(wire.http(502))
    monkeypatch.setenv("HTTP_PROXY", other.url)

    client = connect(base_url="http://api.example.com", allow_http=True, proxy=own.url)

    assert client.submit(REQUEST) == ID
    assert own.requests[0].startswith(b"POST http://api.example.com/v1/images/generations ")
    assert other.connections == 0


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_its_tunnel_has_passed_nothing_on_and_its_password_is_not_told(
    connect, answering, wire, status
):
    proxy = answering(wire.http(status, proxy_authenticate="Basic"))
    url = proxy.url.replace("http://", "http://user:hunter2@")

    with pytest.raises(ConnectionFailedError, match="never reached the API") as caught:
        connect(base_url="https://api.example.com", proxy=url).submit(REQUEST)

    assert proxy.requests[0].startswith(b"CONNECT")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_that_is_not_there_has_passed_nothing_on(connect, closed_port):
    with pytest.raises(ConnectionFailedError, match="never reached the API"):
        connect(base_url="https://api.example.com", proxy=f"http://127.0.0.1:{closed_port}").submit(REQUEST)


def test_the_page_of_a_proxy_that_saw_the_request_leaves_a_submit_unknown(connect, answering, wire):
    proxy = answering(wire.http(502, b"<html>Bad Gateway</html>"))

    with pytest.raises(SubmissionUnknownError):
        connect(base_url="http://api.example.com", allow_http=True, proxy=proxy.url).submit(REQUEST)

    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "socks://127.0.0.1:1080", "http://[::1", "ftp://127.0.0.1"]
)
def test_a_proxy_of_the_environment_that_can_not_be_used_is_told_in_our_own_words(
    connect, monkeypatch, proxy
):
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    monkeypatch.setenv("ALL_PROXY", proxy)

    with pytest.raises(InvalidSettingsError, match=r"(?i)proxy"):
        connect()
