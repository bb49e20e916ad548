"""What a task instance may spend: one guard and one text, for single images and batches.

``max_credits`` bounds the net new spend since the last clear: charges less refunds, an unknown submit
included.
"""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from threading import RLock

from airflow_gpt_image.api.pricing import Prices, plain
from airflow_gpt_image.errors import CreditLimitError, InsufficientCreditsError


class Budget:
    """
    The credits of a task instance since its last clear. May be used by many threads at once.

    :param limit: ``max_credits``; None: no bound.
    :param charged: what it was charged already; ``refunded`` likewise.
    :param prices: say what credits are in US dollars.
    """

    def __init__(
        self,
        limit: Decimal | None,
        charged: Decimal = Decimal(0),
        refunded: Decimal = Decimal(0),
        *,
        prices: Prices,
    ) -> None:
        self.limit = limit
        self.charged = charged
        self.refunded = refunded
        self._prices = prices
        self._reserved: dict[Hashable, Decimal] = {}
        self._reserved_sum = Decimal(0)
        self._changing = RLock()

    @property
    def spent(self) -> Decimal:
        """Return what was spent, net of refunds."""
        return self.charged - self.refunded

    def reserve(self, key: Hashable, credits: Decimal) -> None:
        """
        Keep credits for one image that is about to be submitted.

        :param key: tells the image from the others; what is reserved for it already stays so.
        :raises CreditLimitError: when that would be more than ``max_credits``; nothing may be submitted.
        """
        with self._changing:
            if key not in self._reserved:
                self.check(credits)
                self._reserved[key] = credits
                self._reserved_sum += credits

    def release(self, key: Hashable) -> None:
        """Give back what was reserved for an image: it was not charged, or is on record as charged."""
        with self._changing:
            self._reserved_sum -= self._reserved.pop(key, Decimal(0))

    def charge(self, key: Hashable, credits: Decimal) -> None:
        """Count what was charged, or may have been."""
        with self._changing:
            self.release(key)
            self.charged += credits

    def refund(self, credits: Decimal) -> None:
        """Count what came back."""
        with self._changing:
            self.refunded += credits

    def check(self, credits: Decimal, *, images: int = 1) -> None:
        """
        Refuse what would be more than ``max_credits``.

        :param credits: what is to be paid now, for so many images.
        :raises CreditLimitError: saying what is spent, what it would cost, and the bound.
        """
        after = self.spent + self._reserved_sum + credits
        if self.limit is None or after <= self.limit:
            return
        raise CreditLimitError(
            f"{_images(images)} for {self._money(credits)} would bring this task to {self._money(after)} "
            "since its last clear.\n"
            f"max_credits is {plain(self.limit):,}. Nothing was submitted for that.\n"
            "Raise max_credits, ask for less, or find out why it pays again; what is paid for is found again."
        )

    def check_balance(self, balance: Decimal, credits: Decimal, *, images: int = 1) -> None:
        """
        Refuse what the account's balance doesn't suffice for.

        :raises InsufficientCreditsError: nothing was submitted.
        """
        if balance < credits:
            raise InsufficientCreditsError(
                f"The balance is {plain(balance):,} credits; {_images(images)} cost {self._money(credits)}.\n"
                f"Nothing was submitted.\n{InsufficientCreditsError.remedy}",
                code="insufficient_credits",
            )

    def _money(self, credits: Decimal) -> str:
        return f"{plain(credits):,} credits (${self._prices.usd(credits):,})"


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"
