"""The endpoints that steer the emulator; not part of the API. Under ``/_emulator``, JSON in and out, no key.

====== ============ =====================================================================
GET    /health      that it is there
GET    /books       the books; see ``books.py``
GET    /faults      the faults that are registered, and how many requests each met
POST   /faults      register: a text (``"submit:503*2"``), an object of the fields, or a list
DELETE /faults      forget all faults
GET    /settings    the settings
POST   /settings    change some
POST   /reset       new books, and settings and faults as at the start
====== ============ =====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.error_table import error_body
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.misbehaviour import JSON


def routes(emulator: Emulator) -> list[Route]:
    """The routes, in the order of the table."""
    desk = _Desk(emulator)
    return [
        Route("/_emulator/health", desk.health, methods=["GET"]),
        Route("/_emulator/books", desk.books, methods=["GET"]),
        Route("/_emulator/faults", desk.faults, methods=["GET"]),
        Route("/_emulator/faults", desk.add_faults, methods=["POST"]),
        Route("/_emulator/faults", desk.clear_faults, methods=["DELETE"]),
        Route("/_emulator/settings", desk.settings, methods=["GET"]),
        Route("/_emulator/settings", desk.change_settings, methods=["POST"]),
        Route("/_emulator/reset", desk.reset, methods=["POST"]),
    ]


class _Desk:
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "url": self._emulator.base_url})

    async def books(self, request: Request) -> Response:
        return JSONResponse(self._emulator.report())

    async def faults(self, request: Request) -> Response:
        return JSONResponse({"faults": self._emulator.faults.report()})

    async def add_faults(self, request: Request) -> Response:
        def add(form: Any) -> None:
            # All are read before the first is registered: half a list would be hard to notice.
            for fault in [Fault.read(part) for part in (form if isinstance(form, list) else [form])]:
                self._emulator.faults.add(fault)

        return await self._do(request, add) or await self.faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._emulator.faults.clear()
        return await self.faults(request)

    async def settings(self, request: Request) -> Response:
        settings = self._emulator.settings
        return JSONResponse(
            {
                "keys": list(settings.keys),
                "credits": str(settings.credits),
                "duration": list(settings.duration),
                "rate_limit": settings.rate_limit,
                "fail_rate": settings.fail_rate,
                "seed": settings.seed,
                "files_url": settings.files_url,
                "prices": {tier: str(price) for tier, price in settings.prices.items()},
                "image_life": settings.image_life,
            }
        )

    async def change_settings(self, request: Request) -> Response:
        def change(form: Any) -> None:
            if not isinstance(form, dict):
                raise ValueError(f"{form!r} is not an object of settings.")
            self._emulator.change(form)

        return await self._do(request, change) or await self.settings(request)

    async def reset(self, request: Request) -> Response:
        self._emulator.reset()
        return await self.books(request)

    async def _do(self, request: Request, action: Callable[[Any], None]) -> Response | None:
        """Do it with the request's JSON; None when that went well, else the refusal."""
        try:
            action(json.loads(await request.body()))
        except (TypeError, ValueError, RecursionError) as error:
            return Response(error_body("invalid_request", str(error)), 400, media_type=JSON)
        return None
