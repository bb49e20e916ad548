"""Load what a plugin serves at its first request: every process of Airflow imports plugins, tasks' too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from threading import Lock
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
        # A page's first requests come together, and neither imports nor models are to be made side by side.
        self._lock = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer."""
        if self._app is None:
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self._make)
        await self._app(scope, receive, send)

    def _make(self) -> None:
        with self._lock:
            if self._app is None:
                self._app = import_module(self._module).make_app()
