"""The API that the waits are measured against: by hand on asyncio's protocols, so that it keeps up.

An id says when its generation began and how long it takes. Only what the document shows is answered: whole
seconds, some 400 bytes. Connections are kept. ``GET /stats`` tells what was counted.

``python -m tests.benchmarks.waiting_api 0.15`` takes 0.15 seconds for each answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from email.utils import formatdate
from typing import Any, ClassVar

IMAGE = "https://file.example.com/images/2026/04/05/" + "a" * 150 + ".png"


def id_of(number: int, begins: float, takes: float) -> str:
    """Return the id of a generation."""
    return f"{number}-{round(begins * 1000)}-{round(takes * 1000)}"


def ends_at(generation_id: str) -> float:
    """Return when a generation is finished, in seconds since 1970."""
    _, begins, takes = generation_id.split("-")
    return (int(begins) + int(takes)) / 1000


class Api(asyncio.Protocol):
    """One connection."""

    counts: ClassVar[dict[str, int]] = {"connections": 0, "requests": 0}
    takes: ClassVar[float] = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            answer = self._answer(head.split(b" ", 2)[1].decode())
            if self.takes:
                asyncio.get_running_loop().call_later(self.takes, self._transport.write, answer)
            else:
                self._transport.write(answer)

    def _answer(self, path: str) -> bytes:
        if path == "/stats":
            return _http(self.counts)
        self.counts["requests"] += 1
        self.counts["connections"] += not getattr(self, "_seen", False)
        self._seen = True
        generation_id = path.rpartition("/")[2]
        ends = ends_at(generation_id)
        document = {
            "id": generation_id,
            "status": "processing",
            "model": "gpt-image-2",
            "created_at": int(generation_id.split("-")[1]) // 1000,
        }
        if time.time() >= ends:
            document |= {"status": "completed", "completed_at": int(ends)}
            document |= {"output": {"urls": [IMAGE]}}
        if "/poke/" in path and time.time() < ends:  # as a sensor asks
            return _http(document, "404 Not Found")
        if "/batches/" in path:  # as OpenAI's API has it
            document["status"] = document["status"].replace("processing", "in_progress")
            document |= {"object": "batch", "endpoint": "/v1/responses", "input_file_id": "file-1"}
            document |= {"completion_window": "24h"}
        return _http(document)


def _http(document: object, status: str = "200 OK") -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ndate: {formatdate(usegmt=True)}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def serve() -> None:
    """Serve on a free port, which is printed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Api, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Be no benchmark of its own: :mod:`tests.benchmarks.waiting` starts it."""


if __name__ == "__main__":
    Api.takes = float(sys.argv[1])
    asyncio.run(serve())
