"""A page of what is still at work: asked for again while somebody looks, and no longer than there is news."""

from __future__ import annotations

import time

import pytest

from tests.browser import needs_browser
from tests.gallery import documents, sheets
from tests.gallery.documents import RUN
from tests.gallery.looking import open_page

pytestmark = needs_browser

BATCH = f"task/shop_pictures/{RUN}/pictures/-1"
WAITING = f"task/shop_pictures/{RUN}/waiting/-1"


def until(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def hide(page, hidden):
    page.run(
        f"Object.defineProperty(document, 'hidden', {{ value: {str(hidden).lower()}, configurable: true }});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_polls_ask_only_for_what_has_changed(page, gallery):
    open_page(page, gallery.page(BATCH))

    until(lambda: len(gallery.data_requests()) >= 3)

    known = [tag for _, tag in gallery.data_requests()]
    assert known[0] is None
    assert None not in known[1:]


def test_news_appear_without_losing_the_place(page, gallery):
    open_page(page, gallery.page(BATCH))
    page.run("document.querySelectorAll('.sheet .tile')[9].focus(); scrollTo(0, 60)")
    tile = sheets.ROWS[9] | {"status": "done", "image": documents.image(10), "sub": "row 10 · $0.0235"}

    def changed(query):
        document = sheets.batch(query)
        counts = document["counts"] | {"done": 9_644}
        return document | {"tiles": [*document["tiles"][:9], tile, *document["tiles"][10:]], "counts": counts}

    gallery.places[BATCH] = changed

    page.until("document.querySelectorAll('.sheet li')[9].querySelector('img')?.naturalWidth > 0")
    assert page.run("document.activeElement === document.querySelectorAll('.sheet .tile')[9]")
    assert page.run("scrollY") == 60
    page.until("document.querySelector('[role=status]').textContent === '9,644 of 10,000 images done.'")


def test_a_picture_takes_the_waiting_ones_room_when_it_is_there(page, gallery):
    document = documents.singles()[WAITING] | {"live": True}
    gallery.places[WAITING] = lambda _query: document
    open_page(page, gallery.page(WAITING))
    room = page.run("document.querySelector('.waiting').getBoundingClientRect().height")

    gallery.places[WAITING] = lambda _query: documents.singles()[f"task/shop_pictures/{RUN}/done/-1"]

    page.until("document.querySelector('.large')?.naturalWidth > 0")
    assert page.run("document.querySelector('.large').getBoundingClientRect().height") == pytest.approx(
        room, abs=3
    )


def test_nothing_is_asked_while_nobody_looks(page, gallery):
    open_page(page, gallery.page(BATCH))
    hide(page, True)
    before = len(gallery.data_requests())
    # Longer than two polls are apart.
    page.run("globalThis.waited = false; setTimeout(() => { waited = true; }, 7000)")
    page.until("waited")
    assert len(gallery.data_requests()) - before <= 1

    hide(page, False)

    until(lambda: len(gallery.data_requests()) > before)


def test_nothing_is_asked_after_the_end(page, gallery):
    gallery.places[BATCH] = lambda query: sheets.batch(query, live=False)
    open_page(page, gallery.page(BATCH))

    page.run("globalThis.waited = false; setTimeout(() => { waited = true; }, 4000)")
    page.until("waited")

    assert gallery.data_requests() == []
    assert "Live" not in page.text()


def test_a_server_that_refuses_is_said_and_not_asked_again(page, gallery):
    open_page(page, gallery.page(BATCH))

    del gallery.places[BATCH]

    page.until_text("Not updated for")
    asked = len(gallery.data_requests())
    page.run("globalThis.waited = false; setTimeout(() => { waited = true; }, 4000)")
    page.until("waited")
    assert len(gallery.data_requests()) == asked
    assert all("404" in one for one in page.complaints())
    page.visit("about:blank#")
