"""The pages in a tab of Airflow's: its theme is followed, its pages are reached, and the sandbox holds."""

from __future__ import annotations

import pytest

from tests.browser import needs_browser
from tests.gallery.documents import RUN

pytestmark = needs_browser

FRAME = "document.querySelector('iframe').contentDocument"
DRAWN = f"{FRAME}?.querySelector('main')?.childElementCount > 0"
GROUND = f"getComputedStyle({FRAME}.body).backgroundColor"
PRESSED = f"getComputedStyle({FRAME}.querySelector('.primary')).backgroundColor"
DARK, LIGHT = "rgb(22, 29, 45)", "rgb(255, 255, 255)"
DONE = f"task/shop_pictures/{RUN}/done/-1"
IN_RUN = f"run/shop_pictures/{RUN}"
# Airflow underlines the tab only where the run's `:` and `+` stand as they are.
RUN_PAGE = f"/dags/shop_pictures/runs/{RUN}"


def open_frame(page, gallery, place):
    page.visit(gallery.framed(place))
    page.until(DRAWN)


def test_a_page_is_dark_where_airflow_is_whatever_the_system_prefers(page, gallery):
    gallery.frame["class"] = "dark"
    page.prefer(color_scheme="light")

    open_frame(page, gallery, DONE)

    assert page.run(GROUND) == DARK


def test_a_page_changes_with_airflow(page, gallery):
    open_frame(page, gallery, DONE)
    assert page.run(GROUND) == LIGHT

    page.run("document.documentElement.className = 'dark'")

    page.until(f"{GROUND} === '{DARK}'")


def test_a_deployments_own_theme_is_followed(page, gallery):
    gallery.frame["style"] = (
        "--chakra-colors-brand-solid: rgb(100, 0, 100); --chakra-colors-bg: rgb(250, 250, 240)"
    )

    open_frame(page, gallery, DONE)

    assert page.run(GROUND) == "rgb(250, 250, 240)"
    assert page.run(PRESSED) == "rgb(100, 0, 100)"


def test_alone_a_page_is_as_airflow_was_last(page, gallery):
    page.visit(gallery.page(DONE))
    page.run("localStorage.setItem('theme', 'dark')")

    page.visit(gallery.page(DONE))

    page.until(f"getComputedStyle(document.body).backgroundColor === '{DARK}'")
    page.run("localStorage.removeItem('theme')")


@pytest.mark.parametrize(
    ("place", "selector", "address"),
    [
        ("all", "table a", "/dags/catalogue_backfill/plugin/gpt-images-dag"),
        (IN_RUN, "h2 a", f"{RUN_PAGE}/tasks/poster/plugin/gpt-images-task-instance"),
        (
            IN_RUN,
            ".tiles a[href$='image/3']",
            f"{RUN_PAGE}/tasks/image/mapped/3/plugin/gpt-images-task-instance",
        ),
        ("dag/shop_pictures", ".chosen a", f"{RUN_PAGE}/plugin/gpt-images-dag-run"),
    ],
)
def test_a_link_leads_to_airflows_page(page, gallery, place, selector, address):
    open_frame(page, gallery, place)
    page.run("globalThis.moves = 0; addEventListener('popstate', () => { moves += 1; })")

    page.run(f"{FRAME}.querySelector({selector!r}).click()")

    assert page.run("location.pathname") == address
    assert page.run("moves") == 1


def test_the_sheet_of_a_mapped_task_has_no_page_of_airflows_and_opens_in_the_frame(page, gallery):
    open_frame(page, gallery, f"run/shop_pictures/{RUN}")

    page.run(f"[...{FRAME}.querySelectorAll('a')].find(one => one.textContent === 'Show all 24').click()")

    page.until(f"{FRAME}?.querySelector('.switch')?.innerText.includes('All 24')")
    assert page.run("location.pathname") == "/dags/frame"


def test_alone_a_link_leads_to_our_own_page(page, gallery):
    page.visit(gallery.page("all"))
    page.until("!!document.querySelector('table a')")
    gallery.places["dag/hero_image"] = gallery.places["dag/shop_pictures"]

    page.press("table a")

    page.until("location.pathname.startsWith('/gpt-image/dag/')")
    page.until_text("Spend and images by run")


def test_only_in_the_frame_the_button_to_clear_is_above(page, gallery):
    place = f"task/shop_pictures/{RUN}/failed/-1"
    open_frame(page, gallery, place)
    assert "Clear the task with ↻ above. A new try pays $0.0235" in page.run(f"{FRAME}.body.innerText")

    page.visit(gallery.page(place))

    page.until_text("Clear the task in Airflow. A new try pays $0.0235")


def test_choosing_a_run_shows_its_images(page, gallery):
    page.visit(gallery.page("dag/shop_pictures"))
    page.until_text("Spend and images by run")
    page.run("document.querySelector('.run[tabindex=\"0\"]').focus()")

    # The newest is at the right: left is back in time.
    page.key("ArrowLeft", "Enter")

    page.until("document.querySelector('.chosen').innerText.startsWith('Nov 25')")
    assert page.run("document.querySelector('.run[aria-pressed=true]').innerText").count("Nov 25") == 1
