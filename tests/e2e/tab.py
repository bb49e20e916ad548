"""The frame of the Images tab, inside of a page of Airflow's, and what a person does in it."""

from __future__ import annotations

import json
from typing import Any

from tests.browser import Page

# Lazy images beyond the window never load by themselves.
LOADED = """(() => {
  const images = [...document.querySelectorAll('main img')];
  images.forEach(e => e.loading = 'eager');
  return images.length && images.every(e => e.complete && e.naturalWidth) ? images.length : 0;
})()"""


class Tab:
    """What a plugin's frame shows, inside of Airflow's page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def script(self, expression: str) -> str:
        return (
            "(() => { const frame = [...document.querySelectorAll('iframe')].at(-1)?.contentWindow;"
            " return frame?.document?.body"
            f" ? ((document) => ({expression}))(frame.document) : null; }})()"
        )

    def run(self, expression: str) -> Any:
        return self.page.run(self.script(expression))

    def until(self, expression: str, timeout: float = 60) -> Any:
        try:
            return self.page.until(self.script(expression), timeout)
        except AssertionError as error:
            raise AssertionError(f"{expression} never was true; the tab says:\n{self.text()}") from error

    def text(self) -> str:
        return self.run("document.body.innerText")

    def until_text(self, text: str) -> None:
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def until_all_images_are_loaded(self, count: int) -> None:
        self.until(f"{LOADED} === {count}")

    def press(self, selector: str, text: str = "") -> None:
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find(e => !e.disabled && e.innerText.includes({json.dumps(text)}))"
        )
        self.until(f"!!{found}")
        self.run(f"{found}.click()")

    def type(self, selector: str, text: str) -> None:
        """Type into a field in place of what is in it."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.until(f"!!{field}")
        self.run(f"(frame.focus(), {field}.focus(), {field}.select())")
        self.page.call("Input.insertText", text=text)

    def key(self, *keys: str) -> None:
        """Press keys, which go to what has the focus."""
        self.page.key(*keys)

    def tab_until(self, expression: str) -> None:
        """Press the Tab key until what has the focus is so."""
        for _ in range(150):
            self.page.key("Tab")
            if self.run(f"document.hasFocus() && !!document.activeElement && ({expression})"):
                return
        raise AssertionError(f"No Tab leads to {expression}; the tab says:\n{self.text()}")
