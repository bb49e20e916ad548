"""The key of another company's connection goes nowhere; nor does ours to a proxy on this machine."""

from __future__ import annotations

import json

import pytest

from airflow_gpt_image.errors import InvalidSettingsError
from airflow_gpt_image.hooks.gpt_image import GptImageHook


def test_a_connection_of_another_type_is_refused_by_name_and_its_key_is_not_sent(connection, call, web):
    server = web()
    hook = connection(conn_type="openai", host=server.url, password="sk-of-another-company")

    with pytest.raises(InvalidSettingsError) as raised:
        call(hook, "credits")

    happened, rule, _, remedy = raised.value.message.split("\n")
    assert "'gpt_image_default'" in happened
    assert "'openai'" in happened
    assert "nothing was sent" in rule
    assert "--conn-type gpt_image" in remedy
    assert "another-company" not in raised.value.message
    assert server.asked == []


@pytest.mark.parametrize(
    "conn_type", ["http", "generic", "GPT_IMAGE", "gpt_image_2", "gptimage", " gpt_image", "aws", "a" * 9000]
)
def test_a_type_that_only_resembles_ours_is_another_one(connection, settings_of, conn_type):
    with pytest.raises(InvalidSettingsError, match="not 'gpt_image'") as raised:
        settings_of(connection(conn_type=conn_type))

    assert len(raised.value.message) < 1_000


@pytest.mark.parametrize("conn_type", ["", None])
def test_a_connection_without_a_type_is_refused_as_well(connection, settings_of, conn_type):
    # Airflow itself doesn't read one whose type is null.
    with pytest.raises((InvalidSettingsError, ValueError)):
        settings_of(connection(conn_type=conn_type))


def test_a_connection_without_any_type_is_refused(monkeypatch, settings_of):
    monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps({"password": "sk-live-0123456789"}))

    with pytest.raises((InvalidSettingsError, ValueError)):
        settings_of(GptImageHook())


@pytest.mark.parametrize("scheme", ["gpt-image", "GPT-Image"])
def test_a_uri_has_the_type_that_airflow_reads_in_it(connection_uri, settings_of, api_key, scheme):
    hook = connection_uri(f"{scheme}://:{api_key}@api.example.com")

    assert settings_of(hook).host == "api.example.com"


def test_a_uri_whose_scheme_python_cannot_read_is_told_the_one_it_can(connection_uri, settings_of):
    with pytest.raises(InvalidSettingsError, match="gpt-image://"):
        settings_of(connection_uri("gpt_image://:sk-1@api.example.com"))


@pytest.mark.parametrize("uri", ["https://:sk-1@api.example.com", "openai://:sk-1@", "generic://:sk-1@host"])
def test_a_uri_of_another_type_is_refused(connection_uri, settings_of, uri):
    with pytest.raises(InvalidSettingsError, match="not 'gpt_image'"):
        settings_of(connection_uri(uri))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "localhost."])
def test_an_api_on_this_machine_is_not_asked_through_the_connections_proxy(connection, call, web, host):
    proxy = web()
    hook = connection(host=f"http://{host}:9", extra={"proxy": proxy.url})

    with pytest.raises(InvalidSettingsError, match="Connection 'gpt_image_default': proxy is set"):
        call(hook, "credits")

    assert proxy.asked == []


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
def test_nor_through_the_environments_however_its_address_is_written(
    connection, call, web, monkeypatch, host, name
):
    proxy, server = web(), web(body=b'{"code": 200, "data": {"credits": 5}}')
    monkeypatch.setenv(name, proxy.url)

    call(connection(host=server.url.replace("127.0.0.1", host)), "credits")

    assert proxy.asked == []
    assert len(server.asked) == 1
