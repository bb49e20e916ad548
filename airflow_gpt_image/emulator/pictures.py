"""The images: real PNGs of the exact size, on which a person can read which prompt they belong to.

Drawn in a palette, because that is an order of magnitude faster to compress than RGB. The trick: while
drawing, a pixel's value is its number in the palette, and the palette is laid out so that what antialiasing
puts between paper and ink is a colour between paper and ink.

The same picture always has the same bytes, so a repeated download can be compared.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import importlib.util
import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_gpt_image.api.sizes import Size

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# The palette: a gradient for the background, flat colours for the shapes, and a ramp from paper to ink.
_GRADIENT: Final = 96
_SHAPES: Final = (100, 101, 102)
_PAPER, _INK = 128, 159

_MAX_SHOWN: Final = 1_200
_MEASURED_AT: Final = 100
_LINE_HEIGHT: Final = 1.35
_LAST_LATIN: Final = "\u024f"
# Pillow's own font knows Latin letters only. Which of these is installed is the machine's affair; without
# any, other scripts show as boxes.
_WIDE_FONTS: Final = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "msyh.ttc")


@dataclass(frozen=True, slots=True)
class Picture:
    """What an image shows.

    :param prompt: None for an edit without words.
    :param name: short name of the generation, in the footer.
    :param copy: 1 for the first image of a generation; another one has another colour.
    """

    prompt: str | None
    size: Size
    aspect_ratio: str
    resolution: str
    references: int
    name: str
    copy: int = 1

    def of_size(self, size: Size | None) -> Picture:
        return self if size is None else replace(self, size=size)


def check_drawable() -> None:
    """:raises ImportError: when Pillow isn't installed, saying how to get it."""
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(
            "The emulator draws its images with Pillow, which is not installed. "
            "Install it with: pip install 'airflow-provider-gpt-image[emulator]'."
        )


