"""Unpack what a server compressed without being asked to. The bytes decide, not the header.

Servers and what stands before them send all kinds of words as Content-Encoding: a store's ``aws-chunked``, a
character set, ``none``; on bytes that are packed or on bytes that aren't. Neither JSON nor an image begins as
packed bytes do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import httpx

_HEAD: Final = 4
_PIECE: Final = 64 * 1024

_GZIP: Final = b"\x1f\x8b\x08"
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# How JSON and images begin. Deflate without zlib's header has no beginning of its own.
_PLAIN: Final = (b"{", b"[", b"\xef\xbb\xbf", b"\x89PNG", b"\xff\xd8\xff", b"RIFF")


class Unpacking:
    """Take bytes as they come, and pass them on: unpacked if they are gzip or deflate, else as they are.

    :param into: gets the bytes, in pieces of at most 64 KiB where they were packed.
    :param encoding: the Content-Encoding header.
    :param most_bytes: how many bytes may come, and how many each layer may become.
    :param too_large: makes the error to raise beyond that.
    :param layers: how often something may be packed, one in the other. Default 2.
    """

    def __init__(
        self,
        into: Callable[[bytes], object],
        encoding: str,
        *,
        most_bytes: int,
        too_large: Callable[[], Exception],
        layers: int = 2,
    ) -> None:
        self._into, self._encoding, self._layers = into, encoding, layers
        self._most_bytes, self._bytes_left, self._too_large = most_bytes, most_bytes, too_large
        self._head = b""
        self._decided = False
        self._inner: Unpacking | None = None

    def add(self, data: bytes) -> None:
        """Take the next bytes.

        :raises httpx.DecodingError: when they are packed and broken.
        """
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise self._too_large()
        if not self._decided:
            data = self._head + data
            if len(data) < _HEAD:
                self._head = data
                return
            self._decide(data)
        self._pass_on(data)

    def end(self) -> None:
        """Pass on what was held back; there is nothing more to come.

        :raises httpx.DecodingError: when what was packed is cut off.
        """
        if not self._decided:
            self._decide(self._head)
            self._pass_on(self._head)
        if self._inner is not None:
            if not self._packed.eof:
                raise httpx.DecodingError("the response is compressed, and cut off")
            self._inner.end()

    def _decide(self, head: bytes) -> None:
        self._decided = True
        window = _window(head, self._encoding) if self._layers else None
        if window is not None:
            self._packed = zlib.decompressobj(window)
            self._inner = Unpacking(
                self._into,
                "",
                most_bytes=self._most_bytes,
                too_large=self._too_large,
                layers=self._layers - 1,
            )

    def _pass_on(self, data: bytes) -> None:
        if self._inner is None:
            self._into(data)
            return
        while not self._packed.eof:  # what follows the end is left out
            try:
                piece = self._packed.decompress(data, _PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(f"the response is compressed, and broken: {error}") from None
            self._inner.add(piece)
            data = self._packed.unconsumed_tail
            # A full piece may be a part: more can come of the same bytes.
            if not data and len(piece) < _PIECE:
                return


def _window(head: bytes, encoding: str) -> int | None:
    """Return zlib's ``wbits`` for how something begins; None for what isn't packed."""
    if head.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    if head.startswith(_ZLIB):
        return zlib.MAX_WBITS
    if "deflate" in encoding.lower() and head and not head.lstrip().startswith(_PLAIN):
        return -zlib.MAX_WBITS
    return None
