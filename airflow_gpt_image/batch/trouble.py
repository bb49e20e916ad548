"""What a batch logs of images in trouble: of a few each, of thousands not a line each."""

from __future__ import annotations

from typing import Final

from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.log import Log

_MOST_LOGGED: Final = 100


class TroubleLog:
    """
    Log what is wrong with images.

    :param late_for: seconds for which an image that is late is asked for again.
    """

    def __init__(self, log: Log, *, late_for: float) -> None:
        self._log, self._late_for = log, late_for
        self._late_logged = self._status_logged = False

    def late(self, entry: Entry, error: GptImageError) -> None:
        """Log that an image is late: of one, for it is the same with the others."""
        if not self._late_logged:
            self._late_logged = True
            self._log.warning(
                "Row %d: %s\nImages that are late are asked for again for %.0f minutes.",
                entry.item.row,
                error.message,
                self._late_for / 60,
            )

    def unknown_status(self, text: str) -> None:
        """Log that a status is unknown: once, and not for each of a thousand generations that have it."""
        if not self._status_logged:
            self._status_logged = True
            self._log.warning("%s\nThe same is not said of others.", text)

    def lost(self, entry: Entry, error: GptImageError, *, count: int) -> None:
        """
        Log that an item has no image, and won't have one in this attempt.

        :param count: how many that is now.
        """
        if count <= _MOST_LOGGED:
            self._log.warning(
                "Row %d has no image: %s: %s", entry.item.row, type(error).__name__, error.message
            )
        elif count == _MOST_LOGGED + 1:
            self._log.warning("More rows have no image; the manifest will tell.")
