"""Serve files: pictures, small or whole, and what a batch writes beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
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
from airflow_gpt_image.plugins.images.serving.sources import Facts, Source, look_at, open_source
from airflow_gpt_image.plugins.images.serving.thumbnails import Thumbnails
from airflow_gpt_image.plugins.images.threads import ANSWER_WITHIN, StoreThreads, Threads, answer_within
from airflow_gpt_image.plugins.images.tokens import Tokens
from airflow_gpt_image.storage.pictures import Header

# Permissions and results that are asked for at the same time: each has a connection to the database.
_THREADS: Final = 4
# Files that are looked at or read at the same time, of one disk or store.
_STORE_THREADS: Final = 8

# A root may hold more than ours, and a Dag's author may name that as a manifest: only what a batch writes is
# sent.
_PAPERS: Final = re.compile(
    r"(manifest|failures|unsettled|invalid|metadata|contact_sheet)[\w-]*\.(jsonl|csv|parquet|html)"
)


class Files:
    """
    The files under the roots.

    :param limits: what is taken on for one picture.
    :param seconds: until a call to a disk or a store is given up.
    :param thumbnails: makes and keeps them. Where Pillow isn't installed, pictures are sent as they are.
    """

    def __init__(
        self,
        roots: Roots,
        tokens: Tokens,
        *,
        limits: Limits = Limits(),
        thumbnails: Thumbnails | None = None,
        seconds: float = ANSWER_WITHIN,
    ) -> None:
        self._roots = roots
        self._tokens = tokens
        self._limits = limits
        self._thumbnails = thumbnails or Thumbnails()
        self._can_draw = can_draw()
        self._threads = Threads(_THREADS, "gpt-image-asking")
        self._stores = StoreThreads(_STORE_THREADS, "gpt-image-files", seconds=seconds)

    async def picture(
        self, find: Callable[[], str], query: Mapping[str, str], if_none_match: str | None
    ) -> Response:
        """
        Return the answer with a picture.

        :param find: gives its path, and refuses who may not see it. It may block.
        :param query: ``size`` is one of the thumbnails' or ``full``, which it is without one.
        :raises RefusedError: when there is nothing to be served.
        """
        path, location, facts = await self._found(find)
        side = _side(query.get("size")) if self._can_draw else None
        tag = f"{facts.tag}-{side or 'full'}"
        if is_known(if_none_match, tag):
            return not_modified(tag, query)
        if side is None:
            limits = UNLIMITED if query.get("download") else self._limits
            source, header = await self._stores.run(
                location.store, lambda: _open_picture(location, facts, limits)
            )
            more = picture_headers(tag, path, header.kind, query)
            return whole_picture(source, partial(self._stores.run, location.store), header, more)
        made = self._thumbnails.get(
            (location.address, tag),
            lambda: self._stores.run(location.store, lambda: self._read(location, facts)),
            lambda picture: draw_thumbnail(*picture, side),
            store=location.store,
        )
        data = await answer_within(ANSWER_WITHIN, made)
        return Response(data, media_type="image/webp", headers=picture_headers(tag, path, "webp", query))

    async def paper(self, find: Callable[[], str]) -> Response:
        """
        Return the answer with what a batch writes beside its images, as a download.

        :param find: gives its path, and refuses who may not see it. It may block.
        :raises RefusedError: when it is no such file, or there is nothing to be served.
        """
        path, location, facts = await self._found(find, _PAPERS)
        source = await self._stores.run(location.store, lambda: open_source(location, facts))
        return attachment(source, partial(self._stores.run, location.store), path, facts.tag)

    def verify(self, dag_id: str, token: str) -> str:
        """
        Return the path that a token is about.

        :raises RefusedError: when we never signed it for this Dag.
        """
        path = self._tokens.verify(dag_id, token)
        if path is None:
            raise RefusedError(NO_FILE)
        return path

    async def _found(
        self, find: Callable[[], str], names: re.Pattern[str] | None = None
    ) -> tuple[str, Location, Facts]:
        """Return the path that somebody may see, where it is, and what is known of the file."""
        path = await self._threads.run(find)
        if names is not None and not names.fullmatch(path.rpartition("/")[2]):
            raise RefusedError(NO_FILE)
        try:
            store = self._roots.store_of(path)
            location, facts = await self._stores.run(store, lambda: self._look_at(path))
        except OutsideRootsError as error:
            raise RefusedError(outside(str(error))) from None
        return path, location, facts

    def _look_at(self, path: str) -> tuple[Location, Facts]:
        location = self._roots.locate(path)
        return location, look_at(location)

    def _read(self, location: Location, facts: Facts) -> tuple[Source, Header]:
        """Return a picture in memory: what draws it shall not wait for a store."""
        source, header = _open_picture(location, facts, self._limits)
        data = source.read()
        return Source(BytesIO(data), len(data)), header


def _open_picture(location: Location, facts: Facts, limits: Limits) -> tuple[Source, Header]:
    source = open_source(location, facts)
    try:
        return source, check_picture(source, limits)
    except RefusedError:
        source.file.close()
        raise


def _side(size: str | None) -> int | None:
    """Return the pixels of a thumbnail that was asked for; None: the whole picture."""
    if size in (None, "full"):
        return None
    sides = {str(side): side for side in THUMBNAIL_SIZES}
    if size not in sides:
        raise RefusedError(NO_FILE)
    return sides[size]
