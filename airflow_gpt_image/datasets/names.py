"""What the names of columns mean: which column is which field of a request.

1. A name is compared by its letters and digits alone, whatever its case, its plurals, and an ``input.``
   before it: ``imageUrls``, ``Image URL`` and ``input.image_urls`` are ``image_urls``.
2. Two columns that mean the same field are refused.
3. A column that only resembles a field is refused, unless that field is there or the author says which
   column it is: a part of the name (``ratio``), more than the name (``prompt_text``), a slip of the pen
   (``promt``), another word for it (``photo``, ``webhook``). A field's name with a number (``prompt_2``), a
   second column of pictures and ``negative_prompt`` are refused in any case.
4. Every other column is the row's data.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from airflow_gpt_image.api.rules import FIELDS
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets.given import MOST_COLUMNS, is_text, refusal, safely_quote

# "images?urls?": each word may be in the plural.
_SPELLED: Final = {
    field: re.compile("(?:input)?" + "".join(f"{word.removesuffix('s')}s?" for word in field.split("_")))
    for field in FIELDS
}
_NUMBERED: Final = {field: re.compile(rf"{pattern.pattern}\d+") for field, pattern in _SPELLED.items()}

_PICTURE: Final = "(?:images?|imgs?|photos?|pictures?|pics?|masks?)"
_OF_WHAT: Final = (
    "(?:input|source|src|ref|references?|main|product|item|base|init|original|style|variant|additional|other|"
    "extra|second|alternate|gallery|cover|hero|small|large|thumbnail|swatch|front|back|side)"
)
_RESEMBLING: Final = {
    "prompt": re.compile(r".*prompt.*|instructions?"),
    "image_urls": re.compile(
        r".*(?:image|img)s?ur[il]s?.*|"
        rf"{_OF_WHAT}?{_PICTURE}(?:ur[il]|link|src|path|file|address|href|base64|b64|bytes)?s?\d*"
    ),
    "aspect_ratio": re.compile(r".*aspectratio.*|(?:images?|output|picture|photo)?(?:aspect|ratio)s?\d*"),
    "resolution": re.compile(r".*resolution.*"),
    "nsfw_checker": re.compile(r".*nsfw.*|safetycheck(?:er|s)?"),
    "callback_url": re.compile(r".*callback.*|webhooks?(?:ur[il]s?)?"),
}
_NEGATIVE: Final = re.compile(r".*negativeprompt.*")
_LONGEST_SLIP: Final = 20
_LONGEST_NAME: Final = 10_000


class Names(NamedTuple):
    """
    The names of a row's or a header's columns.

    :param columns: as our rows have them; None: a column without a name.
    :param named: how the data set calls the fields that it doesn't call as we do.
    :param fields: those that are there.
    """

    columns: tuple[str | None, ...]
    named: Mapping[str, str]
    fields: frozenset[str]

    @classmethod
    def of(cls, columns: Iterable[str | None], named: Mapping[str, str]) -> Names:
        """Return the names of these columns."""
        columns = tuple(columns)
        return cls(columns, named, frozenset(name for name in columns if name in FIELDS))


def letters(name: str) -> str:
    """Return what names are compared by: letters and digits, case aside."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in plain if character.isalnum())


def check_columns(columns: object) -> dict[str, str | None]:
    """
    Read the argument ``columns``: which column is which field. None: no column is, whatever looks like it.

    :raises InvalidRequestError: when it is no such mapping.
    """
    if columns is None:
        return {}
    example = "Give one such as {'image_urls': 'photo', 'prompt': 'description'}."
    if not isinstance(columns, Mapping):
        raise refusal(
            f"{safely_quote(columns)} is no mapping.\nIt says which field is in which column.\n{example}",
            "columns",
        )
    for field, column in columns.items():
        if field not in FIELDS:
            raise refusal(
                f"{safely_quote(field)} is no field.\nA field is one of {', '.join(FIELDS)}.\n{example}",
                "columns",
            )
        if column is not None and not (isinstance(column, str) and letters(column)):
            raise refusal(
                f"{safely_quote(column)} is no name of a column.\nA name is a text.\n{example}", "columns"
            )
    taken = [column for column in columns.values() if column is not None]
    twice = [column for column in taken if taken.count(column) > 1]
    if twice:
        raise refusal(
            f"{quote(twice[0])} can't be two fields.\nA column is one of them.\nName one column for each.",
            "columns",
        )
    return dict(columns)


