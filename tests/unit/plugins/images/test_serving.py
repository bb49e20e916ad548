"""Headers leave a browser nothing to guess, and no name breaks out of them."""

from __future__ import annotations

from email.message import Message

import pytest

from airflow_gpt_image.plugins.images import pages
from airflow_gpt_image.plugins.images.refusals import Refusal
from airflow_gpt_image.plugins.images.serving.answers import disposition, headers, is_known, picture_headers


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("poster-0.png", "poster-0.png"),
        ("ein Bild – schön.png", "ein_Bild_sch_n.png"),
        ('a"; filename="evil.html', "a_filename_evil.html"),
        ("a\r\nset-cookie: x=1.png", "a_set-cookie_x_1.png"),
        ("\ud800.png", "_.png"),
        ("..", "image"),
        ("", "image"),
        ("a\\b%00.png", "a_b_00.png"),
        ("x" * 5_000 + ".png", "x" * 146 + ".png"),
    ],
)
def test_a_files_name_is_safe_in_a_header(name, plain):
    value = disposition("attachment", name)
    message = Message()
    message["content-disposition"] = value

    assert value.startswith(f'attachment; filename="{plain}"; ')
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2


def test_readers_of_the_newer_form_get_the_name_itself():
    assert disposition("inline", "schön 1.png").endswith("filename*=UTF-8''sch%C3%B6n%201.png")


def test_a_picture_is_kept_for_a_day_only_where_its_address_changes_with_it():
    asked = picture_headers("t", "/a/b.png", "webp", {})
    versioned = picture_headers("t", "/a/b.png", "webp", {"v": "9f"})

    assert asked["cache-control"] == "private, no-cache"
    assert versioned["cache-control"] == "private, max-age=86400"


def test_a_picture_is_named_after_its_bytes_and_downloaded_when_that_was_asked_for():
    shown = picture_headers("t", "s3://c@b/a/page.html", "png", {})
    downloaded = picture_headers("t", "s3://c@b/a/page.html", "png", {"download": "1"})

    assert shown["content-disposition"].startswith('inline; filename="page.png"')
    assert downloaded["content-disposition"].startswith('attachment; filename="page.png"')


def test_a_picture_may_load_and_run_nothing():
    found = picture_headers("t", "/a/b.png", "png", {})

    assert found["content-security-policy"] == "default-src 'none'; frame-ancestors 'self'; sandbox"
    assert (found["x-content-type-options"], found["cross-origin-resource-policy"]) == (
        "nosniff",
        "same-origin",
    )


@pytest.mark.parametrize("given", ['"abc"', 'W/"abc"', '"x", W/"abc"'])
def test_what_a_browser_has_is_recognised(given):
    assert is_known(given, "abc")
    assert not is_known(given, "ab")
    assert not is_known(None, "abc")


def test_a_page_allows_no_script_and_no_style_in_itself():
    policy = headers(pages.POLICY)["content-security-policy"]

    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'" in policy
    assert "unsafe" not in policy


HOSTILE = "</script><img src=x onerror=alert(1)><!--&{{static}}\u2028\ud800"


def test_no_text_of_a_document_is_markup_in_a_page():
    text = pages.to_json({"title": HOSTILE, "tiles": [{"prompt": HOSTILE}]})

    assert not set("<>&\u2028") & set(text)
    assert text.isascii()


def test_what_cannot_be_shown_is_a_document_too():
    document = pages.problem(Refusal(403, "You may not see this Dag", "Ask for it."))

    assert (document["kind"], document["what"], document["do"]) == (
        "problem",
        "You may not see this Dag",
        None,
    )
    assert document["live"] is False


def test_a_document_that_says_the_same_later_has_the_same_tag():
    first, later = {"a": 1, "updated": "12:00"}, {"a": 1, "updated": "12:03"}

    assert pages.tag_of(first) == pages.tag_of(later) != pages.tag_of({"a": 2, "updated": "12:00"})
