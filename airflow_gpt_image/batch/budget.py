"""What a try of a batch may spend: reckoned beforehand, and kept to when one has to be paid for anew."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from airflow_gpt_image.api.pricing import plain
from airflow_gpt_image.batch.plan import Item
from airflow_gpt_image.errors import CreditLimitError


class Budget:
    """
    The credits of one try.

    :param most: ``max_credits``; None: no bound.
    :param spent: what was spent before, net of refunds.
    :param owed: the items that were reckoned with; they are within the bound.
    """

    def __init__(self, most: Decimal | None, *, spent: Decimal, owed: Iterable[Item]) -> None:
        self.spent = spent
        self._most = most
        self._owed = {item.index: item.credits for item in owed}

    def reserve(self, item: Item) -> None:
        """
        Keep what an item costs for it.

        :raises CreditLimitError: when it wasn't reckoned with (it was paid for, failed, and would be paid for
            anew), and what is left doesn't suffice.
        """
        if item.index in self._owed:
            return
        after = self.spent + sum(self._owed.values(), Decimal(0)) + item.credits
        if self._most is not None and after > self._most:
            raise CreditLimitError(
                f"Paying for row {item.row} again would bring this try to more than max_credits, "
                f"{plain(self._most)} credits. Raise it, and what is paid for is found again."
            )
        self._owed[item.index] = item.credits

    def release(self, item: Item) -> None:
        """It wasn't charged after all, or is told of as charged already."""
        self._owed.pop(item.index, None)

    def charge(self, item: Item) -> None:
        """It was charged, or may have been."""
        self.release(item)
        self.spent += item.credits

    def refund(self, item: Item) -> None:
        """What this try was charged for it came back."""
        self.spent -= item.credits
