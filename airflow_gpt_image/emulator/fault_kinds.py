"""Every kind of fault there is: where it can happen, the value it takes, what it does. One table; help is
made of it.

Besides these, a kind can be a code of the error table (``upstream_error``) or an HTTP status (``503``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from airflow_gpt_image.api.addresses import check_url
from airflow_gpt_image.api.sizes import parse_size
from airflow_gpt_image.emulator.error_table import ROWS

PLACES: Final[dict[str, str]] = {
    "submit": "POST /v1/images/generations",
    "get": "GET /v1/tasks/{id}",
    "credits": "GET /v1/credits",
    "file": "GET /files/images/{id}.png",
    "callback": "the POST to callback_url",
    "generation": "what becomes of an accepted submit",
}

_ANY: Final = ("submit", "get", "credits", "file")
_JSON: Final = ("submit", "get", "credits")
_REQUIRED: Final = object()

FORMS: Final = ("error", "type", "envelope", "page")
"""What a gateway's answer can look like: three kinds of JSON, and HTML."""

REDRAWN: Final = ("wrong_size", "jpeg", "webp")
"""Kinds for which the image is drawn again."""


class Kind(NamedTuple):
    """A row of the table.

    :param places: where it can be asked for.
    :param meaning: what happens, in a sentence; ``{value}`` stands for its value.
    :param read: reads the value; None takes no value.
    :param default: the value when none is given.
    :param accepted: for a submit: whether it is accepted and charged, unless the fault says otherwise. What
        comes instead of the proper answer wasn't; what damages the proper answer was.
    :param completed: for a get: it waits for a generation that is completed.
    :param earlier: for a submit: it waits for one that has so many before it as its value says.
    :param beforehand: for a callback: it is asked for when the submit is accepted, not at the end.
    """

    places: tuple[str, ...]
    meaning: str
    read: Callable[[Any], Any] | None = None
    default: Any = _REQUIRED
    accepted: bool = False
    completed: bool = False
    earlier: bool = False
    beforehand: bool = False

    def value(self, value: Any) -> Any:
        """The value, checked.

        :raises ValueError: with the rule it breaks.
        """
        if self.read is None:
            if value is not None:
                raise ValueError(f"it takes no value, not {value!r}")
            return None
        if value is None:
            if self.default is _REQUIRED:
                raise ValueError("it needs a value")
            return self.default
        return self.read(value)


