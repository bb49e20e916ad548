"""Open files of this machine's disk, and nothing else that has a path."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotRegularError(OSError):
    """What has the path is a pipe or a device, not a file."""


def open_regular(path: Path) -> BinaryIO:
    """
    Open a file for reading. A pipe would be waited for, and a device need not end.

    :raises NotRegularError: or another OSError.
    """
    # O_NONBLOCK is for the opening alone; a file's reading knows no difference.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRegularError("not a regular file")
    return file
