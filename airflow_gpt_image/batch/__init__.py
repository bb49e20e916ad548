"""A data set of prompts in one task: what is planned, what is on record, who may write, who works."""

from typing import Final

MOST_VARIANTS: Final = 100
"""Images for each row."""

MOST_ITEMS: Final = 100_000
"""Images of one task; beyond that the listings and the manifest take their time."""

MOST_IN_FLIGHT: Final = 1_000
"""Generations under way at a time: a trigger waits for no more."""
