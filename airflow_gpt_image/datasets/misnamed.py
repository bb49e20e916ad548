"""What stands in a column that is no field, and means one: a ratio, a picture, fields further inside.

Left out of what is paid for, it would be missing without a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from airflow_gpt_image.api.sizes import AUTO, RATIOS, RESOLUTIONS, parse_size, tier_of
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.datasets.cells import PICTURE, SCHEME
from airflow_gpt_image.datasets.names import field_of, letters

# Names that other services have for it, and shops for something else: the value tells.
_SIZES: Final = re.compile(
    "(?:image|output)?sizes?|dimensions?|formats?|quality|tiers?|definition|ar|res|"
    "(?:bild)?(?:größe|grösse|groesse|format)|(?:seiten)?verhältnis|auflösung|qualität|"
    "taille|qualité|définition|tamaño|formato|calidad|proporción|relacióndeaspecto|"
    "dimension[ei]|risoluzione|proporzion[ei]|qualità|formaat|(?:beeld)?verhouding|resolutie|"
    "tamanho|proporção|размер|формат|разрешение|соотношениесторон"
)
_LEAST_PIXELS: Final = 256

# Also with a name before it, as Airtable writes attachments.
_ADDRESS_OF_PICTURE: Final = re.compile(
    rf"\s*(?:[^\n()]{{1,200}}\()?{SCHEME}[^\s,;|?#]{{1,2000}}?{PICTURE}(?:[\s,;|?#)]|$)", re.IGNORECASE
)
_NAME_IN_JSON: Final = re.compile(r'"([\w .-]{1,40})"\s*:')
_LONGEST_JSON: Final = 10_000
_MOST_DEPTH: Final = 4
_MOST_ITEMS: Final = 100


def refuse_misnamed(column: str, value: Any, there: Collection[str]) -> None:
    """
    Refuse a cell of another column that says what a field would: the field would be missing.

    :param there: the fields that the data set has columns for, or of which the author says that none is.
    :raises ValueError: saying which field it means.
    """
    if isinstance(value, str):
        texts: Iterator[str] = iter((value,))
        names = _NAME_IN_JSON.findall(value[:_LONGEST_JSON]) if value.lstrip()[:1] in ("{", "[") else []
    elif isinstance(value, (Mapping, list, tuple)):
        inside = list(_inside(value, 0))
        texts = (item for item, is_name in inside if not is_name)
        names = [item for item, is_name in inside if is_name]
    else:
        return
    for name in names:
        field = field_of(name)
        if field is not None and field not in there:
            raise ValueError(
                f"Column {quote(column)} holds fields of a request, such as {quote(name)}; put them into the "
                f"row itself, or say columns={{'{field}': None}} if it is none."
            )
    if "image_urls" not in there and any("://" in text and _ADDRESS_OF_PICTURE.match(text) for text in texts):
        raise _looks_like("image_urls", value)
    if isinstance(value, str) and len(value) <= 12 and _may_be_a_size(column):
        size_field = _size_field(value.strip().lower())
        if size_field is not None and size_field not in there:
            raise _looks_like(size_field, value)


def _looks_like(field: str, value: object) -> ValueError:
    return ValueError(
        f"{quote(value)} looks like {field}; name the column so, or say columns={{'{field}': None}} if it "
        "isn't."
    )


def _size_field(text: str) -> str | None:
    size = parse_size(text)
    if text in (AUTO, *RATIOS) or (size and (tier_of(size) or min(size) >= _LEAST_PIXELS)):
        return "aspect_ratio"
    return "resolution" if text in RESOLUTIONS else None


@lru_cache(maxsize=10_000)
def _may_be_a_size(column: str) -> bool:
    return _SIZES.fullmatch(letters(column)) is not None


def _inside(value: Any, depth: int) -> Iterator[tuple[str, bool]]:
    """Yield the texts in a value, and the names that mappings in it give; true: it is a name."""
    if isinstance(value, str):
        yield value, False
    elif depth == _MOST_DEPTH:
        return
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(name, str):
                yield name, True
            yield from _inside(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value[:_MOST_ITEMS]:
            yield from _inside(item, depth + 1)