def seconds(value: Any) -> float:
    """A time that can be waited for: 0 or more, finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number of seconds") from None
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a number of seconds, 0 or more")
    return number


def count(value: Any) -> int:
    """A whole number, 0 or more."""
    text = str(value)
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{value!r} is not a whole number, 0 or more")
    return int(text)


def _earlier(value: Any) -> int:
    number = count(value)
    if number < 1:
        raise ValueError(f"{value!r} is not a number of submits, 1 or more")
    return number


def _images(value: Any) -> int:
    number = count(value)
    if not 1 <= number <= 100:
        raise ValueError(f"{value!r} is not a number of images, 1 to 100")
    return number


def status(value: Any, lowest: int = 200, highest: int = 599) -> int:
    """A number that can stand as an HTTP status."""
    number = count(value)
    if not lowest <= number <= highest:
        raise ValueError(f"{value!r} is not a status, {lowest} to {highest}")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def header(value: Any) -> str:
    """A text that can stand in an HTTP header."""
    text = str(value)
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError(f"{value!r} can't stand in a header; printable ASCII can")
    return text


def _url(value: Any) -> str:
    return header(check_url(_text(value)))


def _stage(value: Any) -> str:
    if value not in ("pending", "processing"):
        raise ValueError(f"{value!r} is not a stage; pending or processing")
    return str(value)


def _size(value: Any) -> str:
    size = parse_size(value) if isinstance(value, str) else None
    # Drawing needs a byte per pixel: a slip of the finger must not take the machine's memory.
    if size is None or max(size) > 8192:
        raise ValueError(f"{value!r} is not a pixel size such as 640x480, at most 8192 each way")
    return str(size)


KINDS: Final[dict[str, Kind]] = {
    # Instead of the proper answer.
    "close": Kind(_ANY, "the connection is closed without an answer"),
    "reset": Kind(_ANY, "the connection is reset (RST) without an answer"),
    "not_http": Kind(_ANY, "what comes back isn't HTTP, and the connection is closed"),
    "html": Kind(_ANY, "200 with an HTML page, as a login page of a proxy"),
    "empty": Kind(_ANY, "200 with nothing in it"),
    "garbage": Kind(_ANY, "200 with bytes that are no text"),
    "not_object": Kind(_JSON, "200 with a JSON list instead of an object"),
    "envelope": Kind(_JSON, "HTTP 200 with the envelope's code {value} and no data", count, 500),
    "redirect": Kind(_ANY, "307 to {value} (another status with ;status=)", _url),
    "gateway": Kind(
        _JSON,
        "a gateway's answer to a request that the API has carried out: {value}, as JSON of the gateway's own "
        "(other JSON or a page with ;form=, under another HTTP status with ;status=); a submit is charged",
        status,
        504,
        accepted=True,
    ),
    # The proper answer, late or damaged.
    "lost": Kind(("submit",), "accepted and charged; then the connection is closed", accepted=True),
    "late": Kind(
        (*_ANY, "callback"),
        "the proper answer, {value} seconds late (a submit is charged at once)",
        seconds,
        accepted=True,
    ),
    "late_accept": Kind(
        ("submit",), "nothing for {value} seconds; only then charged and answered", seconds, accepted=True
    ),
    "drip": Kind(_ANY, "the proper answer in small pieces over {value} seconds", seconds, accepted=True),
    "truncated": Kind(_ANY, "half of the proper answer, then the connection is closed", accepted=True),
    "broken_json": Kind((*_JSON, "callback"), "half of the proper JSON, as if it were all", accepted=True),
    "huge": Kind(_ANY, "the proper answer followed by {value} MB of padding", count, 20, accepted=True),
    "extra": Kind(_JSON, "the proper answer with fields that nobody knows", accepted=True),
    "missing_id": Kind(("submit",), "accepted and charged; the answer has no taskId", accepted=True),
    "junk_id": Kind(
        ("submit",), "accepted and charged; the taskId is {value}", _text, "../../v1/credits", accepted=True
    ),
    "repeated_id": Kind(
        ("submit",),
        "accepted and charged under an id of its own; the answer names the id of the submit {value} before "
        "it (with ;match=: of those that match)",
        _earlier,
        1,
        accepted=True,
        earlier=True,
    ),
    "wrong_id": Kind(("get", "callback"), "the id of another generation"),
    "unknown_status": Kind(("get",), "the status is {value}", _text, "queued"),
    "no_urls": Kind(("get",), "completed, without an address", completed=True),
    "signed": Kind(
        ("get",),
        "completed, with the images at addresses that are signed with {value}",
        header,
        "emulated",
        completed=True,
    ),
    "foreign_url": Kind(("get",), "completed, with the image at {value}", _text, completed=True),
    # Images.
    "wrong_type": Kind(("file",), "the image, with content type {value}", header, "application/octet-stream"),
    "wrong_size": Kind(("file",), "an image of {value} pixels; half of the right size by default", _size, ""),
    "jpeg": Kind(("file",), "a JPEG under the .png address"),
    "webp": Kind(("file",), "a WebP under the .png address"),
    "corrupt": Kind(("file",), "the image with bytes changed in the middle"),
    # The generation itself.
    "failed": Kind(("generation",), "fails with code {value}, and is refunded", _text, "upstream_error"),
    "never": Kind(("generation",), "never leaves {value}", _stage, "processing"),
    "takes": Kind(("generation",), "takes {value} seconds", seconds),
    "unseen": Kind(("generation",), "404 task_not_found for the first {value} seconds", seconds),
    "forgotten": Kind(("generation",), "404 task_not_found from {value} seconds on", seconds, 0),
    "images": Kind(("generation",), "has {value} images", _images),
    # Callbacks.
    "none": Kind(("callback",), "isn't sent"),
    "twice": Kind(("callback",), "is sent twice"),
    "deliveries": Kind(("callback",), "is sent {value} times, one after the other", count, 5),
    "early": Kind(
        ("callback",), "is also sent {value} seconds before the end", seconds, 1.0, beforehand=True
    ),
    "forged": Kind(("callback",), "is sent with a wrong X-Webhook-Signature"),
    "lie": Kind(("callback",), "says failed of a completed generation, and the other way round"),
}

_OF_STATUS: Final = {row.status: code for code, row in reversed(ROWS.items())}


def code_of(kind: str, where: str) -> str | None:
    """The row of the error table a kind means in this place; None when it isn't one.

    The file host isn't the API: its errors have no code.
    """
    if where not in _JSON:
        return None
    if kind in ROWS:
        return kind
    if kind == "404":
        return "model_not_found" if where == "submit" else "task_not_found"
    return _OF_STATUS.get(int(kind)) if kind.isdigit() else None


def is_status(kind: str, where: str) -> bool:
    """Whether a kind is an HTTP status that can be asked for in this place."""
    return where in _ANY and kind.isascii() and kind.isdigit() and 200 <= int(kind) <= 599


def is_error(kind: str, where: str) -> bool:
    """Whether a kind is a code of the error table or an HTTP status, which have options of their own."""
    return code_of(kind, where) is not None or is_status(kind, where)


def kinds_of(where: str) -> list[str]:
    """The names that can be asked for in a place, statuses and codes of the error table left out."""
    return [name for name, kind in KINDS.items() if where in kind.places]


def described() -> str:
    """The whole table as text, for ``--help``."""
    lines = ["where:"]
    lines += [f"  {place:<12}{meaning}" for place, meaning in PLACES.items()]
    lines += ["", "kinds in submit, get and credits:"]
    lines += [f"  {code:<24}{row.status}" for code, row in ROWS.items()]
    lines += ["", "kinds in submit, get, credits and file:"]
    lines += [f"  {'200 … 599':<24}this status: the row of the table above, else a proxy's HTML page", ""]
    lines.append("further kinds:")
    for name, kind in KINDS.items():
        usage = name if kind.read is None else f"{name}=…" if kind.default is _REQUIRED else f"{name}[=…]"
        default = "" if kind.read is None or kind.default in (_REQUIRED, "") else f" (default {kind.default})"
        places = "any" if kind.places == _ANY else ", ".join(kind.places)
        lines.append(f"  {usage:<20}[{places}] {kind.meaning.format(value='…')}{default}")
    return "\n".join(lines)
