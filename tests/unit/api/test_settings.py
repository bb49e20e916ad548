from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import certifi
import pytest

from airflow_gpt_image.api.certificates import load_ca_bundle
from airflow_gpt_image.api.hosts import is_loopback
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import GptImageError, InvalidApiKeyError, InvalidSettingsError

KEY = "sk-live-0123456789abcdef"


def _refusal(**fields):
    with pytest.raises(GptImageError) as caught:
        ClientSettings(**{"api_key": KEY, **fields})
    return caught.value


def test_a_key_is_enough_and_means_the_real_api():
    settings = ClientSettings(api_key=KEY)

    assert settings.base_url == "https://api.aivideoapi.ai"
    assert settings.host == "api.aivideoapi.ai"
    assert settings.verify is True
    assert settings.proxy is None
    assert settings.on_this_machine is False
    assert (settings.connect_timeout, settings.read_timeout) == (10, 60)
    assert settings.max_image_bytes == 128 * 1024 * 1024
    assert settings.rate_limit is None


@pytest.mark.parametrize("key", ["sk-a", "sk-" + "~" * 509, 'sk-!"#$%&\\/'])
def test_what_begins_with_sk_is_a_key(key):
    assert ClientSettings(api_key=key).api_key == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "sk-",
        "secret",
        "SK-secret",
        " sk-secret",
        "sk-secret ",
        "sk-sec ret",
        "sk-secret\n",
        "sk-a\r\nX-Evil: 1",
        "sk-secr\x00et",
        "sk-secrét",
        "sk-secr\ud800et",
        "sk-" + "s" * 510,
        "Bearer sk-secret",
        "'sk-secret'",
        None,
        5,
        b"sk-secret",
        ["sk-secret"],
    ],
)
def test_what_can_not_be_a_key_is_refused_without_being_shown_and_before_any_call(key):
    error = _refusal(api_key=key)

    assert type(error) is InvalidApiKeyError
    assert error.code == "invalid_api_key"
    assert "Nothing was sent" in error.message
    assert "'sk-'" in error.message
    assert "secr" not in repr(error) + repr(vars(error))


def test_the_key_and_the_proxys_password_show_in_no_text_of_the_settings():
    settings = ClientSettings(api_key=KEY, proxy="http://user:hunter2@proxy.example.com:3128")

    assert KEY not in f"{settings} {settings!r}"
    assert "hunter2" not in f"{settings} {settings!r}"


def test_settings_survive_pickling():
    settings = ClientSettings(api_key=KEY, image_hosts=("files.example.com",))

    assert pickle.loads(pickle.dumps(settings)) == settings


# --- where the API is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("HTTPS://API.Example.COM/Proxy//", "https://api.example.com/Proxy"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://LOCALHOST", "http://localhost"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_base_url_is_kept_in_one_form(given, kept):
    assert ClientSettings(api_key=KEY, base_url=given).base_url == kept


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.example.com", "api.example.com"),
        ("https://api.example.com:443", "api.example.com"),
        ("https://api.example.com:", "api.example.com"),
        ("https://api.example.com:8443/x", "api.example.com:8443"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://127.0.0.1:443", "127.0.0.1:443"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_account_is_named_by_the_host_and_its_port_where_it_is_not_the_schemes_own(base_url, host):
    assert ClientSettings(api_key=KEY, base_url=base_url).host == host


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https:///v",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        "https://api.example.com/v1",
        "https://api.example.com/v1/",
        "https://api.example.com/proxy/v1",
        "https://api.example.com/v1/images/generations",
        "https://a b",
        "https://api.example.com\r\nX: y",
        "https://api\x00.com",
        "https://[::1",
        "https://api.example.com:99999",
        "https://api.example.com:port",
        "https://\ud800.com",
        "https://ℂ／evil.com",
        None,
        5,
        b"https://api.example.com",
        ["https://api.example.com"],
    ],
)
def test_a_base_url_that_breaks_a_rule_is_refused_and_the_message_shows_a_right_one(base_url):
    error = _refusal(base_url=base_url)

    assert type(error) is InvalidSettingsError
    happened, _, remedy = error.message.split("\n")
    assert happened.startswith("base_url")
    assert remedy == "The real API is https://api.aivideoapi.ai."


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 64 + ".com", "ü..com", "[v1.x]", "ⓛocalhost", "x" * 300 + ".com"]
)
def test_a_host_that_no_name_server_could_know_is_refused_before_the_first_call(host):
    assert type(_refusal(base_url=f"https://{host}")) is InvalidSettingsError


