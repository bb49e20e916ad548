"""Addresses of images, files and pages, as the pages' data holds them."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlsplit

from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.tokens import Tokens

PREFIX: Final = "/gpt-image"
"""Where the tab's pages are, beneath Airflow's own address."""

THUMBNAIL_SIZES: Final = (256, 512, 1024)
"""Pixels of the longer side."""


def base_path() -> str:
    """Return the path of Airflow's own address with our prefix, such as ``/airflow/gpt-image``."""
    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + PREFIX


def image_urls(
    dag_id: str,
    path: str | None,
    roots: Roots,
    tokens: Tokens,
    *,
    width: int | None = None,
    height: int | None = None,
    bytes: int | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    """
    Return what a page needs to show one image: the document's ``Image``.

    :param path: where the image is stored; None: nowhere.
    :param version: what changes with the image's bytes, such as the beginning of their SHA-256. With it
        browsers keep the image for a day, without it they ask each time whether it is the same.
    """
    problem = NOT_KEPT if path is None else roots.check(path)
    urls: dict[str, str | None] = dict.fromkeys(("thumb", "thumb2", "stage", "full", "download"))
    if path is not None and problem is None:
        address = _address("image", dag_id, tokens.sign(dag_id, path))
        more = f"&v={quote(version, safe='')}" if version else ""
        small, medium, large = THUMBNAIL_SIZES
        for name, query in (
            ("thumb", f"size={small}"),
            ("thumb2", f"size={medium}"),
            ("stage", f"size={large}"),
            ("full", "size=full"),
            ("download", "size=full&download=1"),
        ):
            urls[name] = f"{address}?{query}{more}"
    return {**urls, "width": width, "height": height, "bytes": bytes, "path": path, "problem": problem}


NOT_KEPT: Final = "Not kept. This picture is only at the API, which does not keep it for ever."


def file_url(dag_id: str, path: str, roots: Roots, tokens: Tokens) -> str | None:
    """Return the address at which a file is downloaded; None when it may not be served."""
    if roots.check(path) is not None:
        return None
    return _address("file", dag_id, tokens.sign(dag_id, path))


def _address(*segments: str) -> str:
    return "/".join([base_path(), *(quote(segment, safe=":+~@") for segment in segments)])
