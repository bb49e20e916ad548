"""Each place of the Images tab, opened in a running Airflow by a person with a browser.

A picture of each is kept in ``test-artefacts/images-tab``, or where ``GPT_IMAGE_ARTEFACTS`` says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser import browse, needs_browser
from tests.e2e.conftest import House
from tests.e2e.tab import LOADED, Tab
from tests.gallery.looking import accessibility

# With `make browser`.
pytestmark = [
    pytest.mark.one_database,
    pytest.mark.on_3_4,
    pytest.mark.soak,
    pytest.mark.timeout(900),
    needs_browser,
]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab"
MANY = 10_000
TILES = "[...document.querySelectorAll('.sheet li')]"
IS_SHOWN = "!!e.querySelector('img')?.naturalWidth"
HOSTILE = "A tent <img src=x onerror=window.top.hacked=1></script><script>window.top.hacked=1</script>"


class Runs(NamedTuple):
    """The ids of the runs that are looked at, all of them at their end but for one task that waits."""

    single: str
    mapped: str
    batch: str


def rows_file(folder: Path, name: str, letter: str, count: int) -> str:
    """Write a data set of which each row has a `sku` such as `T-00042`; its path."""
    rows = ({"sku": f"{letter}-{n:05}", "prompt": f"A {name} {n}."} for n in range(count))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / f"{name}.jsonl")


@pytest.fixture(scope="module")
def runs(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    for fault in (
        "generation:failed=invalid_request;match=Failed.",
        "submit:lost;match=Lost.",
        "generation:takes=600;match=Slow.",
        "generation:failed=invalid_request;match=Number 7.",
        "generation:failed=invalid_request;match=teapot 7.",
        "submit:lost;match=teapot 13.",
    ):
        house.emulator.fault(fault)
    file = rows_file(tmp_path_factory.mktemp("rows"), "teapot", "T", MANY)
    started = Runs(
        house.start("gallery", HOSTILE),
        house.start("gallery_mapped", HOSTILE),
        house.start("gallery_batch", "", file=file),
    )
    house.finish("gallery_mapped", started.mapped, 300)
    for task_id, state in (("poster", "success"), ("not_kept", "success"), ("unknown", "failed")):
        house.airflow.wait_for_task("gallery", started.single, task_id, state, timeout=180)
    yield started
    house.airflow.request("PATCH", f"/api/v2/dags/gallery/dagRuns/{started.single}", json={"state": "failed"})


@pytest.fixture(scope="module")
def whole_batch(house: House, runs: Runs) -> str:
    """The page of a task that has made 10,000 pictures, but for one that failed and one that is unknown."""
    house.finish("gallery_batch", runs.batch, 600)
    return f"/dags/gallery_batch/runs/{runs.batch}/tasks/pictures"


@pytest.fixture(autouse=True)
def no_faults_left() -> None:
    """They are this module's, and hold for all of it."""