def test_a_password_in_the_base_url_is_refused_without_being_shown():
    error = _refusal(base_url="https://user:hunter2@api.example.com")

    assert "hunter2" not in error.message


@pytest.mark.parametrize(
    "base_url", ["http://api.example.com", "http://10.0.0.1", "http://127.0.0.1.example.com"]
)
def test_the_key_goes_in_clear_to_another_machine_only_if_somebody_said_so(base_url):
    error = _refusal(base_url=base_url)

    assert "in clear" in error.message
    assert "allow_http" in error.message
    assert ClientSettings(api_key=KEY, base_url=base_url, allow_http=True).base_url == base_url


@pytest.mark.parametrize("flag", ["true", 1, None, "no"])
def test_permission_to_send_in_clear_is_true_or_false_and_nothing_like_it(flag):
    assert type(_refusal(base_url="http://api.example.com", allow_http=flag)) is InvalidSettingsError
    assert "allow_http" in _refusal(allow_http=flag).message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.nip.io", False),
        ("example.com", False),
        ("\ud800", False),
        ("1" * 5000, False),
    ],
)
def test_only_the_name_localhost_and_loopback_addresses_are_this_machine(host, expected):
    assert is_loopback(host) is expected


def test_an_api_on_loopback_is_on_this_machine():
    assert ClientSettings(api_key=KEY, base_url="http://[::1]:8000").on_this_machine is True


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:8000", "https://localhost", "http://[::1]:1", "http://127.1", "http://localhost."],
)
def test_an_api_on_this_machine_is_never_asked_through_a_proxy_which_would_see_the_key(base_url):
    error = _refusal(base_url=base_url, proxy="http://me:hunter2@proxy.example.com:3128")

    happened, rule, remedy = error.message.split("\n")
    assert base_url in happened
    assert "in clear" in rule
    assert "Remove the proxy" in remedy
    assert "hunter2" not in error.message


@pytest.mark.parametrize("base_url", ["http://127.1:8000", "http://0x7f.1", "http://2130706433"])
def test_an_api_on_loopback_is_on_this_machine_however_its_address_is_written(base_url):
    assert ClientSettings(api_key=KEY, base_url=base_url).on_this_machine is True


# --- how patiently, and what else ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "most"), [("connect_timeout", 300), ("read_timeout", 3600)])
def test_a_timeout_is_above_0_and_has_a_most(name, most):
    taken = ClientSettings(api_key=KEY, **{name: most})

    error = _refusal(**{name: most + 0.1})

    assert getattr(taken, name) == most
    assert name in error.message
    assert f"{most:g}" in error.message


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
@pytest.mark.parametrize(
    "value",
    [0, -1, True, None, "30", float("nan"), float("inf"), -float("inf"), [], 10**400, -(10**400), 10**5000],
    ids=["0", "-1", "True", "None", "text", "nan", "inf", "-inf", "list", "1e400", "-1e400", "1e5000"],
)
def test_a_timeout_that_is_no_number_of_seconds_is_refused(name, value):
    error = _refusal(**{name: value})

    assert type(error) is InvalidSettingsError
    assert name in error.message


@pytest.mark.parametrize(
    "value",
    [0, -1, True, None, "5", 1.5, -(10**5000)],
    ids=["0", "-1", "True", "None", "text", "1.5", "-1e5000"],
)
def test_a_largest_image_that_is_no_number_of_bytes_is_refused(value):
    error = _refusal(max_image_bytes=value)

    assert type(error) is InvalidSettingsError
    assert "max_image_bytes" in error.message


@pytest.mark.parametrize("value", [0, -1, 200.1, True, "5", math.nan, math.inf], ids=str)
def test_a_rate_limit_that_no_batch_can_keep_is_refused(value):
    error = _refusal(rate_limit=value)

    assert type(error) is InvalidSettingsError
    assert "submits per second above 0 and at most 200" in error.message


@pytest.mark.parametrize("value", [0.01, 2, 200])
def test_a_rate_limit_is_taken_as_it_is(value):
    assert ClientSettings(api_key=KEY, rate_limit=value).rate_limit == value


