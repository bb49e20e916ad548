"""A proxy's password that is typed into the wrong field of a connection."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from airflow_gpt_image.errors import InvalidApiKeyError, InvalidSettingsError
from tests.unit.hooks.test_gpt_image import EXTRAS

PROXY = "http://me:open-sesame@proxy.example.com:3128"

LOGINS = [
    PROXY,
    PROXY.removeprefix("http://"),
    PROXY.replace("http://", "http:/"),
    PROXY.replace("http://", "http//"),
    quote(PROXY, safe=""),
    PROXY.replace("me:", "me%3A").replace("@", "%40"),
    PROXY.replace("@", "＠"),
    PROXY.replace("me:", ""),
    PROXY.replace("http://me", ""),
    PROXY.replace("me:", "me:a b"),
    PROXY.replace("http://me:", "me:p@"),
    PROXY.replace("http://me:", "me:'"),
    PROXY.replace("me:", 'me:"'),
    PROXY.replace("http://me", "DOMAIN/me"),
    PROXY.replace("http://me", "DOMAIN\\me"),
    "me:open-sesame@",
    "http://proxy.example.com:3128:me:open-sesame",
    "proxy.example.com:3128:me:open-sesame",
    "socks5://me:open-sesame@10.0.0.1",
    "http://me:open-sesame@[2001:db8::1]:3128",
]


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize(
    "fields",
    [
        *[lambda login, name=name: {"extra": {name: login}} for name in (*EXTRAS, "proxies", "https_proxy")],
        lambda login: {"extra": {"image_hosts": [login]}},
        lambda login: {"extra": {"prices": {login: "1"}}},
        lambda login: {"extra": {"prices": {"1k": login}}},
        lambda login: {"extra": {login: True}},
        lambda login: {"host": login},
        lambda login: {"host": f"{login}/v1?a"},
        lambda login: {"host": "h", "schema": login},
        lambda login: {"extra": {"proxy": {"https": login}}},
        lambda login: {"extra": {"verify": {"a": [login]}}},
        lambda login: {"password": login},
    ],
)
def test_a_proxys_password_is_not_shown_whatever_field_it_is_typed_into(
    connection, settings_of, login, fields
):
    hook = connection(**fields(login))

    try:
        shown = repr(settings_of(hook))
    except (InvalidSettingsError, InvalidApiKeyError) as error:
        shown = str(error)

    assert "open-sesame" not in shown
