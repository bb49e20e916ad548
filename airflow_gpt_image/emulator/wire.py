"""Answers that a well-behaved server never sends: dripping, padded, cut off, reset, not HTTP at all.

They are ASGI responses like any other. What ASGI can't say (drop the connection now) is said to the
transport, which the server puts into the scope; see ``server.py``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TRANSPORT: Final = "gpt_image.transport"
"""Name in the ASGI scope of the connection's ``asyncio.Transport``."""

# SO_LINGER on, for 0 seconds: closing discards what is unsent and answers RST instead of FIN.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Pieces(Response):
    """A body sent piece by piece, its whole length announced.

    :param pieces: the body.
    :param length: bytes in all pieces.
    :param pause: seconds before each piece.
    """

    def __init__(self, pieces: Iterable[bytes], length: int, pause: float, **response: Any) -> None:
        super().__init__(**response)
        self._pieces = pieces
        self._pause = pause
        self.headers["content-length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(scope)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            # Also without a pause the loop must get its turn, or a huge body would stop everybody else.
            await asyncio.sleep(self._pause)
            if transport.is_closing():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Cut(Response):
    """The first half of a body, the whole length announced, and then the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        _transport(scope).close()
        await _closed(receive)


class Dropped(Response):
    """No answer: the connection is closed.

    :param instead: bytes to send first, as they are.
    :param reset: with RST instead of FIN.
    """

    def __init__(self, *, instead: bytes = b"", reset: bool = False) -> None:
        super().__init__()
        self._instead = instead
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(scope)
        if self._reset:
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
            transport.abort()
        else:
            transport.write(self._instead)
            transport.close()
        await _closed(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport | None = scope.get(TRANSPORT)
    if transport is None:
        raise RuntimeError("This fault needs the connection itself; run the emulator with EmulatorServer.")
    return transport


async def _closed(receive: Receive) -> None:
    # Returning earlier, uvicorn would find a request without an answer, send a 500 of its own and log an
    # error.
    while (await receive())["type"] != "http.disconnect":
        pass
