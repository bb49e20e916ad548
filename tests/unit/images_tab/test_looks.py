"""What the design asks of each page, measured: colours, sizes, rings, texts that are never cut."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.browser import needs_browser
from tests.gallery import documents, sheets
from tests.gallery.documents import RUN
from tests.gallery.looking import accessibility, open_page
from tests.gallery.server import places

pytestmark = needs_browser

TASK = f"task/shop_pictures/{RUN}"
BATCH = f"{TASK}/pictures/-1"
MAPPED = f"mapped/shop_pictures/{RUN}/image"
IN_RUN = f"run/shop_pictures/{RUN}"
PANELS = [*(f"{BATCH}#{key}" for key in ("7-1", "10-1", "23-1")), f"{BATCH}?page=49#9800-1"]
# What the file store says of a lost picture is in the console as well.
PLACES = [*(place for place in places() if "/gone/" not in place), *PANELS, f"{BATCH}?text=teapto"]

TOKENS = {
    "light": {"page": "#fff", "stage": "#edf0f4", "track": "#dee3ea", "text": "#161d2d", "muted": "#3e5873",
              "line": "#dee3ea", "edge": "#c7cfd8", "link": "#155dfc", "focus": "#1d3358", "brand": "#3c5b89",
              "brand-hover": "#294874", "spend": "#5b7aa8", "newest": "#1d3358", "done": "#007600",
              "in_flight": "#9810fa", "failed": "#e7000b", "unknown": "#c53e00", "not_sent": "#778ba2",
              "done-text": "#016630", "done-ground": "#dcfce7"},
    "dark": {"page": "#161d2d", "stage": "#07121e", "track": "#1c2a3a", "text": "#f8fafd", "muted": "#a3afbe",
             "line": "#1c2a3a", "edge": "#293c51", "link": "#8ec5ff", "focus": "#dce7f5", "brand": "#3c5b89",
             "brand-hover": "#294874", "spend": "#5b7aa8", "newest": "#c1d5ec", "done": "#00a837",
             "in_flight": "#c27aff", "failed": "#ff6467", "unknown": "#ed9740", "not_sent": "#778ba2",
             "done-text": "#b9f8cf", "done-ground": "#0d542b"},
}  # fmt: skip
TEXTS = [("text", "page"), ("text", "stage"), ("muted", "page"), ("muted", "stage"), ("link", "page"),
         ("done-text", "done-ground"), ("white", "brand"), ("white", "brand-hover")]  # fmt: skip
MARKS = ["done", "in_flight", "failed", "unknown", "not_sent", "focus"]

SMALL = """
[...document.querySelectorAll("a[href], button, input, select, summary")]
    .filter(one => !one.closest("dialog:not([open])"))
    .filter(one => !(document.querySelector("dialog[open]") && one.closest("main")))
    .map(one => [one, one.closest("label") && one.tagName === "INPUT" ? one.closest("label") : one])
    .map(([one, box]) => [one, box.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && (box.width < 24 || box.height < 24))
    .map(([one, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${one.outerHTML.slice(0, 120)}`)
"""
OUTSIDE = """
[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter(one => one.checkVisibility() && !one.disabled && !one.closest("dialog:not([open])"))
    .filter(one => {
        one.focus();
        if (document.activeElement !== one) return false;
        const [own, around, inside] = [
            getComputedStyle(one), getComputedStyle(one.parentElement),
            getComputedStyle(one.querySelector(".box") ?? one, "::after")];
        const outlined = style => style.outlineStyle === "solid" && style.outlineWidth === "2px"
            && parseFloat(style.outlineOffset) <= -2;
        return !outlined(own) && !(one.tagName === "INPUT" && outlined(around))
            && !(inside.borderTopWidth === "3px" && inside.position === "absolute");
    })
    .map(one => `${getComputedStyle(one).outline} ${one.outerHTML.slice(0, 120)}`)
"""
CUT = """
[...document.querySelectorAll("main *, dialog[open] *")]
    .filter(one => [...one.childNodes].some(each => each.nodeType === 3 && each.data.includes("$")))
    .filter(one => getComputedStyle(one).overflow !== "visible")
    .filter(one => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1)
    .map(one => one.outerHTML.slice(0, 160))
"""
UNLIKE = """
[...document.querySelectorAll("body *")].filter(one =>
    one.hasAttribute("style")
    || (getComputedStyle(one).boxShadow !== "none" && !one.matches(".arrow"))
    || getComputedStyle(one).backgroundImage !== "none")
    .map(one => one.outerHTML.slice(0, 160))
"""


def channels(colour):
    colour = {"white": "#fff"}.get(colour, colour).lstrip("#")
    colour = "".join(one * 2 for one in colour) if len(colour) == 3 else colour
    return [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]


def luminance(colour):
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_those_of_the_design_and_can_be_told_apart(page, gallery, theme):
    page.prefer(color_scheme=theme)
    open_page(page, gallery.page(f"{TASK}/done/-1"))

    style = "getComputedStyle(document.documentElement).getPropertyValue"
    used = {name: page.run(f"{style}('--{name}')").strip() for name in TOKENS[theme]}

    assert used == TOKENS[theme]
    colours = {**used, "white": "#fff"}
    for text, ground in TEXTS:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark in MARKS:
        assert contrast(colours[mark], colours["page"]) >= 3, mark


@pytest.mark.parametrize("width", [pytest.param(1112, marks=pytest.mark.soak), 380])
def test_whatever_is_pressed_is_24_pixels_wide_and_high_at_least(page, gallery, width):
    page.resize(width, 812)
    small = {}

    for place in PLACES:
        open_page(page, gallery.page(place))
        small[place] = page.run(SMALL)

    assert {place: found for place, found in small.items() if found} == {}


@pytest.mark.soak
def test_the_ring_around_what_has_the_focus_is_inside_of_it(page, gallery):
    outside = {}
    for place in PLACES:
        open_page(page, gallery.page(place))
        # A key was pressed: the browser shows where the focus is.
        page.key("Tab")
        outside[place] = page.run(OUTSIDE)

    assert {place: found for place, found in outside.items() if found} == {}


def long_sums(value):
    """Put a large sum in place of every one of a document."""
    if isinstance(value, dict):
        return {name: long_sums(one) for name, one in value.items()}
    if isinstance(value, list):
        return [long_sums(one) for one in value]
    return value.replace("$0.0235", "$12,345.6789") if isinstance(value, str) else value


@pytest.mark.parametrize(
    "width", [380, *(pytest.param(width, marks=pytest.mark.soak) for width in (1112, 3840))]
)
def test_no_sum_is_ever_cut(page, gallery, width):
    page.resize(width, 900)
    cut = {}

    for place in (BATCH, MAPPED, IN_RUN, "dag/shop_pictures", "asset/7", "all", f"{TASK}/failed/-1"):
        document = long_sums(places()[place]({}))
        gallery.places[place] = lambda _query, document=document: document
        page.visit(gallery.page(place))
        page.until("document.querySelector('main').childElementCount > 0")
        cut[place] = page.run(CUT)

    assert {place: found for place, found in cut.items() if found} == {}


@pytest.mark.soak
def test_there_is_no_attribute_of_style_no_gradient_and_no_shadow_but_under_the_arrows(page, gallery):
    unlike = {}

    for place in PLACES:
        open_page(page, gallery.page(place))
        page.run("document.activeElement.blur()")
        unlike[place] = page.run(UNLIKE)

    assert {place: found for place, found in unlike.items() if found} == {}


@pytest.mark.parametrize(
    ("place", "width", "columns", "wide"),
    [(MAPPED, 1112, 6, 160), (BATCH, 1112, 8, 128), (MAPPED, 380, 2, 100), (BATCH, 380, 2, 100),
     (MAPPED, 3840, 18, 200), (BATCH, 3840, 18, 200)],
)  # fmt: skip
def test_a_sheet_has_as_many_columns_as_there_is_room_for(page, gallery, place, width, columns, wide):
    page.resize(width, 900)

    open_page(page, gallery.page(place))

    tops = page.run("[...document.querySelectorAll('.sheet > li')].map(one => one.offsetTop)")
    assert tops.count(tops[0]) == columns
    assert page.run("document.querySelector('.sheet > li').getBoundingClientRect().width") >= wide


@pytest.mark.parametrize(("width", "sticks"), [(1112, True), (768, True), (767, False), (380, False)])
def test_a_batchs_header_sticks_where_there_is_room(page, gallery, width, sticks):
    page.resize(width, 676)
    open_page(page, gallery.page(BATCH))

    page.run("scrollTo(0, 2000)")

    top = page.run("document.querySelector('.head').getBoundingClientRect().top")
    assert (top == 0) is sticks


def test_pictures_of_a_sheet_wait_until_they_are_scrolled_to_and_have_their_room(page, gallery):
    open_page(page, gallery.page(BATCH))

    assert page.run(
        "[...document.querySelectorAll('.sheet img')].every(one => one.loading === 'lazy'"
        " && one.alt === '' && one.width > 0 && one.height > 0 && one.srcset.includes('2x'))"
    )
    assert page.run("getComputedStyle(document.querySelector('.sheet > li')).contentVisibility") == "auto"


def test_a_large_pictures_text_is_its_prompt_and_the_page_is_called_by_a_hidden_heading(page, gallery):
    open_page(page, gallery.page(f"{TASK}/done/-1"))

    assert page.run("document.querySelector('.large').alt") == documents.PROMPT
    assert page.run("document.querySelector('h1').getBoundingClientRect().width") <= 1


def test_the_panel_is_modal_and_what_is_behind_it_out_of_reach(page, gallery):
    open_page(page, gallery.page(f"{BATCH}#7-1"))

    assert page.run("document.querySelector('dialog.panel').matches(':modal')")
    for _ in range(12):
        page.key("Tab")
        assert page.run("!document.activeElement.closest('main')")


@pytest.mark.parametrize("width", [1112, 380])
@pytest.mark.parametrize("key", ["10-1", "23-1"])
def test_the_panels_arrows_cover_no_text(page, gallery, width, key):
    page.resize(width, 812)
    place = f"{BATCH}/tile/{key}"
    gallery.places[BATCH] = lambda query: sheets.batch(query, live=False)
    open_page(page, gallery.page(f"{BATCH}#{key}"))
    page.until("document.querySelector('dialog.panel').innerText.includes('AW26')")

    covered = page.run(
        """[...document.querySelectorAll(".view .arrow")].map(one => one.getBoundingClientRect()).flatMap(
            arrow => [...document.querySelectorAll(".view .stage p, .view .stage h2, .view .stage section")]
                .map(one => [one, one.getBoundingClientRect()])
                .filter(([, box]) => box.left < arrow.right && box.right > arrow.left
                    && box.top < arrow.bottom && box.bottom > arrow.top)
                .map(([one]) => one.innerText.slice(0, 60)))"""
    )

    assert covered == [], place


def test_a_dag_shows_as_many_runs_as_are_chosen(page, gallery):
    open_page(page, gallery.page("dag/shop_pictures"))
    assert page.run("document.querySelectorAll('.run').length") == 14
    assert page.run("document.querySelector('select').selectedOptions[0].text") == "Last 14"

    page.run(
        "(e => { e.value = '30'; e.dispatchEvent(new Event('change', { bubbles: true })); })"
        "(document.querySelector('select[data-do=runs]'))"
    )

    page.until("document.querySelectorAll('.run').length === 30")
    assert page.run("location.search") == "?runs=30"
    page.visit(page.run("location.href"))
    page.until("document.querySelector('select').selectedOptions[0].text === 'Last 30'")


def test_a_mapped_tasks_heading_says_how_many_indexes_it_has(page, gallery):
    open_page(page, gallery.page(IN_RUN))

    headings = page.run("[...document.querySelectorAll('main h2')].map(one => one.textContent)")

    assert headings == ["poster 1 image · $0.0235", "image [24] 21 of 24 images · $0.5170"]


@pytest.mark.soak
@pytest.mark.parametrize(("width", "theme"), [(380, "dark"), (380, "light"), (1112, "light"), (1112, "dark")])
def test_everybody_can_use_panels_full_size_and_pages_without_their_server(page, gallery, theme, width):
    page.resize(width, 812)
    page.prefer(color_scheme=theme)
    found = {}
    for place in PANELS:
        open_page(page, gallery.page(place))
        page.until("document.querySelector('dialog.panel').innerText.includes('AW26')")
        found[place] = accessibility(page)
    open_page(page, gallery.page(f"{TASK}/done/-1"))
    page.press_text("button", "Full size")
    page.until("document.querySelector('dialog.full[open] img')?.naturalWidth > 0")
    found["full size"] = accessibility(page)
    gallery.places["all"] = lambda query: sheets.overview(query) | {"live": True}
    for place in ("all", BATCH):
        open_page(page, gallery.page(place))
        del gallery.places[place]
        page.until_text("Not updated for")
        found[f"{place} without server"] = accessibility(page)

    page.visit("about:blank#")
    assert {place: wrong for place, wrong in found.items() if wrong} == {}, json.dumps(found)[:3000]


@pytest.mark.soak
def test_a_screen_reader_is_told_news_each_ten_seconds_at_most(page, gallery):
    done = iter(range(9_643, 20_000))

    def news(query):
        document = sheets.batch(query)
        return document | {"counts": document["counts"] | {"done": next(done)}}

    gallery.places[BATCH] = news
    open_page(page, gallery.page(BATCH))
    page.run(
        "globalThis.told = []; new MutationObserver(() => told.push(performance.now()))"
        ".observe(document.getElementById('said'), { childList: true, characterData: true, subtree: true })"
    )

    page.until("told.length >= 3")

    told = page.run("told")
    assert min(later - earlier for earlier, later in itertools.pairwise(told)) >= 9_900


SIZES = [
    # Height, if it is the same always; size of the text, height of a line, corner.
    (f"{TASK}/done/-1", ".button", ("36px", "14px", "20px", "4px")),
    (f"{TASK}/done/-1", ".facts dt", ("16px", "12px", "16px", "0px")),
    (f"{TASK}/done/-1", ".facts code", (None, "12px", "18px", "0px")),
    (f"{TASK}/done/-1", ".prompt p", (None, "16px", "24px", "0px")),
    (f"{TASK}/done/-1", ".large", (None, "14px", "20px", "4px")),
    (f"{TASK}/unknown/-1", ".card", (None, "14px", "20px", "8px")),
    (BATCH, ".field", ("36px", "14px", "20px", "4px")),
    (BATCH, ".select select", ("36px", "14px", "normal", "4px")),
    (BATCH, ".chip", ("32px", "13px", "18px", "16px")),
    (BATCH, ".pager .small", ("28px", "12px", "16px", "4px")),
    (BATCH, ".figures dd", ("30px", "20px", "30px", "0px")),
    (BATCH, ".caption", (None, "13px", "18px", "0px")),
    (BATCH, ".sub", (None, "12px", "16px", "0px")),
    (IN_RUN, "h2", ("24px", "16px", "24px", "0px")),
]


def test_texts_and_controls_have_the_designs_sizes(page, gallery):
    for place in dict.fromkeys(place for place, _, _ in SIZES):
        open_page(page, gallery.page(place))
        for selector, wanted in [(selector, sizes) for at, selector, sizes in SIZES if at == place]:
            found = page.run(
                f"(s => [`${{s.height}}`, s.fontSize, s.lineHeight, s.borderTopLeftRadius])"
                f"(getComputedStyle(document.querySelector('main {selector}')))"
            )
            assert found[1:] == list(wanted[1:]), selector
            assert wanted[0] in (None, found[0]), selector
