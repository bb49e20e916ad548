"""Addresses for callbacks: nobody can make one, use one after its time, or turn one into another."""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID

import pytest

from airflow_gpt_image.callbacks import Callback, Callbacks, configured

SECRET = "a secret of 26 characters."
NOW = 1_775_383_908.0
TI, ANOTHER_TI = UUID("019a0000-0000-7000-8000-000000000001"), UUID("019a0000-0000-7000-8000-000000000002")
OURS = Callback(TI, "a" * 32)


def callbacks(secret=SECRET, base_url="https://airflow.example.com", vendor=None):
    options = {
        "callback_base_url": base_url,
        "callback_secret": secret,
        "callback_vendor_secret": vendor,
    }
    return Callbacks.read(options.get)


def token(given=OURS, by=None, timeout=3600):
    return (by or callbacks()).address(given, timeout=timeout, now=NOW).rpartition("/")[2]


# Addresses


def test_an_address_is_beneath_the_base_url_and_fits_into_a_request():
    address = callbacks(base_url=" https://example.com/airflow/ ").address(OURS, timeout=60, now=NOW)

    assert address.startswith("https://example.com/airflow/gpt-image-callbacks/1.")
    assert len(address) < 300


def test_an_address_names_its_task_instance_and_its_submit():
    assert callbacks().verify(token(), now=NOW) == OURS


def test_an_address_is_valid_for_a_day_after_the_wait():
    until = NOW + 3600 + 24 * 3600

    assert callbacks().verify(token(timeout=3600), now=until - 1) == OURS
    assert callbacks().verify(token(timeout=3600), now=until) is None


def test_a_signature_of_another_secret_is_none():
    assert callbacks("another secret of 30 characters").verify(token(), now=NOW) is None


def test_every_character_that_is_changed_makes_it_no_address():
    given = token()

    for index, character in enumerate(given[:-1]):  # of the last one two bits mean nothing
        for other in "0aA.":
            changed = given[:index] + other + given[index + 1 :]
            assert character == other or callbacks().verify(changed, now=NOW) is None


def test_the_signature_of_one_task_is_none_of_another_task_another_submit_or_a_later_time():
    version, ti, intent, expires, signature = token().split(".")

    for changed in (
        (version, ANOTHER_TI.hex, intent, expires),
        (version, ti, "b" * 32, expires),
        (version, ti, intent, str(int(expires) + 1)),
        (version, ti, intent, f"0{expires}"),
        ("2", ti, intent, expires),
    ):
        assert callbacks().verify(".".join([*changed, signature]), now=NOW) is None


@pytest.mark.parametrize(
    "text", ["", ".", "1", "1....", "x" * 100_000, "1." + "٣" * 32, token() + "\n", " " + token(), "%00"]
)
def test_what_is_no_address_names_nothing(text):
    assert callbacks().verify(text, now=NOW) is None


def test_while_a_secret_is_replaced_both_are_accepted_and_the_first_signs():
    both = callbacks(f"the new secret of course, {SECRET}")

    assert both.verify(token(by=callbacks()), now=NOW) == OURS
    assert callbacks("the new secret of course").verify(token(by=both), now=NOW) == OURS
    assert callbacks().verify(token(by=both), now=NOW) is None


def test_secrets_are_in_no_text_of_it():
    assert SECRET not in repr(callbacks(vendor="the vendor's key"))
    assert "vendor" not in repr(callbacks(vendor="the vendor's key")).partition("base_url")[2]


# Configuration


@pytest.mark.parametrize("base_url", [None, "", "  "])
def test_without_a_base_url_callbacks_are_off(base_url):
    assert callbacks(base_url=base_url, secret=None) is None


def test_a_secret_that_comes_from_a_command_is_without_its_newline():
    assert callbacks(f"{SECRET}\n").verify(token(), now=NOW) == OURS


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("base_url", "airflow.example.com", "callback_base_url"),
        ("base_url", "ftp://airflow.example.com", "callback_base_url"),
        ("base_url", "https://airflow.example.com/?a=b", "callback_base_url"),
        ("base_url", "https://me:pass@airflow.example.com", "callback_base_url"),
        ("secret", None, "callback_secret"),
        ("secret", "short", "callback_secret"),
        ("secret", f"{SECRET},", "callback_secret"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_secret_not_told(option, value, said):
    with pytest.raises(ValueError, match=said) as refused:
        callbacks(**{option: value})

    assert len(str(refused.value).splitlines()) == 3
    assert "short" not in str(refused.value).replace("too short", "")
    assert "pass@" not in str(refused.value)


def test_a_mistake_in_the_configuration_turns_callbacks_off_and_is_logged(monkeypatch, log):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL", "https://airflow.example.com")

    assert configured(log) is None
    assert "Callbacks are off." in str(log)


def test_airflows_configuration_is_read(monkeypatch, log):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_BASE_URL", "https://airflow.example.com")
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__CALLBACK_SECRET", SECRET)

    assert configured(log) == callbacks()


# The vendor's signature


def vendor_signature(told, secret="the vendor's key"):
    return base64.b64encode(hmac.digest(secret.encode(), told.encode(), hashlib.sha256)).decode()


def test_without_a_vendors_secret_signatures_are_not_looked_at():
    assert callbacks().verify_vendor("an-id", None, "whatever", now=NOW)


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_what_the_vendor_signed_a_moment_ago_is_accepted(late):
    timestamp = str(int(NOW) - late)
    signature = vendor_signature(f"an-id.{timestamp}")

    assert callbacks(vendor="the vendor's key").verify_vendor("an-id", timestamp, signature, now=NOW)


@pytest.mark.parametrize(
    ("generation_id", "timestamp", "signature"),
    [
        ("an-id", str(int(NOW)), None),
        ("an-id", None, vendor_signature(f"an-id.{int(NOW)}")),
        (None, str(int(NOW)), vendor_signature(f"an-id.{int(NOW)}")),
        ("another", str(int(NOW)), vendor_signature(f"an-id.{int(NOW)}")),
        ("an-id", str(int(NOW) + 1), vendor_signature(f"an-id.{int(NOW)}")),
        ("an-id", str(int(NOW) - 301), vendor_signature(f"an-id.{int(NOW) - 301}")),
        ("an-id", str(int(NOW) + 301), vendor_signature(f"an-id.{int(NOW) + 301}")),
        ("an-id", str(int(NOW)), vendor_signature(f"an-id.{int(NOW)}", "another key")),
        ("an-id", str(int(NOW)), "ü" * 44),
        ("an-id", "1e9", vendor_signature("an-id.1e9")),
        ("an-id", "9" * 5000, vendor_signature("an-id." + "9" * 5000)),
    ],
    ids=str,
)
def test_what_the_vendor_did_not_sign_or_long_ago_is_refused(generation_id, timestamp, signature):
    verified = callbacks(vendor="the vendor's key").verify_vendor(
        generation_id, timestamp, signature, now=NOW
    )

    assert not verified
