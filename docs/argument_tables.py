"""Write the tables of arguments in these pages, from the signatures and docstrings of the classes.

``python docs/argument_tables.py`` writes them, and a test holds the pages equal to that. A page says where:
``<!-- arguments: module.Class -->``, and ``<!-- end -->`` behind the table.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
_PLACE = re.compile(r"(<!-- arguments: ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PARAM = re.compile(r"^:param (\w+): (.*?)(?=^:|^\S|\Z)", re.DOTALL | re.MULTILINE)


def write(text: str) -> str:
    """Return a page with its tables written anew."""
    return _PLACE.sub(lambda place: place[1] + _table(_load(place[2])) + place[3], text)


def _load(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _table(documented: type) -> str:
    described = {
        name: " ".join(text.split()) for name, text in _PARAM.findall(inspect.getdoc(documented) or "")
    }
    arguments = {
        parameter.name: parameter
        for parameter in inspect.signature(inspect.unwrap(documented.__init__)).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    if described.keys() != arguments.keys():
        differing = sorted(described.keys() ^ arguments.keys())
        raise ValueError(
            f"{documented.__name__}: not in both, signature and docstring: {', '.join(differing)}."
        )
    lines = ["| argument | default | |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {_default(arguments[name])} | {_cell(text)} |" for name, text in described.items()
    ]
    return "\n".join(lines) + "\n"


def _default(parameter: inspect.Parameter) -> str:
    value: Any = parameter.default
    if value is parameter.empty:
        return "required"
    return "" if value is None else f"`{value!r}`"


def _cell(text: str) -> str:
    """Return the text of a docstring as that of a cell of Markdown."""
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text.replace("``", "`")).replace("|", "\\|")


def main() -> None:
    """Write the tables into all pages."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(write(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
