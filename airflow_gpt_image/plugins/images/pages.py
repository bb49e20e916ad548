"""Put a page together: the shell, and the document that it shows, in it."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from airflow_gpt_image.plugins.images.addresses import base_path
from airflow_gpt_image.plugins.images.page_files import STATIC, page_files, page_files_version
from airflow_gpt_image.plugins.images.refusals import Refusal

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # An image that isn't kept is at the API's own hosts, which may be any.
        "img-src 'self' https:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
"""What a page may do: load our own script, style and images, and ask us for data. Nothing inline runs."""

_SHELL: Final = "page.html"
_PLACEHOLDER: Final = re.compile(r"\{\{ *(\w+) *\}\}")

# No parser of HTML may find markup in the document.
_MARKUP: Final = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document as JSON that may stand in HTML: ASCII without markup."""
    return json.dumps(document, separators=(",", ":")).translate(_MARKUP)


def tag_of(document: Mapping[str, Any]) -> str:
    """Return what changes when a document does; when it was made is no part of it."""
    lasting = {key: value for key, value in document.items() if key != "updated"}
    return hashlib.sha256(to_json(lasting).encode()).hexdigest()[:32]


def problem(refusal: Refusal) -> dict[str, Any]:
    """Return the document of a page that can't be shown."""
    return {
        "version": 1,
        "kind": "problem",
        "title": refusal.what,
        "live": False,
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "notices": [],
        "switch": None,
        "query": {},
        "what": refusal.what,
        "why": refusal.why,
        "do": refusal.do or None,
    }


def page(document: Mapping[str, Any]) -> str:
    """Return the HTML that shows a document."""
    static = f"{base_path()}/static/{page_files_version()}"
    texts = {re.sub(r"\W", "_", name): html.escape(f"{static}/{name}") for name in page_files()}
    texts["title"] = html.escape(str(document.get("title") or ""))
    texts["document"] = to_json(document)
    # In one go: what is put in isn't looked at again.
    return _PLACEHOLDER.sub(lambda found: texts[found[1]], _shell())


@cache
def _shell() -> str:
    return STATIC.joinpath(_SHELL).read_text(encoding="utf-8")
