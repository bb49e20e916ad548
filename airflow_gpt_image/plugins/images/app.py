"""
The Images tab's application: who may ask, what is answered, and what is said instead.

1. Whoever isn't logged in to Airflow gets 401; who lacks its permission for the Dag, 403: on every route but
   that of our own script, style and icons.
2. A file is served by a token that we signed, and only if it is under the roots now.
3. Everything that blocks happens in threads, so that Airflow's own pages go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from airflow_gpt_image.plugins.images import access, pages, refusals
from airflow_gpt_image.plugins.images.balances import Balances, read_balance
from airflow_gpt_image.plugins.images.documents import building
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Place, Query
from airflow_gpt_image.plugins.images.page_files import page_files, page_files_version
from airflow_gpt_image.plugins.images.refusals import Refusal, RefusedError
from airflow_gpt_image.plugins.images.results import image_path
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.serving.answers import headers, is_known, not_modified
from airflow_gpt_image.plugins.images.serving.files import Files
from airflow_gpt_image.plugins.images.threads import (
    ANSWER_WITHIN,
    Threads,
    leave_alone_what_is_loaded,
)
from airflow_gpt_image.plugins.images.tokens import Tokens

_log = logging.getLogger(__name__)

# Documents that are made at the same time; each has a connection to the database.
_THREADS: Final = 4
_FOREVER: Final = "public, max-age=31536000, immutable"
_BRIEFLY: Final = "public, max-age=300"


class ImagesTab:
    """
    The routes of the tab.

    :param roots: what may be served.
    :param tokens: signs and reads addresses of files.
    :param seconds: until a browser is told that a file can't be had.
    """

    def __init__(self, roots: Roots, tokens: Tokens, *, seconds: float = ANSWER_WITHIN) -> None:
        self._roots = roots
        self._tokens = tokens
        self._files = Files(roots, tokens, seconds=seconds)
        self._balances = Balances(read_balance)
        self._threads = Threads(_THREADS, "gpt-image-pages")

    def app(self) -> FastAPI:
        """Return the application, to be mounted at ``/gpt-image``."""
        app = FastAPI(title="GPT Image's images", openapi_url=None, docs_url=None, redoc_url=None)
        for kind in (RefusedError, HTTPException):
            app.exception_handler(kind)(_refuse)
        for path, route in (
            ("/static/{version}/{name}", self.static),
            ("/image/{dag_id}/{token}", self.image),
            ("/file/{dag_id}/{token}", self.file),
            ("/result/{dag_id}/{run_id}/{task_id}/{map_index}/{number}", self.result),
            ("/data/{place:path}", self.data),
            ("/{place:path}", self.page),
        ):
            app.get(path, response_model=None)(route)
        return app

    async def static(self, request: Request, version: str, name: str) -> Response:
        """Answer with our own script, style or icon. They tell nothing, so nobody is asked who they are."""
        file = page_files().get(name)
        if file is None:
            raise RefusedError(refusals.NO_FILE)
        current = page_files_version()
        if is_known(request.headers.get("if-none-match"), current):
            return not_modified(current)
        more = headers(caching=_FOREVER if version == current else _BRIEFLY, tag=current)
        return Response(file.content, headers={**more, "content-type": file.content_type})

    async def image(self, request: Request, user: GetUserDep, dag_id: str, token: str) -> Response:
        """Answer with a picture."""

        def find() -> str:
            _require(user, dag_id)
            return self._files.verify(dag_id, token)

        return await self._picture(request, find)

    async def result(
        self,
        request: Request,
        user: GetUserDep,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: str,
        number: str,
    ) -> Response:
        """Answer with a picture by its place in a task's result: for texts that are written before it."""

        def find() -> str:
            _require(user, dag_id)
            return image_path(dag_id, run_id, task_id, map_index, number)

        return await self._picture(request, find)

    async def file(self, request: Request, user: GetUserDep, dag_id: str, token: str) -> Response:
        """Answer with a file that a batch wrote, as a download."""

        def find() -> str:
            _require(user, dag_id)
            return self._files.verify(dag_id, token)

        with _failures_told(request):
            return await self._files.paper(find)

    async def data(self, request: Request, user: GetUserDep, place: str) -> Response:
        """Answer with the document of a place, or of one of its tiles."""
        with _failures_told(request):
            text, tag = await self._threads.run(lambda: self._data(user, place, request))
        if is_known(request.headers.get("if-none-match"), tag):
            return not_modified(tag)
        return Response(text, media_type="application/json", headers=headers(tag=tag))

    async def page(self, user: GetUserDep, request: Request, place: str) -> Response:
        """Answer with the page of a place."""
        with _failures_told(request):
            return await self._threads.run(lambda: self._page(user, place, request))

    def _data(self, user: Any, place: str, request: Request) -> tuple[str, str]:
        document = self._build(user, place, request)
        return pages.to_json(document), pages.tag_of(document)

    def _page(self, user: Any, place: str, request: Request) -> Response:
        if (own := self._own_page(user, place, request)) is not None:
            return RedirectResponse(own, headers=headers())
        return HTMLResponse(pages.page(self._build(user, place, request)), headers=headers(pages.POLICY))

    def _own_page(self, user: Any, path: str, request: Request) -> str | None:
        """Return the address beside this one of an iteration, which Airflow 3.4 names by its region."""
        region_id, region_index = (request.query_params.get(f"region_{part}", "") for part in ("id", "index"))
        place = Place.parse(path)
        if not region_id or place is None or place.kind != "task":
            return None
        _require(user, place.dag_id)
        own = building.place_in_region(place, region_id, region_index)
        return None if own is None or own.index == place.index else own.index

    def _build(self, user: Any, path: str, request: Request) -> dict[str, Any]:
        place = Place.parse(path)
        # PostgreSQL refuses to be asked for a text with a NUL.
        if place is None or any("\0" in text for text in (path, *request.query_params.values())):
            raise RefusedError(refusals.NO_PLACE)
        if place.dag_id:
            _require(user, place.dag_id)
        if place.kind == "asset" and not access.may_read_asset(user, str(place.asset_id)):
            raise RefusedError(refusals.MAY_NOT_READ_ASSET)
        context = Context(
            user=user,
            roots=self._roots,
            tokens=self._tokens,
            may_read=access.may_read,
            readable_dags=access.readable_dags,
            may_read_connection=access.may_read_connection,
            balances=self._balances,
            now=datetime.now(UTC),
        )
        document = building.build(place, Query.parse(request.query_params), context)
        if document is None:
            raise RefusedError(refusals.NO_PLACE)
        return document

    async def _picture(self, request: Request, find: Callable[[], str]) -> Response:
        with _failures_told(request):
            known = request.headers.get("if-none-match")
            return await self._files.picture(find, request.query_params, known)