def draw(picture: Picture, form: str = "PNG") -> bytes:
    """The image as a file.

    :param form: ``PNG``, ``JPEG`` or ``WEBP``.
    """
    from PIL import Image, ImageDraw

    width, height = picture.size
    rows = bytes(row * _GRADIENT // height for row in range(height))
    image = Image.frombytes("L", (1, height), rows).resize((width, height), Image.Resampling.NEAREST)
    canvas = ImageDraw.Draw(image)
    digest = hashlib.sha256(f"{picture.prompt}/{picture.copy}".encode(errors="replace")).digest()
    _draw_shapes(canvas, picture.size, digest)
    _draw_card(canvas, picture)
    image.putpalette(_palette(digest))
    return _encoded(image, form)


def _encoded(image: Image, form: str) -> bytes:
    file = io.BytesIO()
    if form == "PNG":
        # Level 3 is faster than 1 here: long equal rows are found sooner, and there is less to write.
        image.save(file, "PNG", compress_level=3)
    else:
        image.convert("RGB").save(file, form, quality=80)
    return file.getvalue()


def _palette(digest: bytes) -> list[int]:
    hue = digest[0] / 256
    palette = [0] * 768

    def put(index: int, hue: float, saturation: float, value: float) -> None:
        red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        palette[index * 3 : index * 3 + 3] = round(red * 255), round(green * 255), round(blue * 255)

    for step in range(_GRADIENT):
        share = step / (_GRADIENT - 1)
        put(step, hue + 0.16 * share, 0.55 + 0.2 * share, 0.95 - 0.3 * share)
    for number, index in enumerate(_SHAPES):
        put(index, hue + 0.08 + 0.1 * number, 0.38 + 0.08 * number, 0.97 - 0.06 * number)
    for index in range(_PAPER, _INK + 1):
        share = (index - _PAPER) / (_INK - _PAPER)
        put(index, hue + 0.5, 0.03 + 0.5 * share, 0.99 - 0.84 * share)
    return palette


def _draw_shapes(canvas: ImageDraw, size: Size, digest: bytes) -> None:
    short = min(size)
    for number, index in enumerate(_SHAPES):
        across, down, wide = digest[1 + number * 3 : 4 + number * 3]
        radius = short * (0.22 + 0.3 * wide / 255)
        centre_x, centre_y = size.width * across / 255, size.height * down / 255
        canvas.ellipse(
            (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=index
        )


def _draw_card(canvas: ImageDraw, picture: Picture) -> None:
    width, height = picture.size
    short = min(width, height)
    margin, padding = short * 0.07, short * 0.05
    left, right, bottom = margin, width - margin, height - margin
    inner = right - left - 2 * padding
    footer = _footer(picture)
    footer_size = min(max(short / 28, 10.0), inner * _MEASURED_AT / _width(footer))
    footer_top = bottom - padding - footer_size
    rule = footer_top - padding * 0.5
    text = _shown(picture)
    size, lines = _fitted(text, inner, rule - margin - 1.5 * padding, picture.size)
    # The card is as high as its text, so that a short prompt leaves the picture free.
    text_top = rule - 0.5 * padding - len(lines) * size * _LINE_HEIGHT
    canvas.rounded_rectangle((left, text_top - padding, right, bottom), radius=padding * 0.6, fill=_PAPER)
    for number, line in enumerate(lines):
        top = text_top + number * size * _LINE_HEIGHT
        canvas.text((left + padding, top), line, fill=_INK, font=_font(size, text))
    canvas.line((left + padding, rule, right - padding, rule), fill=_INK - 18, width=max(1, short // 600))
    canvas.text((left + padding, footer_top), footer, fill=_INK - 8, font=_font(footer_size, footer))


def _shown(picture: Picture) -> str:
    if picture.prompt is None:
        return "(no prompt: reference images only)"
    printable = re.sub(r"[^\S\n]+|[^\w\s!-~\u00a1-\uffff]+", " ", picture.prompt[:_MAX_SHOWN])
    return printable.strip() + ("…" if len(picture.prompt) > _MAX_SHOWN else "")


def _footer(picture: Picture) -> str:
    parts = [str(picture.size), picture.aspect_ratio, picture.resolution, picture.name]
    if picture.copy > 1:
        parts.append(f"image {picture.copy}")
    if picture.references:
        parts.append(f"{picture.references} reference image{'s' if picture.references > 1 else ''}")
    return "  |  ".join(dict.fromkeys(parts))


def _fitted(text: str, width: float, height: float, image: Size) -> tuple[float, list[str]]:
    """The largest font size in which the text fits, and its lines;

    the end is cut when even the smallest is too big.
    """
    smallest = max(12.0, min(image) / 50)
    size = max(smallest, min(image) / 9)
    while True:
        lines = _wrapped(text, width * _MEASURED_AT / size)
        room = max(1, int(height / (size * _LINE_HEIGHT)))
        if len(lines) <= room:
            return size, lines
        if size == smallest:
            return size, [*lines[: room - 1], lines[room - 1].rstrip("…") + "…"]
        size = max(smallest, size * 0.82)


def _wrapped(text: str, width: float) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, used = "", 0.0
        for word in _words(paragraph, width):
            wide = _width(word)
            if line and used + wide > width:
                lines.append(line)
                line, used = "", 0.0
            line, used = f"{line}{word} ", used + wide + _width(" ")
        lines.append(line)
    return [line.rstrip() for line in lines]


def _words(paragraph: str, width: float) -> list[str]:
    words: list[str] = []
    for word in paragraph.split():
        # A script without spaces, or an address: cut where the line ends.
        per_line = max(1, int(len(word) * width / max(_width(word), 1)))
        words += [word[start : start + per_line] for start in range(0, len(word), per_line)]
    return words


@functools.lru_cache(maxsize=4096)
def _width(text: str) -> float:
    # Widths grow in proportion to the size, so each word is measured once; hinting adds a little, hence the
    # margin.
    return float(_font(_MEASURED_AT, text).getlength(text)) * 1.02


def _font(size: float, text: str) -> FreeTypeFont:
    return _loaded_font(round(size), all(character <= _LAST_LATIN or character == "…" for character in text))


@functools.lru_cache(maxsize=64)
def _loaded_font(size: int, latin: bool) -> FreeTypeFont:
    from PIL import ImageFont

    if not latin:
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    font = ImageFont.load_default(size)
    # Without FreeType Pillow would give a bitmap font of one size, on which no prompt is legible.
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
