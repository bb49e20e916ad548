"""Which errors a batch met, how often, and one example of each: few enough for XCom, whatever happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from airflow_gpt_image.api.text import bounded
from airflow_gpt_image.batch.phases import Entry

MOST_CODES: Final = 10
"""Codes that are told apart; what is rarer is counted together."""

OTHERS: Final = "(others)"
"""The code of what is counted together."""

_LONGEST_CODE: Final = 80
_LONGEST_MESSAGE: Final = 200


def count_errors(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """
    Return the errors of images that aren't stored, the most frequent first.

    Each is a dict of ``code`` (the API's; where it gave none, the error's class), ``count`` (of images),
    and of its first image ``row`` and ``message``. Codes and messages are anybody's texts, and cut. What is
    rarer than the first :data:`MOST_CODES` is one more entry, ``(others)``, without an example.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        record = entry.record
        if record is None or record.state == "stored" or record.failure is None:
            continue
        failure = record.failure
        code = _cut(bounded(failure.code or failure.error), _LONGEST_CODE)
        if code in found:
            found[code]["count"] += 1
        else:
            message = _cut(bounded(failure.message), _LONGEST_MESSAGE)
            found[code] = {"code": code, "count": 1, "row": entry.item.row, "message": message}
    errors = sorted(found.values(), key=lambda error: -error["count"])
    if rest := sum(error["count"] for error in errors[MOST_CODES:]):
        return [*errors[:MOST_CODES], {"code": OTHERS, "count": rest, "row": None, "message": None}]
    return errors


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
