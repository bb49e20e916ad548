"""How values and foreign texts stand in messages: short, and without what signed addresses give away."""

from __future__ import annotations

import re
from typing import Final


def _in_any_form(character: str) -> str:
    """A pattern for a character as it is, and as addresses, HTML and JSON escape it, also more than once."""
    number = ord(character)
    plain, address = rf"\\{{0,8}}{re.escape(character)}", f"%(?:25){{0,8}}{number:02x}"
    return rf"(?:{plain}|{address}|&#(?:{number}|x{number:x});|\\{{1,8}}u{number:04x})"


_QUESTION_MARK: Final = re.compile(_in_any_form("?"), re.IGNORECASE)
_ADDRESS: Final = re.compile(
    rf"https?{_in_any_form(':')}{_in_any_form('/')}{_in_any_form('/')}[^\s\"<>]*", re.IGNORECASE
)
# Of an address that was cut or taken apart.
_SIGNATURE: Final = re.compile(
    r"((?:Signature|Credential|Security-Token|AWSAccessKeyId|GoogleAccessId|(?:(?<![a-z])|(?<=3f)|(?<=003f))sig)"
    rf"{_in_any_form('=')})[^\s\"'<>&\\]+",
    re.IGNORECASE,
)


def without_queries(text: str) -> str:
    """A text without the queries of the addresses in it: whoever has a signed one can read the object.

    It takes time in proportion to the text, which may be an answer of anybody's.
    """
    return _SIGNATURE.sub(r"\1***", _ADDRESS.sub(_without_query, text))


def _without_query(address: re.Match[str]) -> str:
    mark = _QUESTION_MARK.search(address[0])
    if mark is None:
        return address[0]
    query = address[0][mark.end() :]
    # What closes a quotation is not the address's.
    secret = query.rstrip("'\\,;.)]}")
    return f"{address[0][: mark.end()]}***{query[len(secret) :]}" if secret else address[0]


def shown(value: object, limit: int = 80) -> str:
    """A value as an error message shows it: its repr, cut so that a whole prompt doesn't land in a log, and
    without the queries of addresses.
    """
    try:
        text = without_queries(repr(value))
    except ValueError:  # an integer with thousands of digits
        text = f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
