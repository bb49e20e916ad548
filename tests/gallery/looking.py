"""What is looked for in a page: missing pictures, what moved, what is too wide, what axe-core finds."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from tests.browser import Page

READY = "document.querySelector('main').childElementCount > 0"

# Those in the window; the others wait until they are scrolled to.
_PICTURES = """
[...document.images].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
})
"""
PICTURES_LOADED = f"{_PICTURES}.every(one => one.complete && one.naturalWidth > 0)"
PICTURES_SEEN = f"{_PICTURES}.length"

MOVED = """
(() => {
    const seen = new PerformanceObserver(() => {});
    seen.observe({ type: "layout-shift", buffered: true });
    return seen.takeRecords().filter(one => !one.hadRecentInput)
        .map(one => `${one.value} ${one.sources.map(each => each.node?.outerHTML?.slice(0, 100))}`);
})()
"""
TOO_WIDE = """
[...document.querySelectorAll("main *, dialog[open] *")]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
    .filter(one => !one.closest(".chips, .runs, pre, .code, .hidden"))
    .map(one => one.outerHTML.slice(0, 200))
"""


def open_page(page: Page, url: str) -> None:
    """Open one of our pages, and wait until it and its pictures are there."""
    page.visit(url)
    page.until(READY)
    page.until(PICTURES_LOADED)


def accessibility(page: Page, frame: str | None = None) -> list[dict[str, Any]]:
    """
    Return what axe-core finds wrong, in few words.

    :param frame: A part of the address of the frame that is looked at; None: the page.
    """
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    found = page.promised(
        f"(async () => {{ {axe};\n"
        "const found = await axe.run({resultTypes: ['violations']});"
        "return JSON.stringify(found.violations.map("
        "one => ({id: one.id, impact: one.impact, where: one.nodes.map(node => "
        "`${node.html.slice(0, 150)} ${node.failureSummary}`)}))); })()",
        frame,
    )
    return json.loads(found)
