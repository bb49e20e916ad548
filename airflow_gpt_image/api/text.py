"""Take foreign texts in, and write values into messages: storable, short, and without what signed addresses
give away.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import NoneType
from typing import Final

_MAX_LINE_CHARACTERS: Final = 500
# More than any message shows of a text.
_MAX_QUOTED_CHARACTERS: Final = 5_000

REDACTED_QUERY: Final = "?***"
"""What stands in place of an address's query."""


def _in_any_form(character: str) -> str:
    """Return a pattern for a character and its escapes in addresses, HTML and JSON, also repeated ones."""
    number = ord(character)
    plain, address = rf"\\{{0,8}}{re.escape(character)}", f"%(?:25){{0,8}}{number:02x}"
    return rf"(?:{plain}|{address}|&#(?:{number}|x{number:x});|\\{{1,8}}u{number:04x})"


# A login without a scheme, as people type a proxy's: looked for where a word begins, not at all its letters.
_LOGIN: Final = re.compile(r"(?<![^\s'\"/:@])[^\s'\"/:@]++:(?!//)[^\s'\"@]{1,200}@(?=[\w\[])")
_WORD: Final = re.compile(r"[A-Za-z0-9.:-]{0,80}")

# A query may follow, which is never shown.
_NO_LOGIN: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?:\[[0-9A-Fa-f:.]*\]|[\w .,;*~<>=+$-]*)(?::[0-9]{0,5})?"
    r"(?:/[\w .,;*~<>=+$/-]*)?(?:(?<!:)\?.*)?",
    re.DOTALL,
)

# What comes before an address's path; and a colon in it that begins a password and no port.
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_PASSWORD: Final = re.compile(r"[^:\[]*:(?!\d{0,5}['\\]?$)")
_QUESTION_MARK: Final = re.compile(_in_any_form("?"), re.IGNORECASE)
_ADDRESS: Final = re.compile(
    rf"{_in_any_form(':')}{_in_any_form('/')}{_in_any_form('/')}[^\s\"<>]*", re.IGNORECASE
)
# Of an address that was cut or taken apart.
_SIGNATURE: Final = re.compile(
    r"((?:Signature|Credential|Security-Token|AWSAccessKeyId|GoogleAccessId|(?:(?<![a-z])|(?<=3f)|(?<=003f))sig)"
    rf"{_in_any_form('=')})[^\s\"'<>&\\]+",
    re.IGNORECASE,
)


def redact_queries(text: str) -> str:
    """Replace the queries of all addresses in a text, and the users and passwords before their hosts.

    Whoever has a signed address can read the object.

    It takes time in proportion to the text, which may be a response of anybody's.
    """
    return _SIGNATURE.sub(r"\1***", _ADDRESS.sub(_redact_address, text))


def redact_beginning(text: str) -> str:
    """Return the beginning of a text, more than is ever shown of one, as :func:`redact_queries` does.

    A megabyte of a foreign text would hold up an event loop.
    """
    return redact_queries(text[:_MAX_QUOTED_CHARACTERS])


def _redact_address(found: re.Match[str]) -> str:
    address = _redact_user(found[0])
    mark = _QUESTION_MARK.search(address)
    if mark is None:
        return address
    query = address[mark.end() :]
    # What closes a quotation is not the address's.
    secret = query.rstrip("'\\,;.)]}")
    return f"{address[: mark.end()]}***{query[len(secret) :]}" if secret else address


def _redact_user(address: str) -> str:
    """Replace a user with a password before a host; a slash in a password should be encoded, and may not be.

    A user alone stays: it is a connection's id, as in ``s3://conn_id@bucket``.
    """
    begin, slashes, rest = address.partition("//")
    authority = _AUTHORITY.match(rest)
    assert authority is not None, "it matches nothing, too"
    end = authority[0].rfind("@")
    if end >= 0 and ":" not in authority[0][:end]:
        return address
    if end < 0 and _PASSWORD.match(authority[0]):
        end = rest.rfind("@")
    return f"{begin}{slashes}***{rest[end:]}" if end >= 0 else address


def storable(text: str) -> str:
    """Return a text as any database takes it: without half a surrogate pair, and without NUL.

    PostgreSQL refuses both. Either becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "�")


def bounded(text: str) -> str:
    """Return a foreign text as it is kept: storable, at most 500 characters, no queries of addresses."""
    kept = storable(redact_beginning(text))
    whole = len(text) <= _MAX_QUOTED_CHARACTERS and len(kept) <= _MAX_LINE_CHARACTERS
    return kept if whole else f"{kept[: _MAX_LINE_CHARACTERS - 1]}…"


def quote(value: object, limit: int = 80) -> str:
    """Return a value as an error message shows it: its repr, without the queries of addresses, and logins.

    It is cut, so that a whole prompt doesn't land in a log; a long one also before it is looked through, for
    it may be megabytes, in a hundred thousand rows.
    """
    is_long = isinstance(value, str) and len(value) > _MAX_QUOTED_CHARACTERS
    try:
        text = repr(value[:_MAX_QUOTED_CHARACTERS] if is_long else value)  # type: ignore[index]
    except ValueError:  # an integer with thousands of digits
        text = f"a {type(value).__name__} too long to be shown"
    whole = len(value) if is_long else len(text)  # type: ignore[arg-type]
    shown = _LOGIN.sub("***@", redact_queries(text[:_MAX_QUOTED_CHARACTERS]))
    if whole <= _MAX_QUOTED_CHARACTERS:
        whole = len(shown)
    return shown if whole <= limit else f"{shown[:limit]}… ({whole:,} characters)"


def quote_path(path: object) -> str:
    """Return the path or address of a file for a message: a cut one helps nobody."""
    return quote(path, 500)


def quote_setting(value: object) -> str:
    """Return a connection's value for a message, if no text in it can be a login.

    People type a proxy's login into any field and in any form, so what may be shown is listed: words, paths,
    and addresses whose only colons are a scheme's and a port's.
    """
    left: list[object] = [value]
    while left:
        item = left.pop()
        if isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            left += item
        elif not isinstance(item, (int, float, NoneType)) and not _NO_LOGIN.fullmatch(str(item)):
            return "a value that is not shown, for it may hold a password,"
    return quote_path(value)


def quote_url(url: str) -> str:
    """Return an address for a message: without its query, which may hold a signature."""
    return quote(url.partition("?")[0], 200)


def quote_host(url: str) -> str:
    """Return where an address leads for a message: without its path, too, which may be as good as a key."""
    scheme, separator, rest = url.partition("://")
    host = re.split(r"[/?#]", rest)[0] if separator else ""
    if "@" in url or not (separator or _WORD.fullmatch(url)):
        return "An address that is not shown"
    return f"{quote(f'{scheme}{separator}{host}')}{' (its path is not shown)' if separator else ''}"


class QueryFilter(logging.Filter):
    """Keep the queries of addresses out of the logs of httpx, which tell them whole."""

    LOGGERS: Final = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "proxy", "socks")))

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, without them."""
        record.msg, record.args = redact_queries(record.getMessage()), ()
        return True


def single_line(value: object) -> str | None:
    """Return a foreign text as a log takes it, short and printable; None for anything that is no text."""
    if not isinstance(value, str) or not value.strip():
        return None
    words = " ".join(value.split())
    line = "".join(character if character.isprintable() else "�" for character in redact_beginning(words))
    whole = len(words) <= _MAX_QUOTED_CHARACTERS and len(line) <= _MAX_LINE_CHARACTERS
    return line if whole else f"{line[:_MAX_LINE_CHARACTERS]}…"
