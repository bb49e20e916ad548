"""Every kind of page, wide and narrow, light and dark: whole, at rest, and open to everybody."""

from __future__ import annotations

import gzip
import re

import pytest

from airflow_gpt_image.plugins.images.page_files import STATIC, page_files
from tests.browser import needs_browser
from tests.gallery import documents, sheets
from tests.gallery.documents import RUN, unread
from tests.gallery.looking import MOVED, PICTURES_SEEN, TOO_WIDE, accessibility, open_page
from tests.gallery.server import places

TASK = f"task/shop_pictures/{RUN}"
PANEL = f"{TASK}/pictures/-1#7-1"
NOTHING_FOUND = f"{TASK}/pictures/-1?text=teapto"
# What the file store says of it is in the console as well.
GONE = f"{TASK}/gone/-1"
PLACES = [*(place for place in places() if place != GONE), PANEL, NOTHING_FOUND]

SHAPES = {"frame": (1112, 676, "light"), "narrow": (380, 812, "dark")}
# The others are narrow and dark in `make browser`.
ALWAYS = {f"{TASK}/done/-1", f"{TASK}/pictures/-1", f"{TASK}/unknown/-1", PANEL, "all"}


def shapes():
    """Yield each place in each shape."""
    for place in PLACES:
        for shape in SHAPES:
            rare = shape == "narrow" and place not in ALWAYS
            yield pytest.param(place, shape, marks=[pytest.mark.soak] if rare else [])


@needs_browser
@pytest.mark.parametrize(("place", "shape"), list(shapes()))
def test_a_page_is_whole_and_fits_and_nothing_moves(page, gallery, artefacts, place, shape):
    width, height, theme = SHAPES[shape]
    page.resize(width, height)
    page.prefer(color_scheme=theme)

    open_page(page, gallery.page(place))

    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(TOO_WIDE) == []
    assert page.run(MOVED) == []
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert accessibility(page) == []
    name = re.sub(r"[^a-z0-9]+", "-", place.removeprefix(TASK).replace(RUN, "").replace("/-1", "")).strip("-")
    page.screenshot(artefacts / f"{name}-{shape}-{theme}.png")


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", [f"{TASK}/unknown/-1", f"{TASK}/failed/-1", PANEL, "all"])
def test_texts_can_be_read_in_both_themes(page, gallery, artefacts, place, theme):
    page.prefer(color_scheme=theme)

    open_page(page, gallery.page(place))

    assert accessibility(page) == []


@needs_browser
def test_an_assets_tab_has_room_in_430_by_150_pixels(page, gallery, artefacts):
    page.resize(430, 150)

    open_page(page, gallery.page("asset/7"))

    assert page.run("document.documentElement.scrollWidth") <= 430
    assert page.run("document.querySelector('.large').getBoundingClientRect().bottom") <= 150
    assert page.run("document.querySelector('.prompt').getBoundingClientRect().top") < 75
    page.screenshot(artefacts / "asset-430x150.png")


@needs_browser
def test_a_wall_of_a_screen_is_filled(page, gallery, artefacts):
    page.resize(3840, 2160)

    open_page(page, gallery.page(f"{TASK}/pictures/-1"))

    assert page.run(PICTURES_SEEN) > 100
    assert page.run("getComputedStyle(document.querySelector('.box')).width") != "0px"
    page.screenshot(artefacts / "batch-4k.png")


@needs_browser
def test_a_picture_that_the_server_lost_is_said_in_its_words(page, gallery):
    page.visit(gallery.page(GONE))

    page.until_text("The file is gone")

    assert "Download" not in page.text()
    assert [one for one in page.complaints() if "404" not in one] == []
    page.visit("about:blank#")


@needs_browser
@pytest.mark.parametrize("scale", [1, 2])
def test_a_tile_whose_picture_the_server_does_not_give_says_why_in_its_words(page, gallery, scale):
    place = f"mapped/shop_pictures/{documents.RUN}/lost"
    tiles = [documents.tile(str(seed), image=documents.image(seed)) for seed in (404, 5)]
    counts = {"all": 2, "done": 2, "in_flight": 0, "failed": 0, "unknown": 0, "not_sent": 0}
    sheet = {**sheets.mapped({}), "tiles": tiles, "counts": counts, "switch": None}
    gallery.places[place] = lambda _query: sheet
    page.call(
        "Emulation.setDeviceMetricsOverride", width=1112, height=676, deviceScaleFactor=scale, mobile=False
    )

    page.visit(gallery.page(place))

    page.until("document.querySelector('.sheet li').innerText.includes('The file is gone')")
    page.until("document.querySelector('.sheet li:last-child img').naturalWidth")
    assert page.run("document.querySelectorAll('.sheet img').length") == 1
    page.resize(1112, 676)
    page.visit("about:blank#")


