"""The code and the commands that stand in the README and in docs/, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [
    README,
    *sorted((PROJECT / "docs").rglob("*.md")),
    *sorted((PROJECT / ".github").glob("*.md")),
]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"Save this as\s+`([^`]+)`")


_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def without_code(text: str) -> str:
    """Return the prose of a page."""
    return _CODE.sub("", text)


def links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead, but for those into the web."""
    return [
        target
        for target in re.findall(r"\]\(([^)]+)\)", without_code(text))
        if not target.startswith("https://")
    ]


class Snippet(NamedTuple):
    """A fenced block of a page.

    :param file: what the page says the block is to be saved as; empty where it doesn't.
    """

    page: Path
    line: int
    kind: str
    text: str
    file: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """What is typed at the prompts of a console."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def snippets(page: Path) -> list[Snippet]:
    """Return the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in _FENCE.finditer(text):
        before = text[end : match.start()]
        named = _FILE.findall(before)
        line = text.count("\n", 0, match.start()) + 2
        found.append(Snippet(page, line, match[1], match[2], named[-1] if named else ""))
        end = match.end()
    return found