@pytest.fixture
def look(house: House, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a page of Airflow's at the tab of a view; a picture of what is seen in the end is kept."""
    opened = []

    def look(path: str, view: str, theme: str = "light") -> Tab:
        page_manager = browse("about:blank", width=1500, height=950)
        page = page_manager.__enter__()
        opened.append((page_manager, page))
        page.prefer(color_scheme=theme)
        page.visit(f"{house.airflow.url}{path}/plugin/gpt-images-{view}")
        return Tab(page)

    yield look
    for number, (page_manager, page) in enumerate(opened):
        name = re.sub(r"[^a-z0-9_.]+", "-", request.node.name.removeprefix("test_"), flags=re.I).strip("-")
        page.screenshot(KEPT / f"{name}-{number}.png")
        page_manager.__exit__(None, None, None)


def task_page(runs: Runs, task_id: str) -> str:
    return f"/dags/gallery/runs/{runs.single}/tasks/{task_id}"


def test_a_picture_is_seen_large_with_its_prompt_its_price_and_its_file(house, runs, look):
    tab = look(task_page(runs, "poster"), "task-instance")

    tab.until_all_images_are_loaded(1)

    path = house.airflow.xcom("gallery", runs.single, "poster")["path"]
    text = tab.text()
    for said in (HOSTILE, "16:9", "1536", "$0.0235", path):
        assert said in text
    assert tab.run("document.querySelector('main img').naturalWidth") >= 1024
    assert tab.page.run("window.hacked") is None
    tab.press("button", "Full size")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth === 1536")


@pytest.mark.parametrize(
    ("task_id", "says"),
    [
        ("not_kept", "Not kept"),
        ("elsewhere", "gallery_roots"),
        ("failed", "Refunded."),
        ("unknown", "may or may not be paid for"),
        ("waiting", "The API is making this picture"),
        ("foreign", "No images here"),
    ],
)
def test_a_task_without_a_picture_says_what_became_of_it(runs, look, task_id, says):
    tab = look(task_page(runs, task_id), "task-instance")

    tab.until_text(says)

    assert tab.page.run("window.hacked") is None


def test_all_pictures_of_a_mapped_task_are_behind_a_switch_in_the_tab_of_each(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}/tasks/picture/mapped/3", "task-instance")
    tab.until_all_images_are_loaded(1)

    tab.press("a, button", "All 24")

    tab.until_all_images_are_loaded(23)
    tab.press("button", "Failed")
    tab.until("document.querySelectorAll('.sheet li').length === 1")


def test_a_batch_of_ten_thousand_is_paged_filtered_and_sorted(whole_batch, look):
    tab = look(whole_batch, "task-instance")

    tab.until_text("1–200 of 10,000")
    tab.until_all_images_are_loaded(198)
    tab.press("button[aria-label*=ext]")
    tab.until_text("201–400 of 10,000")
    tab.until_all_images_are_loaded(200)
    tab.type("input[type=search]", "T-0999")
    tab.until_text("of 10\n")
    tab.until_all_images_are_loaded(10)
    tab.type("input[type=search]", "teapot 4321.")
    tab.until_all_images_are_loaded(1)
    tab.press(".sheet button.tile")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth")
    told = tab.run("document.querySelector('dialog[open]').innerText")
    assert "T-04321" in told
    assert "A teapot 4321." in told


def test_the_failed_and_the_unknown_one_of_ten_thousand_are_found_by_their_status(whole_batch, look):
    tab = look(whole_batch, "task-instance")
    tab.until_text("1–200 of 10,000")

    tab.press("button", "Failed")
    tab.until("document.querySelectorAll('.sheet li').length === 1")
    failed = tab.run("document.querySelector('.sheet').innerText")
    tab.press("button", "Unknown")
    tab.until("document.querySelector('.sheet').innerText.includes('T-00013')")
    unknown = tab.run("document.querySelector('.sheet').innerText")

    assert "T-00007" in failed
    assert "refunded" in failed.lower()
    assert "It may be paid for." in unknown
    assert "At stake" in tab.text()


def test_any_page_of_a_batch_is_an_address(whole_batch, runs, house):
    place = f"/gpt-image/task/gallery_batch/{runs.batch}/pictures/-1"
    with browse(f"{house.airflow.url}{place}?page=50", width=1500, height=950) as page:
        page.until_text("9,801–10,000 of 10,000")
        page.until(f"{LOADED} === 200")


def test_a_sheet_is_used_with_the_keyboard_alone(whole_batch, look):
    tab = look(whole_batch, "task-instance")
    tab.until_text("1–200 of 10,000")

    tab.tab_until("document.activeElement.matches('.sheet button.tile')")
    tab.key("ArrowRight", "ArrowRight", "Enter")
    tab.until("document.querySelector('dialog[open] h2')?.innerText.includes('T-00002')")
    tab.key("ArrowRight")
    tab.until("document.querySelector('dialog[open] h2')?.innerText.includes('T-00003')")
    tab.key("Escape")
    tab.until(
        "!document.querySelector('dialog[open]') && document.activeElement.innerText.includes('T-00003')"
    )
    tab.key("]")
    tab.until_text("201–400 of 10,000")
    tab.key("/", *"T-04321")
    tab.until_all_images_are_loaded(1)
    tab.tab_until("document.activeElement.matches('.sheet button.tile')")
    tab.key("Enter")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["single", "failed", "unknown", "sheet", "run", "dag", "nav"])
def test_axe_finds_nothing_serious_in_the_frame(runs, look, view, theme):
    mapped = f"/dags/gallery_mapped/runs/{runs.mapped}"
    path, destination = {
        "single": (task_page(runs, "poster"), "task-instance"),
        "failed": (task_page(runs, "failed"), "task-instance"),
        "unknown": (task_page(runs, "unknown"), "task-instance"),
        "sheet": (f"{mapped}/tasks/picture/mapped/3", "task-instance"),
        "run": (mapped, "dag-run"),
        "dag": ("/dags/gallery_mapped", "dag"),
        "nav": ("", "nav"),
    }[view]
    tab = look(path, destination, theme=theme)
    tab.until("!!document.querySelector('main h1, main h2')")
    if view == "sheet":
        tab.press("a, button", "All 24")
        tab.until("document.querySelectorAll('.sheet li').length === 24")
        tab.press(".sheet button.tile, .sheet a.tile")

    assert accessibility(tab.page, "/gpt-image/") == []


@pytest.mark.parametrize(
    ("path", "view", "images"),
    [
        ("/dags/gallery_mapped/runs/{runs.mapped}", "dag-run", 6),
        ("/dags/gallery_mapped/tasks/picture", "task", 7),
        ("/dags/gallery_mapped", "dag", 7),
        ("/dags/gallery_batch", "dag", 7),
        ("", "nav", 16),
    ],
)
def test_runs_dags_tasks_and_the_overview_show_pictures(runs, look, path, view, images):
    tab = look(path.format(runs=runs), view)

    tab.until_all_images_are_loaded(images)

    assert "$" in tab.text()


def test_every_tab_is_there_to_be_pressed(house, runs):
    paths = [
        task_page(runs, "poster"),
        f"/dags/gallery/runs/{runs.single}",
        "/dags/gallery/tasks/poster",
        "/dags/gallery",
    ]
    for path in paths:
        with browse(f"{house.airflow.url}{path}", width=1500, height=950) as page:
            page.until("[...document.querySelectorAll('a[href*=\"/plugin/gpt-images-\"]')].length >= 2")


