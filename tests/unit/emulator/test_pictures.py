"""Images of exactly the right size, that say what they are."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from airflow_gpt_image.api.sizes import SIZES, Size
from airflow_gpt_image.emulator.pictures import Picture, draw

EVERY_CELL = [(ratio, tier) for ratio, tiers in SIZES.items() for tier in tiers]


def picture(prompt="a red bicycle", size=(1024, 1024), **fields):
    known = {"aspect_ratio": "1:1", "resolution": "1k", "references": 0, "name": "397ce9f2"}
    return Picture(prompt, Size(*size), **{**known, **fields})


@pytest.mark.parametrize(("ratio", "tier"), EVERY_CELL[::4])
def test_an_image_comes_in_the_first_size_of_its_cell(image, api, ratio, tier):
    url = image(aspect_ratio=ratio, resolution=tier)

    drawn = Image.open(io.BytesIO(api.get(url).content))

    assert drawn.format == "PNG"
    assert drawn.size == SIZES[ratio][tier][0]
    drawn.load()


@pytest.mark.parametrize("size", ["887x1774", "1254x1254", "3840x1648"])
def test_an_explicit_size_is_what_comes(image, api, size):
    drawn = Image.open(io.BytesIO(api.get(image(aspect_ratio=size)).content))

    assert f"{drawn.width}x{drawn.height}" == size


def test_the_same_picture_has_the_same_bytes():
    assert draw(picture()) == draw(picture())


@pytest.mark.parametrize(
    "other",
    [
        picture("a blue bicycle"),
        picture(name="00000000"),
        picture(references=2),
        picture(copy=2),
        picture(resolution="2k"),
    ],
)
def test_what_differs_is_seen(other):
    assert draw(other) != draw(picture())


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        "x",
        "x" * 20_000,
        "two words " * 2_000,
        "line\nline\n\nline",
        "\U0001f6b2",
        "\n",
        "夜の街のネオン" * 100,
        "\x00\x1b[0m tab\t and \u202e direction",
        "Grüße, ça va? Ελληνικά, кириллица",
    ],
)
@pytest.mark.parametrize("size", [(512, 1536), (1536, 512), (3840, 2160)])
def test_any_prompt_can_be_drawn_in_any_size(prompt, size):
    drawn = Image.open(io.BytesIO(draw(picture(prompt, size))))

    assert drawn.size == size


def test_images_are_small_files():
    sizes = [
        len(draw(picture("A castle under a starry sky " * 20, size))) for size in [(1024, 1024), (3840, 2160)]
    ]

    assert max(sizes) < 200_000


def test_the_text_stands_out_from_its_card():
    drawn = Image.open(io.BytesIO(draw(picture("MMMM")))).convert("L")

    darkest, lightest = drawn.crop((120, 620, 500, 760)).getextrema()

    assert lightest - darkest > 150
