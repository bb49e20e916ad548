"""Take values out of documents that anybody may have written: of the right type, bounded, storable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from airflow_gpt_image.api.text import storable

LONGEST_PROMPT: Final = 20_000
"""Characters of a prompt where one picture is shown: what the API takes."""

SHORT_PROMPT: Final = 2_000
"""Characters of a prompt in a sheet."""

LONGEST_PATH: Final = 4_096
_LONGEST_LINE: Final = 1_000
_LONGEST_NUMBER: Final = 10**15


def text(value: object, limit: int = _LONGEST_LINE) -> str | None:
    """Return a text, cut at a limit; None when it is none, or an empty one."""
    if not isinstance(value, str) or not value:
        return None
    kept = storable(value[:limit])
    return kept if len(value) <= limit else f"{kept[: limit - 1]}…"


def shown(value: object, limit: int = 500) -> str:
    """Return any value as a cell shows it: texts and numbers as they are, anything else as what it is."""
    if isinstance(value, str):
        return text(value, limit) or ""
    if value is None:
        return ""
    if isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < _LONGEST_NUMBER):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value[:20]):
        return text(" ".join(value[:20]), limit) or ""
    return f"({type(value).__name__})"


def path(value: object) -> str | None:
    """Return a file's path or address; None when it can be none."""
    whole = isinstance(value, str) and 0 < len(value) <= LONGEST_PATH
    return storable(str(value)) if whole else None


def count(value: object) -> int | None:
    """Return a number of things; None when it is none."""
    right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LONGEST_NUMBER
    return value if right else None  # type: ignore[return-value]


def seconds(value: object) -> float | None:
    """Return a duration; None when it is none."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**8
    return round(float(value), 1) if right else None  # type: ignore[arg-type]


def moment(value: object) -> datetime | None:
    """Return a time out of an ISO 8601 text with a zone; None when it is none."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        read = datetime.fromisoformat(value)
        return read.astimezone(UTC) if read.tzinfo else None
    except (ValueError, OverflowError):
        return None


def iso(value: datetime | None) -> str | None:
    """Return a time as documents have it: ISO 8601, UTC, to the second."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="seconds")


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def items(value: object, most: int = 100) -> list[Any]:
    """Return a JSON list, cut at a limit; an empty one where there is none."""
    return value[:most] if isinstance(value, list) else []
