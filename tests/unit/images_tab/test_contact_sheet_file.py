"""The contact sheet beside a batch's manifest, opened from a disk: to be seen and used by everybody."""

from __future__ import annotations

import pytest

from airflow_gpt_image.batch.contact_sheet import IMAGES_A_PAGE
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import failed, intent, late, manifest_of, plan_of, stored
from tests.browser import needs_browser
from tests.gallery.looking import MOVED, accessibility
from tests.gallery.pictures import picture
from tests.gallery.sheets import THINGS

pytestmark = needs_browser

WITHOUT_IMAGE = {1: failed, 9: failed, 12: intent, 14: late, 15: None}
"""What became of the rows that have no image; the last one was not sent."""

HOSTILE = [
    "</style><script>globalThis.ran = 1</script>",
    "\"><img src=x onerror='globalThis.ran = 1'>",
    "gnp.\u202eexe.image",
    "A" * 300,
    "مرحبا 青い壺",
]
LOADED = """
[...document.images].every(one => { one.loading = "eager"; return one.complete && one.naturalWidth > 0; })
"""


def record_of(item):
    make = WITHOUT_IMAGE.get(item.index, stored)
    return None if make is None else make(item)


@pytest.fixture
def write(tmp_path):
    """Write the contact sheet of a data set with so many rows, and its images; return its address."""

    def write(rows):
        names = list(THINGS)
        texts = [
            *(
                (f"{names[row % 10]}-{1000 + 7 * row}", list(THINGS.values())[row % 10])
                for row in range(rows)
            ),
            *((text, text) for text in HOSTILE),
        ]
        plan = plan_of([{"prompt": prompt, "sku": sku} for sku, prompt in texts])
        entries = list(ItemTable(plan.items))
        for entry, item in zip(entries, plan.items, strict=True):
            entry.record = record_of(item)
            file = tmp_path / f"{item.name}.png"
            file.parent.mkdir(exist_ok=True)
            if item.index not in WITHOUT_IMAGE:
                file.write_bytes(picture(item.index % 40, 64, 64))
        manifest_of(open_folder(tmp_path), plan, entries, source="s3://my_aws@shop/exports/2026-11-26.csv")
        return f"file://{tmp_path}/contact_sheet.html"

    return write


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_a_contact_sheet_is_whole_and_open_to_everybody(page, write, artefacts, theme, width):
    address = write(26)
    page.resize(width, 850)
    page.prefer(color_scheme=theme)

    page.visit(address)
    page.until(LOADED)

    assert page.run("document.images.length") == 26 + len(HOSTILE) - len(WITHOUT_IMAGE)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(MOVED) == []
    assert page.run("[document.scripts.length, globalThis.ran]") == [0, None]
    assert accessibility(page) == []
    page.run("document.querySelector('details').open = true")
    assert accessibility(page) == []
    page.screenshot(artefacts / f"contact-sheet-{width}-{theme}.png")


def test_a_contact_sheet_says_of_each_row_what_became_of_it_and_what_was_paid(page, write):
    page.visit(write(26))

    said = page.run("[...document.querySelectorAll('li')].map(one => one.innerText.split('\\n'))")

    told = {index: [said[index][0], said[index][-1]] for index in WITHOUT_IMAGE}
    assert told == {
        1: ["✕ Failed", "row 2 · refunded"],
        9: ["✕ Failed", "row 10 · refunded"],
        12: ["? Unknown", "row 13 · at stake: $0.0235"],
        14: ["… Not stored yet", "row 15 · paid: $0.0235"],
        15: ["– Not sent", "row 16 · nothing paid"],
    }
    assert said[0] == ["TEA-1000", "row 1"]


@pytest.mark.soak
def test_pages_of_500_lead_to_each_other_and_to_their_images_by_relative_addresses(page, write):
    rows = 2 * IMAGES_A_PAGE + 30
    address = write(rows)
    seen = 0

    page.visit(address)
    for number in (1, 2, 3):
        page.until(f"location.pathname.endsWith('contact_sheet{'' if number == 1 else f'_{number}'}.html')")
        page.until(LOADED)
        tiles = page.run("document.querySelectorAll('li').length")
        assert tiles == (IMAGES_A_PAGE if number < 3 else rows + len(HOSTILE) - seen)
        assert page.run("document.querySelector('nav [aria-current=page]').innerText").startswith(
            f"{seen + 1:,}–"
        )
        assert page.run("[...document.querySelectorAll('a')].map(one => one.getAttribute('href'))"
                        ".filter(one => one.includes(':') || one.startsWith('/'))") == []  # fmt: skip
        seen += tiles
        if number < 3:
            page.press_text("nav[aria-label=Pages] a", f"{seen + 1:,}–")

    page.press_text("nav[aria-label=Pages] a", "1–500")
    page.until("location.pathname.endsWith('contact_sheet.html')")


def test_whatever_is_pressed_in_a_contact_sheet_is_24_pixels_high_and_shows_its_focus(page, write):
    page.visit(write(26))
    page.key("Tab")

    heights = page.run(
        "[...document.querySelectorAll('a, summary')].map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 24
    assert page.run("getComputedStyle(document.activeElement).outlineWidth") == "2px"
