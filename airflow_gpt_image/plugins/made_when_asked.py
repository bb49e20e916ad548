"""Load what a plugin serves at its first request: every process of Airflow imports plugins, tasks' too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MadeWhenAsked:
    """
    An ASGI application that is made in a thread at its first request: that takes a while.

    :param module: has the function ``make_app``, which returns the application.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer."""
        if self._app is None:
            import asyncio

            app = await asyncio.get_running_loop().run_in_executor(None, self._make)
            self._app = self._app or app
        await self._app(scope, receive, send)

    def _make(self) -> Any:
        return import_module(self._module).make_app()
