"""An address of a file can't be made up, cut, or used for another Dag."""

from __future__ import annotations

import base64
import json

import pytest

from airflow_gpt_image.plugins.images.addresses import file_url, image_urls
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.tokens import Tokens

PATH = "/data/images/ein Bild – 1.png"


@pytest.fixture
def tokens():
    return Tokens("a secret of the API servers")


@pytest.mark.parametrize("path", [PATH, "s3://c@b/" + "x" * 2_000, "/a.b/c"])
def test_a_token_is_about_the_path_it_was_signed_for(tokens, path):
    assert tokens.verify("shop", tokens.sign("shop", path)) == path


def test_the_same_path_has_the_same_token_so_that_browsers_keep_pictures(tokens):
    assert tokens.sign("shop", PATH) == Tokens("a secret of the API servers").sign("shop", PATH)


def test_another_dags_token_is_none(tokens):
    token = tokens.sign("shop", PATH)

    assert tokens.verify("shop2", token) is None
    assert tokens.verify("", token) is None


def test_a_token_of_another_secret_is_none(tokens):
    assert tokens.verify("shop", Tokens("another secret").sign("shop", PATH)) is None


def test_a_changed_or_cut_token_is_none(tokens):
    token = tokens.sign("shop", PATH)

    assert all(tokens.verify("shop", token[:end]) is None for end in range(len(token)))
    assert all(tokens.verify("shop", token[start:]) is None for start in range(1, len(token)))
    payload = base64.urlsafe_b64encode(json.dumps(["shop", "/etc/passwd"]).encode()).rstrip(b"=").decode()
    assert tokens.verify("shop", f"{payload}.{token.rpartition('.')[2]}") is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "ä.ö", "\ud800.x", "x" * 9_000, ".eJw.x"])
def test_what_was_never_a_token_is_none(tokens, token):
    assert tokens.verify("shop", token) is None


def test_a_picture_has_an_address_of_each_size_that_leads_to_its_path(tokens, tmp_path):
    path = str(tmp_path / "a.png")
    image = image_urls("shop", path, Roots([str(tmp_path)]), tokens, width=3, height=2, version="9f+8")

    address, _, query = image["thumb"].partition("?")
    assert (query, image["problem"], image["width"], image["path"]) == ("size=256&v=9f%2B8", None, 3, path)
    assert tokens.verify("shop", address.rpartition("/")[2]) == path
    assert image["download"] == f"{address}?size=full&download=1&v=9f%2B8"
    assert address.startswith("/gpt-image/image/shop/")


def test_a_picture_outside_the_roots_has_no_address_and_says_why(tokens, tmp_path):
    image = image_urls("shop", "/etc/a.png", Roots([str(tmp_path)]), tokens)

    assert {image[name] for name in ("thumb", "thumb2", "stage", "full", "download")} == {None}
    assert "gallery_roots" in image["problem"]
    assert file_url("shop", "/etc/manifest.csv", Roots([str(tmp_path)]), tokens) is None


def test_addresses_begin_where_airflow_is(tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")

    assert file_url("a b/c", str(tmp_path / "m.csv"), Roots([str(tmp_path)]), tokens).startswith(
        "/airflow/gpt-image/file/a%20b%2Fc/"
    )
