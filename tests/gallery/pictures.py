"""Pictures for pages: each seed another one, told apart at a glance."""

from __future__ import annotations

import colorsys
import io
from functools import cache

from PIL import Image, ImageDraw

MADE_AT = 256


def _colour(hue: float, light: float, strong: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, light, strong)
    return round(red * 255), round(green * 255), round(blue * 255)


@cache
def picture(seed: int, width: int, height: int) -> bytes:
    """Return a WebP image of a thing on a table, or of hills if it is wide."""
    scale = MADE_AT / max(width, height)
    wide, high = round(width * scale), round(height * scale)
    hue = (seed * 0.381966) % 1
    image = Image.new("RGB", (wide, high), _colour(hue + 0.5, 0.92, 0.3))
    draw = ImageDraw.Draw(image)
    if wide > high:
        for hill in range(4):
            top = high * (0.4 + 0.15 * hill)
            draw.ellipse(
                (-wide * 0.3 + hill * 30 * (-1) ** hill, top, wide * 1.3, high * 2),
                fill=_colour(hue, 0.7 - 0.15 * hill, 0.35),
            )
        draw.ellipse((wide * 0.2, high * 0.15, wide * 0.2 + 30, high * 0.15 + 30), fill="#fff6da")
    else:
        draw.rectangle((0, high * 0.7, wide, high), fill=_colour(hue + 0.5, 0.8, 0.3))
        draw.ellipse((wide * 0.2, high * 0.75, wide * 0.8, high * 0.85), fill=_colour(hue + 0.5, 0.6, 0.2))
        points = [wide * 0.3, high * 0.3, wide * 0.7, high * 0.8]
        (draw.ellipse if seed % 3 == 0 else draw.rounded_rectangle)(points, fill=_colour(hue, 0.45, 0.6))
        draw.ellipse((wide * 0.42, high * 0.2, wide * 0.58, high * 0.36), fill=_colour(hue + 0.1, 0.35, 0.6))
    stored = io.BytesIO()
    image.resize((width, height)).save(stored, "WEBP", quality=60)
    return stored.getvalue()
