"""A destination in memory, which fails where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

from airflow_gpt_image.errors import DestinationError


class MemoryFolder:
    """
    A folder as the code under test sees it.

    :param files: what is in it, by name; may be shared by several.
    :param root: where it claims to be.
    :param on_step: called before and after each call, with what it is (``list``, ``read``, ``write``), when
        (``before``, ``after``) and the name; what it raises is raised.
    """

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        root: str = "memory://images",
        on_step: Callable[[str, str, str], object] = lambda what, when, name: None,
    ) -> None:
        self.files = {} if files is None else files
        self.root = root
        self.on_step = on_step
        self.unreachable = False

    def address(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def draft(self, name: str) -> Iterator[BinaryIO]:
        yield BytesIO()

    def publish(self, draft: BinaryIO, name: str) -> str:
        draft.seek(0)
        with self._step("write", name):
            self.files[name] = draft.read()
        return self.address(name)

    def publish_new(self, draft: BinaryIO, name: str) -> bool:
        draft.seek(0)
        with self._step("write", name):
            return self.files.setdefault(name, data := draft.read()) is data

    def write(self, name: str, data: bytes) -> str:
        with self._step("write", name):
            self.files[name] = data
        return self.address(name)

    def read(self, name: str) -> bytes | None:
        with self._step("read", name):
            return self.files.get(name)

    def copy(self, name: str, into: BinaryIO) -> None:
        into.write(self.files[name])

    def size(self, name: str) -> int | None:
        with self._step("read", name):
            return len(self.files[name]) if name in self.files else None

    def sizes(self, folder: str) -> dict[str, int]:
        with self._step("list", folder):
            return {name: len(data) for name, data in self.files.items() if name.rpartition("/")[0] == folder}

    def remove(self, name: str) -> None:
        self.files.pop(name, None)

    @contextmanager
    def _step(self, what: str, name: str) -> Iterator[None]:
        if self.unreachable:
            raise DestinationError(f"{self.address(name)} could not be read or written: it is away.")
        self.on_step(what, "before", name)
        yield
        self.on_step(what, "after", name)
