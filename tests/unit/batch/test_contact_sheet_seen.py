"""The contact sheet in a browser: from a bucket, from a folder with an odd name, and for everybody."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from airflow_gpt_image.batch.contact_sheet import IMAGES_A_PAGE
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import failed, intent, late, manifest_of, plan_of, stored
from tests.browser import browse, needs_browser
from tests.gallery.looking import TOO_WIDE, accessibility
from tests.object_store import Disk

pytestmark = needs_browser

LOADED = "[...document.images].slice(0, 4).every(image => image.complete && image.naturalWidth === 32)"


def picture():
    file = BytesIO()
    Image.new("RGB", (32, 32), "teal").save(file, "PNG")
    return file.getvalue()


def write(place, rows, records=None):
    plan = plan_of(rows)
    entries = list(ItemTable(plan.items))
    for entry, record in zip(entries, records or [stored] * len(entries), strict=False):
        entry.record = record(entry.item)
        for image in entry.record.images:
            place.write(image.name, picture())
    return manifest_of(open_folder(place.destination), plan, entries)


def test_a_bucket_shows_it_with_its_images_and_leads_to_its_next_page(bucket):
    write(bucket, [f"poster {number}" for number in range(IMAGES_A_PAGE + 1)])

    with browse(f"{bucket.open_to_everybody()}/contact_sheet.html") as page:
        page.until(f"document.images.length === 500 && {LOADED}")
        page.run("document.querySelector('nav[aria-label=Pages] a:last-child').click()")
        page.until(f"location.pathname.endsWith('_2.html') && document.images.length === 1 && {LOADED}")


def test_a_folder_of_any_name_shows_it(tmp_path):
    folder = tmp_path / "50%20 off? #1 – ü"
    write(Disk(folder), ["a", "b"])

    with browse((folder / "contact_sheet.html").as_uri()) as page:
        page.until(f"document.images.length === 2 && {LOADED}")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1500, "light"),
        pytest.param(1500, "dark", marks=pytest.mark.soak),
        pytest.param(380, "light", marks=pytest.mark.soak),
        (380, "dark"),
    ],
)
def test_axe_core_finds_nothing_wrong_in_it(disk, width, scheme):
    rows = [{"prompt": f"A red teapot {number}", "sku": f"T-{number}"} for number in range(510)]
    write(disk, rows, [stored, failed, late, intent, *[stored] * 500])

    with browse(f"file://{disk.destination}/contact_sheet.html", width=width) as page:
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        page.until(LOADED)
        page.run("document.querySelector('details').open = true")
        assert accessibility(page) == []
        assert page.run(TOO_WIDE) == []
