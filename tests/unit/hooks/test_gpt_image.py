"""A connection, as Airflow keeps it, becomes settings: by name, checked, and with messages that help."""

from __future__ import annotations

import shlex
import sys

import pytest
from airflow.sdk import BaseHook

from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import InvalidSettingsError
from airflow_gpt_image.hooks.gpt_image import GptImageHook

EXTRAS = ["connect_timeout", "read_timeout", "proxy", "verify", "ca_bundle", "image_hosts"]
EXTRAS += ["max_image_bytes", "allow_http", "rate_limit", "prices"]


def refusal(settings_of, hook, error=InvalidSettingsError):
    with pytest.raises(error) as raised:
        settings_of(hook)
    return str(raised.value)


def test_the_password_is_the_api_key_and_everything_else_has_a_default(connection, settings_of, api_key):
    hook = connection()

    settings = settings_of(hook)

    assert settings == ClientSettings(api_key=api_key)
    assert settings.base_url == "https://api.aivideoapi.ai"


def test_the_connection_can_have_another_id(settings_of, monkeypatch, api_key):
    monkeypatch.setenv("AIRFLOW_CONN_STUDIO", f"gpt-image://:{api_key}@studio.example.com")

    settings = settings_of(GptImageHook("studio"))

    assert settings.base_url == "https://studio.example.com"


def test_white_space_around_a_pasted_key_is_left_out(connection, settings_of, api_key):
    hook = connection(password=f" {api_key}\n")

    settings = settings_of(hook)

    assert settings.api_key == api_key


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "https://images.example.com"}, "https://images.example.com"),
        ({"host": "https://images.example.com/"}, "https://images.example.com"),
        ({"host": "https://images.example.com/gateway"}, "https://images.example.com/gateway"),
        ({"host": "https://images.example.com:8443"}, "https://images.example.com:8443"),
        ({"host": "https://images.example.com", "port": 8443}, "https://images.example.com:8443"),
        ({"host": "http://127.0.0.1:8787", "port": 8787}, "http://127.0.0.1:8787"),
        ({"host": "https://images.example.com:8443/x", "port": 8443}, "https://images.example.com:8443/x"),
        ({"host": "https://[2001:db8::1]:8443", "port": 8443}, "https://[2001:db8::1]:8443"),
        ({"host": "https://[2001:db8::1]", "port": 8443}, "https://[2001:db8::1]:8443"),
        (
            {"host": "https://images.example.com/gateway", "port": 8443},
            "https://images.example.com:8443/gateway",
        ),
        ({"host": "images.example.com"}, "https://images.example.com"),
        ({"host": "images.example.com", "port": 8443}, "https://images.example.com:8443"),
        ({"host": "images.example.com", "schema": "https", "port": 8443}, "https://images.example.com:8443"),
        ({"host": "localhost", "schema": "http", "port": 8787}, "http://localhost:8787"),
        ({"host": "http://127.0.0.1:8787"}, "http://127.0.0.1:8787"),
        ({"host": " https://images.example.com "}, "https://images.example.com"),
        ({"host": ""}, "https://api.aivideoapi.ai"),
        ({"host": None, "port": 443}, "https://api.aivideoapi.ai"),
    ],
)
def test_the_host_is_a_whole_address_or_a_name_with_schema_and_port(
    connection, settings_of, fields, base_url
):
    hook = connection(**fields)

    settings = settings_of(hook)

    assert settings.base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        ("gpt-image://:{key}@", "https://api.aivideoapi.ai"),
        ("gpt-image://:{key}@images.example.com:8443/https", "https://images.example.com:8443"),
        ("gpt-image://:{key}@localhost:8787/http", "http://localhost:8787"),
        (
            "gpt-image://:{key}@https%3A%2F%2Fimages.example.com%2Fgateway",
            "https://images.example.com/gateway",
        ),
        ("gpt-image://:{key}@http%3A%2F%2F127.0.0.1%3A8787", "http://127.0.0.1:8787"),
    ],
)
def test_a_connection_can_be_written_as_a_uri(connection_uri, settings_of, api_key, uri, base_url):
    hook = connection_uri(uri.format(key=api_key))

    settings = settings_of(hook)

    assert (settings.api_key, settings.base_url) == (api_key, base_url)


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"connect_timeout": 3}, "connect_timeout", 3.0),
        ({"connect_timeout": 0.5}, "connect_timeout", 0.5),
        ({"connect_timeout": "2.5"}, "connect_timeout", 2.5),
        ({"read_timeout": 120}, "read_timeout", 120),
        ({"read_timeout": "120"}, "read_timeout", 120.0),
        ({"proxy": "http://proxy.example.com:3128"}, "proxy", "http://proxy.example.com:3128"),
        ({"verify": False}, "verify", False),
        ({"verify": "false"}, "verify", False),
        ({"verify": "True"}, "verify", True),
        ({"image_hosts": ["files.example.com"]}, "image_hosts", ("files.example.com",)),
        ({"image_hosts": "files.example.com"}, "image_hosts", ("files.example.com",)),
        ({"image_hosts": "a.example.com, B.example.com"}, "image_hosts", ("a.example.com", "b.example.com")),
        ({"image_hosts": "a.example.com,"}, "image_hosts", ("a.example.com",)),
        ({"image_hosts": "a.example.com, "}, "image_hosts", ("a.example.com",)),
        ({"image_hosts": []}, "image_hosts", ()),
        ({"max_image_bytes": 1000}, "max_image_bytes", 1000),
        ({"max_image_bytes": "1000"}, "max_image_bytes", 1000),
        ({"allow_http": True}, "allow_http", True),
        ({"allow_http": "true"}, "allow_http", True),
        ({"allow_http": "FALSE"}, "allow_http", False),
        ({"rate_limit": 2}, "rate_limit", 2),
        ({"rate_limit": "0.5"}, "rate_limit", 0.5),
        ({"rate_limit": None}, "rate_limit", None),
        ({"prices": {"1k": "5"}}, "prices", Prices(credits_1k="5")),
        (
            {"prices": '{"4k": 20, "usd_per_credit": "0.01"}'},
            "prices",
            Prices(credits_4k=20, usd_per_credit="0.01"),
        ),
        ({"prices": {}}, "prices", Prices()),
    ],
)
def test_an_extra_field_has_its_json_type_or_is_text(connection, settings_of, extra, field, value):
    hook = connection(extra=extra)

    settings = settings_of(hook)

    assert getattr(settings, field) == value


