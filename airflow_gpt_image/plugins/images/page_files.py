"""What pages load: our style, our icons, and our scripts joined to one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}
_SCRIPTS: Final = "scripts"
_FIRST: Final = "main.js"
_IMPORT: Final = re.compile(r'^import (?:\{[^}]*\} from )?"\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=async |function |const |let )", re.MULTILINE)

STATIC: Final = resources.files(__package__).joinpath("static")


class PageFile(NamedTuple):
    """A file that pages load."""

    content: bytes
    content_type: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return the files that pages load, by their names."""
    texts = {file.name: file.read_bytes() for file in STATIC.iterdir() if file.is_file()}
    texts["images.js"] = joined_scripts().encode()
    kinds = {name: _TYPES.get(name.rpartition(".")[2]) for name in texts}
    return {name: PageFile(texts[name], kind) for name, kind in kinds.items() if kind is not None}


@cache
def page_files_version() -> str:
    """Return what changes when one of these files does: it is part of their addresses."""
    digest = hashlib.sha256()
    for _, file in sorted(page_files().items()):
        digest.update(file.content)
    return digest.hexdigest()[:16]


def joined_scripts() -> str:
    """
    Return all our scripts as one, so that a page needs one request for them and nobody a build step.

    Each of them is a JavaScript module that a browser or an editor understands by itself. They stand here in
    the order in which a browser runs modules: each after those that it imports. They share one scope, so a
    name is declared in one of them only.
    """
    seen: set[str] = set()
    parts: list[str] = []

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        text = STATIC.joinpath(_SCRIPTS, name).read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            add(imported)
        parts.append(_EXPORT.sub("", _IMPORT.sub("", text)))

    add(_FIRST)
    return "\n".join(parts)
