"""What a cell says: text that stands for nothing, addresses, yes and no, and what JSON can hold."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets.given import is_text, safely_quote

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

# Nobody's data is deeper, and who writes it down again has a stack of his own to think of.
_MAX_DEPTH: Final = 32
# Other readers of JSON turn a number into a float, and the largest one has no more digits.
_MAX_INTEGER: Final = 10**309
_MAX_DIGITS: Final = 309

# Than Python's times.
_FINER: Final = ("[ns]", "[ps]", "[fs]", "[as]")

_YES_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

# Words for it; what has no letter, digit or symbol ("---", "...", "[]") is nothing, too.
_NOTHING: Final = re.compile(
    r"[+-]?nan(?:\.0)?|none|null|nil|n/a|n\. ?a\.|na|nat|k\. ?a\.|undefined|missing|\\n|\[object object\]|"
    r"[(<\[](?:na|none|null|nil|blank|empty|undefined)[)>\]]",
    re.IGNORECASE,
)
# Letters to Unicode that show nothing.
_INVISIBLE: Final = "\u115f\u1160\u2800\u3164\uffa0"
# Excel's in every language (#REF!, #¡VALOR!, #NOM?, #N/D), Sheets', and what a narrow column shows.
_ERROR_VALUE: Final = re.compile(
    r"#[^\s\d#]\S{0,40}[!?]|#+|#(?:N/[A-Z]|NA|NV|Н/Д|I/T|Y/T|GETTING_DATA|BRAK|YOK|HIÁNYZIK|ERROR|ERR|"
    r"NENÍ_K_DISPOZICI)|#?(?:err|error|fehler|erreur|errore|fout|fel|virhe)[: ]\s*\d{3}|loading(?:\.\.\.|…)",
    re.IGNORECASE,
)
# Not "= a teapot": an equals sign, and then what only a formula has.
_FORMULA: Final = re.compile(r"[=＝]\s*[+-]?\s*(?:[\w.]+\s*\(|\$?[A-Za-z]{1,3}\$?\d|[\"'\[{#@\d])")
# What a database's shell writes below its rows.
_FOOTER: Final = re.compile(
    r"\(\d[\d,.]* rows?(?: affected)?\)|\d[\d,.]* rows? (?:affected|selected|returned)\.?", re.IGNORECASE
)
_LONGEST_WORD: Final = 60

SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]*://"
_BETWEEN_ADDRESSES: Final = re.compile(rf"[\s,;|，、；]+(?={SCHEME})")
# An address may hold another one as a step of its path or as a parameter's value, and else holds none.
_RUN_TOGETHER: Final = re.compile(
    r"(?<![/=?(])(?:https?|s3a?|gs|gcs|az|abfss?|wasbs?|adl|ftp|file)://", re.IGNORECASE
)
PICTURE: Final = r"\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|heic)"
# A comma may be an address's own, but not behind the file it names.
_CUT_SHORT: Final = re.compile(rf"{PICTURE}[,;]", re.IGNORECASE)


def refuse_nothing(text: str) -> None:
    """
    Refuse text that stands for nothing, or for an error of a spreadsheet's.

    :raises ValueError: saying so.
    """
    if "\ufffd" in text:
        raise ValueError(f"{quote(text)} contains U+FFFD in place of a letter that was lost; write it again.")
    word = text.strip()
    if _FORMULA.match(word):
        raise ValueError(f"{quote(text)} is a spreadsheet's formula; give what it comes to.")
    if not word or len(word) > _LONGEST_WORD:
        return
    if _NOTHING.fullmatch(word) or not any(map(_says, word)):
        raise ValueError(f"{quote(text)} stands for nothing; leave the cell empty, or fill it.")
    if _ERROR_VALUE.fullmatch(word):
        raise ValueError(f"{quote(text)} is a spreadsheet's error value; mend its formula.")
    if _FOOTER.fullmatch(word):
        raise ValueError(f"{quote(text)} is what a database's shell writes below its rows; remove the line.")


def _says(character: str) -> bool:
    """Return whether a character says anything: a letter, a digit, or a symbol such as a pictograph."""
    if character in _INVISIBLE:
        return False
    kind = unicodedata.category(character)
    return kind[0] in "LN" or (kind[0] == "S" and not character.isascii()) or kind == "Cs"  # told elsewhere


def of_field(field: str, value: Any, *, text: bool) -> Any:
    """
    Read what a cell of a field says.

    :param text: that text is all it can be, as in a CSV.
    :raises ValueError: when that can't be told.
    """
    if not isinstance(value, str):
        if field == "image_urls" and isinstance(value, (list, tuple)):
            for item in value:
                _refuse_several(item)
        return value
    if field == "prompt" or not text:
        refuse_nothing(value)
        return value
    word = value.strip()
    if field == "nsfw_checker":
        if word.casefold() not in _YES_NO:
            raise ValueError(f"{quote(word)} is neither true nor false; give one (or yes, no, 1, 0).")
        return _YES_NO[word.casefold()]
    remedy = "Give a JSON array of addresses, or addresses with a comma, ';', '|' or white space between."
    if field == "image_urls" and word.startswith("["):
        return of_field(field, read_json(word, remedy), text=False)
    refuse_nothing(word)
    return _addresses(word, remedy) if field == "image_urls" else word


def _addresses(text: str, remedy: str) -> list[str]:
    addresses = _BETWEEN_ADDRESSES.split(text.strip(",;| \t\r\n"))
    for address in addresses:
        if "|" in address or _CUT_SHORT.search(address) or re.search(r"\s", address) or _several(address):
            raise ValueError(
                f"{quote(text)} can't be told apart into addresses: each begins with its scheme, such as "
                f"https://. {remedy}"
            )
    return [address for address in addresses if address]


def _refuse_several(item: object) -> None:
    """Refuse an item of a list that is nothing, or several addresses."""
    if isinstance(item, str):
        refuse_nothing(item)
        if _several(item.strip()):
            raise ValueError(f"{quote(item)} is several addresses; make each an item of the list.")


def _several(text: str) -> bool:
    """Return whether an address holds a second one that can't be a part of it."""
    begin = text.find("://") + 1
    return bool(_BETWEEN_ADDRESSES.search(text) or (begin and _RUN_TOGETHER.search(text, begin)))


