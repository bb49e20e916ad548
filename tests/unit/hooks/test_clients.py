"""Both clients come out of one builder: what a connection says holds for either kind."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from decimal import Decimal

import pytest

from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import ConnectionFailedError, InvalidSettingsError, SubmissionUnknownError

BALANCE = b'{"code": 200, "msg": "success", "data": {"credits": 7.5}}'


def test_both_kinds_of_client_have_the_connections_settings(connection):
    hook = connection(
        host="https://images.example.com", extra={"read_timeout": 7, "image_hosts": "a.example"}
    )

    async def on_a_loop():
        async with await hook.aget_conn() as client:
            return client

    with hook.get_conn() as blocking:
        asynchronous = asyncio.run(on_a_loop())

    assert isinstance(blocking, GptImageClient)
    assert isinstance(asynchronous, AsyncGptImageClient)
    assert blocking.settings == asynchronous.settings == hook.settings()


def test_a_client_asks_the_connections_host_with_its_key(connection, call, web, api_key):
    api = web(body=BALANCE)
    hook = connection(host=f"{api.url}/gateway")

    balance = call(hook, "credits")

    assert balance == Decimal("7.5")
    assert api.asked == ["GET /gateway/v1/credits HTTP/1.1"]
    assert api.headers[0]["authorization"] == f"Bearer {api_key}"


def test_every_call_for_a_client_gives_a_new_one(connection):
    hook = connection()

    with hook.get_conn() as first, hook.get_conn() as second:
        assert first is not second


def test_a_proxy_is_asked_instead_of_the_host(connection, call, web):
    proxy = web(body=BALANCE)
    hook = connection(
        host="http://images.example.com",
        extra={"allow_http": True, "proxy": proxy.url.replace("//", "//me:open-sesame@")},
    )

    balance = call(hook, "credits")

    assert balance == Decimal("7.5")
    assert proxy.asked == ["GET http://images.example.com/v1/credits HTTP/1.1"]
    assert "proxy-authorization" in {name.lower() for name in proxy.headers[0]}


def test_a_proxy_that_refuses_its_tunnel_has_seen_no_key_and_its_password_is_not_shown(
    connection, call, web, api_key
):
    proxy = web(status=407, body=b"who are you?")
    hook = connection(
        host="https://images.example.com", extra={"proxy": proxy.url.replace("//", "//me:open-sesame@")}
    )

    with pytest.raises(ConnectionFailedError) as raised:
        call(hook, "credits")

    assert set(proxy.asked) == {"CONNECT images.example.com:443 HTTP/1.1"}
    assert api_key not in str(proxy.headers)
    assert "407" in str(raised.value)
    assert "open-sesame" not in str(raised.value)


def test_the_environments_proxy_is_not_asked_for_this_machine(connection, call, web, monkeypatch):
    # Over plain http it would see the key.
    proxy, api = web(body=BALANCE), web(body=BALANCE)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    hook = connection(host=api.url)

    call(hook, "credits")

    assert proxy.asked == []
    assert len(api.asked) == 1


def test_a_certificate_nobody_vouches_for_is_refused(connection, call, web, certificate):
    api = web(body=BALANCE, tls=certificate.server)
    hook = connection(host=api.url)

    with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
        call(hook, "credits")

    assert api.asked == []


@pytest.mark.parametrize("how", ["ca_bundle", "verify off"])
def test_a_certificate_is_accepted_by_its_bundle_or_without_a_check(connection, call, web, certificate, how):
    api = web(body=BALANCE, tls=certificate.server)
    extra = {"ca_bundle": certificate.path} if how == "ca_bundle" else {"verify": False}
    hook = connection(host=api.url, extra=extra)

    balance = call(hook, "credits")

    assert balance == Decimal("7.5")


def test_a_server_that_never_answers_is_given_up_after_the_read_timeout(connection, call, silent_port):
    hook = connection(host=f"http://127.0.0.1:{silent_port}", extra={"read_timeout": 0.3})
    started = time.monotonic()

    # A submit, because it is never sent twice: what is measured is one timeout.
    with pytest.raises(SubmissionUnknownError, match="ReadTimeout"):
        call(hook, "submit", ImageRequest(prompt="a red bicycle"))

    assert 0.3 <= time.monotonic() - started < 5


def test_a_pipe_is_no_ca_bundle_and_not_waited_for(connection, settings_of, tmp_path):
    os.mkfifo(tmp_path / "ca.pem")
    hook = connection(extra={"ca_bundle": str(tmp_path / "ca.pem")})

    with pytest.raises(InvalidSettingsError, match="'gpt_image_default': ca_bundle="):
        settings_of(hook)


def test_a_ca_bundle_that_takes_long_to_read_does_not_hold_up_the_loop(connection, certificate, monkeypatch):
    came_back = threading.Event()
    read = ssl.create_default_context

    def read_late(**options):
        assert came_back.wait(60), "the loop was held up"
        return read(**options)

    monkeypatch.setattr(ssl, "create_default_context", read_late)
    hook = connection(extra={"ca_bundle": certificate.path})

    async def scenario():
        opening = asyncio.create_task(hook.aget_conn())
        await asyncio.sleep(0.05)
        came_back.set()  # by the loop that waits for the file
        async with await opening as client:
            return client.settings.verify

    assert asyncio.run(scenario()) == certificate.path
