"""Reading the body of a submit, as strictly as the document can be read.

An emulator that is more lenient than the API lets a mistake through to where it costs money; one that is
stricter fails a test. So everything the document doesn't name is refused: unknown fields, null, repeated
names, NaN. What is checked here is the JSON; the rules for the values are :class:`ImageRequest`'s.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, NoReturn

from airflow_gpt_image.api.models import MODEL, ImageRequest
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.emulator.error_table import RefusalError
from airflow_gpt_image.errors import InvalidRequestError

_INPUT_TYPES: Final[dict[str, tuple[type, str]]] = {
    "prompt": (str, "a string"),
    "image_urls": (list, "an array of strings"),
    "aspect_ratio": (str, "a string"),
    "resolution": (str, "a string"),
    "nsfw_checker": (bool, "a boolean"),
}


class Submission(NamedTuple):
    """A valid submit: the ``input`` object as it came, and the same as a checked request."""

    input: dict[str, Any]
    request: ImageRequest


def read_submission(content_type: str | None, body: bytes) -> Submission:
    """The submission in a request body.

    :raises RefusalError: ``invalid_request`` or ``model_not_found``, with the message the client gets.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        _refuse(f"Content-Type must be application/json, not {content_type!r}.")
    fields = _read_object(body)
    _check_names(fields, ("model", "input", "callback_url"), "")
    _check_model(fields)
    inputs = _required(fields, "input", dict, "an object")
    _check_names(inputs, tuple(_INPUT_TYPES), "input.")
    for name, (kind, article) in _INPUT_TYPES.items():
        _typed(inputs, name, kind, article, "input.")
    _typed(fields, "callback_url", str, "a string", "")
    try:
        request = ImageRequest(**inputs, callback_url=fields.get("callback_url"))
    except InvalidRequestError as error:
        told = [f"'{field}': {' '.join(message.splitlines())}" for field, message in error.problems]
        _refuse(" ".join(told) or error.message)
    for name in ("aspect_ratio", "resolution"):
        # A request takes what people write, such as 2K; the document knows one way to write it.
        if name in inputs and inputs[name] != getattr(request, name):
            _refuse(f"'{name}': {quote(inputs[name])} is written {getattr(request, name)!r}.")
    return Submission(inputs, request)


def _refuse(message: str) -> NoReturn:
    raise RefusalError("invalid_request", message)


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(f"The body is not valid JSON: {error}.")
    if not isinstance(fields, dict):
        _refuse(f"The body must be a JSON object, not {quote(fields)}.")
    return fields


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two equal names counts is up to the parser; the one that is paid for must not be.
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is given twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_names(fields: dict[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for name in fields:
        if name not in known:
            _refuse(f"{quote(prefix + name)} is not a parameter; one of {', '.join(known)}.")


def _check_model(fields: dict[str, Any]) -> None:
    model = _required(fields, "model", str, "a string")
    if model != MODEL:
        raise RefusalError("model_not_found", f"Model {quote(model)} does not exist or is inactive.")


def _required(fields: dict[str, Any], name: str, kind: type, article: str) -> Any:
    if name not in fields or fields[name] == "":
        _refuse(f"'{name}' is required.")
    return _typed(fields, name, kind, article, "")


def _typed(fields: dict[str, Any], name: str, kind: type, article: str, prefix: str) -> Any:
    if name in fields and not isinstance(fields[name], kind):
        _refuse(f"'{prefix}{name}' must be {article}, not {quote(fields[name])}.")
    return fields.get(name)
