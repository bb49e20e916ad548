"""A sheet of 10,000 images: found, filtered, paged and opened, with the keyboard alone as well."""

from __future__ import annotations

import pytest

from tests.browser import needs_browser
from tests.gallery.documents import RUN
from tests.gallery.looking import open_page

pytestmark = needs_browser

BATCH = f"task/shop_pictures/{RUN}/pictures/-1"
MAPPED = f"mapped/shop_pictures/{RUN}/image"
FIELD = "input[type=search]"
HERE = "document.activeElement.querySelector('.caption')?.textContent"
TILES = "[...document.querySelectorAll('.sheet .caption')].map(one => one.textContent)"
PANEL = "document.querySelector('dialog.panel[open] h2')?.textContent"


@pytest.fixture
def sheet(page, gallery):
    open_page(page, gallery.page(BATCH))
    return page


def test_the_first_page_has_200_tiles_of_10_000(sheet):
    assert len(sheet.run(TILES)) == 200
    assert "1–200 of 10,000" in sheet.text()
    assert sheet.run("document.querySelector('.tile').ariaLabel") == "TEA-1000-RED, Done, row 1 · $0.0235"


def test_only_the_page_its_style_and_its_script_come_before_the_pictures(page, gallery):
    open_page(page, gallery.page(BATCH))

    paths = [path.split("?")[0] for path, _ in gallery.asked if "favicon" not in path]

    first = next(index for index, path in enumerate(paths) if "/image/" in path)
    assert {path.rsplit("/", 1)[1] for path in paths[1:first]} == {"images.css", "images.js"}


def test_boxes_are_square_before_anything_loads(page, gallery):
    page.call("Network.enable")
    page.call("Network.setBlockedURLs", urls=["*/image/*"])
    page.visit(gallery.page(BATCH))
    page.until("document.querySelectorAll('.box').length === 200")

    box = page.run("(b => [b.width, b.height])(document.querySelector('.box').getBoundingClientRect())")

    page.call("Network.setBlockedURLs", urls=[])
    page.visit("about:blank#")
    assert box[0] == box[1]
    assert box[0] >= 120


def test_a_failed_row_says_why_in_its_box(sheet):
    said = sheet.run("document.querySelectorAll('.sheet li')[9].innerText")

    assert said.split("\n")[:2] == ["Failed", "upstream_error: Generation failed after 3 tries."]


def test_typing_filters_and_is_in_the_address(sheet):
    sheet.type(FIELD, "teapot")

    sheet.until_text("1–200 of 1,000")

    assert {name[:3] for name in sheet.run(TILES)} == {"TEA"}
    assert sheet.run("location.search") == "?text=teapot"
    assert sheet.run(f"document.activeElement === document.querySelector('{FIELD}')")


def test_a_chip_filters_by_status_and_all_takes_it_back(sheet):
    sheet.press_text(".chip", "Failed")
    sheet.until_text("1–32 of 32")
    assert sheet.run("document.querySelector('.chip[aria-pressed=true]').innerText").split() == [
        "Failed",
        "32",
    ]
    assert sheet.run("location.search") == "?status=failed"

    sheet.press_text(".chip", "All")

    sheet.until_text("1–200 of 10,000")
    assert sheet.run("location.search") == ""


def test_nothing_found_says_so_and_the_filters_are_cleared(sheet):
    sheet.type(FIELD, "teapto")
    sheet.until_text("Nothing matches “teapto”")
    sheet.until_text("10,000 images, none of them with this in sku, prompt or another column.")

    sheet.press_text("button", "Clear filters")

    sheet.until_text("1–200 of 10,000")
    assert sheet.run(f"document.querySelector('{FIELD}').value") == ""


def test_an_address_brings_back_filter_page_and_open_picture(page, gallery):
    page.visit(gallery.page(f"{BATCH}?text=teapot&page=2#2001-1"))

    page.until(f"{PANEL} === 'TEA-15000-RED'")

    assert page.run(f"document.querySelector('{FIELD}').value") == "teapot"
    assert page.run("document.querySelector('.pager .number').textContent") == "201–400 of 1,000"


def test_the_sort_is_asked_of_the_server(sheet):
    sheet.run(
        "(e => { e.value = 'status'; e.dispatchEvent(new Event('change', { bubbles: true })); })"
        "(document.querySelector('select[data-do=sort]'))"
    )

    sheet.until(f"{TILES}[0] === 'VAS-1154-OAK'")

    assert sheet.run("location.search") == "?sort=status"


def test_a_sheet_is_one_tab_stop_and_arrows_move_in_it(sheet):
    sheet.run("document.querySelector('.sheet .tile').focus()")

    for key, name in {
        "ArrowRight": "MUG-1007-BLU",
        "ArrowDown": "PLT-1063-BLU",
        "ArrowLeft": "CLK-1056-RED",
        "ArrowUp": "TEA-1000-RED",
        "End": "PLT-2393-SND",
        "Home": "TEA-1000-RED",
    }.items():
        sheet.key(key)
        assert sheet.run(HERE) == name, key
        assert sheet.run("document.querySelectorAll('.sheet [tabindex=\"0\"]').length") == 1

    sheet.key("PageDown")
    assert sheet.run(f"{TILES}.indexOf({HERE})") in (16, 24, 32, 40)


