"""Answer with a picture's or a file's bytes, and with headers that leave a browser nothing to guess."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from airflow_gpt_image.plugins.images.serving.sources import Source
from airflow_gpt_image.storage.pictures import Header

Ask = Callable[[Callable[[], bytes]], Awaitable[bytes]]

NOTHING: Final = "default-src 'none'; frame-ancestors 'self'"
"""The policy of what is no page: it may load nothing and run nothing."""

PRIVATE: Final = "private, no-cache"
"""A browser may keep it, and asks each time whether it is still the same."""

# The address changes with the picture.
_VERSIONED: Final = "private, max-age=86400"

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 150
_DEFAULT_NAME: Final = "image"


def headers(policy: str = NOTHING, *, caching: str = PRIVATE, tag: str | None = None) -> dict[str, str]:
    """
    Return the headers that every answer has.

    :param policy: the Content-Security-Policy.
    :param tag: what changes with the content.
    """
    return {
        "cache-control": caching,
        "content-security-policy": policy,
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        **({} if tag is None else {"etag": f'"{tag}"'}),
    }


def is_known(given: str | None, tag: str) -> bool:
    """
    Return whether a browser has it already.

    :param given: the request's ``If-None-Match``.
    """
    if given is None:
        return False
    # Compression on the way makes a tag weak, or puts its name behind it.
    known = (each.strip().removeprefix("W/").strip('"') for each in given.split(","))
    return tag in known


def not_modified(tag: str, query: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Return the answer to who has it already, and may keep it as long again."""
    return Response(status_code=304, headers=headers(caching=_caching(query), tag=tag))


def picture_headers(tag: str, path: str, kind: str, query: Mapping[str, str]) -> dict[str, str]:
    """
    Return the headers of a picture.

    :param path: where it is stored; its last part becomes its name.
    :param kind: the ending that its bytes call for.
    :param query: of the request: ``v`` is in an address that changes with the picture, ``download`` asks for
        a file.
    """
    way = "attachment" if query.get("download") else "inline"
    stem = path.rpartition("/")[2].rpartition(".")[0]
    sandboxed = f"{NOTHING}; sandbox"
    return {
        **headers(sandboxed, caching=_caching(query), tag=tag),
        "content-disposition": disposition(way, f"{stem or _DEFAULT_NAME}.{kind}"),
    }


def _caching(query: Mapping[str, str]) -> str:
    return _VERSIONED if query.get("v") else PRIVATE


def whole_picture(source: Source, ask: Ask, header: Header, more: Mapping[str, str]) -> Response:
    """
    Return the answer with a picture as it is stored.

    :param ask: has each of its parts read.
    """
    return _streamed(source, ask, header.content_type, more)


def attachment(source: Source, ask: Ask, path: str, tag: str) -> Response:
    """Return the answer with any other file, which a browser stores and doesn't open."""
    more = {
        **headers(f"{NOTHING}; sandbox", tag=tag),
        "content-disposition": disposition("attachment", path.rpartition("/")[2]),
    }
    return _streamed(source, ask, "application/octet-stream", more)


def disposition(way: str, name: str) -> str:
    """
    Return a ``Content-Disposition`` for a name of anybody's (RFC 6266).

    What isn't plain is replaced in the name for old readers, and percent-encoded in the one for others.
    """
    kept = name[-_LONGEST_NAME:]
    plain = _UNSAFE.sub("_", kept).lstrip(".") or _DEFAULT_NAME
    encoded = quote(kept.encode(errors="replace"), safe="")
    return f"{way}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _streamed(source: Source, ask: Ask, content_type: str, more: Mapping[str, str]) -> Response:
    length = {"content-length": str(source.length)}
    return StreamingResponse(_read(source, ask), media_type=content_type, headers={**more, **length})


async def _read(source: Source, ask: Ask) -> AsyncIterator[bytes]:
    # Given an iterator that blocks, Starlette would read it in the threads that Airflow's own routes need.
    chunks = source.chunks()
    while chunk := await ask(lambda: next(chunks, b"")):
        yield chunk
