"""Read and write files of this machine's disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


class NotRegularError(OSError):
    """What has the path is a pipe or a device, not a file."""


def open_regular(path: Path, *, folder: int | None = None) -> BinaryIO:
    """
    Open a file for reading. A pipe would be waited for, and a device need not end.

    :param folder: descriptor of the folder that the file is in; then a link there is refused. None: links are
        followed.
    :raises NotRegularError: or another OSError.
    """
    # O_NONBLOCK is for the opening alone; a file's reading knows no difference.
    more = os.O_NONBLOCK | (0 if folder is None else os.O_NOFOLLOW)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more, dir_fd=folder))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRegularError("not a regular file")
    return file


def write_new(path: Path, chunks: Iterable[bytes]) -> None:
    """
    Write a file of which there is none yet, and have the disk take it: a power cut leaves no half of it.

    By as few calls to the system as can be: a batch writes four files for each image, and what a file object
    asks for beside takes as long as the writing.

    :raises OSError: when it can't; then there is no file.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(file, left) :]
            os.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