def make_app() -> FastAPI:
    """Return the tab of this API server. The configuration is read once, as Airflow's own is."""
    leave_alone_what_is_loaded()
    return ImagesTab(Roots.from_config(), Tokens.from_config()).app()


def _require(user: Any, dag_id: str) -> None:
    if not access.may_read(user, dag_id):
        raise RefusedError(refusals.may_not_read(dag_id))


@contextmanager
def _failures_told(request: Request) -> Iterator[None]:
    """Log what nobody expected, and answer that it failed: what went wrong is nothing for a browser."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        _log.exception("%s could not be answered.", request.url.path)
        raise RefusedError(refusals.FAILED) from error


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with the reason, in the form that was asked for: a page, a document, or a text."""
    refusal = _refusal_of(error)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    match path.strip("/").split("/")[0]:
        case "image" | "file" | "result" | "static":
            return PlainTextResponse(str(refusal), refusal.status, headers=headers())
        case "data":
            return JSONResponse(pages.problem(refusal), refusal.status, headers=headers())
    page = await asyncio.to_thread(pages.page, pages.problem(refusal))
    return HTMLResponse(page, refusal.status, headers=headers(pages.POLICY))


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, RefusedError):
        return error.refusal
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 401:
            return refusals.NOT_SIGNED_IN
        case 403:  # Airflow's word for a login that it doesn't accept
            return refusals.BAD_SIGN_IN
    return Refusal(error.status_code, "This can't be answered", str(error.detail))
