"""Prompts, captions, paths and addresses are anybody's: whatever they hold, they are shown, and never run."""

from __future__ import annotations

import pytest

from tests.browser import needs_browser
from tests.gallery import documents, sheets
from tests.gallery.documents import RUN
from tests.gallery.looking import READY

pytestmark = needs_browser

MARKUP = "</script><script>globalThis.ran = 1</script><img src=x onerror='globalThis.ran = 1'>{{7*7}}${1}"
SINGLE = f"task/shop_pictures/{RUN}/done/-1"
BATCH = f"task/shop_pictures/{RUN}/pictures/-1"
ADDRESSES = [
    "javascript:globalThis.ran=1",
    "JaVaScRiPt:globalThis.ran=1",
    "\tjava\nscript:globalThis.ran=1",
    "data:text/html,<script>parent.ran=1</script>",
    "data:image/svg+xml,<svg onload='globalThis.ran=1'/>",
    "vbscript:x",
    "blob:http://127.0.0.1/x",
    "http://evil.example.com/x.png",
    "//evil.example.com/x.png",
    "\\\\evil.example.com\\x.png",
    "file:///etc/passwd",
    "https://",
]
NO_PLACES = [
    "task/../../x",
    "task/%2e%2e/x/y/z",
    "//evil.example.com",
    "javascript:ran=1",
    "evil",
    "task//x",
    "dag/..",
]
USED = """
[...document.querySelectorAll("[src], [href], [srcset]")].flatMap(one =>
    [one.src, one.href, ...(one.srcset ?? "").split(" ")]).filter(one => typeof one === "string" && one)
    .filter(one => !/^(https:|[12]x,?$)/.test(one) && !one.startsWith(location.origin + "/"))
"""


def hostile_everywhere(value):
    """Put markup in place of every text of a document, but those that choose how it is drawn."""
    if isinstance(value, dict):
        kept = ("kind", "status", "image", "images", "place", "since", "updated")
        return {name: one if name in kept else hostile_everywhere(one) for name, one in value.items()}
    if isinstance(value, list):
        return [hostile_everywhere(one) for one in value]
    return MARKUP if isinstance(value, str) else value


@pytest.mark.parametrize(
    "place", [SINGLE, BATCH, f"task/shop_pictures/{RUN}/failed/-1", f"task/shop_pictures/{RUN}/unknown/-1",
              f"run/shop_pictures/{RUN}", "dag/shop_pictures", "asset/7", "all", "dag/forbidden"]
)  # fmt: skip
def test_markup_in_every_text_is_text(page, gallery, place):
    document = hostile_everywhere(gallery.places[place]({}))
    gallery.places[place] = lambda _query: document

    page.visit(gallery.page(place))

    page.until(READY)
    assert page.run("globalThis.ran") is None
    assert "globalThis.ran = 1" in page.text()
    assert page.run("document.querySelectorAll('main script, main [onerror], main [style]').length") == 0


def leading_to(address):
    return documents.image(1) | dict.fromkeys(("thumb", "thumb2", "stage", "full", "download"), address)


@pytest.mark.parametrize("place", [SINGLE, BATCH, f"{BATCH}#3"])
def test_an_address_that_is_no_picture_of_ours_is_neither_loaded_nor_followed(page, gallery, place):
    images = [leading_to(address) for address in ADDRESSES]
    tiles = [documents.tile(str(i), image=images[i], place=one) for i, one in enumerate(ADDRESSES)]
    links = [{"label": "manifest.csv", "url": address} for address in ADDRESSES]
    gallery.places[BATCH] = lambda query: sheets.batch(query, live=False) | {"tiles": tiles, "links": links}
    picture = documents.picture(images=images)
    gallery.places[SINGLE] = lambda _query: documents.document("single", "x", picture=picture)

    page.visit(gallery.page(place))

    page.until(READY)
    assert page.run(USED) == []
    page.run("document.querySelectorAll('main a, dialog a').forEach(one => one.click())")
    assert page.run("globalThis.ran") is None
    assert page.run("location.pathname").startswith("/gpt-image/task/")


def test_a_place_that_is_none_is_no_link(page, gallery):
    document = sheets.overview({})
    document["by_dag"] = [document["by_dag"][0] | {"place": place, "name": place} for place in NO_PLACES]
    gallery.places["all"] = lambda _query: document

    page.visit(gallery.page("all"))

    page.until(READY)
    assert page.run("document.querySelectorAll('tbody th').length") == len(NO_PLACES) + 1
    assert page.run("[...document.querySelectorAll('tbody a')].map(one => one.href)") == []


def test_a_hostile_query_and_fragment_are_as_the_server_read_them(page, gallery):
    page.visit(gallery.page(f"{BATCH}?text=<img src=x onerror=ran=1>&evil=1#<img src=x onerror=ran=1>"))

    page.until_text("Nothing matches “<img src=x onerror=ran=1>”")

    assert page.run("globalThis.ran") is None
    assert not page.run("!!document.querySelector('dialog[open]')")


def test_a_right_to_left_override_stays_in_its_own_line(page, gallery):
    tricky = "gnp.\u202eexe.image"
    document = documents.document(
        "single", "x", picture=documents.picture(prompt=tricky, generation_id="a" * 500)
    )
    gallery.places[SINGLE] = lambda _query: document
    page.resize(380, 812)

    page.visit(gallery.page(SINGLE))

    page.until(READY)
    assert page.run("document.documentElement.scrollWidth") <= 380