def read_json(text: str, remedy: str) -> Any:
    """
    Read JSON strictly: nothing said twice. What is no number, as Python and pandas write it, is NaN.

    :raises ValueError: in our words.
    """
    try:
        return json.loads(text, object_pairs_hook=_said_once, parse_int=_integer, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{quote(text)} can't be read as JSON: {reason}. {remedy}")


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, value in pairs:
        if name in said:
            raise ValueError(f"{quote(name)} is there twice")
        said[name] = value
    return said


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has more than {_MAX_DIGITS} digits")
    return int(digits)


def _no_number(name: str) -> float:
    return math.nan


def is_missing(value: object) -> bool:
    """Return whether a table's cell holds nothing: None, what is no number, pandas' NA and NaT."""
    if value is None:
        return True
    if isinstance(value, (float, Decimal)):
        return not math.isfinite(value)
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas")


def plain(value: object, depth: int = 0) -> Json:
    """
    Return the value as JSON can hold it, whoever reads it; None: it is nothing.

    :raises BytesError: when it is bytes.
    :raises ValueError: when JSON can't hold it.
    """
    if isinstance(value, str):
        if not is_text(value):
            raise ValueError(f"{quote(value)} contains half a surrogate pair, which is no text; remove it.")
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_MAX_INTEGER < value < _MAX_INTEGER:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, Mapping)):
        return _plain_inside(value, depth)
    if is_missing(value):
        return None
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, (UUID, timedelta)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise BytesError(
            f"{safely_quote(bytes(value[:40]))} is bytes, which can't be written down as JSON; leave the "
            "column out, or give text."
        )
    unpacked = _unpacked(value)
    if unpacked is not value:
        return plain(unpacked, depth)
    raise ValueError(f"{safely_quote(value)} can't be written down as JSON; give text, or leave it out.")


class BytesError(ValueError):
    """Bytes where text is wanted: said once for a column, not for each of its rows."""


def _plain_inside(value: list[Any] | tuple[Any, ...] | Mapping[Any, Any], depth: int) -> Json:
    if depth == _MAX_DEPTH:
        raise ValueError(f"A {type(value).__name__} is nested more than {_MAX_DEPTH} deep; flatten it.")
    if not isinstance(value, Mapping):
        return [plain(item, depth + 1) for item in value]
    if all(isinstance(name, str) and is_text(name) for name in value):
        return {name: plain(item, depth + 1) for name, item in value.items()}
    raise ValueError(f"{safely_quote(value)} can't be written down as JSON; give text, or leave it out.")


def _unpacked(value: Any) -> Any:
    """Return a scalar or an array of NumPy's, Arrow's or Polars' as Python has it; else the same value."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        kind = value.dtype.str
        if kind[1:2] in "mM" and kind.endswith(_FINER):
            value = value.astype(f"{kind[1:2]}8[us]")  # else it would be a number
        return value.tolist()
    if module == "pyarrow" and hasattr(value, "as_py"):
        return value.as_py()
    if module == "polars" and hasattr(value, "to_list"):
        return value.to_list()
    return value


def python_value(value: Any) -> Any:
    """Return a table's cell as Python has it."""
    unpacked: Callable[[Any], Any] = _unpacked
    try:
        return unpacked(value)
    except Exception:  # noqa: BLE001  # a value that Python can't hold; judged as it is
        return value


def size_of(value: Json) -> int:
    """Return about how many characters a value takes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return 8 + sum(map(size_of, value))
    if isinstance(value, dict):
        return 8 + sum(len(name) + size_of(item) for name, item in value.items())
    return 8
