"""A headless Chromium, and what a person does with a page: look, type, press."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# On a CI it is installed (.ci/browser); there, a test without one fails instead of saying nothing.
needs_browser = pytest.mark.skipif(
    PROGRAM is None and "CI" not in os.environ, reason="no Chromium on this machine; apt-get install chromium"
)

# Gives the middle of an element that was the same one at the same place when it was asked before.
_WHERE_IT_STANDS_STILL = """e => {
  if (!e) return null;
  e.scrollIntoView({block: "center"});
  const box = e.getBoundingClientRect();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const before = window.lastAskedFor;
  window.lastAskedFor = {e, x, y};
  const still = before && before.e === e && before.x === x && before.y === y;
  return still && e.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
}"""


# What a page must not say while it is used. A policy's violation is no error of a script: it is an event.
_LISTEN = """
globalThis.violations = [];
addEventListener("securitypolicyviolation", e => violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""

# As Chromium wants a key: its code, and the text it types.
_KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class NavigatedError(AssertionError):
    """The page that was asked is being left for another one."""


class Page:
    """The page of a browser, driven over Chromium's own protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._said: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                if answer.get("error", {}).get("message") == "Inspected target navigated or closed":
                    raise NavigatedError(method)
                assert "error" not in answer, answer
                return answer["result"]
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self._said.append(details.get("exception", {}).get("description") or details["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self._said.append(" ".join(str(part.get("value")) for part in told["args"]))
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self._said.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def listen(self) -> None:
        """Hear from now on what goes wrong in pages: `complaints` has it."""
        for room in ("Page", "Runtime", "Log"):
            self.call(f"{room}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_LISTEN)

    def complaints(self) -> list[str]:
        """Return errors of scripts, of the console and of the content policy since the page was opened."""
        return [*self.run("globalThis.violations ?? []"), *self._said]

    def visit(self, url: str) -> None:
        """Open an address afresh, also when only what is behind its `#` is another."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self._said.clear()
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, **features: str) -> None:
        """Set what the system prefers: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        media = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=media)

    def key(self, *keys: str) -> None:
        """Press keys of the keyboard one after the other, such as `Enter`, `ArrowDown` or `f`."""
        for key in keys:
            code = _KEY_CODES.get(key, ord(key.upper()[0]))
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            common = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def run(self, script: str) -> Any:
        """Return what an expression of JavaScript is."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def promised(self, script: str, frame: str | None = None) -> Any:
        """
        Return what a promise of JavaScript comes to, as JSON.

        :param frame: A part of the address of the frame whose document it sees; None: the page itself.
        """
        where = {} if frame is None else {"contextId": self._world(frame)}
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, **where
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _world(self, part_of_address: str) -> int:
        tree = self.call("Page.getFrameTree")["frameTree"]
        frames = [child["frame"] for child in tree.get("childFrames", ())]
        frame = next(frame for frame in frames if part_of_address in frame["url"])
        return self.call("Page.createIsolatedWorld", frameId=frame["id"])["executionContextId"]

    def until(self, script: str, timeout: float = 90) -> Any:
        """Wait until an expression is true; the page as it is then is in the error when it never is."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(NavigatedError):
                if found := self.run(script):
                    return found
            time.sleep(0.05)
        raise AssertionError(f"{script} never was true; the page says:\n{self.text()}")

    def text(self) -> str:
        return self.run("document.body ? document.body.innerText : ''")

    def until_text(self, text: str, timeout: float = 90) -> None:
        self.until(f"!!document.body && document.body.innerText.includes({json.dumps(text)})", timeout)

    def press(self, selector: str) -> None:
        """Press the last of the elements of a selector, once it is there and can be pressed."""
        self.press_text(selector, "")

    def press_text(self, selector: str, text: str) -> None:
        """
        Press the last of those that say a text, once it stands still and nothing covers it.

        A page that is still being laid out puts something else under the mouse between press and release.
        """
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".filter(e => !e.disabled && e.innerText.includes({json.dumps(text)})).at(-1)"
        )
        x, y = self.until(f"({_WHERE_IT_STANDS_STILL})({found})")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Type into a field in place of what is in it."""
        self.until(f"!!document.querySelector({json.dumps(selector)})")
        self.run(
            f"(e => {{ e.focus(); e.select && e.select(); }})(document.querySelector({json.dumps(selector)}))"
        )
        self.call("Input.insertText", text=text)

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browse(url: str, *, width: int = 1500, height: int = 900) -> Iterator[Page]:
    """Open an address in a browser of its own; nothing is left of it afterwards."""
    assert PROGRAM
    profile = Path(tempfile.mkdtemp(prefix="gpt-image-browser-"))
    command = [
        *(PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        *(f"--window-size={width},{height}", "about:blank"),
    ]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        where = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (where.exists() and where.read_text().count("\n")):
            assert time.monotonic() < deadline, "Chromium doesn't start"
            time.sleep(0.1)
        port = where.read_text().splitlines()[0]
        targets = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with connect(address, max_size=None, proxy=None) as socket:
            page = Page(socket)
            page.call("Page.navigate", url=url)
            yield page
    finally:
        browser.terminate()
        browser.wait(timeout=30)
        shutil.rmtree(profile, ignore_errors=True)
