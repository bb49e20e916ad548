"""Read and write amounts of money: decimal strings in US dollars, never floats."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_AMOUNT: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_FEW: Final = Decimal("0.0001")
_CENT: Final = Decimal("0.01")
NOTHING: Final = Decimal(0)


def amount(value: object) -> Decimal | None:
    """Return an amount out of somebody's document; None when it is none: too long, negative, a float."""
    return Decimal(value) if isinstance(value, str) and _AMOUNT.fullmatch(value) else None


def price(value: Decimal | None) -> str | None:
    """Return what one image costs: four decimals, and more where it has more."""
    if value is None:
        return None
    exponent = value.normalize().as_tuple().exponent
    exact = isinstance(exponent, int) and exponent < -4
    return f"{value.normalize():f}" if exact else f"{value.quantize(_FEW, ROUND_HALF_UP):f}"


def total(value: Decimal) -> str:
    """Return a sum: two decimals from one dollar on, else four."""
    return totals([value])[0]


def totals(values: Iterable[Decimal]) -> list[str]:
    """Return sums that stand side by side: all have the same number of decimals."""
    values = list(values)
    step = _CENT if any(value >= 1 for value in values) else _FEW
    return [f"{value.quantize(step, ROUND_HALF_UP):f}" for value in values]


def dollars(text: str) -> str:
    """Return an amount as people read it: ``1234.50`` is ``$1,234.50``."""
    whole, point, rest = text.partition(".")
    return f"${int(whole):,}{point}{rest}"