def test_at_380_pixels_a_sheet_has_two_columns(house, runs):
    place = f"/gpt-image/mapped/gallery_mapped/{runs.mapped}/picture"
    with browse(f"{house.airflow.url}{place}", width=380, height=800) as page:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=380, height=800, deviceScaleFactor=1, mobile=False
        )
        page.until(f"{LOADED} === 23")
        page.screenshot(KEPT / "narrow.png")
        columns = page.run(
            "new Set([...document.querySelectorAll('.sheet li')].map(e => e.getBoundingClientRect().x)).size"
        )
        wide = page.run("document.documentElement.scrollWidth")

    assert (columns, wide) == (2, 380)


def test_a_batch_is_watched_while_its_pictures_come(house, runs, look, tmp_path):
    house.emulator.fault("generation:takes=25;match=kettle")
    run_id = house.start("gallery_batch", "", file=rows_file(tmp_path, "kettle", "K", 3))
    house.airflow.wait_for_task("gallery_batch", run_id, "pictures", {"running", "deferred"}, timeout=120)
    tab = look(f"/dags/gallery_batch/runs/{run_id}/tasks/pictures", "task-instance")

    tab.until_text("In flight")
    tab.run("frame.theSamePage = true")
    house.finish("gallery_batch", run_id)

    tab.until_all_images_are_loaded(3)
    assert tab.run("frame.theSamePage") is True


def test_a_picture_of_a_run_leads_to_its_own_tab_in_airflow(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}", "dag-run")
    tab.until_all_images_are_loaded(6)

    tab.press("a.tile")

    tab.page.until("location.pathname.includes('/tasks/picture/mapped/0/')")
    tab.page.until("location.pathname.endsWith('/plugin/gpt-images-task-instance')")
    tab.until_all_images_are_loaded(1)


def test_show_all_leads_to_the_sheet_of_the_task_inside_the_frame_or_in_airflow(runs, look):
    tab = look(f"/dags/gallery_mapped/runs/{runs.mapped}", "dag-run")
    tab.until_all_images_are_loaded(6)

    tab.press("a", "Show all 24")

    tab.until_all_images_are_loaded(23)


# The last one: what it leaves is on the pages of the other tests, too.
@pytest.fixture
def tampered(house: House, runs: Runs, tmp_path: Path) -> str:
    """The page of a batch whose files somebody who may write there has replaced; the last picture is left."""
    rows = [{"sku": f"V-{n}", "prompt": f"{HOSTILE} {n}"} for n in range(6)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_id = house.start("gallery_batch", "", file=str(file))
    house.finish("gallery_batch", run_id)
    manifest = Path(house.airflow.xcom("gallery_batch", run_id, "pictures")["manifest"])
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    paths = [Path(line["paths"][0]) for line in lines]
    secret = tmp_path / "secret.png"
    shutil.copy(paths[5], secret)
    paths[0].unlink()
    paths[0].symlink_to(secret)
    paths[1].write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" onload="top.hacked=1"><script>top.hacked=1</script></svg>'
    )
    paths[2].write_text("<!doctype html><script>top.hacked=1</script>")
    paths[3].write_bytes(huge_png(30_000))
    lines[4] |= {"paths": [str(secret)], "images": [lines[4]["images"][0] | {"path": str(secret)}]}
    for sidecar in manifest.parent.rglob("*.json"):
        if sidecar.name != "summary.json" and sidecar.parent != manifest.parent:
            sidecar.write_text('{"prompt": "</script><script>top.hacked=1</script>", "path": "/etc/passwd"}')
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"/dags/gallery_batch/runs/{run_id}/tasks/pictures"


def huge_png(side: int) -> bytes:
    """Return a picture of few bytes that takes gigabytes of memory, were it drawn."""
    packed = zlib.compress(bytes(side // 8 + 1) * side, 9)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_links_pages_bombs_and_foreign_paths_in_place_of_pictures_are_refused_by_name(tampered, look):
    tab = look(tampered, "task-instance")

    tab.until("document.querySelectorAll('.sheet li').length === 6")
    tab.until(f"{TILES}.every(e => {IS_SHOWN} || /gallery_roots|Not a picture|Too large/.test(e.innerText))")
    tiles = tab.run(f"{TILES}.map(e => e.innerText)")
    shown = tab.run(f"{TILES}.map(e => {IS_SHOWN})")

    assert shown == [False] * 5 + [True]
    for tile, why in zip(
        tiles,
        [
            "gallery_roots",
            "Not a picture",
            "Not a picture",
            "Too large",
            "gallery_roots",
            "V-5",
        ],
        strict=True,
    ):
        assert why in tile
    tab.press(".sheet li:last-child button.tile")
    tab.until("document.querySelector('dialog[open] img')?.naturalWidth")
    assert HOSTILE in tab.run("document.querySelector('dialog[open]').innerText")
    assert tab.page.run("window.hacked") is None
