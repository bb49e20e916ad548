"""The "Test" button: works, bad key, IP not allowed, unreachable; it sends little, and spends nothing."""

from __future__ import annotations

import json
import time

import pytest

from airflow_gpt_image.hooks.gpt_image import GptImageHook
from tests.raw_server import RawServer


@pytest.fixture
def hook(connection, gpt_image_emulator):
    return connection(host=gpt_image_emulator.url, password=gpt_image_emulator.key)


def asked(emulator):
    return f"Asked was {emulator.url} (connection 'gpt_image_default')."


def test_a_connection_that_works_tells_the_balance(hook, gpt_image_emulator):
    gpt_image_emulator.settings(credits="12")

    answer = hook.test_connection()

    assert answer == (True, f"Works. The balance is 12 credits ($0.06). {asked(gpt_image_emulator)}")


def test_the_balance_in_dollars_is_at_the_connections_price(connection, gpt_image_emulator):
    gpt_image_emulator.settings(credits="12")
    hook = connection(
        host=gpt_image_emulator.url,
        password=gpt_image_emulator.key,
        extra={"prices": {"usd_per_credit": "0.01"}},
    )

    answer = hook.test_connection()

    assert answer == (True, f"Works. The balance is 12 credits ($0.12). {asked(gpt_image_emulator)}")


def test_looking_costs_nothing(hook, gpt_image_emulator):
    hook.test_connection()

    books = gpt_image_emulator.books()
    assert books["requests"]["submit"] == 0
    assert books["charged"] == "0"


@pytest.mark.parametrize("shape", ["not_object", "html", "empty", "missing", "garbage"])
def test_a_balance_that_cannot_be_read_is_said_and_the_connection_still_works(
    hook, gpt_image_emulator, shape
):
    # The balance's shape is undocumented, so a surprise there proves nothing about the key.
    if shape == "missing":
        gpt_image_emulator.fault("credits", "200", body='{"code": 200, "msg": "success", "data": {}}')
    else:
        gpt_image_emulator.fault("credits", shape)

    answer = hook.test_connection()

    told = f"Works. The key is accepted; the balance can't be read. {asked(gpt_image_emulator)}"
    assert answer == (True, told)


def test_a_key_the_api_does_not_accept_is_a_bad_key(connection, gpt_image_emulator):
    hook = connection(host=gpt_image_emulator.url, password="sk-nobody-has-this-one")

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Bad key: ")
    assert "disabled or deleted" in message
    assert "sk-nobody-has-this-one" not in message


def test_a_password_that_cannot_be_a_key_is_a_bad_key_and_stays_here(connection, gpt_image_emulator):
    hook = connection(host=gpt_image_emulator.url, password="hunter2")

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Bad key: Connection 'gpt_image_default'")
    assert "hunter2" not in message
    assert gpt_image_emulator.books()["requests"]["credits"] == 0


def test_an_address_that_is_not_on_the_keys_list_is_said(hook, gpt_image_emulator):
    gpt_image_emulator.fault("credits:ip_not_allowed")

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("IP not allowed: ")
    assert "allowlist" in message


def test_an_unreadable_balance_does_not_hide_a_bad_key(hook, gpt_image_emulator):
    gpt_image_emulator.fault("credits:not_object")
    gpt_image_emulator.settings(keys=["sk-another"])

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Bad key: ")


def test_nobody_listening_is_unreachable(connection, closed_port):
    hook = connection(host=f"http://127.0.0.1:{closed_port}")

    works, message = hook.test_connection()

    assert not works
    assert message.splitlines() == [
        f"Unreachable: No response from the API at {hook.settings().where}.",
        "ConnectError: [Errno 111] Connection refused. Reading costs nothing.",
        "Does the emulator run? Start it: python -m airflow_gpt_image.emulator",
    ]


