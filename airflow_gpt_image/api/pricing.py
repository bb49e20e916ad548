"""Price a generation: tier → credits → US dollars, exactly.

The defaults are those under "Pricing" in the API document. The vendor has changed the prices before,
so a connection can name others: see :class:`Prices`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Final, Self

from airflow_gpt_image.api.sizes import RESOLUTIONS, Resolution
from airflow_gpt_image.api.text import quote_setting
from airflow_gpt_image.errors import InvalidSettingsError

# Below 1,000,000 and with at most 6 decimals, zeros at the end aside.
_AMOUNT: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}0*)?")

_EXAMPLE: Final = '{"1k": "4.7", "2k": "9.4", "4k": "14.1", "usd_per_credit": "0.005"}'


def plain(amount: Decimal) -> Decimal:
    """Return the same amount without trailing zeros and without an exponent: 94, not 9.4E+1."""
    return Decimal(format(amount.normalize(), "f"))


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Hold what a generation of each tier costs in credits, and what a credit costs in US dollars.

    Each may be given as a number or as a decimal string, and is kept as an exact ``Decimal``: above 0, below
    1,000,000, at most 6 decimals.

    :param credits_1k: credits for one generation of tier 1k; likewise ``credits_2k``, ``credits_4k``. The
        defaults are the API document's: 4.7, 9.4 and 14.1.
    :param usd_per_credit: US dollars for one credit. Default 0.005.
    :raises InvalidSettingsError: naming the value, the rule and the remedy.
    """

    credits_1k: Decimal = Decimal("4.7")
    credits_2k: Decimal = Decimal("9.4")
    credits_4k: Decimal = Decimal("14.1")
    usd_per_credit: Decimal = Decimal("0.005")

    def __post_init__(self) -> None:
        for field in fields(self):
            name = field.name.removeprefix("credits_")
            object.__setattr__(self, field.name, _parse_amount(name, getattr(self, field.name)))

    @classmethod
    def read(cls, extra: object) -> Self:
        """Read a connection's ``prices``; what it leaves out has its default.

        :param extra: a mapping of ``1k``, ``2k``, ``4k`` and ``usd_per_credit``, or its JSON text: a
            connection that is a URI, and the connection form's field, have only texts.
        :raises InvalidSettingsError: naming the value, the rule and the remedy.
        """
        given = extra
        if isinstance(extra, str):
            try:
                given = json.loads(extra)
            except (ValueError, RecursionError):
                given = None
        if not isinstance(given, Mapping):
            raise InvalidSettingsError(
                f"prices={quote_setting(extra)} must be a JSON object.\n"
                f"Nothing was sent.\nGive one such as {_EXAMPLE}."
            )
        names: dict[str, str] = {tier: f"credits_{tier}" for tier in RESOLUTIONS}
        names["usd_per_credit"] = "usd_per_credit"
        unknown = [name for name in given if name not in names]
        if unknown:
            raise InvalidSettingsError(
                f"prices has unknown names: {', '.join(map(quote_setting, unknown))}.\n"
                f"Known are {', '.join(names)}.\nLeave the others out."
            )
        return cls(**{names[name]: value for name, value in given.items()})

    def credits(self, resolution: Resolution) -> Decimal:
        """Return the credits that one generation of a tier is charged; a failed one is refunded."""
        amounts = {"1k": self.credits_1k, "2k": self.credits_2k, "4k": self.credits_4k}
        return amounts[resolution]

    def usd(self, credits: Decimal) -> Decimal:
        """Return the dollars for an amount of credits, without rounding and without trailing zeros."""
        return plain(credits * self.usd_per_credit)


def _parse_amount(name: str, value: object) -> Decimal:
    text = ""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, float):
        # A float's shortest text is what somebody wrote: 4.7, not 4.7000000000000001776…
        text = format(Decimal(repr(value)), "f")
    elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        text = format(Decimal(value), "f")
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise InvalidSettingsError(
            f"prices: {name}={quote_setting(value)} must be a number above 0 and below 1,000,000.\n"
            "It has at most 6 decimals.\n"
            f"Give one such as {_EXAMPLE}."
        )
    return plain(Decimal(text))


DEFAULT_PRICES: Final = Prices()

USD_PER_CREDIT: Final = DEFAULT_PRICES.usd_per_credit

CREDITS: Final[dict[Resolution, Decimal]] = {tier: DEFAULT_PRICES.credits(tier) for tier in RESOLUTIONS}
"""Credits charged for one generation at the default prices."""


def usd(credits: Decimal) -> Decimal:
    """Return the dollars for an amount of credits at the default prices."""
    return DEFAULT_PRICES.usd(credits)