def test_all_extra_fields_can_stand_in_a_uri(connection_uri, settings_of, api_key, certificate):
    hook = connection_uri(
        f"gpt-image://:{api_key}@images.example.com/http?connect_timeout=3&read_timeout=30"
        "&proxy=http%3A%2F%2Fproxy.example.com%3A3128&image_hosts=a.example.com%2Cb.example.com"
        f"&max_image_bytes=1000&allow_http=true&rate_limit=2.5&ca_bundle={certificate.path}"
        "&prices=%7B%221k%22%3A+%225%22%7D"
    )

    settings = settings_of(hook)

    assert settings == ClientSettings(
        api_key=api_key,
        base_url="http://images.example.com",
        connect_timeout=3.0,
        read_timeout=30.0,
        proxy="http://proxy.example.com:3128",
        image_hosts=("a.example.com", "b.example.com"),
        max_image_bytes=1000,
        allow_http=True,
        rate_limit=2.5,
        verify=certificate.path,
        prices=Prices(credits_1k="5"),
    )


def test_a_ca_bundle_is_what_certificates_are_verified_with(connection, settings_of, certificate):
    hook = connection(extra={"ca_bundle": certificate.path, "verify": True})

    settings = settings_of(hook)

    assert settings.verify == certificate.path


def test_a_ca_bundle_with_verification_switched_off_is_a_contradiction(connection, settings_of, certificate):
    hook = connection(extra={"ca_bundle": certificate.path, "verify": False})

    message = refusal(settings_of, hook)

    assert "'gpt_image_default'" in message
    assert "ca_bundle and verify=false" in message