@needs_browser
@pytest.mark.parametrize(
    ("problem", "heading", "rest"),
    [
        (None, None, "Download it now, or set"),
        ("Not kept. This picture is only at the API.", "Not shown here", "Set destination="),
    ],
)
def test_what_is_not_kept_is_said_once_with_what_can_be_done(page, gallery, problem, heading, rest):
    place = f"{TASK}/not_kept/-1"
    image = unread(problem) | {"path": None} if problem else documents.image(1, path=None)
    picture = documents.picture(kept=False, images=[image])
    gallery.places[place] = lambda _query: documents.document("single", "x", picture=picture)

    open_page(page, gallery.page(place))

    assert page.run("document.querySelector('.card h2')?.textContent") == heading
    assert page.text().count("Not kept") == 1
    assert rest in page.text()


@needs_browser
def test_a_picture_in_flight_says_how_long_and_that_a_failure_costs_nothing(page, gallery):
    open_page(page, gallery.page(f"{TASK}/waiting/-1"))

    said = page.text()

    assert "The API is making this picture" in said
    assert "If it fails\nrefunded by the API" in said
    assert "No worker slot is held meanwhile" in said
    before = page.run("document.querySelector('[data-tick=since]').textContent")
    page.until(f"document.querySelector('[data-tick=since]').textContent !== '{before}'")


@needs_browser
@pytest.mark.parametrize(
    ("state", "title", "rest"),
    [
        ("failed", "The API could not make this picture", "Refunded. This task has spent $0.00."),
        ("not_stored", "The picture is paid for and not stored", "it is fetched again without a new charge"),
        ("not_sent", "The task failed before anything was paid", "Nothing was charged."),
    ],
)
def test_a_failure_says_what_happened_the_money_and_what_to_do(page, gallery, state, title, rest):
    open_page(page, gallery.page(f"{TASK}/{state}/-1"))

    assert page.run("document.querySelector('.notice h2').textContent") == title
    assert rest in page.text()
    assert "Clear the task in Airflow" in page.text()


@needs_browser
def test_nothing_moves_for_who_wants_it_so(page, gallery):
    page.prefer(reduced_motion="reduce")

    open_page(page, gallery.page(f"{TASK}/waiting/-1"))

    assert page.run("document.getAnimations().length") == 0


@needs_browser
def test_several_pictures_are_chosen_below_the_large_one(page, gallery):
    open_page(page, gallery.page(f"{TASK}/several/-1"))
    assert "1x1536" in page.run("document.querySelector('.large').src")

    page.press("button[aria-label='Image 3 of 4']")

    page.until("document.querySelector('.large').src.includes('3x1536')")
    assert page.run("document.querySelector('a[download]').href.includes('3x1536')")


@needs_browser
def test_full_size_opens_inside_the_frame_and_escape_leaves_it(page, gallery):
    open_page(page, gallery.page(f"{TASK}/done/-1"))

    page.press_text("button", "Full size")
    page.until("document.querySelector('dialog.full[open] img')?.naturalWidth === 1536")
    page.key("Escape")

    page.until("!document.querySelector('dialog[open]')")
    assert page.run("document.activeElement.textContent") == "Full size"


@needs_browser
def test_what_can_not_be_copied_is_selected(page, gallery):
    open_page(page, gallery.page(f"{TASK}/done/-1"))
    page.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")

    page.press("button[aria-label='Copy generation id']")

    page.until("getSelection().toString() === '1117c0de-5f0a-4c8e-9b1d-2f6a7c31d882'")
    page.until("document.querySelector('[role=status]').textContent.includes('Selected')")


def test_a_page_costs_at_most_40_kilobytes_before_its_pictures():
    loaded = [STATIC.joinpath("page.html").read_bytes()]
    loaded += [page_files()[name].content for name in ("images.css", "images.js")]

    assert sum(len(gzip.compress(content)) for content in loaded) <= 40_000
