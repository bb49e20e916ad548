"""Notifying callback addresses when a generation ends, as the API does: one POST, no second attempt.

The API document tells of no signature. With a ``webhook_secret`` each is signed as sibling APIs do it:
``X-Webhook-Timestamp``, and in ``X-Webhook-Signature`` Base64 of the HMAC-SHA256 of ``<id>.<timestamp>``.

Only addresses on this machine are called. A DAG copied from production carries its real callback address, and
a demo must not tell it of images that don't exist.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import hmac
import json
import logging
import uuid
from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow_gpt_image.emulator.books import Books
from airflow_gpt_image.emulator.error_table import ROWS
from airflow_gpt_image.emulator.faults import Fault, FaultRegister
from airflow_gpt_image.emulator.generations import Generation
from airflow_gpt_image.emulator.loopback import is_loopback

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger(__name__)

# How often the clock is looked at while callbacks are due: an injected clock can jump at any time.
_TICK: Final = 0.02
_TIMEOUT: Final = 5.0


class CallbackSender:
    """Waits for the generations that have a callback address, and sends.

    :param now: seconds since 1970.
    :param payload: what a GET would answer about a generation at this moment.
    :param secret: gives what they are signed with; None: they aren't.
    """

    def __init__(
        self,
        now: Callable[[], float],
        payload: Callable[[Generation], dict[str, Any]],
        secret: Callable[[], str | None],
    ) -> None:
        self._now = now
        self._payload = payload
        self._secret = secret
        self._due: list[tuple[float, int, bool, Generation, Books, FaultRegister]] = []
        self._order = 0
        self._waiting: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    def expect(self, generation: Generation, books: Books, faults: FaultRegister) -> None:
        """Send when the generation has ended; to an address elsewhere only a note in the books is made."""
        url = generation.request.callback_url
        if url is None:
            return
        if not is_loopback(urlsplit(url).hostname):
            _note(books, generation, "not sent: not loopback")
            return
        if isfinite(generation.finished_at):
            early = faults.take("callback", generation.prompt, beforehand=True)
            if early is not None:
                at = max(generation.accepted_at, generation.finished_at - early.value)
                self._push(at, True, generation, books, faults)
            self._push(generation.finished_at, False, generation, books, faults)
            if self._waiting is None or self._waiting.done():
                self._waiting = asyncio.create_task(self._wait())

    def _push(
        self, at: float, early: bool, generation: Generation, books: Books, faults: FaultRegister
    ) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, early, generation, books, faults))

    def forget(self) -> None:
        """Send nothing of what is due; what is being sent goes on."""
        self._due.clear()

    async def close(self) -> None:
        """Stop, and end what is being sent."""
        self.forget()
        tasks = [*self._sending, *([self._waiting] if self._waiting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _wait(self) -> None:
        while self._due:
            while self._due and self._due[0][0] <= self._now():
                _, _, early, generation, books, faults = heapq.heappop(self._due)
                body = json.dumps(self._payload(generation)).encode()
                sending = asyncio.create_task(
                    self._post(generation, books, body) if early else self._send(generation, books, faults)
                )
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)
            await asyncio.sleep(_TICK)

    async def _send(self, generation: Generation, books: Books, faults: FaultRegister) -> None:
        fault = faults.take("callback", generation.prompt)
        if fault is not None:
            _log.info("callback of %s meets the fault %s", generation.id, fault)
            if fault.kind == "none":
                _note(books, generation, f"not sent: fault {fault}")
                return
            await asyncio.sleep(fault.delay + (fault.value if fault.kind == "late" else 0))
        body = _body(self._payload(generation), fault)
        times = {"twice": 2, "deliveries": fault.value}.get(fault.kind, 1) if fault is not None else 1
        for _ in range(times):
            forged = fault is not None and fault.kind == "forged"
            await self._post(generation, books, body, forged=forged)

    async def _post(self, generation: Generation, books: Books, body: bytes, *, forged: bool = False) -> None:
        import httpx

        if self._client is None:
            # Without the environment: its proxy would take the callback to another machine.
            self._client = httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT)
        assert generation.request.callback_url is not None
        headers = {"content-type": "application/json", **self._signed(generation, forged=forged)}
        try:
            answer = await self._client.post(generation.request.callback_url, content=body, headers=headers)
        except httpx.HTTPError as error:
            _note(books, generation, f"failed: {type(error).__name__}")
        else:
            _note(books, generation, "sent", answer.status_code)

    def _signed(self, generation: Generation, *, forged: bool) -> dict[str, str]:
        secret = "another secret" if forged else self._secret()
        if secret is None:
            return {}
        timestamp = str(int(self._now()))
        digest = hmac.digest(secret.encode(), f"{generation.id}.{timestamp}".encode(), hashlib.sha256)
        return {"x-webhook-timestamp": timestamp, "x-webhook-signature": base64.b64encode(digest).decode()}


def _body(payload: dict[str, Any], fault: Fault | None) -> bytes:
    match fault.kind if fault else None:
        case "wrong_id":
            payload = {**payload, "id": str(uuid.uuid4())}
        case "lie":
            payload = _lie(payload)
        case "broken_json":
            body = json.dumps(payload).encode()
            return body[: len(body) // 2]
    return json.dumps(payload).encode()


def _lie(payload: dict[str, Any]) -> dict[str, Any]:
    told = {name: payload[name] for name in ("id", "model", "created_at")}
    if payload["status"] == "completed":
        error = {"code": "upstream_error", "message": ROWS["upstream_error"].message}
        return {**told, "status": "failed", "error": error}
    return {**told, "status": "completed", "output": {"urls": [], "metadata": {}}}


def _note(books: Books, generation: Generation, outcome: str, status: int | None = None) -> None:
    url = generation.request.callback_url
    books.callbacks.append({"task_id": generation.id, "url": url, "outcome": outcome, "status": status})
    _log.info("callback of %s: %s", generation.id, outcome)
