"""Serve files: pictures, small or whole, and what a batch writes beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from starlette.responses import Response

from airflow_gpt_image.plugins.images.addresses import THUMBNAIL_SIZES
from airflow_gpt_image.plugins.images.refusals import NO_FILE, RefusedError, outside
from airflow_gpt_image.plugins.images.roots import Location, OutsideRootsError, Roots
from airflow_gpt_image.plugins.images.serving.answers import (
    attachment,
    is_known,
    not_modified,
    picture_headers,
    whole_picture,
)
from airflow_gpt_image.plugins.images.serving.rasters import (
    UNLIMITED,
    Limits,
    can_draw,
    check_picture,
    draw_thumbnail,
)
from airflow_gpt_image.plugins.images.serving.sources import Facts, look_at, open_source
from airflow_gpt_image.plugins.images.serving.thumbnails import Thumbnails
from airflow_gpt_image.plugins.images.threads import ANSWER_WITHIN, Threads, answer_within
from airflow_gpt_image.plugins.images.tokens import Tokens

# Files that are looked at or read at the same time; a store that is away holds its threads for a while.
_THREADS: Final = 8

# A root may hold more than ours, and a Dag's author may name that as a manifest: only what a batch writes is
# sent.
_PAPERS: Final = re.compile(
    r"(manifest|failures|unsettled|invalid|metadata|contact_sheet)[\w-]*\.(jsonl|csv|parquet|html)"
)


class Files:
    """
    The files under the roots.

    :param limits: what is taken on for one picture.
    :param thumbnails: makes and keeps them. Where Pillow isn't installed, pictures are sent as they are.
    """

    def __init__(
        self,
        roots: Roots,
        tokens: Tokens,
        *,
        limits: Limits = Limits(),
        thumbnails: Thumbnails | None = None,
    ) -> None:
        self._roots = roots
        self._tokens = tokens
        self._limits = limits
        self._thumbnails = thumbnails or Thumbnails()
        self._can_draw = can_draw()
        self._threads = Threads(_THREADS, "gpt-image-files")

    async def picture(
        self, find: Callable[[], str], query: Mapping[str, str], if_none_match: str | None
    ) -> Response:
        """
        Return the answer with a picture.

        :param find: gives its path, and refuses who may not see it. It may block.
        :param query: ``size`` is one of the thumbnails' or ``full``, which it is without one.
        :raises RefusedError: when there is nothing to be served.
        """
        path, location, facts = await self._threads.run(lambda: self._found(find))
        side = _side(query.get("size")) if self._can_draw else None
        tag = f"{facts.tag}-{side or 'full'}"
        if is_known(if_none_match, tag):
            return not_modified(tag, query)
        if side is None:
            return await self._threads.run(lambda: self._whole(path, location, facts, tag, query))
        made = self._thumbnails.get((location.address, tag), lambda: self._draw(location, facts, side))
        data = await answer_within(ANSWER_WITHIN, made)
        return Response(data, media_type="image/webp", headers=picture_headers(tag, path, "webp", query))

    async def paper(self, find: Callable[[], str]) -> Response:
        """
        Return the answer with what a batch writes beside its images, as a download.

        :param find: gives its path, and refuses who may not see it. It may block.
        :raises RefusedError: when it is no such file, or there is nothing to be served.
        """
        return await self._threads.run(lambda: self._paper(find))

    def verify(self, dag_id: str, token: str) -> str:
        """
        Return the path that a token is about.

        :raises RefusedError: when we never signed it for this Dag.
        """
        path = self._tokens.verify(dag_id, token)
        if path is None:
            raise RefusedError(NO_FILE)
        return path

    def _found(self, find: Callable[[], str]) -> tuple[str, Location, Facts]:
        path = find()
        location = self._locate(path)
        return path, location, look_at(location)

    def _locate(self, path: str) -> Location:
        try:
            return self._roots.locate(path)
        except OutsideRootsError as error:
            raise RefusedError(outside(str(error))) from None

    def _whole(
        self, path: str, location: Location, facts: Facts, tag: str, query: Mapping[str, str]
    ) -> Response:
        source = open_source(location, facts)
        try:
            header = check_picture(source, UNLIMITED if query.get("download") else self._limits)
        except RefusedError:
            source.file.close()
            raise
        return whole_picture(source, header, picture_headers(tag, path, header.kind, query))

    def _draw(self, location: Location, facts: Facts, side: int) -> bytes:
        source = open_source(location, facts)
        with source.file:
            return draw_thumbnail(source, check_picture(source, self._limits), side)

    def _paper(self, find: Callable[[], str]) -> Response:
        path = find()
        if not _PAPERS.fullmatch(path.rpartition("/")[2]):
            raise RefusedError(NO_FILE)
        location = self._locate(path)
        facts = look_at(location)
        return attachment(open_source(location, facts), path, facts.tag)


def _side(size: str | None) -> int | None:
    """Return the pixels of a thumbnail that was asked for; None: the whole picture."""
    if size in (None, "full"):
        return None
    sides = {str(side): side for side in THUMBNAIL_SIZES}
    if size not in sides:
        raise RefusedError(NO_FILE)
    return sides[size]
