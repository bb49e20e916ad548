"""The lines of a file of text, however it is compressed, encoded and ended; one at a time in memory."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, BinaryIO, Final, Protocol

from airflow_gpt_image.api.text import quote_path
from airflow_gpt_image.datasets.given import LONGEST_ROW, refusal

COMPRESSIONS: Final = (".gz", ".zst")

_CHUNK: Final = 1024 * 1024
# Of a compressed file: what is left of it is copied for each of its members, which can be tiny.
_PACKED: Final = 64 * 1024
# Unpacked; a file that isn't compressed has the size that it has.
_MOST_UNPACKED: Final = 1024 * 1024 * 1024
# Blank ones, most of them: of the others as many rows are taken as there are rows.
_MOST_LINES: Final = 10_000_000
# UTF-32 first: its mark begins as that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Reads(Protocol):
    """A stream that is read from its beginning to its end, and never back."""

    def read(self, size: int, /) -> bytes: ...


class Watched:
    """A stream that remembers its own trouble: for a broken file OSError is raised, too, and no try helps."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.trouble: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def read(self, size: int = -1) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:
            self.trouble = error
            raise


def lines(stream: BinaryIO, path: str) -> Iterator[bytes]:
    """
    Yield the lines of a file as UTF-8, each with its end (``\\n``, ``\\r\\n`` or ``\\r``), without a mark.

    Of one above the limit no more than shows it.

    :raises InvalidRequestError: when the file is broken, or can't be unpacked here.
    """
    for number, line in enumerate(_split(_as_utf8(unpacked(stream, path), path))):
        if number == _MOST_LINES:
            raise refusal(f"{quote_path(path)} has more than {_MOST_LINES:,} lines.\nGive several files.")
        yield line


def _split(stream: Reads) -> Iterator[bytes]:
    rest = b""
    # Not `readline(limit)`: fsspec's files take no limit there.
    while chunk := stream.read(_CHUNK):
        *whole, rest = (rest + chunk).splitlines(keepends=True)
        yield from whole
        if rest.endswith(b"\n"):
            yield rest
            rest = b""
        # One that ends in \r may go on with \n.
        elif len(rest) > LONGEST_ROW + 1:
            rest = rest[: LONGEST_ROW + 1] + rest[-1:]
    if rest:
        yield rest


# --- compressed


def unpacked(stream: BinaryIO, path: str) -> Reads:
    """Return a stream as it reads unpacked: by its name it is compressed, or it isn't."""
    ending = path[path.rfind(".") :].lower()
    if ending == ".gz":
        return _Unpacked(stream, path, lambda: zlib.decompressobj(wbits=31))
    if ending == ".zst":
        return _Unpacked(stream, path, _zstd(path))
    return stream


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Unpacked:
    """A compressed stream as it reads unpacked: by pieces hardly longer than was asked for."""

    def __init__(self, stream: BinaryIO, path: str, begin: Callable[[], _Decompressor]) -> None:
        self._stream = stream
        self._path = path
        self._begin = begin
        self._now: Any = None
        self._packed = b""
        self._given = 0

    def read(self, size: int) -> bytes:
        while True:
            if self._now is None:
                self._packed = self._packed or self._stream.read(_PACKED)
                if not self._packed.rstrip(b"\0"):  # padding behind the last member, or the end
                    if not self._packed:
                        return b""
                    self._packed = b""
                    continue
                self._now = self._begin()
            data = self._decompress(size)
            self._given += len(data)
            if self._given > _MOST_UNPACKED:
                raise refusal(
                    f"{quote_path(self._path)} unpacks to more than {_MOST_UNPACKED:,} bytes.\n"
                    "Give several files."
                )
            if data:
                return data

    def _decompress(self, size: int) -> bytes:
        if not self._packed and not self._pending():
            self._packed = self._stream.read(_PACKED)
            if not self._packed:
                raise self._broken("it ends too early")
        try:
            data: bytes = self._now.decompress(self._packed, size)
        except Exception as error:  # noqa: BLE001  # each library has errors of its own
            raise self._broken(str(error) or type(error).__name__) from None
        self._packed = getattr(self._now, "unconsumed_tail", b"")
        if self._now.eof:
            self._packed = self._now.unused_data
            self._now = None
        return data

    def _pending(self) -> bool:
        # A decompressor of zstd keeps what it was given, and says whether it wants more.
        return getattr(self._now, "needs_input", True) is False

    def _broken(self, why: str) -> Exception:
        return refusal(
            f"{quote_path(self._path)} is no {self._path[-4:].lstrip('.')} file, or a broken one ({why}).\n"
            "Write it again."
        )


def _zstd(path: str) -> Callable[[], Any]:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name).ZstdDecompressor  # type: ignore[no-any-return]
        except ImportError:
            continue
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        raise refusal(
            f"{quote_path(path)} can't be unpacked here.\n"
            "Run pip install zstandard, or give a .gz file, or one that isn't compressed."
        ) from None
    return lambda: _Zstandard(zstandard.ZstdDecompressor().decompressobj())


class _Zstandard:
    """The library ``zstandard``, which knows no limit: four bytes can unpack to 128 KiB, so it is fed few."""

    _FEED: Final = 128

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.unconsumed_tail = memoryview(b"")

    def decompress(self, data: bytes, size: int) -> bytes:
        whole = memoryview(data)
        fed, self.unconsumed_tail = whole[: self._FEED], whole[self._FEED :]
        unpacked: bytes = self._inner.decompress(fed)
        return unpacked

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + bytes(self.unconsumed_tail)


# --- encoded


def _as_utf8(stream: Reads, path: str) -> Reads:
    begin = b""
    while len(begin) < 4 and (more := stream.read(_CHUNK)):
        begin += more
    for mark, encoding in _MARKS:
        if begin.startswith(mark):
            return _Transcoded(stream, path, begin[len(mark) :], encoding)
    return _Begun(stream, begin.removeprefix(codecs.BOM_UTF8))


class _Begun:
    """A stream whose beginning is read already."""

    def __init__(self, stream: Reads, begin: bytes) -> None:
        self._stream = stream
        self._begin = begin

    def read(self, size: int) -> bytes:
        begin, self._begin = self._begin, b""
        return begin or self._stream.read(size)


class _Transcoded:
    """A stream of another encoding, as UTF-8; half a surrogate pair stays one, and is no UTF-8 text."""

    def __init__(self, stream: Reads, path: str, begin: bytes, encoding: str) -> None:
        self._stream = _Begun(stream, begin)
        self._path = path
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ended:
            data = self._stream.read(size)
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=self._ended)
            except UnicodeDecodeError as error:
                raise refusal(
                    f"{quote_path(self._path)} is broken {self._encoding.upper()} text ({error.reason}).\n"
                    "Save it as UTF-8."
                ) from None
            if text:
                return text.encode("utf-8", "surrogatepass")
        return b""
