"""One picture that shows all images of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

_CELL = 320
_COLUMNS = 3
_MARGIN = 10


def draw_contact_sheet(paths: Sequence[Path], sheet: Path) -> Path:
    """Draw the images into rows of three, each scaled to fit a square of 320 pixels; return the sheet's path.

    :param paths: the images, one at least.
    :param sheet: the PNG that is written, or written over.
    """
    rows = -(-len(paths) // _COLUMNS)
    step = _CELL + _MARGIN
    drawn = Image.new("RGB", (_COLUMNS * step + _MARGIN, rows * step + _MARGIN), "white")
    for number, path in enumerate(paths):
        row, column = divmod(number, _COLUMNS)
        with Image.open(path) as image:
            image.thumbnail((_CELL, _CELL))
            left = _MARGIN + column * step + (_CELL - image.width) // 2
            top = _MARGIN + row * step + (_CELL - image.height) // 2
            drawn.paste(image, (left, top))
    drawn.save(sheet)
    return sheet