def test_a_connection_that_airflows_form_is_testing_is_not_called_by_an_id_that_nobody_gave_it(
    monkeypatch, gpt_image_emulator
):
    # Airflow's form tests a connection of its own, with an id of eight letters and digits.
    fields = {"conn_type": "gpt_image", "host": gpt_image_emulator.url, "password": gpt_image_emulator.key}
    monkeypatch.setenv("AIRFLOW_CONN_X7KD02AB", json.dumps(fields))

    works, message = GptImageHook("x7Kd02aB").test_connection()

    assert works
    assert message.endswith(f"Asked was {gpt_image_emulator.url} (this connection).")


def test_a_web_page_instead_of_the_api_is_unreachable(connection, web):
    page = web(body=b"<html><title>Please log in</title></html>", content_type="text/html")
    hook = connection(host=page.url)

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Unreachable: ")
    assert "Please log in" in message


def test_a_server_that_never_answers_is_unreachable_soon(connection, silent_port):
    hook = connection(host=f"http://127.0.0.1:{silent_port}", extra={"read_timeout": 0.3})
    started = time.monotonic()

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Unreachable: ")
    assert time.monotonic() - started < 5


def test_a_server_that_never_shakes_hands_is_given_up_after_the_connect_timeout(connection, silent_port):
    hook = connection(host=f"https://127.0.0.1:{silent_port}", extra={"connect_timeout": 0.2})
    started = time.monotonic()

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Unreachable: ")
    assert "ConnectTimeout" in message
    assert time.monotonic() - started < 5


def test_a_certificate_nobody_vouches_for_is_unreachable_and_said(connection, web, certificate):
    hook = connection(host=web(tls=certificate.server).url)

    works, message = hook.test_connection()

    assert not works
    assert message.startswith("Unreachable: ")
    assert "CERTIFICATE_VERIFY_FAILED" in message


@pytest.mark.parametrize("code", ["internal_error", "rate_limit_exceeded", "upstream_error"])
def test_the_apis_own_trouble_is_told_as_it_is_and_asked_once(hook, gpt_image_emulator, code):
    gpt_image_emulator.fault("credits", code)

    works, message = hook.test_connection()

    assert not works
    assert code in message
    assert gpt_image_emulator.books()["requests"]["credits"] == 1


def test_a_setting_that_breaks_a_rule_is_told_instead_of_raised(connection):
    hook = connection(extra={"read_timeout": -1})

    works, message = hook.test_connection()

    assert not works
    assert message.splitlines() == [
        "Connection 'gpt_image_default': read_timeout=-1 is not valid.",
        "It must be a number of seconds above 0 and at most 3600.",
        "Give one such as 30.",
    ]


def test_a_missing_connection_is_told_instead_of_raised():
    works, message = GptImageHook("nobody_made_it").test_connection()

    assert not works
    assert "airflow connections add nobody_made_it" in message


def test_a_host_name_that_cannot_be_one_is_told_instead_of_raised(connection):
    hook = connection(host="https://.example.com")

    works, message = hook.test_connection()

    assert not works
    assert ".example.com" in message


def test_the_key_is_never_told(connection, web, api_key):
    parrot = web(
        status=401, body=b'{"error": {"code": "invalid_api_key", "message": "%s"}}' % api_key.encode()
    )
    hook = connection(host=parrot.url)

    works, message = hook.test_connection()

    assert not works
    assert parrot.headers[0]["authorization"] == f"Bearer {api_key}"
    assert api_key not in message


def test_a_server_that_drips_its_answer_is_unreachable_soon(connection):
    def behave(client, server):
        server.ask(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nx-more: ")
        while not server.done.wait(0.02):
            client.sendall(b"x")

    server = RawServer(behave)
    hook = connection(host=server.url, extra={"read_timeout": 0.1, "verify": False})

    works, message = hook.test_connection()
    server.close()

    assert not works
    assert message.startswith("Unreachable: ")
    assert "it took too long as a whole" in message


def test_certificates_of_the_environment_that_can_not_be_read_are_told(connection, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")

    works, message = connection().test_connection()

    assert not works
    assert "SSL_CERT_FILE='/nowhere/ca.pem'" in message