class ColumnNames:
    """
    Reads names of columns, and remembers those that it has read.

    :param columns: of :func:`check_columns`.
    :param say: is told once what is taken for a field though it isn't called so.
    """

    def __init__(self, columns: Mapping[str, str | None], say: Callable[[str], object]) -> None:
        self._columns = columns
        self._say = say
        self._said: set[str] = set()
        self._read: dict[tuple[object, ...], Names] = {}
        self.known: dict[str, None] = {}

    @property
    def meant(self) -> set[str]:
        """Return the letters of columns that the author named."""
        return {letters(column) for column in self._columns.values() if column is not None}

    def read(self, given: Iterable[object], *, nameless: bool = False) -> Names:
        """
        Return what these names mean.

        :param nameless: that a column may have no name.
        :raises ValueError: when one is no text, is there twice, means what another one means, or only
            resembles a field: who writes "Resolution (px)" and gets 1k has paid for something else.
        """
        key = tuple(given)
        try:
            found = self._read.get(key)
        except TypeError:  # a name that is a list
            found = None
        if found is None:
            found = self._understood(key, nameless=nameless)
            if len(self._read) < MOST_COLUMNS:
                self._read[key] = found
            self._know(name for name in found.columns if name is not None)
        return found

    def of_folder(self, name: str, fields: Iterable[str]) -> str | None:
        """
        Return the field that a folder's name means; None: it is another column.

        :param fields: those that its files have columns for.
        :raises ValueError: when it only resembles a field.
        """
        field = self._field(name, [name])
        if field is None:
            self._refuse_resembling(name, dict.fromkeys(fields, ""))
        self._know([field or name])
        return field

    def _know(self, names: Iterable[str]) -> None:
        self.known.update(dict.fromkeys(names))
        if len(self.known) > MOST_COLUMNS:
            raise refusal(
                f"The rows have more than {MOST_COLUMNS:,} different columns, and each is one of "
                "manifest.csv.\nPut what belongs together into one column, such as an object of JSON."
            )

    def _understood(self, given: Sequence[object], *, nameless: bool) -> Names:
        if len(given) > MOST_COLUMNS:
            raise ValueError(f"It has {len(given):,} columns; at most {MOST_COLUMNS:,} are taken.")
        names: list[str] = []
        for name in given:
            if not isinstance(name, str) or not is_text(name) or "\0" in name:
                raise ValueError(f"{safely_quote(name)} is no name of a column; give UTF-8 text.")
            if len(name) > _LONGEST_NAME:
                raise ValueError(f"{quote(name)} is too long for a column's name; shorten it.")
            names.append(name.strip())
        fields = [self._field(name, names) for name in names]
        columns: dict[str, str] = {}
        found: list[str | None] = []
        for name, field in zip(names, fields, strict=True):
            if nameless and not name:
                found.append(None)
                continue
            column = field or name
            if column in columns:
                raise ValueError(
                    f"Columns {quote(columns[column])} and {quote(name)} both mean {column}; keep one."
                    if field and columns[column] != name
                    else f"Column {quote(column)} is there twice; give each column a name of its own."
                )
            columns[column] = name
            found.append(column)
        for name, field in zip(names, fields, strict=True):
            if field is None and name:
                self._refuse_resembling(name, columns)
        named = {field: columns[field] for field in columns if field in FIELDS and columns[field] != field}
        self._tell(named)
        return Names.of(found, named)

    def _field(self, name: str, names: Sequence[str]) -> str | None:
        """Return the field that a column is."""
        for mapped, column in self._columns.items():
            if column is not None and same_column(name, column, names):
                return mapped
        field = field_of(name)
        if field is None or field not in self._columns:
            return field
        meant = self._columns[field]
        if meant is None and name != field:
            return None
        if meant is not None and not any(same_column(other, meant, names) for other in names):
            # The rows of an earlier run that failed: they have our names.
            return field
        said = "that no column is" if meant is None else f"that column {quote(meant)} is"
        raise ValueError(f"Column {quote(name)} means {field}, and columns says {said}; rename it.")

    def _refuse_resembling(self, name: str, there: Mapping[str, str]) -> None:
        field = resembled(name)
        if field is None or field in self._columns:
            return
        # image_url_2 or photo beside image_url: the second one would be missing from what is paid for.
        key = letters(name)
        alone = field != "image_urls" and not _NUMBERED[field].fullmatch(key) and not _NEGATIVE.fullmatch(key)
        if field in there and alone:
            return
        raise ValueError(
            f"Column {quote(name)} looks like {field}; name it so, or say which column it is: "
            f"columns={{'{field}': …}}, with None if no column is."
        )

    def _tell(self, named: Mapping[str, str]) -> None:
        for field, column in named.items():
            if column not in self._said:
                self._said.add(column)
                self._say(f"Column {quote(column)} is taken for {field}.")


def same_column(name: str, wanted: str, names: Sequence[str]) -> bool:
    """Return whether a name is the column that an author means: exactly, or else by letters and digits."""
    if wanted.strip() in names:
        return name == wanted.strip()
    return letters(name) == letters(wanted)


@lru_cache(maxsize=10_000)
def field_of(name: str) -> str | None:
    """Return the field that a column of this name is, by letters and digits alone."""
    key = letters(name)
    return next((field for field, pattern in _SPELLED.items() if pattern.fullmatch(key)), None)


@lru_cache(maxsize=10_000)
def resembled(name: str) -> str | None:
    """Return the field that a name resembles without being it."""
    key = letters(name)
    for field in FIELDS:
        if _RESEMBLING[field].fullmatch(key) or _NUMBERED[field].fullmatch(key):
            return field
    return next((field for field in FIELDS if _is_slip(key, letters(field))), None)


def _is_slip(key: str, field: str) -> bool:
    """Return whether one is the other but for a letter, or for two where it is long."""
    if abs(len(key) - len(field)) > 2 or len(key) > _LONGEST_SLIP:
        return False
    distance = _distance(key, field)
    return distance <= 1 or (distance == 2 and len(field) >= 10 and key[:1] == field[:1])


def _distance(one: str, other: str) -> int:
    """Return how many letters are missing, too many, wrong or changed places."""
    rows = [list(range(len(other) + 1))]
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
