"""What is left out of texts before anybody sees them."""

from __future__ import annotations

import logging
import time

import pytest

from airflow_gpt_image.api.text import QueryFilter, quote, quote_host, redact_queries


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("http://me:open-sesame@proxy:3128", "http://***@proxy:3128"),
        ("see socks5://me:open-sesame@10.0.0.1:1080/ now", "see socks5://***@10.0.0.1:1080/ now"),
        ("http://me:open/sesame@proxy:3128", "http://***@proxy:3128"),
        ("http://me:open@sesame@proxy", "http://***@proxy"),
        ("http://me:open?sesame#1@proxy", "http://***@proxy"),
        ("http://me:31a@proxy", "http://***@proxy"),
        # What is no password stays.
        ("https://h:8443/@me/a.png", "https://h:8443/@me/a.png"),
        ("https://h:8443", "https://h:8443"),
        ("https://h/@me/a:b@c.png", "https://h/@me/a:b@c.png"),
        ("s3://my_conn_id@bucket/a.png", "s3://my_conn_id@bucket/a.png"),
        ("https://[2001:db8::1]/a@b", "https://[2001:db8::1]/a@b"),
    ],
)
def test_a_login_in_an_address_is_left_out(text, kept):
    assert redact_queries(text) == kept


@pytest.mark.parametrize("scheme", ["https", "http", "ftp", "s3", "x-anything"])
def test_a_query_is_left_out_whatever_the_scheme(scheme):
    assert redact_queries(f"{scheme}://h/a.png?token=hunter2 b") == f"{scheme}://h/a.png?*** b"


def test_a_login_that_is_typed_without_a_scheme_is_not_quoted():
    assert quote("me:open-sesame@proxy:3128") == "'***@proxy:3128'"
    assert quote(["s3://my_conn_id@bucket/a.png"]) == "['s3://my_conn_id@bucket/a.png']"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://hooks.example.com/s3cret?token=s3cret", "'ftp://hooks.example.com' (its path is not shown)"),
        ("https://h?s3cret", "'https://h' (its path is not shown)"),
        ("https://me:s3cret@h/", "An address that is not shown"),
        ("localhost", "'localhost'"),
        ("/services/s3cret", "An address that is not shown"),
        ("", "''"),
    ],
)
def test_of_an_address_whose_path_is_as_good_as_a_key_only_the_host_is_shown(url, shown):
    assert quote_host(url) == shown


@pytest.mark.parametrize("name", QueryFilter.LOGGERS)
def test_what_httpx_logs_has_no_query(name, caplog):
    import airflow_gpt_image.api.client  # noqa: F401

    logging.getLogger(name).warning("HTTP Request: %s %s", "GET", "https://h/a.png?X-Amz-Signature=hunter2")

    assert caplog.messages == ["HTTP Request: GET https://h/a.png?***"]


@pytest.mark.parametrize("piece", ["http://a:b", "http://a:b/", "a:", "a:b", "://", "@", "http://a:b@"])
def test_a_megabyte_of_logins_is_read_in_no_time(piece):
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()

    redact_queries(text)
    quote(text)

    assert time.process_time() - began < 20


def test_a_text_of_megabytes_is_cut_before_it_is_looked_through():
    shown = quote("https://a.example/x?Signature=secret " * 1_000_000)

    assert shown.startswith("'https://a.example/x?*** https")
    assert "secret" not in shown
    assert shown.endswith("… (37,000,000 characters)")