@pytest.mark.parametrize("empty", [None, ""], ids=["null", "empty"])
def test_fields_left_empty_in_the_form_mean_the_default(connection, settings_of, api_key, empty):
    hook = connection(extra=dict.fromkeys(EXTRAS, empty), host=empty, schema=empty)

    settings = settings_of(hook)

    assert settings == ClientSettings(api_key=api_key)


def test_unknown_fields_are_refused_by_name(connection, settings_of):
    hook = connection(extra={"timeout": 30, "verify": False, "headers": {"x": "y"}})

    message = refusal(settings_of, hook)

    assert "'gpt_image_default'" in message
    assert "unknown fields: 'headers', 'timeout'" in message
    assert all(name in message for name in EXTRAS)


@pytest.mark.parametrize("extra", ["timeout=30", '{"verify": false', "null", "[1, 2]", '"text"', "5"])
def test_an_extra_that_is_no_json_object_is_refused(connection, settings_of, extra):
    # Ignoring it would also ignore the proxy or the CA bundle that somebody meant to set.
    hook = connection(extra=extra)

    message = refusal(settings_of, hook)

    assert "'gpt_image_default'" in message
    assert "extra must be a JSON object" in message


@pytest.mark.parametrize(
    ("field", "junk", "rule"),
    [
        ("connect_timeout", 0, "above 0 and at most 300"),
        ("connect_timeout", -1, "above 0 and at most 300"),
        ("connect_timeout", 301, "above 0 and at most 300"),
        ("connect_timeout", True, "above 0 and at most 300"),
        ("connect_timeout", "soon", "above 0 and at most 300"),
        ("connect_timeout", [5], "above 0 and at most 300"),
        ("read_timeout", 3601, "above 0 and at most 3600"),
        ("read_timeout", {"seconds": 5}, "above 0 and at most 3600"),
        ("verify", "perhaps", "true or false"),
        ("verify", 1, "true or false"),
        ("verify", ["/etc/ssl"], "true or false"),
        ("ca_bundle", "/nowhere/ca.pem", "path of an existing"),
        ("ca_bundle", 5, "path of an existing"),
        ("ca_bundle", True, "path of an existing"),
        ("image_hosts", "https://files.example.com", "bare host names"),
        ("image_hosts", ["files.example.com/images"], "bare host names"),
        ("image_hosts", 5, "bare host names"),
        ("image_hosts", "files.example.com:9000", "bare host names"),
        ("max_image_bytes", 0, "whole number of bytes above 0"),
        ("max_image_bytes", 1.5, "whole number of bytes above 0"),
        ("max_image_bytes", "128 MiB", "whole number of bytes above 0"),
        ("max_image_bytes", True, "whole number of bytes above 0"),
        ("allow_http", "yes", "true or false"),
        ("allow_http", 1, "true or false"),
        ("rate_limit", 0, "above 0 and at most 200"),
        ("rate_limit", "fast", "above 0 and at most 200"),
        ("prices", 5, "must be a JSON object"),
        ("prices", "4.7", "must be a JSON object"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named_with_its_connection_field_and_rule(
    connection, settings_of, field, junk, rule
):
    hook = connection(extra={field: junk})

    message = refusal(settings_of, hook)

    shown = junk[0] if isinstance(junk, list) and field == "image_hosts" else junk
    assert "Connection 'gpt_image_default'" in message
    assert f"{field}={shown!r}" in message
    assert rule in message


@pytest.mark.parametrize(
    ("prices", "words"),
    [({"1k": 0}, "1k=0 must be a number above 0"), ({"8k": 28.2}, "'8k'"), ('{"2k": "free"}', "2k='free'")],
)
def test_a_price_that_breaks_a_rule_is_named_with_its_connection(connection, settings_of, prices, words):
    hook = connection(extra={"prices": prices})

    message = refusal(settings_of, hook)

    assert "Connection 'gpt_image_default': prices" in message
    assert words in message


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_a_timeout_that_would_never_end_is_refused(connection, settings_of, text):
    hook = connection(extra={"read_timeout": text})

    message = refusal(settings_of, hook)

    assert "read_timeout=" in message


def test_a_ca_bundle_of_false_does_not_switch_verification_off(connection, settings_of):
    # Only verify=false says that; in a form it would be a slip.
    hook = connection(extra={"ca_bundle": False})

    message = refusal(settings_of, hook)

    assert "ca_bundle" in message


def test_a_file_that_is_no_ca_bundle_is_named_with_its_connection_and_field(connection, tmp_path, call):
    (tmp_path / "ca.pem").write_text("not a certificate")
    hook = connection(extra={"ca_bundle": str(tmp_path / "ca.pem")})

    with pytest.raises(InvalidSettingsError) as raised:
        call(hook, "credits")

    message = str(raised.value)
    assert "'gpt_image_default'" in message
    assert f"ca_bundle={str(tmp_path / 'ca.pem')!r}" in message


@pytest.mark.parametrize(
    "proxy", ["proxy.example.com:3128", "ftp://me:open-sesame@proxy.example.com", "http://me:open-sesame@", 5]
)
def test_a_proxy_that_breaks_the_rule_is_not_shown_because_it_may_hold_a_password(
    connection, settings_of, proxy
):
    hook = connection(extra={"proxy": proxy})

    message = refusal(settings_of, hook)

    assert "Connection 'gpt_image_default'" in message
    assert "proxy must be an address" in message
    assert "open-sesame" not in message


def test_a_socks_proxy_without_its_package_says_what_to_install(connection, settings_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    hook = connection(extra={"proxy": "socks5://me:open-sesame@127.0.0.1:1080"})

    message = refusal(settings_of, hook)

    assert "pip install 'httpx[socks]'" in message
    assert "open-sesame" not in message


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("ftp://images.example.com", "no http(s) address"),
        ("http://images.example.com", "in clear"),
        ("https://images.example.com/v1", "Leave out the /v1"),
        ("https://images.example.com?key=1", "no query"),
        ("https://me:open-sesame@images.example.com", "user name or password"),
        ("https://images example.com", "white space"),
        ("images.example.com:8443:8443", "can't be read"),
        ("https://", "no http(s) address"),
        ("https://.example.com", "host"),
        (f"https://{'a' * 64}.example.com", "host"),
        ("https://images..example.com", "host"),
    ],
)
def test_a_host_that_breaks_a_rule_is_refused_before_anything_is_sent(connection, settings_of, host, rule):
    hook = connection(host=host)

    message = refusal(settings_of, hook)

    assert "Connection 'gpt_image_default'" in message
    assert rule in message
    assert "open-sesame" not in message


@pytest.mark.parametrize("extra", [{"read_timeout": -1}, {"what": 1}, "[]", {"proxy": "no proxy"}])
def test_the_key_is_in_no_message(connection, settings_of, api_key, extra):
    hook = connection(extra=extra)

    message = refusal(settings_of, hook)

    assert api_key not in message


def test_neither_the_key_nor_the_proxys_password_is_in_a_repr(connection, settings_of, api_key):
    hook = connection(extra={"proxy": "http://me:open-sesame@proxy.example.com:3128"})

    settings = settings_of(hook)

    for shown in (repr(settings), str(settings), repr(hook), str(vars(hook))):
        assert api_key not in shown
        assert "open-sesame" not in shown


def test_a_missing_connection_says_the_command_that_creates_it(settings_of):
    hook = GptImageHook("nobody_made_it")

    message = refusal(settings_of, hook)

    assert "'nobody_made_it'" in message
    assert (
        "airflow connections add nobody_made_it --conn-type gpt_image --conn-password sk-your-api-key"
        in message
    )


def test_the_command_that_creates_a_missing_connection_is_one_of_airflows():
    from airflow.cli.cli_parser import get_parser

    message = refusal(lambda hook: hook.settings(), GptImageHook("nobody_made_it"))
    command = shlex.split(message.splitlines()[3])

    options = get_parser().parse_args(command[1:])

    assert command[0] == "airflow"
    assert (options.conn_id, options.conn_type) == ("nobody_made_it", "gpt_image")


def test_airflow_finds_the_hook_by_the_connections_type(connection):
    connection(host="https://images.example.com")

    hook = BaseHook.get_hook("gpt_image_default")

    assert isinstance(hook, GptImageHook)
    assert hook.settings().base_url == "https://images.example.com"
