"""What pages load: our icons, our styles joined to one, and our scripts joined to one."""

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
_IMPORT: Final = re.compile(r'^@?import (?:\{[^}]*\} from )?"\./(\w+\.(?:js|css))";\n', re.MULTILINE)
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
    texts["images.css"] = joined("styles", "main.css").encode()
    texts["images.js"] = joined("scripts", "main.js").encode()
    kinds = {name: _TYPES.get(name.rpartition(".")[2]) for name in texts}
    return {name: PageFile(texts[name], kind) for name, kind in kinds.items() if kind is not None}


@cache
def page_files_version() -> str:
    """Return what changes when one of these files does: it is part of their addresses."""
    digest = hashlib.sha256()
    for _, file in sorted(page_files().items()):
        digest.update(file.content)
    return digest.hexdigest()[:16]


def joined(folder: str, first: str) -> str:
    """
    Return all scripts or styles as one, so that a page needs one request for them and nobody a build step.

    Each file is one that a browser or an editor understands by itself, and imports others. They stand here in
    the order in which a browser runs them: each after those that it imports. Scripts share one scope then, so
    a name is declared in one of them only.
    """
    seen: set[str] = set()
    parts: list[str] = []

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        text = STATIC.joinpath(folder, name).read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            add(imported)
        parts.append(_EXPORT.sub("", _IMPORT.sub("", text)))

    add(first)
    return "\n".join(parts)