def test_the_tile_with_the_focus_is_below_the_head_that_sticks(sheet):
    sheet.run("document.querySelector('.sheet .tile').focus()")
    sheet.key("End", "PageUp", "PageUp", "PageUp")

    head = sheet.run("document.querySelector('.head').getBoundingClientRect().bottom")
    tile = sheet.run("document.activeElement.getBoundingClientRect().top")

    assert sheet.run("scrollY") > 1000
    assert head > 100
    assert tile >= head


def test_slash_goes_to_the_filter_and_brackets_turn_pages(sheet):
    sheet.run("document.querySelector('.sheet .tile').focus()")
    sheet.key("]")
    sheet.until_text("201–400 of 10,000")
    assert sheet.run("location.search") == "?page=2"
    sheet.key("[")
    sheet.until_text("1–200 of 10,000")

    sheet.key("/")

    assert sheet.run(f"document.activeElement === document.querySelector('{FIELD}')")
    assert sheet.run(f"document.querySelector('{FIELD}').value") == ""


def test_keys_open_turn_and_close_the_panel_and_the_focus_is_back_at_the_tile(sheet):
    sheet.run("document.querySelectorAll('.sheet .tile')[6].focus()")

    sheet.key("Enter")
    sheet.until(f"{PANEL} === 'BAG-1042-OAK'")
    sheet.until("document.querySelector('dialog.panel').innerText.includes('AW26')")
    assert sheet.run("location.hash") == "#7-1"
    assert sheet.run("document.activeElement.closest('dialog') !== null")
    sheet.key("ArrowRight", "ArrowRight", "ArrowLeft")
    sheet.until(f"{PANEL} === 'BOO-1049-SND'")
    sheet.key("Escape")

    sheet.until(f"!document.querySelector('dialog[open]') && {HERE} === 'BOO-1049-SND'")
    assert sheet.run("location.hash") == ""


def test_the_panel_shows_the_thumbnail_until_the_picture_is_there(sheet):
    sheet.run(
        "globalThis.seen = []; new MutationObserver(() => {"
        " const shown = document.querySelector('dialog.panel .large')?.src;"
        " if (shown && seen.at(-1) !== shown) seen.push(shown); })"
        ".observe(document.body, { subtree: true, childList: true, attributes: true })"
    )

    sheet.press(".sheet li:nth-child(7) .tile")

    sheet.until("document.querySelector('dialog.panel .large').src.endsWith('size=1024')")
    assert [shown.split("size=")[1] for shown in sheet.run("seen")] == ["512", "1024"]


def test_keys_of_the_panel_show_it_full_size_copy_and_download(sheet):
    sheet.press(".sheet li:nth-child(7) .tile")
    sheet.until("document.querySelector('dialog.panel').innerText.includes('Stored at')")

    sheet.key("f")
    sheet.until("document.querySelector('dialog.full[open] img')?.naturalWidth === 1024")
    sheet.key("Escape")
    sheet.until("!document.querySelector('dialog.full[open]')")
    sheet.run(
        "document.querySelector('dialog.panel a[download]').addEventListener('click', e => {"
        " globalThis.taken = e.target.href; e.preventDefault(); })"
    )
    sheet.key("d")
    sheet.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    sheet.key("c")

    assert sheet.run("globalThis.taken").endswith("size=full&download=1")
    sheet.until("getSelection().toString().startsWith('/data/images/hero/')")
    assert sheet.run(PANEL) == "BAG-1042-OAK"


def test_the_panel_turns_over_the_end_of_a_page(page, gallery):
    page.visit(gallery.page(f"{BATCH}#200-1"))
    page.until(f"{PANEL} === 'PLT-2393-SND'")

    page.key("ArrowRight")

    page.until(f"{PANEL} === 'TEA-2400-RED'")
    assert page.run("location.search + location.hash") == "?page=2#201-1"
    assert "201 of 10,000" in page.run("document.querySelector('dialog.panel').innerText")


def test_a_failed_rows_panel_has_the_apis_words_and_no_download(sheet):
    sheet.press(".sheet li:nth-child(10) .tile")

    sheet.until(
        "document.querySelector('dialog.panel').innerText.includes('The API could not make this picture')"
    )

    assert not sheet.run("!!document.querySelector('dialog.panel a[download]')")


def test_what_the_panel_does_is_told_to_who_can_not_see_it(sheet):
    sheet.press(".sheet li:nth-child(7) .tile")
    sheet.until(f"{PANEL} === 'BAG-1042-OAK'")

    sheet.key("ArrowRight")

    sheet.until("document.querySelector('dialog.panel [role=status]').textContent === 'BOO-1049-SND, Done'")


def test_letters_do_nothing_while_no_panel_is_open(sheet):
    sheet.run("document.querySelector('.sheet .tile').focus()")

    sheet.key("f", "d", "c")

    assert not sheet.run("!!document.querySelector('dialog[open]')")


def test_the_sheet_of_a_mapped_task_counts_and_leads_to_this_image(page, gallery):
    open_page(page, gallery.page(MAPPED))

    assert "21 of 24 images" in page.text()
    assert "$0.5170 paid · $0.0235 refunded" in page.text()
    chips = page.run(
        "[...document.querySelectorAll('.chip')].map(one => one.innerText.replace(/\\s+/g, ' '))"
    )
    assert chips == ["All 24", "Done 21", "Failed 2", "Waiting 1"]
    assert (
        page.run("document.querySelector('.switch a').pathname")
        == f"/gpt-image/task/shop_pictures/{RUN}/image/3"
    )
