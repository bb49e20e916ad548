"""Read JSON of anybody's: what nobody else could read or write again is left out, and the rest is kept."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

# Of an API's answer nothing is nested as deeply, and no number has as many digits.
_MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 100
_JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)


def parse_json(text: str) -> tuple[Any, bool]:
    """Return the JSON value that a text begins with, and whether something follows it.

    Numbers and depths that nobody else could read or write again are None in it.

    :raises ValueError: when the text doesn't begin with a whole JSON value.
    """
    shallow = _without_depths(text.strip())
    value, end = _DECODER.raw_decode(shallow)
    return value, end < len(shallow)


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS else None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_finite, parse_constant=lambda _: None)


def _without_depths(text: str) -> str:
    """Return a JSON text with null in place of whatever is nested too deeply for a parser's stack."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return text
    kept, depth, begin = [], 0, 0
    for token in _JSON_TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            if depth == _MAX_DEPTH:
                kept.append(text[begin : token.start()])
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
            if depth == _MAX_DEPTH:
                kept.append("null")
                begin = token.end()
    rest = text[begin:] if depth <= _MAX_DEPTH else ""  # else it doesn't end, and is no JSON
    return "".join([*kept, rest])
