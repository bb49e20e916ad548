"""What a generation costs: tier → credits → US dollars, exactly. Source: "Pricing" in the API document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from airflow_gpt_image.api.sizes import Resolution

USD_PER_CREDIT: Final = Decimal("0.005")

CREDITS: Final[dict[Resolution, Decimal]] = {
    "1k": Decimal("4.7"),
    "2k": Decimal("9.4"),
    "4k": Decimal("14.1"),
}
"""Credits charged for one generation; a failed one is refunded."""


@dataclass(frozen=True)
class Prices:
    """
    A price list.

    :param tiers: credits for one generation of each tier.
    :param usd_per_credit: US dollars.
    """

    tiers: Mapping[Resolution, Decimal]
    usd_per_credit: Decimal

    def credits(self, resolution: Resolution) -> Decimal:
        """Return what a generation of a tier is charged, in credits."""
        return self.tiers[resolution]

    def usd(self, credits: Decimal) -> Decimal:
        """Return the dollars for an amount of credits."""
        return plain(credits * self.usd_per_credit)


DEFAULT_PRICES: Final = Prices(CREDITS, USD_PER_CREDIT)


def usd(credits: Decimal) -> Decimal:
    """Dollars for an amount of credits, without rounding and without trailing zeros."""
    return plain(credits * USD_PER_CREDIT)


def plain(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros and without an exponent, as people write it: 94, not 9.4E+1."""
    return Decimal(format(amount.normalize(), "f"))
