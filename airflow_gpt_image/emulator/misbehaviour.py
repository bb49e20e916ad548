"""Carrying out a fault: from the proper answer, or instead of it, to what goes over the wire."""

from __future__ import annotations

import asyncio
import copy
import http.client
import itertools
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

from starlette.responses import Response

from airflow_gpt_image.api.sizes import Size, parse_size
from airflow_gpt_image.emulator.error_table import ROWS, error_body
from airflow_gpt_image.emulator.fault_kinds import KINDS, REDRAWN, code_of
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.wire import Cut, Dropped, Pieces

JSON: Final = "application/json"
_HTML: Final = "text/html; charset=utf-8"
_MEGABYTE: Final = 1_000_000
_DRIPS: Final = 20
# Those that only gateways use.
_GATEWAY_PHRASES: Final = {499: "Client Closed Request", 520: "Unknown Error", 524: "A Timeout Occurred"}

Redraw = Callable[[Size | None, str], Awaitable[bytes]]
"""Draw the same image again in another size (None keeps it) and format (``PNG``, ``JPEG``, ``WEBP``)."""


@dataclass(slots=True)
class Answer:
    """A proper answer before it goes out.

    :param payload: the JSON it carries; empty for an image.
    :param body: the same as bytes.
    :param redraw: of an image: how to get it in another form.
    :param size: of an image: its pixels.
    :param earlier: of a submit: the id of the earlier one that its fault means.
    """

    payload: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = JSON
    redraw: Redraw | None = None
    size: Size | None = None
    earlier: str | None = None

    @classmethod
    def of(cls, payload: dict[str, Any], *, earlier: str | None = None) -> Answer:
        return cls(payload, json.dumps(payload).encode(), earlier=earlier)

    def response(self) -> Response:
        return Response(self.body, media_type=self.content_type)


async def misbehave(
    fault: Fault, proper: Callable[[], Awaitable[Answer]], decoy: Answer | None, now: Callable[[], float]
) -> Response:
    """Answer as the fault has it.

    :param proper: makes the proper answer; for a submit, making it accepts and charges.
    :param decoy: of a submit that is not to be accepted: an answer that looks proper.
    :param now: seconds since 1970, for a Retry-After that is a date.
    """
    if fault.kind == "late_accept":
        await asyncio.sleep(fault.delay + fault.value)
        return (await (proper() if fault.books else _ready(decoy))).response()
    answer = await (proper() if decoy is None or fault.books else _ready(decoy))
    await asyncio.sleep(fault.delay)
    if fault.kind in KINDS and fault.kind != "gateway":
        return await _carried_out(fault, answer)
    response = _gateway(fault) if fault.kind == "gateway" else _error(fault)
    if fault.retry_after is not None:
        response.headers["retry-after"] = _retry_after(fault.retry_after, now)
    return response


async def _ready(answer: Answer | None) -> Answer:
    assert answer is not None
    return answer


def _error(fault: Fault) -> Response:
    code = code_of(fault.kind, fault.where)
    status = int(fault.kind) if fault.kind.isdigit() else ROWS[fault.kind].status
    if fault.body is not None:
        body, content_type = fault.body.encode(), _HTML if fault.body.lstrip().startswith("<") else JSON
    elif code is not None:
        body, content_type = error_body(code), JSON
    elif fault.where == "file":
        body, content_type = _storage_page(status), "application/xml"
    else:
        body, content_type = _page(f"{status} from a proxy"), _HTML
    if status in (204, 304):
        body = b""  # they have none, whatever was asked for
    return Response(body, status, media_type=fault.content_type or content_type)


def _gateway(fault: Fault) -> Response:
    # The forms are what proxies, load balancers and API gateways in front of an API were seen to answer.
    phrase = _GATEWAY_PHRASES.get(fault.value) or http.client.responses.get(fault.value, "Gateway error")
    forms: dict[str, dict[str, Any]] = {
        "error": {"error": {"code": str(fault.value), "message": phrase}},
        "type": {"error": {"type": "timeout"}},
        "envelope": {"code": fault.value, "msg": phrase},
    }
    status = fault.value if fault.status is None else fault.status
    if status in (204, 304):
        return Response(b"", status)
    form = fault.form or "error"
    if form == "page":
        return Response(_page(f"{fault.value} {phrase}"), status, media_type=_HTML)
    return Response(json.dumps(forms[form]), status, media_type=JSON)


