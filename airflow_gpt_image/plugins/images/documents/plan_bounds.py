"""Refuse a plan that would fill the memory: anybody who may write at a destination may have written it."""

from __future__ import annotations

import json
from typing import BinaryIO, Final

from airflow_gpt_image.batch import MOST_ITEMS
from airflow_gpt_image.errors import DestinationError

_LONGEST_LINE: Final = 8 * 1024 * 1024
"""Bytes. A row has up to a million characters."""

_MOST_PARTS: Final = 1_500_000
"""Objects, lists and what is in them, in one line: in memory each takes thirty times what it has there."""


def require_bounded_plan(file: BinaryIO) -> None:
    """
    Look at how many images a plan has and how long its lines are, before it is read.

    :raises DestinationError: when it has more than any batch's. The file is closed then.
    """
    file.seek(0)
    each, rows = _variants(file.readline(_LONGEST_LINE)), 0
    while line := file.readline(_LONGEST_LINE):
        rows += 1
        parts = sum(line.count(part) for part in b"{[,")
        if len(line) == _LONGEST_LINE or parts > _MOST_PARTS or rows * each > MOST_ITEMS:
            file.close()
            raise DestinationError("The plan at the destination is larger than any batch's, and isn't read.")


def _variants(head: bytes) -> int:
    """Return how many images of each row a plan's first line asks for; one that is none is refused later."""
    try:
        told = json.loads(head)["variants"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return 1
    return told if type(told) is int and told > 0 else 1
