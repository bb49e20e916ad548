"""The receiver of callbacks as a plugin: Airflow imports it everywhere, so it loads nothing before a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from airflow.plugins_manager import AirflowPlugin

_PREFIX: Final = "/gpt-image-callbacks"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _MadeWhenAsked:
    """An ASGI application that is made in a thread at its first request: that takes a while."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            import asyncio

            app = await asyncio.get_running_loop().run_in_executor(None, _make_app)
            self._app = self._app or app
        await self._app(scope, receive, send)


def _make_app() -> Any:
    from airflow_gpt_image.plugins.callbacks.receiver import make_app

    return make_app()


class CallbacksPlugin(AirflowPlugin):
    """Receives what the API notifies of a generation's end, and wakes the task that waits for it."""

    name = "gpt_image_callbacks"
    fastapi_apps = [  # noqa: RUF012  # Airflow's base class has them so
        {"app": _MadeWhenAsked(), "url_prefix": _PREFIX, "name": "GPT Image callbacks"}
    ]
