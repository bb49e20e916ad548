"""What can be set on an emulator, at its start and while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from airflow_gpt_image.api.pricing import CREDITS

DEFAULT_KEY: Final = "sk-emulator"

IMAGE_LIFE: Final = 24 * 3600.0
"""Seconds that an image is there after it was made, unless something else is asked for."""

_DOCUMENTED: Final[Mapping[str, Decimal]] = {str(tier): price for tier, price in CREDITS.items()}

Duration = str | float | tuple[float, float]
"""Seconds from acceptance to the end:

``2``, ``"2"``, ``"1-3"`` or ``(1, 3)``; a range is drawn from evenly.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the emulator behaves when no fault is asked for.

    :param keys: the API keys that are accepted, at least one, each starting with ``sk-``. They share one
        account.
    :param credits: the balance to start with.
    :param duration: shortest and longest time of a generation in seconds, from acceptance to the end.
    :param rate_limit: submits per second that are taken before 429 ``rate_limit_exceeded``; None takes all.
    :param fail_rate: share of generations that fail with ``upstream_error``, 0 to 1.
    :param seed: what durations and failures are drawn from: the n-th generation always gets the same.
    :param files_url: base of the image addresses; None is the emulator's own address. Give the same port
        under another name (``http://localhost:…``) to have the images on another host than the API.
    :param prices: credits for a generation of each tier, ``1k``, ``2k`` and ``4k``. What is left out costs
        what the API document says. A generation keeps the price that it was accepted for.
    :param image_life: seconds that images are there after they were made; then the file host answers 404.
    :param webhook_secret: what callbacks are signed with; None: they carry no signature.
    """

    keys: tuple[str, ...] = (DEFAULT_KEY,)
    credits: Decimal = Decimal(1000)
    duration: tuple[float, float] = (1.0, 3.0)
    rate_limit: float | None = None
    fail_rate: float = 0.0
    seed: int = 0
    files_url: str | None = None
    prices: Mapping[str, Decimal] = field(default_factory=lambda: {**_DOCUMENTED})
    image_life: float = IMAGE_LIFE
    webhook_secret: str | None = None

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """The same settings with these changes, each checked.

        :raises ValueError: naming the setting, its value and the rule.
        """
        read: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _READERS:
                raise ValueError(f"{name!r} is not a setting; one of {', '.join(_READERS)}.")
            try:
                read[name] = _READERS[name](value)
            except (TypeError, ValueError, InvalidOperation):
                raise ValueError(f"{name}={value!r} is not valid; {_RULES[name]}.") from None
        return replace(self, **read)


def _keys(value: Any) -> tuple[str, ...]:
    keys = (value,) if isinstance(value, str) else tuple(value)
    # The API document: a key that doesn't start with sk- is invalid. Accepting one would teach a wrong
    # lesson.
    if not keys or not all(isinstance(key, str) and key.startswith("sk-") for key in keys):
        raise ValueError
    return keys


def _credits(value: Any) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite() or amount < 0:
        raise ValueError
    return amount


def _duration(value: Any) -> tuple[float, float]:
    ends: Iterable[Any] = (
        value.split("-") if isinstance(value, str) else value if _listed(value) else (value,)
    )
    seconds = [_amount(end) for end in ends]
    if not 1 <= len(seconds) <= 2 or seconds[0] > seconds[-1]:
        raise ValueError
    return seconds[0], seconds[-1]


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _amount(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _rate_limit(value: Any) -> float | None:
    if value is None:
        return None
    rate = _amount(value)
    if rate == 0:
        raise ValueError
    return rate


def _share(value: Any) -> float:
    share = _amount(value)
    if share > 1:
        raise ValueError
    return share


def _files_url(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise ValueError
    return value.rstrip("/")


def _webhook_secret(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError
    return value


def _prices(value: Any) -> dict[str, Decimal]:
    given = {str(tier): _credits(price) for tier, price in dict(value).items()}
    if not given.keys() <= _DOCUMENTED.keys():
        raise ValueError
    return {**_DOCUMENTED, **given}


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "keys": _keys,
    "credits": _credits,
    "duration": _duration,
    "rate_limit": _rate_limit,
    "fail_rate": _share,
    "seed": int,
    "files_url": _files_url,
    "prices": _prices,
    "image_life": _amount,
    "webhook_secret": _webhook_secret,
}
_RULES: Final = {
    "keys": "a list of API keys, each starting with 'sk-'",
    "credits": "a number of credits, 0 or more",
    "duration": "seconds, or a range of them such as '1-3'",
    "rate_limit": "submits per second, more than 0, or null for no limit",
    "fail_rate": "a share from 0 to 1",
    "seed": "a whole number",
    "files_url": "an http or https address, or null for the emulator's own",
    "prices": "credits, 0 or more, for each of " + ", ".join(_DOCUMENTED),
    "image_life": "seconds, 0 or more",
    "webhook_secret": "a text, or null for no signature",
}
assert set(_READERS) == set(_RULES) == {field.name for field in fields(Settings)}
