"""Hold the Size & Resolution table of the API document, and answer questions about it.

The table is looked up, never computed: 1881x836 stands under 3:1 although it is 9:4 in numbers, and 887x1774
stands under both 1:2 and 1:3. Pixel sizes are (width, height). Source: "Size & Resolution" in the API
document.
"""

from __future__ import annotations

import math
import re
from typing import Final, Literal, NamedTuple, get_args

Resolution = Literal["1k", "2k", "4k"]

RESOLUTIONS: Final[tuple[Resolution, ...]] = get_args(Resolution)
DEFAULT_RESOLUTION: Final[Resolution] = "1k"
AUTO: Final = "auto"
RATIO_OF_AUTO: Final = "1:1"


class Size(NamedTuple):
    """Hold a pixel size; its text is the form the API takes, ``1881x836``."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


_TABLE: Final = """
1:1    1024x1024 1254x1254   2048x2048   2880x2880
3:2    1536x1024             2048x1360   3520x2336
2:3    1024x1536             1360x2048   2336x3520
4:3    1024x768              2048x1536   3312x2480
3:4    768x1024              1536x2048   2480x3312
5:4    1280x1024 1448x1086   2560x2048   3216x2576
4:5    1024x1280 1122x1402   2048x2560   2576x3216
16:9   1536x864  1672x941    2048x1152   3840x2160
9:16   864x1536  941x1672    1152x2048   2160x3840
2:1    2048x1024 1774x887    2688x1344   3840x1920
1:2    1024x2048 887x1774    1344x2688   1920x3840
3:1    1881x836  1536x512    3072x1024   3840x1280
1:3    887x1774  512x1536    1024x3072   1280x3840
21:9   2016x864  1915x821    2688x1152   3840x1648
9:21   864x2016  821x1915    1152x2688   1648x3840
"""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def parse_size(text: str) -> Size | None:
    """Read ``1881x836``; None when the text isn't a pixel size. Says nothing about the table."""
    match = _SIZE.fullmatch(text)
    return Size(int(match[1]), int(match[2])) if match else None


def _read_table() -> dict[str, dict[Resolution, tuple[Size, ...]]]:
    table: dict[str, dict[Resolution, tuple[Size, ...]]] = {}
    for line in _TABLE.strip().splitlines():
        ratio, *cells = line.split()
        *small, medium, large = (Size(*map(int, cell.split("x"))) for cell in cells)
        table[ratio] = {"1k": tuple(small), "2k": (medium,), "4k": (large,)}
    return table


SIZES: Final = _read_table()
"""Ratio → tier → the sizes an image may come in; the first is the one the document names first."""

RATIOS: Final = tuple(SIZES)

_TIER_OF: Final = {size: tier for tiers in SIZES.values() for tier, sizes in tiers.items() for size in sizes}


def sizes_of(aspect_ratio: str, resolution: Resolution) -> tuple[Size, ...]:
    """Return the sizes an image of this aspect ratio and tier may come in, at least one.

    :param aspect_ratio: ``auto``, one of :data:`RATIOS`, or a pixel size of the table (which is its own
        answer).
    :raises KeyError: when the aspect ratio is none of these.
    """
    size = parse_size(aspect_ratio)
    if size is not None and size in _TIER_OF:
        return (size,)
    return SIZES[RATIO_OF_AUTO if aspect_ratio == AUTO else aspect_ratio][resolution]


def tier_of(size: Size) -> Resolution | None:
    """Return the one tier a pixel size belongs to; None when it isn't in the table."""
    return _TIER_OF.get(size)


def ratios_of(size: Size) -> tuple[str, ...]:
    """Return the ratios a pixel size stands under, in the table's order; empty when it isn't in the table."""
    return tuple(ratio for ratio, tiers in SIZES.items() if any(size in sizes for sizes in tiers.values()))


def nearest_size(wanted: Size) -> Size:
    """Return the size of the table that is nearest in width and height, for a message."""
    return min(_TIER_OF, key=lambda size: (_distance(size, wanted), size))


def nearest_ratio(width: int, height: int) -> str:
    """Return the ratio of the table that is nearest, for a message; both numbers above 0."""
    wanted = math.log(width / height)
    return min(RATIOS, key=lambda ratio: abs(math.log(_quotient(ratio)) - wanted))


def _distance(size: Size, wanted: Size) -> float:
    # A picture of another shape is further away than one of another size.
    wide, high = math.log(size.width / wanted.width), math.log(size.height / wanted.height)
    return abs(wide) + abs(high) + abs(wide - high)


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)
