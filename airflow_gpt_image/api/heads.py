"""Mend the heads of responses that the parser of HTTP would refuse: no header loses what is paid for.

A line that is no header, or one too long, is left out. Of lengths that contradict each other none is taken,
and the body ends where the connection does. Such a response is read, but a refusal in it proves nothing
(:attr:`Heads.mended`), and its connection is not used again.

What is not mended is the parser's to refuse, and then a submit is unknown and an image is fetched again: a
status line that isn't ``HTTP/1.x`` and three digits, a head without an end, and the heads of images that come
through a proxy, for its own word comes first there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_BEGIN: Final = b"HTTP/1."
_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"(HTTP/1\.[0-9]) ([0-9]{3})(?:[ \t][^\r\n]*)?\r?\n", re.DOTALL)
# What the parser takes, h11: a token, a colon, and neither NUL nor white space other than blanks and tabs;
# a line that begins with a blank goes on with the one before.
_LINES: Final = re.compile(rb"\r?\n(?![ \t])")
_LINE: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+:(?:[^\0\r\n\x0b\x0c]|\r?\n[ \t])*")
_WORDS: Final = re.compile(rb"[^\s,;]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,20}")
# The parser refuses a head of more than 100 KB.
_LONGEST_LINE: Final = 8 * 1024
_MOST_BYTES: Final = 64 * 1024


class Heads:
    """Take what comes over a connection; give it on, the head of the next response mended."""

    def __init__(self) -> None:
        self.mended = False
        self._awaited = False
        self._held = b""

    def expect(self) -> None:
        """Begin: what comes from now on is a response."""
        self._awaited, self._held = True, b""

    def next_of(self, receive: Callable[[], bytes]) -> bytes:
        """Return what can be given on next, of what is received."""
        while (data := self.take(receive())) is None:
            pass
        return data

    def take(self, data: bytes) -> bytes | None:
        """Return what can be given on; None: nothing yet. Empty bytes are the connection's end."""
        if not self._awaited:
            return data
        held, self._held = self._held + data, b""
        given = b""
        while (end := _END.search(held)) and (status := _STATUS.match(held)):
            given += self._mend(status, held[status.end() : end.start()])
            held = held[end.end() :]
            if not status[2].startswith(b"1") or status[2] == b"101":
                self._awaited = False
                return given + held
        if end or not data or held[: len(_BEGIN)] != _BEGIN[: len(held)]:
            self._awaited = False
            return given + held
        self._held = held
        return given or None

    def _mend(self, status: re.Match[bytes], head: bytes) -> bytes:
        """Return a head as it is, or what can be read of it."""
        lines = _LINES.split(head) if head else []
        kept = [line for line in lines if len(line) <= _LONGEST_LINE and _LINE.fullmatch(line)]
        lengths = [part for value in _values(kept, b"content-length") for part in value.split(b",")]
        codings = _values(kept, b"transfer-encoding")
        lengths_agree = len({part.strip() for part in lengths}) <= 1 and all(
            _LENGTH.fullmatch(part.strip()) for part in lengths
        )
        if kept == lines and len(head) <= _MOST_BYTES and lengths_agree and codings in ([], [b"chunked"]):
            return status[0] + head + (b"\r\n\r\n" if head else b"\r\n")
        self.mended = True
        framing = {b"transfer-encoding", b"connection", *([] if lengths_agree else [b"content-length"])}
        kept = [line for line in kept if line.partition(b":")[0].lower() not in framing]
        while sum(map(len, kept)) > _MOST_BYTES:
            kept.pop()
        if codings and b"chunked" in _WORDS.findall(codings[-1]):
            kept.append(b"transfer-encoding: chunked")
        return b"\r\n".join([status[1] + b" " + status[2], *kept, b"connection: close", b"", b""])


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    pairs = [line.partition(b":") for line in lines]
    return [value.strip().lower() for found, _, value in pairs if found.lower() == name]
