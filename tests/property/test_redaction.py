"""Over all ways of quoting a signed address: whoever reads what we say about it can't open the object."""

from __future__ import annotations

import html
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gpt_image.api import protocol
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.text import redact_queries

SECRET = "5ec2e7c0ffee" * 5

ADDRESSES = {
    "S3, version 4": "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/sofa.png?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKID%2F20260401%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260401T000000Z"
    f"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature={SECRET}",
    "S3, version 2": f"http://127.0.0.1:9000/bucket/sofa.png?AWSAccessKeyId=AKID&Signature={SECRET}%3D&Expires=1",
    "Google": "https://storage.googleapis.com/bucket/sofa.png?X-Goog-Algorithm=GOOG4-RSA-SHA256"
    f"&X-Goog-Credential=me&X-Goog-Signature={SECRET}",
    "Azure": f"https://account.blob.core.windows.net/c/sofa.png?sv=2024-01-01&sp=r&sig={SECRET}%3D&se=2026",
    "anybody's": f"https://files.example.com/sofa.png?token={SECRET}",
    "one with an apostrophe": f"https://files.example.com/it's.png?of='me'&token={SECRET}",
}


def unicode_escaped(text):
    return "".join(f"\\u{ord(letter):04x}" if letter in "=?&'" else letter for letter in text)


def mustache(text):
    return html.escape(text).replace("/", "&#x2F;").replace("=", "&#x3D;")


QUOTINGS = {
    "as it is": str,
    "percent-encoded": lambda url: quote(url, safe=""),
    "percent-encoded in lower case": lambda url: quote(url, safe="").replace("%3A%2F%2F", "%3a%2f%2f"),
    "percent-encoded twice": lambda url: quote(quote(url, safe=""), safe=""),
    "percent-encoded but for its path": lambda url: quote(url, safe="/:"),
    "as HTML": html.escape,
    "as HTML of Mustache": mustache,
    "as JSON": json.dumps,
    "as JSON in JSON": lambda url: json.dumps(json.dumps({"image_urls": [url]})),
    "as JSON of PHP": lambda url: json.dumps(url).replace("/", "\\/"),
    "as JSON with escapes": unicode_escaped,
    "as Python": repr,
    "in upper case but for the secret": lambda url: url.upper().replace(SECRET.upper(), SECRET),
}

surroundings = st.text(max_size=30) | st.sampled_from(
    ["", "'", '"', "(", "<a href='", "url=", "https://", "http://x?", "&", "?", "\\", "%", "{'a': '"]
)


@pytest.mark.parametrize("quoted", QUOTINGS.values(), ids=QUOTINGS)
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@settings(max_examples=20)
@given(before=surroundings, after=surroundings)
def test_whatever_stands_around_a_signed_address_its_signature_is_gone(address, quoted, before, after):
    text = redact_queries(f"{before}{quoted(address)}{after}")

    assert SECRET not in text


@pytest.mark.parametrize("quoted", QUOTINGS.values(), ids=QUOTINGS)
@given(cut=st.integers(0, 400))
def test_no_piece_of_a_stores_address_shows_its_signature(quoted, cut):
    # As when somebody before us cut it, or wrapped the line.
    for kind, name in {"S3, version 4": "X", "S3, version 2": "S", "Google": "X", "Azure": "s"}.items():
        address = ADDRESSES[kind]
        piece = address[min(cut, address.index(SECRET) - 4 if kind == "Azure" else address.rindex(name)) :]

        assert SECRET not in redact_queries(quoted(piece))


@given(st.text(max_size=300))
def test_once_is_enough(text):
    once = redact_queries(text)

    assert redact_queries(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "The prompt was rejected: why? Read https://docs.example.com/errors#policy.",
        "Invalid signature: the key has expired.",
        "design=modern, sigma=2, credential missing",
        "(see https://example.com/a/b), 100%",
        "'image_urls[0]' must be an address? It is 5.",
        "",
    ],
)
def test_what_holds_no_query_stays_as_it_is(text):
    assert redact_queries(text) == text


def test_what_stands_around_an_address_stays():
    text = redact_queries("['https://h/a?x=1', \"https://h/b?y=2\"] (https://h/c?z=3).")

    assert text == "['https://h/a?***', \"https://h/b?***\"] (https://h/c?***)."


@pytest.mark.parametrize(
    "unit", ["http://", "https://h/k?", "X-Amz-Signature=", "sig%3D", "https:%2F%2F", "%25", "\\", "sig)"]
)
def test_a_megabyte_of_anything_is_read_in_no_time(unit):
    text = "https://h/k?" + unit * (1_000_000 // len(unit))
    started = time.monotonic()

    redact_queries(text)

    assert time.monotonic() - started < 2


@pytest.mark.parametrize("quoted", QUOTINGS.values(), ids=QUOTINGS)
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_metadata_keeps_its_shape_and_loses_the_queries(address, quoted):
    metadata = {"costTime": 3, "inputs": [{"a": quoted(address)}, None], quoted(address): True}

    kept = Generation(id="a1", status="completed", output={"metadata": metadata}).output.metadata

    assert SECRET not in json.dumps(kept)
    assert (kept["costTime"], kept["inputs"][1]) == (3, None)
    assert len(kept) == 3


@pytest.mark.parametrize("quoted", QUOTINGS.values(), ids=QUOTINGS)
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@settings(max_examples=10)
@given(before=surroundings)
def test_no_error_of_an_answer_shows_a_signature(address, quoted, before):
    words = f"{before}{quoted(address)}"
    error = {"error": {"code": "invalid_request", "message": words, "type": words}}
    bodies = [
        json.dumps(error).encode(),
        json.dumps({"code": 400, "msg": words}).encode(),
        json.dumps({"detail": [{"msg": words}]}).encode(),
        words.encode("utf-8", "replace"),
    ]

    for body in bodies:
        reply = protocol.parse_response(
            status=400, headers={"location": words}, body=body, at=0.0, api_key="sk-key"
        )
        for read in (protocol.parse_submit, protocol.parse_balance):
            with pytest.raises(Exception) as raised:  # noqa: PT011  # whichever: none may show it
                read(reply)
            shown = f"{raised.value!s}{raised.value!r}{vars(raised.value)}"
            assert SECRET not in shown
