"""Take out of rows what mustn't outlast a batch: signatures of reference images, and where it calls back.

A batch that is at work needs them, for it submits by its plan. What is left when it ends has ``?***`` in
place of an address's query, and no callback_url. Such a row can be run again once its address is signed anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import REDACTED_QUERY

# What a query is for that only chooses a version or a size: a row with it can be run again as it is. All else
# may be a signature or a token.
_HARMLESS: Final = re.compile(
    r"(?:v|ver|version|rev|w|h|width|height|size|q|quality|dpr|fit|crop|fm|format|auto|id)=[A-Za-z0-9._,-]{0,20}"
)


def has_secrets(request: ImageRequest) -> bool:
    """Return whether a request has what mustn't outlast the batch."""
    return request.callback_url is not None or any(secret_query(url) for url in request.image_urls)


def redacted_row(given: Mapping[str, Any], request: ImageRequest) -> dict[str, Any]:
    """
    Return a row without its secrets, whatever its columns are called.

    :param request: what the row asks for, which tells what its secrets are.
    """
    # The longest first: one may begin as another one does.
    found = {query for url in request.image_urls if (query := secret_query(url))}
    queries = sorted(found, key=len, reverse=True)
    callback = request.callback_url
    kept = {name: value for name, value in given.items() if callback is None or value != callback}
    return {name: _without(value, queries, callback) for name, value in kept.items()}


def secret_query(url: str) -> str:
    """Return an address's query, from its mark on, if it may be secret; else nothing."""
    _, mark, query = url.partition("?")
    if not query or all(map(_HARMLESS.fullmatch, query.split("&"))):
        return ""
    return mark + query


def _without(value: Any, queries: list[str], callback: str | None) -> Any:
    if isinstance(value, str):
        for query in queries:
            value = value.replace(query, REDACTED_QUERY)
        return value if callback is None else value.replace(callback, "***")
    if isinstance(value, list):
        return [_without(item, queries, callback) for item in value]
    if isinstance(value, dict):
        return {name: _without(item, queries, callback) for name, item in value.items()}
    return value