@pytest.mark.parametrize(
    "proxy",
    [
        "http://proxy.example.com:3128",
        "https://proxy.example.com",
        "http://user:pw@10.0.0.1:3128",
        "http://[::1]:1",
    ],
)
def test_a_proxy_is_an_address_and_may_carry_a_login(proxy):
    assert ClientSettings(api_key=KEY, proxy=proxy).proxy == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "proxy.example.com:3128",
        "ftp://hunter2@proxy",
        "http://",
        "http://user:hunter2@",
        "http://[::1",
        "http://u:hunter2@h:99999",
        "http://u:hunter2@h:x",
        "http://u:hunter2@h:0",
        5,
        b"http://proxy",
        ["x"],
        "http://a b:1",
        "http://u:hunter2@a\x00b:1",
        "http://u:hunter2@ü..x:1",
        "http://h\r\nX: y:1",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(proxy):
    error = _refusal(proxy=proxy)

    assert type(error) is InvalidSettingsError
    assert "proxy" in error.message
    assert "http://proxy.example.com:3128" in error.message
    assert "hunter2" not in error.message


@pytest.mark.parametrize("proxy", ["socks5://proxy.example.com:1080", "socks5h://proxy.example.com:1080"])
def test_a_socks_proxy_without_its_package_says_what_to_install(proxy, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed

    error = _refusal(proxy=proxy)

    assert type(error) is InvalidSettingsError
    assert "httpx[socks]" in error.message


def test_certificates_are_checked_not_checked_or_checked_by_a_bundle(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text(Path(certifi.where()).read_text())

    assert ClientSettings(api_key=KEY, verify=False).verify is False
    assert ClientSettings(api_key=KEY, verify=str(bundle)).verify == str(bundle)


@pytest.mark.parametrize(
    "verify", ["/nowhere/ca.pem", "true", "", None, 1, 0, b"/", [], "a\x00b", "\ud800", "a" * 5000]
)
def test_a_bundle_that_is_not_there_is_refused(verify):
    error = _refusal(verify=verify)

    assert type(error) is InvalidSettingsError
    assert "verify" in error.message
    assert error.message.encode()


@pytest.mark.parametrize("host", ["files.example.com", "10.0.0.1", "nas", "2001:db8::1", "::1"])
def test_a_host_images_may_come_from_is_a_bare_name(host):
    assert ClientSettings(api_key=KEY, image_hosts=(host,)).image_hosts == (host,)


@pytest.mark.parametrize(
    "hosts",
    [
        ("https://files.example.com",),
        ("Files.example.com",),
        ("files.example.com/x",),
        ("",),
        (5,),
        (None,),
        ("a b",),
        ("ok.example.com", "*"),
        ("a" * 254,),
        ("-x",),
        ("files.example.com:8080",),
        "files",
        None,
        5,
    ],
)
def test_hosts_that_are_not_bare_names_are_refused(hosts):
    error = _refusal(image_hosts=hosts)

    assert type(error) is InvalidSettingsError
    assert "image_hosts" in error.message


def test_a_host_images_may_come_from_is_kept_as_resolvers_read_it():
    settings = ClientSettings(api_key=KEY, image_hosts=("127.1", "0:0::1", "files.example.com."))

    assert settings.image_hosts == ("127.0.0.1", "::1", "files.example.com")


def test_a_single_host_that_is_no_tuple_is_not_taken_letter_by_letter():
    assert type(_refusal(image_hosts="nas")) is InvalidSettingsError


@pytest.mark.parametrize(
    "bundle", [5, "", None, ["/etc/ssl"], "/nowhere/ca.pem", "/nowhere/", "nul\0"], ids=repr
)
def test_what_is_no_bundle_is_refused_by_the_name_its_setting_has(bundle):
    with pytest.raises(InvalidSettingsError, match=r"ca_bundle=.* CA bundle"):
        load_ca_bundle(bundle, name="ca_bundle")


@pytest.mark.parametrize("prices", [None, {"1k": "4.7"}, "4.7"])
def test_prices_are_a_value_of_their_own_class(prices):
    error = _refusal(prices=prices)

    assert "prices=" in error.message
    assert "Prices(" in error.message
