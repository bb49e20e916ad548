"""Write values and foreign texts into messages: short, and without what signed addresses give away."""

from __future__ import annotations

import re
from typing import Final

_MAX_LINE_CHARACTERS: Final = 500
# More than any message shows of a text.
_MAX_QUOTED_CHARACTERS: Final = 50_000


def _in_any_form(character: str) -> str:
    """Return a pattern for a character and its escapes in addresses, HTML and JSON, also repeated ones."""
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


def redact_queries(text: str) -> str:
    """Replace the queries of all addresses in a text: whoever has a signed address can read the object.

    It takes time in proportion to the text, which may be a response of anybody's.
    """
    return _SIGNATURE.sub(r"\1***", _ADDRESS.sub(_redact_query, text))


def _redact_query(address: re.Match[str]) -> str:
    mark = _QUESTION_MARK.search(address[0])
    if mark is None:
        return address[0]
    query = address[0][mark.end() :]
    # What closes a quotation is not the address's.
    secret = query.rstrip("'\\,;.)]}")
    return f"{address[0][: mark.end()]}***{query[len(secret) :]}" if secret else address[0]


def quote(value: object, limit: int = 80) -> str:
    """Return a value as an error message shows it: its repr, without the queries of addresses.

    It is cut, so that a whole prompt doesn't land in a log; a long text also before it is looked through, for
    it may be megabytes, in a hundred thousand rows.
    """
    if isinstance(value, str) and len(value) > _MAX_QUOTED_CHARACTERS:
        return f"{redact_queries(repr(value[:_MAX_QUOTED_CHARACTERS]))[:limit]}… ({len(value):,} characters)"
    try:
        text = redact_queries(repr(value))
    except ValueError:  # an integer with thousands of digits
        text = f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def quote_path(path: object) -> str:
    """Return the path or address of a file for a message: a cut one helps nobody."""
    return quote(path, 500)


def quote_url(url: str) -> str:
    """Return an address for a message: without its query, which may hold a signature."""
    return quote(url.partition("?")[0], 200)


def single_line(value: object) -> str | None:
    """Return a foreign text as a log takes it, short and printable; None for anything that is no text."""
    if not isinstance(value, str) or not value.strip():
        return None
    words = redact_queries(" ".join(value.split()))
    line = "".join(character if character.isprintable() else "�" for character in words)
    return line if len(line) <= _MAX_LINE_CHARACTERS else f"{line[:_MAX_LINE_CHARACTERS]}…"