def _retry_after(wanted: str, now: Callable[[], float]) -> str:
    kind, _, ahead = wanted.partition(":")
    if kind != "date":
        return wanted
    return formatdate(now() + float(ahead), usegmt=True)


def _page(title: str) -> bytes:
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>".encode()


def _storage_page(status: int) -> bytes:
    # As object stores answer for a signed address that has expired or a file that is gone.
    code = {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "InternalError")
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode()


async def _carried_out(fault: Fault, answer: Answer) -> Response:
    if fault.kind in REDRAWN:
        return await _redrawn(fault, answer)
    if fault.kind == "late":
        await asyncio.sleep(fault.value)
        return answer.response()
    return _told_otherwise(fault, answer) or _sent_otherwise(fault, answer)


def _sent_otherwise(fault: Fault, answer: Answer) -> Response:
    body, content_type = answer.body, answer.content_type
    match fault.kind:
        case "close" | "lost":
            return Dropped()
        case "reset":
            return Dropped(reset=True)
        case "not_http":
            return Dropped(instead=b"220 mail.example.com ESMTP\r\n\r\n")
        case "html":
            return Response(_page("Please log in"), media_type=_HTML)
        case "empty":
            return Response(b"", media_type=content_type)
        case "garbage":
            return Response(bytes(range(128, 256)), media_type=content_type)
        case "not_object":
            return Response(json.dumps([answer.payload]), media_type=JSON)
        case "envelope":
            return _json({"code": fault.value, "msg": "Something went wrong", "data": None})
        case "redirect":
            return Response(b"", fault.status or 307, headers={"location": fault.value})
        case "drip":
            step = -(-len(body) // _DRIPS)
            pieces = [body[start : start + step] for start in range(0, len(body), step)]
            return Pieces(pieces, len(body), fault.value / len(pieces), media_type=content_type)
        case "truncated":
            return Cut(body, media_type=content_type)
        case "broken_json":
            return Response(body[: len(body) // 2], media_type=content_type)
        case "huge":
            # White space after JSON and bytes after the end of a PNG change nothing: only the size is wrong.
            padding = itertools.repeat(b" " * _MEGABYTE, fault.value)
            length = len(body) + fault.value * _MEGABYTE
            return Pieces(itertools.chain([body], padding), length, 0.0, media_type=content_type)
        case "wrong_type":
            return Response(body, media_type=fault.value)
        case "corrupt":
            middle = len(body) // 2
            wrong = bytes(byte ^ 0xFF for byte in body[middle : middle + 64])
            return Response(body[:middle] + wrong + body[middle + 64 :], media_type=content_type)
    raise AssertionError(f"no way to carry out {fault}")


def _told_otherwise(fault: Fault, answer: Answer) -> Response | None:
    payload = answer.payload
    match fault.kind:
        case "missing_id":
            return _json({**payload, "data": {}})
        case "repeated_id":
            return _json({**payload, "data": {"taskId": answer.earlier}})
        case "junk_id":
            return _json({**payload, "data": {"taskId": fault.value}})
        case "wrong_id":
            return _json({**payload, "id": str(uuid.uuid4())})
        case "unknown_status":
            return _json({**payload, "status": fault.value})
        case "no_urls":
            return _json({**payload, "output": {**payload["output"], "urls": []}})
        case "signed":
            urls = [f"{url}?X-Amz-Signature={fault.value}" for url in payload["output"]["urls"]]
            return _json({**payload, "output": {**payload["output"], "urls": urls}})
        case "foreign_url":
            return _json({**payload, "output": {**payload["output"], "urls": [fault.value]}})
        case "extra":
            payload = copy.deepcopy(payload)
            for table in (payload, *(part for part in payload.values() if isinstance(part, dict))):
                table["x_new_field"] = {"nobody": ["knows", None, 1.5]}
            return _json(payload)
    return None


def _json(payload: dict[str, Any]) -> Response:
    return Answer.of(payload).response()


async def _redrawn(fault: Fault, answer: Answer) -> Response:
    assert answer.redraw is not None
    assert answer.size is not None
    size, form, content_type = None, "PNG", "image/png"
    if fault.kind == "wrong_size":
        size = parse_size(fault.value) or Size(answer.size.width // 2, answer.size.height // 2)
    else:
        form, content_type = fault.kind.upper(), f"image/{fault.kind}"
    return Response(await answer.redraw(size, form), media_type=fault.content_type or content_type)
